"""What a run leaves on disk and draws on its way: checkpoints, test pictures, the finished LoRA. Called by the recipe."""

from __future__ import annotations

import errno
import math
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer import events, files, prompt_line
from trainer.adapters import embedding, metadata
from trainer.adapters import file as lora_file
from trainer.adapters.fold import Use
from trainer.adapters.header import read_header
from trainer.config.slider import draws, is_slider
from trainer.config.train import TrainConfig
from trainer.engine import checkpoint
from trainer.engine.control import Control
from trainer.engine.data import Item
from trainer.engine.guard import Guard
from trainer.engine.inject import Adapter
from trainer.engine.sampling import DrawRequest, Studio
from trainer.families import Parts
from trainer.home import Home
from trainer.images.captions import with_trigger
from trainer.library import register
from trainer.likeness.of_run import RunLikeness
from trainer.problem import Problem
from trainer.prompts import number, to_try
from trainer.run_dir import RunDir

if TYPE_CHECKING:
    from trainer.engine.outcome import Outcome
    from trainer.engine.validation import Judge

MARGIN = 500 * 2**20
"""Bytes that stay free on the disk."""
WORD_SAYS = ("ss_base_model_version", "ss_sd_model_name", "ss_output_name", "modelspec.license", "atelier.run")
"""What an embedding file says of itself, in the words of its LoRA."""


class Saver:
    """Everything of a run that touches the disk."""

    def __init__(
        self, run: RunDir, config: TrainConfig, home: Home, parts: Parts, adapter: Adapter, items: list[Item], total: int,
        tell: Callable[[events.Event], None], control: Control,
    ) -> None:
        self.run, self.config, self.home, self.parts, self.adapter = run, config, home, parts, adapter
        self.items, self.total, self.tell, self.control = items, total, tell, control
        self.started = time.time()
        self.rolled_back = False
        self.cover: Path | None = None
        self.judge: Judge | None = None
        learnt = list({item.picture.file: item.picture for item in items}.values())
        self.likeness = RunLikeness(run, config, home, parts.facts, learnt, tell)
        self.finished: Callable[[], AbstractContextManager[None]] = nullcontext
        """The guard's way to make the adapter what is to be saved."""
        quarter = max(1, math.ceil(total / 4))
        self.save_every = config.save.every or quarter
        self.draw_every = config.samples.every or quarter
        run.checkpoints.mkdir(parents=True, exist_ok=True)

    # --- going on ---------------------------------------------------------------------------------------------

    def resume(self, guard: Guard, judge: Judge | None = None) -> int:
        """Load the newest checkpoint that verifies; returns the step to go on from, 0 where there is none."""
        self.finished, self.judge = guard.finished, judge or self.judge
        found = checkpoint.newest(
            self.run, self.config, lambda step: self.tell(events.Note(code="checkpoint_bad", params={"step": step}))
        )
        if found is None:
            return 0
        try:
            self.adapter.load(found.adapter)
        except (KeyError, ValueError) as error:
            raise Problem("checkpoint_other", step=found.step) from error
        guard.load(found.optimizer, found.rate_factor)
        if self.judge is not None:
            self.judge.go_back(found.judged)
        self.rolled_back = found.rate_factor < 1
        return found.step

    def roll_back(self, step: int, guard: Guard) -> int:
        """After five steps in a row without finite numbers: the last good checkpoint at half the rate, once."""
        if self.rolled_back or not checkpoint.steps(self.run):
            raise Problem("nan_stop", field="optimizer.lr", step=step)
        back = self.resume(guard)
        guard.rate_factor *= 0.5
        self.rolled_back = True
        self.tell(events.Note(code="halved_rate", params={"step": step, "back": back}))
        return back

    def answer(self, control: Control, step: int, guard: Guard, outcome: Outcome) -> bool:
        """Do what was asked between two steps; True where the run is to stop now (saved, resumable)."""
        control.poll()
        if control.take("save") or control.sample:
            outcome.flush()
            self.save(step, guard)
        if control.take("sample"):
            self.draw(step)
        if control.pause and not control.stop:
            outcome.flush()
            self.save(step, guard)
            self.tell(events.Paused(step=step))
            while control.pause and not control.stop:
                control.wait()
            if not control.stop:
                self.tell(events.Stage(name="training"))
        if not control.stop:
            return False
        outcome.flush()
        kept = self.save(step, guard) / checkpoint.LORA if step else None
        file = self._publish(kept, step, outcome) if kept else None
        self.tell(events.Stopped(step=step, file=str(file) if file else None))
        return True

    # --- saving -----------------------------------------------------------------------------------------------

    def due(self, step: int) -> bool:
        """Whether `step` is one to save and draw at. The end has its own."""
        return step % self.save_every == 0 or step % self.draw_every == 0 or step == self.total

    def save(self, step: int, guard: Guard) -> Path:
        """Keep a checkpoint of `step`, waiting where the disk is full. A step already kept is not written again."""
        folder = self.run.checkpoint(step)
        if (folder / "manifest.json").exists():
            return folder
        if self.judge is not None and self.judge.due(step, saved=True):
            with self.finished():
                self.judge.judge(step)
        self.tell(events.Stage(name="saving"))
        state, optimizer = self.adapter.state(), guard.state()
        size = 4 * sum(tensor.numel() * tensor.element_size() for tensor in state.values())
        while True:
            self._wait_for_room(2 * size + MARGIN)
            try:
                checkpoint.save(self.run, self.config, step, state, optimizer, guard.rate_factor,
                                lambda path: self._write_lora(path, step, None), self._judged())
                break
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                self._wait_for_room(float("inf"), once=True)
        checkpoint.prune(self.run, self.config.save.keep, self._best_kept())
        file = (folder / checkpoint.LORA).relative_to(self.run.path)
        self.tell(events.Saved(step=step, file=file.as_posix()))
        return folder

    def _judged(self) -> list[tuple[int, float]]:
        return self.judge.state() if self.judge is not None else []

    def _best_kept(self) -> int | None:
        """The step of the best checkpoint there is; None where nothing is judged."""
        kept = checkpoint.steps(self.run)
        fit = [(ratio, step) for step, ratio in self._judged() if step in kept]
        return min(fit)[1] if fit else None

    def _wait_for_room(self, needed: float, once: bool = False) -> None:
        waited = False
        while (free := shutil.disk_usage(self.run.path).free) < needed:
            if not waited:
                self.tell(events.Stage(name="disk"))
                self.tell(events.Note(code="disk_waits", params={
                    "free": free >> 20, "needed": "?" if needed == float("inf") else int(needed) >> 20}))
            waited = True
            for _ in range(30):
                time.sleep(1)
                self.control.poll()
                if self.control.stop:
                    raise Problem("disk_full", needed=0 if needed == float("inf") else int(needed) >> 20,
                                  folder=str(self.run.path))
            if once:
                break
        if waited:
            self.tell(events.Note(code="disk_again"))

    def _write_lora(self, path: Path, step: int, loss: float | None, cover: bytes | None = None) -> Path:
        name = self.config.save.name or path.stem
        told = metadata.build(
            self.config, self.parts.facts, steps=step, total_steps=self.total, items=self._seen(), loss=loss,
            started=self.started, finished=time.time(), name=name, run_id=self.run.id, cover=cover, vae=self.parts.vae_from,
        )
        with self.finished():
            tensors = lora_file.kohya_tensors(self.adapter.factors(), self.parts.family.name)
            word = self.adapter.embedding()
        if word is not None:
            told |= embedding.note(word)
            tensors |= embedding.bundle(word) if self.config.save.bundle_embedding or not tensors else {}
        return lora_file.write_tensors(path, tensors, told, self.config.save.dtype)

    def _seen(self) -> list[tuple[str, tuple[int, int], int]]:
        """(caption, format, repeats) of every picture; none where the base drew them itself."""
        if draws(self.config):
            return []
        rules = self.config.captions

        def told(caption: str) -> str:
            return with_trigger(caption.replace(rules.keep_separator, ",") if rules.keep_separator else caption, rules.trigger)

        return [(told(i.picture.caption), i.bucket, max(1, i.picture.repeats)) for i in self.items]

    # --- drawing ----------------------------------------------------------------------------------------------

    def first_samples(self, step: int) -> None:
        """The untouched base's answer to the test prompts, for comparing; drawn once a run."""
        if step == 0 and not self.run.sample(0, 0).exists():
            self._draw(0, None)

    def draw(self, step: int) -> None:
        """Draw the test prompts from the file saved at `step`, unless that was done."""
        if step and not self.run.sample(step, 0).exists():
            self._draw(step, self.run.checkpoint(step) / checkpoint.LORA)

    def _draw(self, step: int, file: Path | None) -> None:
        wanted = shots(self.config, self.parts.facts, [caption for caption, _, _ in self._seen()])
        facts, chosen = self.parts.facts, self.config.samples
        side = self.config.images.resolution or facts.resolution
        with self.adapter.switched_off():
            studio = Studio(self.parts)
            for index, (prompt, strength) in enumerate(wanted):
                self.tell(events.Stage(name="sampling", done=index, of=len(wanted)))
                line = self._line(prompt)
                guidance = facts.guidance if chosen.guidance is None else chosen.guidance
                plain = DrawRequest(
                    line.prompt, chosen.negative, chosen.seed, chosen.steps, guidance, side, side,
                    (Use(file, strength, strength),) if file else (), weights=self.config.captions.weights,
                    sampler=chosen.sampler,
                )
                request = replace(plain, **{name: value for name, value in vars(line).items() if value is not None})
                path = self.run.sample(step, index)
                for drawn in studio.draw(request, cancelled=lambda: False):
                    drawn.save(path)
                if index == 0 and file is None:
                    for code, params in studio.notes:
                        self.tell(events.Note(code=code, params=params))
                self.cover = path if index == 0 else self.cover
                said = line.prompt if strength == 1 else f"{line.prompt} · {number(strength)}"
                self.tell(events.Sample(step=step, index=index, prompt=said,
                                        file=path.relative_to(self.run.path).as_posix()))
        self.likeness.score(step, wanted)

    def _line(self, prompt: str) -> prompt_line.Line:
        """A test prompt with its switches; what cannot be read is drawn as words, as it was before they were, and noted."""
        try:
            return prompt_line.read(prompt, "samples.prompts")
        except Problem as problem:
            self.tell(events.Note(code="prompt_as_words", params={"prompt": prompt[:80], "why": str(problem)}))
            return prompt_line.Line(prompt)

    # --- the end ----------------------------------------------------------------------------------------------

    def finish(self, step: int, guard: Guard, outcome: Outcome) -> Path:
        """Save the last checkpoint, draw it, and put the LoRA into the library under its name."""
        self.save(step, guard)
        self.draw(step)
        if outcome.skipped:
            self.tell(events.Note(code="step_skipped", params={"count": outcome.skipped}))
        word = self.judge.suggest(checkpoint.steps(self.run)) if self.judge is not None else None
        if word:
            self.tell(word)
        suggested = word.params["step"] if word and word.code == "judged_earlier" else step
        if hint := self.likeness.hint(suggested):
            self.tell(hint)
        return self._publish(self.run.checkpoint(step) / checkpoint.LORA, step, outcome)

    def _publish(self, kept: Path, step: int, outcome: Outcome) -> Path:
        """Write the LoRA to `outputs/loras/<name>.safetensors` with card and picture; an existing name becomes _v2.

        A resumed run that had stopped before replaces nothing either: each end is a file of its own.
        """
        stem = files.safe_name(self.config.save.name or self.run.id, "lora")
        self.home.loras.mkdir(parents=True, exist_ok=True)
        target = files.free_name(self.home.loras, stem, ".safetensors")
        cover = self._cover()
        self._write_lora_as(target, step, outcome.last_loss, cover)
        self._publish_word(target)
        register(target, picture=self.cover)
        self.tell(events.Saved(step=step, file=str(target), final=True))
        return target

    def _publish_word(self, lora: Path) -> None:
        """Write the trigger's own vectors to `outputs/loras/embeddings`, named as the word that calls them."""
        header = read_header(lora)
        for word in embedding.noted(header):
            kept = {key: value for key, value in header.metadata.items() if key in WORD_SAYS}
            stem = files.safe_name(word.name, "word")
            embedding.write(files.free_name(lora.parent / "embeddings", stem, ".safetensors"), word, kept)

    def _write_lora_as(self, target: Path, step: int, loss: float | None, cover: bytes | None) -> None:
        name = self.config.save.name or target.stem
        version = target.stem.rpartition("_v")[2]
        config = self.config
        if target.stem != files.safe_name(name, "lora") and version.isdigit():
            save = config.save.model_copy(update={"name": f"{name} v{version}"})
            self.config = config.model_copy(update={"save": save})
        try:
            self._write_lora(target, step, loss, cover)
        finally:
            self.config = config

    def _cover(self) -> bytes | None:
        """The newest first test picture as a small JPEG for the file's own card."""
        import io

        from PIL import Image

        if self.cover is None or not self.cover.exists():
            return None
        with Image.open(self.cover) as image:
            small = image.convert("RGB")
            small.thumbnail((256, 256))
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=88)
        return buffer.getvalue()


SLIDER_SHOTS = (1.0, 0.5, -0.5, -1.0)
"""The strengths a slider's test pictures are drawn at; 0 is the base's picture of step 0."""


def shots(config: TrainConfig, facts: Any, captions: Sequence[str]) -> list[tuple[str, float]]:
    """(prompt, strength) of each test picture, a slider's at both signs."""
    strengths = SLIDER_SHOTS if is_slider(config) else (1.0,)
    return [(prompt, strength) for prompt in sample_prompts(config, facts, captions) for strength in strengths]


def sample_prompts(config: TrainConfig, facts: Any, captions: Sequence[str]) -> tuple[str, ...]:
    """The prompts asked for, or two that try what is learnt."""
    if config.samples.prompts:
        return config.samples.prompts
    if is_slider(config):
        return tuple(config.slider.ways())[:2]
    return to_try(config.run.kind, config.captions.trigger, facts.sample_prompts, captions)
