"""Teaches a slider: a LoRA whose strength moves one quality up and down, from words alone. Used by the recipe.

Concept Sliders (Gandikota et al. 2023, arXiv 2311.12092), equation 7: with c the target's words, c+ and c- the two ends',
and ε what the untouched base answers,

    at strength +1 the answer to c is to be  ε(x_t, c) + η · (ε(x_t, c+) - ε(x_t, c-)),
    at strength -1                           ε(x_t, c) - η · (ε(x_t, c+) - ε(x_t, c-)).

Both are taught in every step. A base that predicts v is taught the same in v: at one x_t, ε is v times √ᾱ_t and something
that all three share. Where the paper denoises part of the way at every step to come to x_t, here the base draws pictures of
the target once, and x_t is one of them with noise mixed in: the same distribution up to the base's own error, for no
drawing at all from then on.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch

from trainer.bases.families import ModelComponents
from trainer.config.plan import draws, is_slider
from trainer.config.train import TrainConfig
from trainer.core import events, files
from trainer.core.run_dir import RunDir
from trainer.engine.data.latents import LatentCache
from trainer.engine.data.regularization import RegularizationSampler
from trainer.engine.inference.sampling import GenerateRequest, ImageSampler
from trainer.engine.networks.adapter import Adapter
from trainer.engine.objective.step import TrainingBatch, TrainingObjective
from trainer.images.set.examples import View, derive_seed


def maker(config: TrainConfig) -> type[TrainingObjective]:
    """What makes the losses of a run."""
    return SliderObjective if is_slider(config) else TrainingObjective


class SliderObjective(TrainingObjective):
    """Makes a slider's losses: `loss.type` and `loss.weighting` of the mean over both signs."""

    def __init__(
        self,
        config: TrainConfig,
        parts: ModelComponents,
        adapter: Adapter,
        latents: LatentCache,
        classes: RegularizationSampler | None = None,
    ) -> None:
        super().__init__(config, parts, adapter, latents, classes)
        self.ways = config.slider.ways()

    def backward(self, step: int, micro: list[list[View]], scale: float = 1.0) -> torch.Tensor:
        total = torch.zeros((), device=self.parts.device)
        for index, looks in enumerate(micro):
            batch = self.draw(step, index, looks)
            for piece, share in self.pieces(batch):
                here, way = self.goal(piece)
                for sign in (1.0, -1.0):
                    with self.adapter.at_strength(sign):  # the backward pass too: checkpointing computes activations in it
                        error = self.predict(piece, piece.captions) - (here + sign * way)
                        loss = self.counted(error, piece) * (share / (2 * len(micro)))
                        (loss * scale).backward()
                    total += loss.detach()
        return total

    @torch.no_grad()
    def goal(self, batch: TrainingBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """The untouched base's answer to the target, and η times what lies between its answers to the two ends, each
        `[batch, channels, h, w]`."""
        ends = [self.ways[caption] for caption in batch.captions]
        with self.adapter.disabled():
            here, more, less = (
                self.predict(batch, words) for words in (batch.captions, [a for a, _ in ends], [b for _, b in ends])
            )
        return here, self.config.slider.guidance * (more - less)

    def _caption(self, look: View, rng: random.Random, what: str) -> str:
        """The target's words: those a picture was drawn by, or for a picture of one's own any of them."""
        (said, *_) = look.item.captions
        return said if said in self.ways else rng.choice(list(self.ways))


def own_pictures(
    run: RunDir, config: TrainConfig, parts: ModelComponents, tell: Callable[[events.Event], None], count: int | None = None
) -> TrainConfig:
    """The base's own pictures of the target, drawn into the run's folder where they are not there yet, each with the words
    it was drawn by. Returns the config that learns on them; other runs' as it is."""
    if not draws(config):
        return config
    folder, facts = run.pictures, parts.facts
    folder.mkdir(parents=True, exist_ok=True)
    side = config.images.resolution or facts.resolution
    captions, count = list(config.slider.ways()), count or config.slider.generated_images
    studio = ImageSampler(parts)
    for number in range(count):
        picture, caption = folder / f"{number:04d}.png", captions[number % len(captions)]
        if picture.exists():
            continue
        tell(events.Stage(name="drawing", done=number, of=count))
        files.write_text(picture.with_suffix(".txt"), caption)  # the words first: a picture that is there is whole
        seed = derive_seed(config.run.seed, "slider", number) % 2**32
        (drawn,) = studio.draw(GenerateRequest(caption, "", seed, facts.steps, facts.guidance, side, side))
        drawn.save(picture)
    images = config.images.model_copy(update={"folder": str(folder), "subsets": ()})
    return config.model_copy(update={"images": images})
