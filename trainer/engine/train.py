"""THE recipe: set up, take steps, keep and draw on the way, save. Called by the trainer process and by `demo`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from trainer.adapters.reading import listed
from trainer.bases.families import ModelComponents
from trainer.config.ready import check_slider
from trainer.config.train import TrainConfig
from trainer.core import events
from trainer.core.home import Home
from trainer.core.run_dir import RunDir
from trainer.engine.base import Emit, existing_lora, load_base, main_size
from trainer.engine.data.prepare import encoding, prepare_examples
from trainer.engine.data.regularization import class_looks
from trainer.engine.networks.adapter import Adapter
from trainer.engine.objective import slider, validation
from trainer.engine.output.control import Control
from trainer.engine.output.loggers import with_boards
from trainer.engine.output.metrics import StepMetrics
from trainer.engine.output.saving import RunOutputs
from trainer.engine.setup import Source, TrainingData, TrainingRun
from trainer.engine.speed import device
from trainer.engine.speed.step_down import step_down
from trainer.images import provenance
from trainer.images.set.examples import View

BAD_STEPS = 5
"""So many steps in a row that were not finite, and the run goes back to its last checkpoint."""


def train(folder: RunDir, config: TrainConfig, home: Home, emit: Emit, control: Control, attempt: int = 1) -> Path | None:
    """Train from the newest checkpoint that verifies to the end; returns the LoRA in `outputs/loras`, None if stopped.

    Raises Problem for a person's mistakes and for faults with advice. The base's weights are never changed.
    """
    check_slider(config)
    device.silence_libraries()
    began = time.monotonic()
    emit = with_boards(emit, folder, config)
    emit(events.Stage(name="loading"))
    sources = provenance.Sources(config, home)
    provenance.check(folder, provenance.kept_by(folder), sources)  # before minutes go into loading; resume() checks again
    components = load_base(config, home, emit)
    data_of = _data_of(folder, config, home, emit, sources)
    run = TrainingRun(config, components, data_of, existing_lora(home, config.lora.continue_from))
    outputs = RunOutputs(
        folder, run.config, home, components, run.adapter, run.data.examples, run.total, emit, control, sources
    )
    validator = validation.Validator(run.config.validation, run.data.held_out, run.objective, run.total, emit)
    if run.optimizer.fallback_reason:
        params = {"name": run.config.optimizer.name, "why": run.optimizer.fallback_reason}
        emit(events.Note(code="optimizer_instead", params=params))
    step = outputs.resume(run.optimizer, validator)
    run.choose_stepper(run.total - step, lambda why: emit(events.Note(code="graphs_off", params={"why": why})))
    metrics = StepMetrics(run.total, emit, components.device)
    emit(events.Started(step=step, total=run.total, attempt=attempt, pid=os.getpid(), facts=run.facts()))
    for note in _notes(run, step):
        emit(note)
    outputs.first_samples(step)
    emit(events.Stage(name="training"))
    batches = _micro_batches(run, step)
    while step < run.total and not validator.settled():
        if outputs.answer(control, step, run.optimizer, metrics):
            return None
        views, begun = next(batches), time.perf_counter()
        try:
            loss, finite = run.step(step, views)
        except RuntimeError as error:
            if not device.is_oom(error):
                raise
            run.stepper.drop()
            step_down(error, run.objective, run.config, components, run.adapter, emit)
            batches = _micro_batches(run, step)
            continue
        step += 1
        if metrics.add(step, loss, finite, run.optimizer.learning_rates(), time.perf_counter() - begun) >= BAD_STEPS:
            step = outputs.roll_back(step, run.optimizer)
            batches = _micro_batches(run, step)
            metrics.restart()
        elif outputs.due(step):
            metrics.flush()
            outputs.save(step, run.optimizer)
            outputs.draw(step)
            emit(events.Stage(name="training"))
        elif validator.due(step, saved=False):
            metrics.flush()
            with run.optimizer.final_weights():
                validator.judge(step)
    metrics.flush()
    if step < run.total:
        emit(events.Note(code="settled", params={"step": step, "total": run.total, "best": validator.best().step}))
    file = outputs.finish(step, run.optimizer, metrics)
    emit(events.Finished(step=step, seconds=time.monotonic() - began, file=str(file)))
    return file


def _data_of(folder: RunDir, config: TrainConfig, home: Home, emit: Emit, sources: provenance.Sources) -> Source:
    """The run's own pictures, encoded; for a slider that generates its images, those first, drawn by the bare base."""

    def data(components: ModelComponents, adapter: Adapter) -> TrainingData:
        if config.lora.embedding_tokens and adapter.token_embedding is None:
            emit(events.Note(code="no_trigger_no_vectors"))
        if config.preservation.base_prior and not config.captions.trigger.strip():
            emit(events.Note(code="no_trigger_no_prior"))
        with adapter.disabled():
            own = slider.own_pictures(folder, config, components, emit)
        examples, latents = prepare_examples(folder, own, components, home, emit)
        sources.note()
        held_out, examples = validation.held_out(own, examples)
        classes = class_looks(own, main_size(own, components), latents, encoding(emit))
        return TrainingData(own, examples, held_out, latents, classes)

    return data


def _micro_batches(run: TrainingRun, step: int) -> Iterator[list[list[View]]]:
    """From `step` on, the micro-batches of one optimizer step after the other, without end."""
    count = run.config.run.gradient_accumulation
    batches = run.sampler().batches(step * count)
    while True:
        yield [next(batches) for _ in range(count)]


def _notes(run: TrainingRun, step: int) -> Iterator[events.Note]:
    """What the set-up has to say before the first step of all: of a LoRA that is continued, of a large file."""
    adapter, config = run.adapter, run.config
    if step:
        return
    for code, count in zip(("start_left", "start_shaped"), adapter.continued, strict=True):
        if count:
            yield events.Note(code=code, params={"count": count})
    if adapter.untrained_layers:
        yield events.Note(code="start_left_layers", params={"layers": listed(adapter.untrained_layers)})
    if adapter.reading is not None:
        code, params = adapter.reading.note()
        yield events.Note(code=code, params=params)
    if config.lora.type == "full":
        yield events.Note(code="full_size", params=_megabytes(adapter, config))


def _megabytes(adapter: Adapter, config: TrainConfig) -> dict[str, str]:
    """Of the finished file, and of each checkpoint: what is trained in fp32, the optimizer's two means, the file."""
    numbers = sum(parameter.numel() for parameter in adapter.parameters())
    file = numbers * (4 if config.save.dtype == "fp32" else 2)
    return {"file": f"{file / 1e6:,.0f}", "kept": f"{(file + 12 * numbers) / 1e6:,.0f}"}
