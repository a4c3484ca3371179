"""THE recipe: load the base, put LoRA in, look at the pictures, save. Called by the trainer process and by `demo`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from trainer.adapters.reading import listed
from trainer.bases import catalog
from trainer.bases.families import ModelComponents, family, loading
from trainer.config.plan import is_slider
from trainer.config.ready import check_slider
from trainer.config.train import TrainConfig
from trainer.core import events, files
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.run_dir import RunDir
from trainer.engine.data import batches as data
from trainer.engine.data.latents import LatentCache
from trainer.engine.data.regularization import class_looks
from trainer.engine.networks.adapter import Adapter
from trainer.engine.objective import noise, slider, validation
from trainer.engine.objective.step import TrainingObjective
from trainer.engine.optim.optimizer import OptimizerStepper
from trainer.engine.output.control import Control
from trainer.engine.output.loggers import with_boards
from trainer.engine.output.metrics import StepMetrics
from trainer.engine.output.saving import RunOutputs
from trainer.engine.speed import compiled, cuda_graphs, device, offload, onednn, quantize
from trainer.engine.text import encode
from trainer.formats.architectures import ARCHITECTURES, UNet
from trainer.hardware import memory
from trainer.images import provenance
from trainer.images.captions.encodings import requested
from trainer.images.report.report import report
from trainer.images.set import subsets
from trainer.images.set.examples import Example, View, augmentations_of
from trainer.images.set.image_set import ImageSet

Tell = Callable[[events.Event], None]


def train(run: RunDir, config: TrainConfig, home: Home, tell: Tell, control: Control, attempt: int = 1) -> Path | None:
    """Train from the newest checkpoint that verifies to the end; returns the LoRA in `outputs/loras`, None if stopped.

    Raises Problem for a person's mistakes and for faults with advice. The base's weights are never changed.
    """
    check_slider(config)
    device.silence_libraries()
    began = time.monotonic()
    tell = with_boards(tell, run, config)
    tell(events.Stage(name="loading"))
    sources = provenance.Sources(config, home)
    provenance.check(run, provenance.kept_by(run), sources)  # before minutes go into loading; resume() checks what it takes
    parts = load_base(config, home, tell)
    backend, why = device.choose_attention(parts.unet, config.memory, parts.device, parts.dtype)
    layout = device.choose_layout(parts.unet, parts.device, parts.dtype)
    adapter = Adapter(parts, config, existing_lora(home, config.lora.continue_from))
    if config.lora.embedding_tokens and adapter.word is None:
        tell(events.Note(code="no_trigger_no_vectors"))
    if config.preservation.base_prior and not config.captions.trigger.strip():
        tell(events.Note(code="no_trigger_no_prior"))
    few, waiting = settle_base(config, parts)
    with adapter.switched_off():
        config = slider.own_pictures(run, config, parts, tell)
    items, latents = look_at_pictures(run, config, parts, home, tell)
    sources.note()
    held, items = validation.held_out(config, items)
    total = data.total_steps(config, items)
    classes = class_looks(config, main_size(config, parts), latents, encoding(tell))
    images, forms = config.images, augmentations_of(config.images)
    plan = data.BucketBatchSampler(
        items, config.run.batch_size, config.run.seed, images.flip_augment, images.random_crops, forms
    )
    quick = onednn.enable_onednn(parts)
    guard = OptimizerStepper(config, adapter, parts.device, parts.dtype)
    if guard.instead:
        tell(events.Note(code="optimizer_instead", params={"name": config.optimizer.name, "why": guard.instead}))
    saver = RunOutputs(run, config, home, parts, adapter, items, total, tell, control, sources)
    maker = slider.maker(config)(config, parts, adapter, latents, classes)
    resting = offload.rest(parts, config, maker.text_learns)
    judge = validation.Validator(config.validation, held, maker, total, tell)
    step = saver.resume(guard, judge)
    taker, graphed = cuda_graphs.choose(
        config, maker, guard, lambda why: tell(events.Note(code="graphs_off", params={"why": why}))
    )
    blocks = "eager: graphs are on" if "graph" in graphed.split(":")[0] else compile_blocks(config, maker, items, total - step)
    outcome = StepMetrics(total, tell, parts.device)
    tell(
        events.Started(
            step=step,
            total=total,
            attempt=attempt,
            pid=_pid(),
            facts={
                "device": _device_name(parts.device),
                "dtype": str(parts.dtype).removeprefix("torch."),
                "attention": backend,
                "attention_why": why,
                "products": "onednn" if quick else "torch",
                "graphs": graphed,
                "blocks": blocks,
                "layout": layout,
                "trainable": sum(p.numel() for p in adapter.parameters()),
                "pictures": len(items),
                "base_precision": config.memory.quantize_base,
                "layers_in_few_bits": few,
                "modules": len(adapter.layers),
                "offload": waiting,
                "resting": resting,
                "resolution": main_size(config, parts),
                "held_out": len(held),
                "base": parts.facts.id,
                "torch": torch.__version__,
            },
        )
    )
    for code, count in zip(("start_left", "start_shaped"), adapter.taken, strict=True):
        if count and step == 0:
            tell(events.Note(code=code, params={"count": count}))
    if adapter.left and step == 0:
        tell(events.Note(code="start_left_layers", params={"layers": listed(adapter.left)}))
    if adapter.going_on is not None and step == 0:
        code, params = adapter.going_on.note()
        tell(events.Note(code=code, params=params))
    if config.lora.type == "full" and step == 0:
        tell(events.Note(code="full_size", params=sizes(adapter, config)))
    saver.first_samples(step)

    batches = plan.batches(step * config.run.gradient_accumulation)
    tell(events.Stage(name="training"))
    while step < total and not judge.settled():
        if saver.answer(control, step, guard, outcome):
            return None
        looks = [next(batches) for _ in range(config.run.gradient_accumulation)]
        begun = time.perf_counter()
        try:
            adapter.begin(step, total, config.run.seed)
            loss, finite = taker.take(step, looks, config.schedule.factor(step, total))
        except RuntimeError as error:
            if not device.is_oom(error):
                raise
            taker.drop()
            step_down(error, maker, config, parts, adapter, tell)
            batches = plan.batches(step * config.run.gradient_accumulation)
            continue
        step += 1
        if outcome.add(step, loss, finite, guard.rates(), time.perf_counter() - begun) >= 5:
            step = saver.roll_back(step, guard)
            batches = plan.batches(step * config.run.gradient_accumulation)
            outcome.restart()
        elif saver.due(step):
            outcome.flush()
            saver.save(step, guard)
            saver.draw(step)
            tell(events.Stage(name="training"))
        elif judge.due(step, saved=False):
            outcome.flush()
            with guard.finished():
                judge.judge(step)
    outcome.flush()
    if step < total:
        tell(events.Note(code="settled", params={"step": step, "total": total, "best": judge.best().step}))
    file = saver.finish(step, guard, outcome)
    tell(events.Finished(step=step, seconds=time.monotonic() - began, file=str(file)))
    return file


def load_base(config: TrainConfig, home: Home, tell: Tell = lambda event: None) -> ModelComponents:
    """The frozen base on the chosen device in the chosen number format; what is to be held in few bits, or partly in main
    memory, lies there whole until `settle_base`."""
    facts = fetched(home, config.model.base, config.model.revision, tell)
    chosen = config.model.prediction_type
    facts.check(chosen, config.model.vae)
    if facts.stated and chosen not in ("auto", facts.stated):
        tell(events.Note(code="prediction_by_hand", params={"stated": facts.stated, "chosen": chosen}))
    facts = facts.predicting(chosen)
    where = device.choose_device(config.run.device)
    vae = catalog.find_vae(home, config.model.vae) if config.model.vae else None
    dtype = device.choose_dtype(config.memory.base_dtype, where)
    first = offload.MAIN if config.memory.quantize_base != "full" or config.memory.offload_fraction else where
    parts = loading.load(family(facts.family, facts.title), facts, first, dtype, vae)
    parts.device, parts.vae = where, parts.vae.to(where)
    encode.read_at(parts, config.captions.clip_skip)
    parts.scheduler = noise.predicting(parts.scheduler, facts.prediction)
    if config.noise.zero_terminal_snr:
        parts.scheduler = noise.stretched_to_zero(parts.scheduler)
    return parts


def main_size(config: TrainConfig, parts: ModelComponents) -> int:
    """The side of the square whose area pictures are trained at."""
    return config.images.resolution or parts.facts.resolution


def existing_lora(home: Home, name: str) -> Path | None:
    """The LoRA to go on from: a file, or one of the library by its name; None where none is asked for."""
    if not name:
        return None
    path = home.lora(name)
    if not path.is_file():
        raise Problem("file_missing", field="lora.continue_from", file=name)
    return path


def fetched(home: Home, base: str, revision: str | None, tell: Tell) -> catalog.BaseFacts:
    """The facts of a base that lies on this disk: a hub id is fetched first, going on where an earlier try broke off."""
    facts = catalog.find(home, base, revision)
    if facts.path is None:
        catalog.download(facts, home, progress=lambda done, of: tell(events.Stage(name="downloading", done=done, of=of)))
        facts = catalog.find(home, base, revision)
    return facts


def look_at_pictures(
    run: RunDir, config: TrainConfig, parts: ModelComponents, home: Home, tell: Tell
) -> tuple[list[Example], LatentCache]:
    """Report on the set, sort the pictures into formats, encode what is not encoded yet; names what had to be left out."""
    resolution = main_size(config, parts)
    items = data.load_examples(config, resolution)
    if not run.report.exists() and not is_slider(config):
        places = (Path(config.images.folder), *subsets.folders(config.images))
        own, *more = (ImageSet(place, read_only=True, encoding=requested(config.images.encoding)) for place in places)
        found = report(
            own,
            resolution,
            config.run.kind,
            config.captions.trigger,
            further=more,
            ratio=config.images.bucket_ratio,
            dense=config.images.bucket_dense,
        )
        files.write_json(run.report, found.as_json())
    latents = LatentCache(parts, home.cache / "latents", config.memory.cache_latents)
    limit = config.captions.max_token_length
    captions = [caption for item in items for caption in item.captions]
    long = encode.count_long(parts, captions, limit, config.captions.weighted)
    if long:
        tell(events.Note(code="long_captions", params={"count": long, "limit": limit}))
    images = config.images
    good = latents.prepare(items, images.flip_augment, encoding(tell), images.random_crops, augmentations_of(images))
    for item in items:
        if item not in good:
            tell(events.Note(code="picture_dropped", params={"picture": item.picture.original or item.picture.id}))
    return good, latents


def encoding(tell: Tell) -> Callable[[int, int], None]:
    """What is told while pictures are encoded."""
    return lambda done, of: tell(events.Stage(name="encoding", done=done, of=of))


def settle_base(config: TrainConfig, parts: ModelComponents) -> tuple[int, str]:
    """The frozen base, with the adapter in it, as it is held from here on: in few bits, partly in main memory, its activations
    computed twice. Returns how many layers are in few bits, and which blocks wait, for the log."""
    away = offload.chosen(parts, config.memory.offload_fraction)
    few = quantize.settle(parts, config.memory.quantize_base, away)
    if config.memory.checkpoints:
        checkpoint_gradients(parts)
    return few, offload.settle(parts, away)


def checkpoint_gradients(parts: ModelComponents) -> None:
    """Compute activations twice instead of keeping them (Chen et al. 2016)."""
    parts.unet.enable_gradient_checkpointing()
    parts.unet.train()  # diffusers checkpoints only in training mode; SD's UNets have no dropout
    for encoder in parts.text_encoders.values():
        encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        encoder.train()


def compile_blocks(config: TrainConfig, maker: TrainingObjective, items: list[Example], steps: int) -> str:
    """Compile the UNet's repeated blocks where asked for; timed on the format that most pictures have."""
    if config.memory.compile == "off":
        return "eager: asked"
    if config.memory.offload_fraction:
        return "eager: blocks that wait in main memory come and go"
    if is_slider(config):
        return "eager: a slider's step has two signs"
    formats = Counter(item.bucket for item in items)
    common, _ = formats.most_common(1)[0]
    looks = [View(next(item for item in items if item.bucket == common), False)] * config.run.batch_size
    batch = maker.draw(0, 0, looks).to(maker.parts.device)
    return compiled.choose(
        maker.parts.unet,
        config.memory.compile,
        steps * config.run.gradient_accumulation,
        len(formats),
        lambda: maker.predict(batch, batch.captions),
        maker.autocast,
    )


def step_down(
    error: BaseException, maker: TrainingObjective, config: TrainConfig, parts: ModelComponents, adapter: Adapter, tell: Tell
) -> None:
    """Once: half batches twice and gradient checkpointing, with the same sum. A second time is a Problem with figures."""
    for parameter in adapter.parameters():
        parameter.grad = None
    cuda_graphs.drop(parts)
    held = device.peak_memory(parts.device)
    free = device.bytes_available(parts.device)
    if maker.split > 1 or (config.run.batch_size == 1 and parts.unet.is_gradient_checkpointing):
        needed = max(held + device.bytes_requested(error), free + device.bytes_requested(error), counted_bytes(config, parts))
        raise Problem("memory_short", needed=f"{needed / 1e9:.1f}", free=f"{free / 1e9:.1f}") from error
    maker.split = 2
    checkpoint_gradients(parts)
    batch = -(-config.run.batch_size // 2)
    tell(events.Note(code="memory_down", params={"batch": batch, "accumulation": config.run.gradient_accumulation * 2}))


def sizes(adapter: Adapter, config: TrainConfig) -> dict[str, str]:
    """Megabytes of the finished file, and of each checkpoint: what learns in fp32, the optimiser's two means, the file."""
    numbers = sum(parameter.numel() for parameter in adapter.parameters())
    file = numbers * (4 if config.save.dtype == "fp32" else 2)
    return {"file": f"{file / 1e6:,.0f}", "kept": f"{(file + 12 * numbers) / 1e6:,.0f}"}


def counted_bytes(config: TrainConfig, parts: ModelComponents) -> int:
    """What counting says the settings take as they were stepped down to, or 0 where the base is not of its family's size."""
    family_name = parts.family.name
    if parts.device.type != "cuda" or UNet.from_config(parts.unet.config) != ARCHITECTURES[family_name].unet:
        return 0
    lora, side = config.lora, main_size(config, parts)
    rung = replace(memory.of_config(config, family_name, side), batch=-(-config.run.batch_size // 2), checkpointing=True)
    return memory.needed(family_name, side, rung, memory.numbers_of(family_name, lora))


def _pid() -> int:
    import os

    return os.getpid()


def _device_name(where: torch.device) -> str:
    return torch.cuda.get_device_name(where) if where.type == "cuda" else where.type
