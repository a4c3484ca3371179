"""Generates pictures from prompt, negative prompt and guidance (CFG), with LoRAs at any strength. Used by preview,
the samples of a run, `sample` and `demo`.

Pictures are drawn one at a time, so that the same request gives the same bytes on the same machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from trainer.adapters import inference_settings
from trainer.adapters.fold import LoraFuser, LoraStrength
from trainer.adapters.inference_settings import InferenceSettings
from trainer.adapters.reading import listed
from trainer.bases.families import ModelComponents, family, loading
from trainer.bases.families.loading import load_vae
from trainer.config.strategies import samplers
from trainer.core import files
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.engine.inference.vae import decode
from trainer.engine.objective import noise
from trainer.engine.text import embeddings as words_own
from trainer.engine.text import encode
from trainer.prompts import prompt_line, scheduling
from trainer.prompts.lora_tags import MAX_LORAS

MAX_PIECES = 10
"""How many pieces of 75 tokens of a prompt are read."""
VERSION = "LoRA Atelier"


@dataclass(frozen=True)
class GenerateRequest:
    """What to draw. `strengths` multiplies each LoRA's own; None draws once, at the LoRAs' own strengths."""

    prompt: str
    negative: str = ""
    seed: int = 0
    steps: int = 20
    guidance: float = 7.5
    width: int = 512
    height: int = 512
    loras: tuple[LoraStrength, ...] = ()
    strengths: tuple[float, ...] | None = None
    weights: bool = False
    """Read (a word:1.2) and the like as weights, also where no LoRA's training did."""
    sampler: str = "base"
    """One of strategies/samplers.py; `base` is the base's own."""
    partial: bool = False
    """Also use a LoRA of which less than half is known here or fits the base."""

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> GenerateRequest:
        """From the page's JSON; `loras` are objects with `path`, `unet`, `text_encoder`."""
        tree = dict(tree)
        tree["loras"] = tuple(
            LoraStrength(Path(use["path"]), float(use.get("unet", 1)), float(use.get("text_encoder", use.get("unet", 1))))
            for use in tree.get("loras") or ()
        )
        tree["strengths"] = tuple(map(float, tree["strengths"])) if tree.get("strengths") else None
        known = cls.__dataclass_fields__
        return cls(**{key: value for key, value in tree.items() if key in known}).checked()

    def checked(self) -> GenerateRequest:
        """Self, or the Problem in it."""
        if not self.prompt.strip() and not self.loras:
            raise Problem("prompt_missing", field="prompt")
        samplers.checked(self.sampler)
        if len(self.loras) > MAX_LORAS:
            raise Problem("too_many_loras", field="loras", limit=MAX_LORAS)
        for value in (*(self.strengths or ()), *(s for use in self.loras for s in (use.unet, use.text_encoder))):
            if not math.isfinite(value) or abs(value) > 10:
                raise Problem("strength_range", field="strength", given=value)
        for name in ("steps", "guidance", "seed", "width", "height"):
            prompt_line.in_range(name, getattr(self, name), "size" if name in ("width", "height") else name)
        return self


@dataclass
class GeneratedImage:
    """One finished picture. `strength` is None for a picture without a strength row."""

    image: Image.Image
    strength: float | None
    request: GenerateRequest
    facts: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> Path:
        """Write the PNG with its settings inside, as A1111 writes them and as JSON; no time stamp. Atomic."""
        info = PngInfo()
        info.add_text("parameters", self._a1111())
        info.add_itxt("atelier", json.dumps(self._settings(), ensure_ascii=False, sort_keys=True))
        import io

        buffer = io.BytesIO()
        self.image.save(buffer, "PNG", pnginfo=info)
        files.write_bytes(path, buffer.getvalue())
        return path

    def _scale(self) -> float:
        return 1.0 if self.strength is None else self.strength

    def _settings(self) -> dict[str, Any]:
        r = self.request
        loras = [
            {
                "name": u.path.stem,
                "unet": round(u.unet * self._scale(), 6),
                "text_encoder": round(u.text_encoder * self._scale(), 6),
            }
            for u in r.loras
        ]
        return {
            "prompt": r.prompt,
            "negative": r.negative,
            "seed": r.seed,
            "steps": r.steps,
            "guidance": r.guidance,
            "width": r.width,
            "height": r.height,
            "loras": loras,
            **self.facts,
        }

    def _a1111(self) -> str:
        r = self.request
        words = "".join(f" <lora:{u.path.stem}:{u.unet * self._scale():g}>" for u in r.loras)
        lines = [r.prompt + words]
        if r.negative:
            lines.append(f"Negative prompt: {r.negative}")
        names = {"VAE": self.facts.get("vae"), "Clip skip": self.facts.get("clip_skip")}
        more = "".join(f"{name}: {value}, " for name, value in names.items() if value)
        lines.append(
            f"Steps: {r.steps}, Sampler: {self.facts.get('sampler', '')}, CFG scale: {r.guidance:g}, Seed: {r.seed}, "
            f"Size: {r.width}x{r.height}, Model: {self.facts.get('base', '')}, {more}Version: {VERSION}"
        )
        return "\n".join(lines)


def _course(request: GenerateRequest, weighted: bool) -> dict[int, tuple[str, str]]:
    """(prompt, negative prompt) by the step from which they count; they change only where brackets are read."""
    if not weighted:
        return {0: (request.prompt, request.negative)}
    both = [dict(scheduling.prompt_schedule(said, request.steps)) for said in (request.prompt, request.negative)]
    found: dict[int, tuple[str, str]] = {}
    for step in sorted(both[0].keys() | both[1].keys()):
        before = found[max(found)] if found else ("", "")
        found[step] = both[0].get(step, before[0]), both[1].get(step, before[1])
    return found


def _told(words: dict[str, torch.Tensor], guided: bool) -> dict[str, torch.Tensor]:
    """`words` as the pipelines of diffusers hold them between two steps: what is not wanted in front of what is."""
    names = {"prompt_embeds": "prompt_embeds", "pooled_prompt_embeds": "add_text_embeds"}
    return {
        held: torch.cat([words[f"negative_{name}"], words[name]]) if guided else words[name]
        for name, held in names.items() if name in words
    }  # fmt: skip


class Cancelled(Exception):
    """The person asked to stop drawing."""


class ImageSampler:
    """A loaded base that draws. Built from parts already there (a run's own), or loads them itself.

    With a `home` it reads and draws as each LoRA's training did (adapters/inference_settings.py): at its clip skip, with its
    VAE, by its noise schedule; strength 0 too, so that a row differs by the LoRA alone. Without, as `parts` are.
    """

    def __init__(self, parts: ModelComponents, home: Home | None = None) -> None:
        self.parts, self.home = parts, home
        self._vae: tuple[Path | None, Any] = (None, None)
        self.fuser = LoraFuser(parts)
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.fits: list[tuple[Path, int, int]] = []
        """(file, layers used, layers in it) of each LoRA of the last request."""
        """(code, params) of what a person should know of the last drawing: text keys `notes.<code>`."""
        self.pipe = parts.family.pipeline(parts)

    @classmethod
    def load(cls, facts: Any, device: torch.device, dtype: torch.dtype, home: Home | None = None) -> ImageSampler:
        """Load the base of `facts` for drawing."""
        return cls(loading.load(family(facts.family, facts.title), facts, device, dtype), home)

    def draw(
        self,
        request: GenerateRequest,
        progress: Callable[[int, int], None] = lambda step, of: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[GeneratedImage]:
        """Yield the pictures of `request` one by one, strength after strength. The base is pristine afterwards.

        Raises Problem for LoRAs that do not fit and `Cancelled` when `cancelled()` says so.
        """
        request.checked()
        strengths: tuple[float | None, ...] = request.strengths if request.strengths and request.loras else (None,)
        of = request.steps * len(strengths)
        self.notes, self.fits = [], []
        as_trained, vae = self._manner(request)
        if vae is None and self.parts.vae is None:
            self.parts.facts.check(self.parts.facts.prediction, "")
        weighted = request.weights or as_trained.weights
        chosen = samplers.usable(request.sampler, self.pipe.scheduler)
        if chosen != request.sampler:
            self.notes.append(("sampler_even", {"wanted": samplers.TITLES[request.sampler], "used": samplers.TITLES[chosen]}))
        self.pipe.scheduler = samplers.build(chosen, self.pipe.scheduler)
        brought = words_own.of_files(self.parts, [use.path for use in request.loras])
        with words_own.lent(self.parts, brought):
            course = _course(request, weighted)
            pieces = encode.pieces_of(self.parts, [said for both in course.values() for said in both], weighted)
        if pieces > MAX_PIECES:
            self.notes.append(("prompt_cut", {"limit": MAX_PIECES * encode.PIECE}))
        limit = min(pieces, MAX_PIECES) * encode.PIECE
        skip = max(as_trained.clip_skip, self.parts.clip_skip)
        name = as_trained.vae if vae is not None else self.parts.vae_from and self.parts.vae_from.name
        facts = self._facts(chosen) | {key: value for key, value in (("vae", name), ("weights", weighted)) if value}
        facts |= {"clip_skip": skip} if skip > 1 else {}
        try:
            for index, strength in enumerate(strengths):
                fits = self.fuser.fuse(request.loras, 1.0 if strength is None else strength, request.partial)
                if index == 0:
                    self.fits = fits
                    self.notes += [
                        (
                            "lora_partial",
                            {
                                "name": path.stem,
                                "matched": matched,
                                "total": total,
                                "layers": listed(self.fuser.unmatched[path]),
                            },
                        )
                        for path, matched, total in fits
                        if matched < total
                    ]
                off = strength == 0 or not any(use.unet or use.text_encoder for use in request.loras)
                with words_own.lent(self.parts, [] if off else brought):
                    words = {
                        step: self._words(
                            replace(request, prompt=prompt, negative=negative), as_trained.clip_skip, limit, weighted
                        )
                        for step, (prompt, negative) in course.items()
                    }
                done = index * request.steps
                image = self._picture(
                    request, words, vae or self.parts.vae, lambda step, done=done: progress(done + step, of), cancelled
                )
                yield GeneratedImage(image, strength, request, facts)
        finally:
            self.fuser.unfuse()
            self.pipe.scheduler = self.parts.scheduler

    def _manner(self, request: GenerateRequest) -> tuple[InferenceSettings, Any]:
        """How the request's LoRAs want to be drawn, and their VAE where they had one; what cannot be is noted."""
        if self.home is None:
            return InferenceSettings(), None
        found, differ = inference_settings.of_files((use.path for use in request.loras), self.parts.facts)
        if differ:
            self.notes.append(("manners_differ", {}))
        if self.parts.facts.doubt and not found.prediction:
            said = {"said": self.parts.facts.doubt, "taken": self.parts.facts.prediction}
            self.notes.append(("prediction_doubt", said))
        self.pipe.scheduler = noise.predicting(self.parts.scheduler, found.prediction or self.parts.facts.prediction)
        if found.zero_terminal:
            self.pipe.scheduler = noise.stretched_to_zero(self.pipe.scheduler)
        if not found.vae:
            return found, None
        path = inference_settings.find_vae(found, self.home)
        if path is None:
            self.notes.append(("vae_lacking", {"vae": found.vae}))
            return found, None
        if self._vae[0] != path:
            self._vae = path, load_vae(self.parts.family, path).requires_grad_(False).eval().to(self.parts.device)
        return found, self._vae[1]

    @torch.no_grad()
    def _words(self, request: GenerateRequest, clip_skip: int, limit: int, weighted: bool = False) -> dict[str, torch.Tensor]:
        """Prompt and negative prompt as the UNet is told them, each by itself, both of `limit` tokens."""
        with encode.reading_at(self.parts, clip_skip):
            both = (request.prompt, request.negative)
            told, untold = (encode.encode(self.parts, [words], limit, weighted) for words in both)
        if not request.negative and getattr(self.pipe.config, "force_zeros_for_empty_prompt", False):
            untold = {name: torch.zeros_like(state) for name, state in untold.items()}
        return self.parts.family.prompts(told, untold)

    @torch.no_grad()
    def _picture(
        self,
        request: GenerateRequest,
        words: dict[int, dict[str, torch.Tensor]],
        vae: Any,
        progress: Callable[[int], None],
        cancelled: Callable[[], bool],
    ) -> Image.Image:
        """`words` by the step from which they are told. `vae` is in float32 whatever the UNet is: fp16 VAEs give black
        pictures."""

        def after(pipe: Any, step: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
            if cancelled():
                raise Cancelled
            progress(step + 1)
            return values | (_told(words[step + 1], pipe.do_classifier_free_guidance) if step + 1 in words else {})

        latents = self.pipe(
            **words[0],
            num_inference_steps=request.steps,
            guidance_scale=request.guidance,
            width=request.width,
            height=request.height,
            output_type="latent",
            generator=torch.Generator().manual_seed(request.seed),
            callback_on_step_end=after,
        ).images
        pixels = decode(vae, latents.to(vae.dtype) / vae.config.scaling_factor)
        if not torch.isfinite(pixels).all():
            raise Problem("picture_not_finite")
        return self.pipe.image_processor.postprocess(pixels, output_type="pil", do_denormalize=[True])[0]

    def _facts(self, chosen: str) -> dict[str, Any]:
        facts = self.parts.facts
        sampler = samplers.TITLES.get(chosen) or type(self.pipe.scheduler).__name__.removesuffix("Scheduler")
        return {
            "base": facts.id,
            "base_licence": facts.licence,
            "sampler": sampler,
            "dtype": str(self.parts.dtype).removeprefix("torch."),
        }
