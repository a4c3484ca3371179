"""What a run leaves on disk and draws on its way: checkpoints, test pictures, the finished LoRA. Called by the recipe."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from trainer.adapters import embedding, metadata
from trainer.adapters import file as lora_file
from trainer.bases.families import ModelComponents
from trainer.config.plan import draws
from trainer.config.train import TrainConfig
from trainer.core import events, files
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.run_dir import RunDir
from trainer.engine.networks.adapter import Adapter
from trainer.engine.optim.optimizer import OptimizerStepper
from trainer.engine.output import checkpoint, disk_room
from trainer.engine.output.control import Control
from trainer.engine.output.samples import Samples, shots
from trainer.images import provenance
from trainer.images.captions.captions import with_trigger
from trainer.images.provenance import Sources
from trainer.images.set.examples import Example
from trainer.library.publication import Publication
from trainer.scoring.of_run import RunScorer

if TYPE_CHECKING:
    from trainer.engine.objective.validation import Validator
    from trainer.engine.output.metrics import StepMetrics


class RunOutputs:
    """Everything of a run that touches the disk."""

    def __init__(
        self,
        run: RunDir,
        config: TrainConfig,
        home: Home,
        parts: ModelComponents,
        adapter: Adapter,
        items: list[Example],
        total: int,
        tell: Callable[[events.Event], None],
        control: Control,
        sources: Sources | None = None,
    ) -> None:
        self.run, self.config, self.home, self.parts, self.adapter = run, config, home, parts, adapter
        self.items, self.total, self.tell, self.control = items, total, tell, control
        self.sources = sources
        self.started = time.time()
        self.rolled_back = False
        self.judge: Validator | None = None
        learnt = list({item.picture.file: item.picture for item in items}.values())
        self.likeness = RunScorer(run, config, home, parts.facts, learnt, tell)
        self.room = disk_room.DiskRoom(run, tell, control)
        wanted = shots(config, parts.facts, [caption for caption, _, _ in self._seen()])
        self.samples = Samples(run, config, parts, adapter, wanted, self.likeness, tell, self.room)
        self.final_weights: Callable[[], AbstractContextManager[None]] = nullcontext
        """The guard's way to make the adapter what is to be saved."""
        quarter = max(1, math.ceil(total / 4))
        self.save_every = config.save.every or quarter
        self.draw_every = config.samples.every or quarter
        run.checkpoints.mkdir(parents=True, exist_ok=True)

    # --- going on ---------------------------------------------------------------------------------------------

    def resume(self, guard: OptimizerStepper, judge: Validator | None = None) -> int:
        """Load the newest checkpoint that verifies; returns the step to go on from, 0 where there is none."""
        self.final_weights, self.judge = guard.final_weights, judge or self.judge
        found = checkpoint.newest(
            self.run, self.config, lambda step: self.tell(events.Note(code="checkpoint_bad", params={"step": step}))
        )
        if found is None:
            return 0
        try:
            self.adapter.load(found.adapter)
        except (KeyError, ValueError) as error:
            raise Problem("checkpoint_other", step=found.step) from error
        if self.sources is not None and (changes := provenance.check(self.run, found.sources, self.sources)):
            self.tell(events.Note(code="set_changed", params={"changes": changes}))
        guard.load(found.optimizer, found.rate_factor)
        if self.judge is not None:
            self.judge.go_back(found.judged)
        self.rolled_back = found.rate_factor < 1
        return found.step

    def roll_back(self, step: int, guard: OptimizerStepper) -> int:
        """After five steps in a row without finite numbers: the last good checkpoint at half the rate, once."""
        if self.rolled_back or not checkpoint.steps(self.run):
            raise Problem("nan_stop", field="optimizer.lr", step=step)
        back = self.resume(guard)
        guard.lr_factor *= 0.5
        self.rolled_back = True
        self.tell(events.Note(code="halved_rate", params={"step": step, "back": back}))
        return back

    def answer(self, control: Control, step: int, guard: OptimizerStepper, outcome: StepMetrics) -> bool:
        """Do what was asked between two steps; True where the run is to stop now (saved, resumable)."""
        control.poll()
        if control.save or control.sample:
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
                self._want(control, step)
            if not control.stop:
                self.tell(events.Stage(name="training"))
        if not control.stop:
            return False
        outcome.flush()
        if step:
            self.save(step, guard)
        file = self._publish(step, outcome) if step else None
        self.tell(events.Stopped(step=step, file=str(file) if file else None))
        return True

    # --- saving -----------------------------------------------------------------------------------------------

    def due(self, step: int) -> bool:
        """Whether `step` is one to save and draw at. The end has its own."""
        return step % self.save_every == 0 or step % self.draw_every == 0 or step == self.total

    def save(self, step: int, guard: OptimizerStepper) -> Path:
        """Keep a checkpoint of `step`, waiting where the disk is full. A step already kept is not written again. One that a
        person asked for stays for good."""
        folder = self.run.checkpoint(step)
        if (folder / "manifest.json").exists():
            self._want(self.control, step)
            return folder
        if self.judge is not None and self.judge.due(step, saved=True):
            with self.final_weights():
                self.judge.judge(step)
        self.tell(events.Stage(name="saving"))
        state, optimizer = self.adapter.state(), guard.state()
        size = 4 * sum(tensor.numel() * tensor.element_size() for tensor in state.values())
        sources = self.sources.kept() if self.sources is not None else None
        self.room.write(
            lambda: checkpoint.save(
                self.run,
                self.config,
                step,
                state,
                optimizer,
                guard.lr_factor,
                lambda path: self._write_lora(path, step, None, path.stem),
                self._judged(),
                sources,
            ),
            2 * size + disk_room.MARGIN,
        )
        file = (folder / checkpoint.LORA).relative_to(self.run.path).as_posix()
        self.tell(events.Saved(step=step, file=file))
        self._want(self.control, step)
        checkpoint.prune(self.run, self.config.save.keep, self._best_kept())
        return folder

    def _want(self, control: Control, step: int) -> None:
        """Where a person asked to save: mark the checkpoint of `step` before anything is pruned, and say where it lies."""
        if control.take("save"):
            checkpoint.want(self.run, step)
            file = (self.run.checkpoint(step) / checkpoint.LORA).relative_to(self.run.path).as_posix()
            self.tell(events.Saved(step=step, file=file, wanted=True))
            self.tell(events.Note(code="saved_as_asked", params={"step": step, "file": file}))

    def _judged(self) -> list[tuple[int, float]]:
        return self.judge.state() if self.judge is not None else []

    def _best_kept(self) -> int | None:
        """The step of the best checkpoint there is; None where nothing is judged."""
        kept = checkpoint.steps(self.run)
        fit = [(ratio, step) for step, ratio in self._judged() if step in kept]
        return min(fit)[1] if fit else None

    def _write_lora(self, path: Path, step: int, loss: float | None, stem: str, cover: bytes | None = None) -> Path:
        """Write the LoRA of now to `path`. Where it is to be called `name_v2` in the library, other programs see that too."""
        config, name = self.config, self.config.save.name or stem
        version = stem.rpartition("_v")[2]
        if path.stem != stem != files.safe_name(name, "lora") and version.isdigit():
            name = f"{name} v{version}"
            config = config.model_copy(update={"save": config.save.model_copy(update={"name": name})})
        told = metadata.build(
            config,
            self.parts.facts,
            steps=step,
            total_steps=self.total,
            items=self._seen(),
            loss=loss,
            started=self.started,
            finished=time.time(),
            name=name,
            run_id=self.run.id,
            cover=cover,
            vae=self.parts.vae_from,
        )
        with self.final_weights():
            tensors = lora_file.kohya_tensors(self.adapter.export_layers(), self.parts.family.name)
            word = self.adapter.export_embedding()
        if word is not None:
            told |= embedding.to_metadata(word)
            tensors |= embedding.to_tensors(word) if self.config.save.bundle_embedding or not tensors else {}
        return lora_file.write_tensors(path, tensors, told, self.config.save.dtype)

    def _seen(self) -> list[tuple[str, tuple[int, int], int]]:
        """(caption, format, repeats) of every picture; none where the base drew them itself."""
        if draws(self.config):
            return []
        rules = self.config.captions

        def told(caption: str) -> str:
            return with_trigger(
                caption.replace(rules.keep_tokens_separator, ",") if rules.keep_tokens_separator else caption, rules.trigger
            )

        return [(told(i.picture.caption), i.bucket, max(1, i.picture.repeats)) for i in self.items]

    # --- drawing ----------------------------------------------------------------------------------------------

    def first_samples(self, step: int) -> None:
        """The untouched base's answer to the test prompts, for comparing, and what a kill left undrawn."""
        self.samples.begin(step, due=step > 0 and self.due(step))

    def draw(self, step: int) -> None:
        """Draw the test prompts from the file saved at `step`, as far as that was not done."""
        if step:
            self.samples.draw(step)

    # --- the end ----------------------------------------------------------------------------------------------

    def finish(self, step: int, guard: OptimizerStepper, outcome: StepMetrics) -> Path:
        """Save the last checkpoint, draw it, and put the LoRA into the library under its name."""
        self.control.poll()  # asked during the last step
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
        return self._publish(step, outcome)

    def _publish(self, step: int, outcome: StepMetrics) -> Path:
        """Write the LoRA to `outputs/loras/<name>.safetensors` with card and picture; an existing name becomes _v2.

        A resumed run that had stopped before replaces nothing either: each end is a file of its own.
        """
        stem = files.safe_name(self.config.save.name or self.run.id, "lora")
        loss, cover = outcome.last_loss or last_loss(self.run, step), small(self.run.newest_sample(step))

        def write(path: Path, name: str) -> None:
            self._write_lora(path, step, loss, name, cover)

        target = self.room.write(lambda: Publication(self.run, self.home.loras).publish(step, stem, write))
        self.tell(events.Saved(step=step, file=str(target), final=True))
        return target


def last_loss(run: RunDir, step: int) -> float | None:
    """The loss of the last step made up to `step`, as the run told it: an attempt that only publishes makes none."""
    losses = [event.loss for event in events.read_tail(run.events) if isinstance(event, events.Step) and event.step <= step]
    return next((loss for loss in reversed(losses) if loss is not None), None)


def small(picture: Path | None) -> bytes | None:
    """A test picture as a small JPEG for the file's own card."""
    if picture is None:
        return None
    with Image.open(picture) as image:
        reduced = image.convert("RGB")
        reduced.thumbnail((256, 256))
        buffer = io.BytesIO()
        reduced.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
