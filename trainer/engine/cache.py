"""What the VAE makes of each picture, kept on disk: the posterior's mean and deviation, the mirrored picture by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from trainer.engine.data import Item, Look
from trainer.families import Parts
from trainer.images import buckets
from trainer.problem import Problem


@dataclass
class Posterior:
    """N(mean, std²) over latents `[channels, h, w]` float32 on the CPU, not yet scaled."""

    mean: torch.Tensor
    std: torch.Tensor


class Latents:
    """Posteriors by look. With `keep`, they stay on disk and in memory; without, each look encodes anew."""

    def __init__(self, parts: Parts, folder: Path, keep: bool = True) -> None:
        self.parts, self.folder, self.keep = parts, folder, keep
        self.vae_id = _identity(parts.vae)
        self.scaling = float(parts.vae.config.scaling_factor)
        self.shift = float(getattr(parts.vae.config, "shift_factor", None) or 0.0)
        self.memory: dict[str, Posterior] = {}

    def prepare(self, items: list[Item], flip: bool, progress: Callable[[int, int], None]) -> list[Item]:
        """Encode what is missing (without `keep`, everything once, to see that it can be); returns the items that can be
        trained on. A picture whose latents are not finite is left out and named by the caller. Problem where none is left.
        """
        good = []
        for number, item in enumerate(items):
            progress(number, len(items))
            looks = [Look(item, False), Look(item, True)] if flip else [Look(item, False)]
            if all(_finite(self.posterior(look)) for look in looks):
                good.append(item)
        progress(len(items), len(items))
        if not good:
            raise Problem("latents_broken", field="model.base")
        return good

    def posterior(self, look: Look) -> Posterior:
        """The posterior of one look, from memory, disk or the VAE."""
        key = self._key(look)
        if key in self.memory:
            return self.memory[key]
        path = self.folder / key[:2] / f"{key}.safetensors"
        found = _read(path) if self.keep else None
        if found is None:
            found = self._encode(look)
            if self.keep:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = path.with_suffix(".tmp")
                save_file({"mean": found.mean, "std": found.std}, temporary)
                temporary.replace(path)
        if self.keep:
            self.memory[key] = found
        return found

    def sample(self, looks: list[Look], generator: torch.Generator) -> torch.Tensor:
        """Scaled latents `[batch, channels, h, w]` on the CPU: (mean + std·ε - shift) · scaling (Rombach et al. 2022)."""
        found = [self.posterior(look) for look in looks]
        mean, std = torch.stack([p.mean for p in found]), torch.stack([p.std for p in found])
        return (mean + std * torch.randn(mean.shape, generator=generator) - self.shift) * self.scaling

    def _key(self, look: Look) -> str:
        picture, size = look.item.picture, look.item.bucket
        text = f"{picture.content}|{size}|{picture.focus}|{look.flipped}|{self.vae_id}|fp32"
        return hashlib.sha256(text.encode()).hexdigest()[:40]

    @torch.no_grad()
    def _encode(self, look: Look) -> Posterior:
        picture = look.item.picture
        cut = buckets.cut(picture.load(), look.item.bucket, picture.focus)
        pixels = torch.from_numpy(np.asarray(cut).copy()).permute(2, 0, 1).float() / 127.5 - 1  # [3, H, W]
        if look.flipped:
            pixels = pixels.flip(-1)
        distribution = self.parts.vae.encode(pixels[None].to(self.parts.device)).latent_dist
        return Posterior(distribution.mean[0].float().cpu(), distribution.std[0].float().cpu())


def _finite(posterior: Posterior) -> bool:
    return bool(torch.isfinite(posterior.mean).all() and torch.isfinite(posterior.std).all())


def _read(path: Path) -> Posterior | None:
    """A cached posterior; None where there is none or it was cut off."""
    if not path.exists():
        return None
    try:
        found = load_file(path)
        return Posterior(found["mean"], found["std"])
    except (SafetensorError, KeyError, OSError):
        path.unlink(missing_ok=True)
        return None


def _identity(vae: Any) -> str:
    """A hash of the VAE's encoder weights: another VAE makes other latents."""
    digest = hashlib.sha256()
    for name, weight in sorted(vae.state_dict().items()):
        if name.startswith(("encoder", "quant")):
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
