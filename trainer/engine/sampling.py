"""Draws pictures with a base and LoRAs at any strength. Used by preview, the samples of a run, `sample` and `demo`.

Pictures are drawn one at a time, so that the same request gives the same bytes on the same machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from trainer import files
from trainer.adapters.fold import Folder, Use
from trainer.engine import vae
from trainer.families import Parts, family
from trainer.problem import Problem

SIDES = (64, 2048)
MAX_LORAS = 10
VERSION = "LoRA Atelier"


@dataclass(frozen=True)
class DrawRequest:
    """What to draw. `strengths` multiplies each LoRA's own; None draws once, at the LoRAs' own strengths."""

    prompt: str
    negative: str = ""
    seed: int = 0
    steps: int = 20
    guidance: float = 7.5
    width: int = 512
    height: int = 512
    loras: tuple[Use, ...] = ()
    strengths: tuple[float, ...] | None = None

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> DrawRequest:
        """From the page's JSON; `loras` are objects with `path`, `unet`, `text_encoder`."""
        tree = dict(tree)
        tree["loras"] = tuple(
            Use(Path(use["path"]), float(use.get("unet", 1)), float(use.get("text_encoder", use.get("unet", 1))))
            for use in tree.get("loras") or ()
        )
        tree["strengths"] = tuple(map(float, tree["strengths"])) if tree.get("strengths") else None
        known = cls.__dataclass_fields__
        return cls(**{key: value for key, value in tree.items() if key in known}).checked()

    def checked(self) -> DrawRequest:
        """Self, or the Problem in it."""
        if not self.prompt.strip() and not self.loras:
            raise Problem("prompt_missing", field="prompt")
        if len(self.loras) > MAX_LORAS:
            raise Problem("too_many_loras", field="loras", limit=MAX_LORAS)
        for value in (*(self.strengths or ()), *(s for use in self.loras for s in (use.unet, use.text_encoder))):
            if not math.isfinite(value) or abs(value) > 10:
                raise Problem("strength_range", field="strength", given=value)
        for side in (self.width, self.height):
            if not SIDES[0] <= side <= SIDES[1] or side % 8:
                raise Problem("size_bad", field="size", low=SIDES[0], high=SIDES[1])
        return self


@dataclass
class Drawn:
    """One finished picture. `strength` is None for a picture without a strength row."""

    image: Image.Image
    strength: float | None
    request: DrawRequest
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
        loras = [{"name": u.path.stem, "unet": round(u.unet * self._scale(), 6),
                  "text_encoder": round(u.text_encoder * self._scale(), 6)} for u in r.loras]
        return {"prompt": r.prompt, "negative": r.negative, "seed": r.seed, "steps": r.steps, "guidance": r.guidance,
                "width": r.width, "height": r.height, "loras": loras, **self.facts}

    def _a1111(self) -> str:
        r = self.request
        words = "".join(f" <lora:{u.path.stem}:{u.unet * self._scale():g}>" for u in r.loras)
        lines = [r.prompt + words]
        if r.negative:
            lines.append(f"Negative prompt: {r.negative}")
        lines.append(
            f"Steps: {r.steps}, Sampler: {self.facts.get('sampler', '')}, CFG scale: {r.guidance:g}, Seed: {r.seed}, "
            f"Size: {r.width}x{r.height}, Model: {self.facts.get('base', '')}, Version: {VERSION}"
        )
        return "\n".join(lines)


class Cancelled(Exception):
    """The person asked to stop drawing."""


class Studio:
    """A loaded base that draws. Built from parts already there (a run's own), or loads them itself."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.folder = Folder(parts)
        self.notes: list[tuple[str, dict[str, Any]]] = []
        """(code, params) of what a person should know of the last drawing: text keys `notes.<code>`."""
        self.pipe = parts.family.pipeline(parts)

    @classmethod
    def load(cls, facts: Any, device: torch.device, dtype: torch.dtype) -> Studio:
        """Load the base of `facts` for drawing."""
        return cls(family(facts.family, facts.title).load(facts, device, dtype))

    def draw(
        self,
        request: DrawRequest,
        progress: Callable[[int, int], None] = lambda step, of: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[Drawn]:
        """Yield the pictures of `request` one by one, strength after strength. The base is pristine afterwards.

        Raises Problem for LoRAs that do not fit and `Cancelled` when `cancelled()` says so.
        """
        request.checked()
        strengths: tuple[float | None, ...] = request.strengths if request.strengths and request.loras else (None,)
        of = request.steps * len(strengths)
        self.notes = [("prompt_cut", {"limit": 75})] if self.parts.family.is_long(self.parts, request.prompt) else []
        try:
            for index, strength in enumerate(strengths):
                fits = self.folder.apply(request.loras, 1.0 if strength is None else strength)
                if index == 0:
                    self.notes += [("lora_partial", {"name": path.stem, "matched": matched, "total": total})
                                   for path, matched, total in fits if matched < total]
                image = self._picture(request, lambda step, i=index: progress(i * request.steps + step, of), cancelled)
                yield Drawn(image, strength, request, self._facts())
        finally:
            self.folder.clear()

    @torch.no_grad()
    def _picture(
        self, request: DrawRequest, progress: Callable[[int], None], cancelled: Callable[[], bool]
    ) -> Image.Image:
        def after(pipe: Any, step: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
            if cancelled():
                raise Cancelled
            progress(step + 1)
            return values

        latents = self.pipe(
            request.prompt, negative_prompt=request.negative or None, num_inference_steps=request.steps,
            guidance_scale=request.guidance, width=request.width, height=request.height, output_type="latent",
            generator=torch.Generator().manual_seed(request.seed), callback_on_step_end=after,
        ).images
        whole = self.parts.vae  # float32 whatever the UNet is: fp16 VAEs give black pictures
        pixels = vae.decode(whole, latents.to(whole.dtype) / whole.config.scaling_factor)
        if not torch.isfinite(pixels).all():
            raise Problem("picture_not_finite")
        return self.pipe.image_processor.postprocess(pixels, output_type="pil", do_denormalize=[True])[0]

    def _facts(self) -> dict[str, Any]:
        facts = self.parts.facts
        sampler = type(self.parts.scheduler).__name__.removesuffix("Scheduler")
        return {"base": facts.id, "base_licence": facts.licence, "sampler": sampler,
                "dtype": str(self.parts.dtype).removeprefix("torch.")}
