"""The test pictures of a run: drawn from the files it saved, each looked for on disk, so that none stays missing.

Called by saving.py. A step whose pictures are being drawn is named in the run folder until all of them are there: a run that
was killed in between draws what is missing when it goes on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from trainer.adapters.fold import LoraStrength
from trainer.bases.families import ModelComponents
from trainer.config.plan import is_slider
from trainer.config.train import TrainConfig
from trainer.core import events, files
from trainer.core.problem import Problem
from trainer.core.run_dir import RunDir
from trainer.engine.inference.sampling import GenerateRequest, ImageSampler
from trainer.engine.networks.adapter import Adapter
from trainer.engine.output import checkpoint
from trainer.engine.output.disk_room import DiskRoom
from trainer.images.captions.captions import trial_prompts
from trainer.prompts import prompt_line
from trainer.prompts.lora_tags import number
from trainer.scoring.of_run import RunScorer

SLIDER_SHOTS = (1.0, 0.5, -0.5, -1.0)
"""The strengths a slider's test pictures are drawn at; 0 is the base's picture of step 0."""
Shot = tuple[str, float]
"""(prompt, strength) of one test picture."""


class Samples:
    """Draws the same `shots` at every step that is asked for."""

    def __init__(
        self,
        run: RunDir,
        config: TrainConfig,
        parts: ModelComponents,
        adapter: Adapter,
        shots: list[Shot],
        likeness: RunScorer,
        tell: Callable[[events.Event], None],
        room: DiskRoom,
    ) -> None:
        self.run, self.config, self.parts, self.adapter, self.shots = run, config, parts, adapter, shots
        self.likeness, self.tell, self.room = likeness, tell, room
        self._told, self._scored = _told(run)

    def begin(self, step: int, due: bool) -> None:
        """Draw what is missing of the untouched base's pictures, of the step gone on from and of the one broken off."""
        marked = files.read_json(self.run.drawing)
        broken_off = marked.get("step") if isinstance(marked, dict) else None
        if isinstance(broken_off, int) and broken_off:
            self.draw(broken_off)
        if step and (due or any(_whole(path) for path in self._paths(step))):
            self.draw(step)
        self.draw(0)

    def draw(self, step: int) -> None:
        """Draw what is missing of the pictures of `step`: of the base for 0, else from the file saved at that step."""
        file = self.run.checkpoint(step) / checkpoint.LORA if step else None
        missing = [index for index, path in enumerate(self._paths(step)) if not _whole(path)]
        if missing and (file is None or file.exists()):
            self.room.write(lambda: files.write_json(self.run.drawing, {"step": step}))
            self._draw(step, file, missing)
        for index, path in enumerate(self._paths(step)):
            if (step, index) not in self._told and path.exists():
                self._tell(step, index)
        if (missing or step not in self._scored) and all(path.exists() for path in self._paths(step)):
            self.likeness.score(step, self.shots)
            self._scored.add(step)
        self.run.drawing.unlink(missing_ok=True)

    def _draw(self, step: int, file: Path | None, missing: Sequence[int]) -> None:
        chosen, facts = self.config.samples, self.parts.facts
        side = self.config.images.resolution or facts.resolution
        with self.adapter.disabled():
            studio = ImageSampler(self.parts)
            for index in missing:
                self.tell(events.Stage(name="sampling", done=index, of=len(self.shots)))
                prompt, strength = self.shots[index]
                line = self._line(prompt)
                guidance = facts.guidance if chosen.cfg_scale is None else chosen.cfg_scale
                plain = GenerateRequest(
                    line.prompt,
                    chosen.negative_prompt,
                    chosen.seed,
                    chosen.steps,
                    guidance,
                    side,
                    side,
                    (LoraStrength(file, strength, strength),) if file else (),
                    weights=self.config.captions.weighted,
                    sampler=chosen.sampler,
                )
                request = replace(plain, **{name: value for name, value in vars(line).items() if value is not None})
                path = self.run.sample(step, index)
                for picture in studio.draw(request, cancelled=lambda: False):
                    self.room.write(lambda picture=picture, path=path: picture.save(path))
                if index == 0 and file is None:
                    for code, params in studio.notes:
                        self.tell(events.Note(code=code, params=params))
                self._tell(step, index)

    def _tell(self, step: int, index: int) -> None:
        prompt, strength = self.shots[index]
        prompt = prompt_line.without_switches(prompt)
        self._told.add((step, index))
        self.tell(
            events.Sample(
                step=step,
                index=index,
                prompt=prompt if strength == 1 else f"{prompt} · {number(strength)}",
                file=self.run.sample(step, index).relative_to(self.run.path).as_posix(),
            )
        )

    def _line(self, prompt: str) -> prompt_line.PromptLine:
        """A test prompt with its switches; what cannot be read is drawn as words, as it was before they were, and noted."""
        try:
            return prompt_line.read(prompt, "samples.prompts")
        except Problem as problem:
            self.tell(events.Note(code="prompt_as_words", params={"prompt": prompt[:80], "why": str(problem)}))
            return prompt_line.PromptLine(prompt)

    def _paths(self, step: int) -> list[Path]:
        return [self.run.sample(step, index) for index in range(len(self.shots))]


def _told(run: RunDir) -> tuple[set[tuple[int, int]], set[int]]:
    """Which pictures, as (step, index), and which steps' scores the run's events tell of."""
    told, _ = events.read(run.events, of_kind=("sample", "scored"))
    pictures = {(event.step, event.index) for event in told if isinstance(event, events.Sample)}
    return pictures, {event.step for event in told if isinstance(event, events.Scored)}


def _whole(path: Path) -> bool:
    """Whether a picture is there and can be read to its end."""
    try:
        with warnings.catch_warnings(), Image.open(path) as picture:
            warnings.simplefilter("ignore")
            picture.load()
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError):
        return False
    return True


def shots(config: TrainConfig, facts: Any, captions: Sequence[str]) -> list[Shot]:
    """(prompt, strength) of each test picture, a slider's at both signs."""
    strengths = SLIDER_SHOTS if is_slider(config) else (1.0,)
    return [(prompt, strength) for prompt in sample_prompts(config, facts, captions) for strength in strengths]


def sample_prompts(config: TrainConfig, facts: Any, captions: Sequence[str]) -> tuple[str, ...]:
    """The prompts asked for, or two that try what is learnt."""
    if config.samples.prompts:
        return config.samples.prompts
    if is_slider(config):
        return tuple(config.slider.ways())[:2]
    return trial_prompts(config.run.kind, config.captions.trigger, facts.sample_prompts, captions)
