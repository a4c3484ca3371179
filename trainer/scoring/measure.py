"""Pictures with their prompts against a training set: loads the CLIP, looks at the set once, gives the event to emit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from trainer.core import events
from trainer.core.files import read_json
from trainer.core.problem import Problem
from trainer.images.captions.captions import has, without_trigger
from trainer.images.set.picture import Picture
from trainer.prompts import lora_tags, prompt_line
from trainer.prompts import weights as prompt_weights
from trainer.scoring.clip import Clip
from trainer.scoring.scores import scores, self_similarity


@dataclass(frozen=True)
class SampleImage:
    """A picture on disk to be scored. `strength` is what its LoRAs were drawn at, None where that is not known."""

    file: Path
    prompt: str = ""
    strength: float | None = None

    @classmethod
    def read(cls, file: Path, prompt: str | None = None) -> SampleImage:
        """A picture with what was written into it when it was drawn here; a `prompt` given holds instead."""
        settings = _settings(file)
        loras = settings.get("loras")
        numbers = [one.get("unet") for one in loras if isinstance(one, dict)] if isinstance(loras, list) else []
        strength = next((float(n) for n in numbers if isinstance(n, int | float)), 0.0 if loras == [] else None)
        written = settings.get("prompt")
        return cls(file, prompt if prompt is not None else written if isinstance(written, str) else "", strength)


class SimilarityScorer:
    """`pictures` are the training set's readable ones. Problem where there is none."""

    def __init__(
        self, folder: Path, pictures: Sequence[Picture], trigger: str, cache: Path,
        progress: Callable[[int, int], None] = lambda done, of: None, *, weights: bool = False, device: str = "cpu",
    ) -> None:  # fmt: skip
        if not pictures:
            raise Problem("score_no_pictures")
        self.clip, self.pictures, self.weights = Clip(folder, device), pictures, weights
        self.trigger = "" if _knows(folder, trigger) else trigger
        self.reference = self.clip.reference_embeddings(pictures, cache / "likeness", progress)

    def score(self, drawn: Sequence[SampleImage], step: int = 0) -> events.Scored:
        """All of `drawn` at one step, in order."""
        prompts = [self._clip_prompt(one.prompt) for one in drawn]
        text_embeddings = iter(self.clip.encode_texts([text for text in prompts if text]) if any(prompts) else ())
        embeddings = self.clip.encode_images([_opened(one.file) for one in drawn])
        results = scores(embeddings, self.reference, [next(text_embeddings) if text else None for text in prompts])
        images = tuple(
            events.ImageScore(
                index=index, strength=one.strength, likeness=score.likeness, prompt=score.prompt,
                nearest=self.pictures[score.nearest].file.name, folder=self.pictures[score.nearest].file.parent.name,
                closeness=score.nearest_similarity, copied=score.copied,
            )
            for index, (one, score) in enumerate(zip(drawn, results, strict=True))
        )  # fmt: skip
        fits = [one.prompt for one in images if one.prompt is not None]
        return events.Scored(
            step=step, likeness=sum(one.likeness for one in images) / len(images),
            prompt=sum(fits) / len(fits) if fits else None, among=self_similarity(self.reference.clip),
            model=self.clip.name, compared=len(self.pictures), pictures=images,
        )  # fmt: skip

    def _clip_prompt(self, prompt: str) -> str:
        """The prompt without LoRA tags, weights and the trigger: a word made up says nothing to a CLIP that never saw it."""
        text = lora_tags.parse(prompt_line.without_switches(prompt)).prompt
        return without_trigger(prompt_weights.plain(text) if self.weights else text, self.trigger).strip(" ,")


def _knows(folder: Path, trigger: str) -> bool:
    """Whether a judge was taught the trigger: its words.json names everything it knows."""
    vocabulary = read_json(folder / "words.json", {})
    phrases = (
        [phrase for part in vocabulary.values() if isinstance(part, list) for phrase in part]
        if isinstance(vocabulary, dict)
        else []
    )
    return any(isinstance(phrase, str) and has(phrase, trigger) for phrase in phrases)


def _opened(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, ValueError) as error:
        raise Problem("picture_broken", picture=file.name, detail=str(error)[:200]) from error


def _settings(file: Path) -> dict[str, Any]:
    """What `sampling.Drawn.save` wrote into a PNG; empty for other pictures."""
    try:
        with Image.open(file) as image:
            settings = json.loads(getattr(image, "text", {}).get("atelier", "{}"))
    except (OSError, ValueError) as error:
        raise Problem("picture_broken", picture=file.name, detail=str(error)[:200]) from error
    return settings if isinstance(settings, dict) else {}
