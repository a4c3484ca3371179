"""What the VAE makes of each picture, kept on disk: the posterior's mean and deviation, the mirrored picture by itself."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from trainer.bases.families import ModelComponents
from trainer.core.problem import Problem
from trainer.engine.inference import vae
from trainer.images.geometry import augment
from trainer.images.geometry.augment import AugmentationSettings
from trainer.images.set.examples import NO_AUGMENTATION, Example, Size, View, augmentation_of

TOGETHER = 8
"""Pictures of one format the VAE encodes at once on a GPU."""
AHEAD = 2
"""Batches cut while one is encoded, and threads that cut."""
HEADER = 144
"""Bytes of a kept file beside its numbers, about."""


@dataclass
class Posterior:
    """N(mean, std²) over latents `[channels, h, w]` float32 on the CPU, not yet scaled."""

    mean: torch.Tensor
    std: torch.Tensor


class LatentCache:
    """Posteriors by look. With `keep`, they stay on disk and in memory; without, each look encodes anew."""

    def __init__(self, parts: ModelComponents, folder: Path, keep: bool = True) -> None:
        self.parts, self.folder, self.keep = parts, folder, keep
        self.vae_id = _identity(parts.vae)
        self.scaling = float(parts.vae.config.scaling_factor)
        self.shift = float(getattr(parts.vae.config, "shift_factor", None) or 0.0)
        self.memory: dict[str, Posterior] = {}

    def prepare(
        self,
        items: list[Example],
        flip: bool,
        progress: Callable[[int, int], None],
        crops: int = 1,
        kinds: AugmentationSettings = NO_AUGMENTATION,
    ) -> list[Example]:
        """Encode what is missing (without `keep`, everything once, to see that it can be); returns the items that can be
        trained on. A picture whose latents are not finite is left out and named by the caller. Problem where none is left.
        """
        looks = self.looks(items, flip, crops, kinds)

        def tell(done: int) -> None:
            progress(done * len(items) // len(looks), len(items))

        if self.keep:
            self._encode_missing(looks, tell)
        bad = set()
        for number, look in enumerate(looks):
            if not self.keep:
                tell(number)
            if not _finite(self.posterior(look)):
                bad.add(id(look.item))
        good = [item for item in items if id(item) not in bad]
        progress(len(items), len(items))
        if not good:
            raise Problem("latents_broken", field="model.base")
        return good

    def looks(
        self, items: list[Example], flip: bool, crops: int = 1, kinds: AugmentationSettings = NO_AUGMENTATION
    ) -> list[View]:
        """Every look there can be at `items` that is encoded by itself: mirrored ones, cuts and forms each count."""
        every = (
            View(item, flipped, cut, augmentation_of(item, number, kinds))
            for item in items
            for flipped in ((False, True) if flip else (False,))
            for cut in range(crops)
            for number in range(kinds.count)
        )
        return list({self._key(look): look for look in every}.values())  # where nothing hangs over, all cuts are one

    def cost(self, looks: list[View]) -> tuple[float, int]:
        """(seconds, bytes on disk) that encoding what is missing of `looks` will take, by encoding one of the largest now and
        writing nothing. Without `keep` everything is encoded once, and nothing is kept."""
        every = {self._path(look): look for look in looks}
        missing = [look for path, look in every.items() if not (self.keep and path.exists())]
        if not missing:
            return 0.0, 0
        largest = max(missing, key=lambda look: look.item.bucket[0] * look.item.bucket[1])
        begun = time.monotonic()
        (found,) = self._encode(_pixels(largest)[None])
        per_pixel = 1 / (largest.item.bucket[0] * largest.item.bucket[1])
        shares = sum(look.item.bucket[0] * look.item.bucket[1] * per_pixel for look in missing)
        size = found.mean.nbytes + found.std.nbytes
        return (time.monotonic() - begun) * shares, round(size * shares) + HEADER * len(missing) if self.keep else 0

    def _encode_missing(self, looks: list[View], progress: Callable[[int], None]) -> None:
        """Read what is on disk and encode the rest, while the next pictures are cut in other threads (Pillow frees the lock).

        On a GPU the pictures of one format go together; on a CPU that gains nothing, and one by one a picture's latents do
        not depend, to the last bit, on which others were missing.
        """
        missing: dict[Size, list[View]] = {}
        for look in looks:
            known = _read(self._path(look))
            if known is None:
                missing.setdefault(look.item.bucket, []).append(look)
            else:
                self.memory[self._key(look)] = known
        done = len(looks) - sum(map(len, missing.values()))
        together = 1 if _one_by_one(self.parts.device) else TOGETHER
        batches = [same[i : i + together] for same in missing.values() for i in range(0, len(same), together)]
        with ThreadPoolExecutor(AHEAD) as pool:
            waiting: deque[tuple[list[View], list[Future[torch.Tensor]]]] = deque()
            for batch in [*batches, *([[]] * AHEAD)]:
                waiting.append((batch, [pool.submit(_pixels, look) for look in batch]))
                if len(waiting) <= AHEAD:
                    continue
                batch, cut = waiting.popleft()
                progress(done)
                if batch:
                    found = self._encode(torch.stack([pixels.result() for pixels in cut]))
                    for look, posterior in zip(batch, found, strict=True):
                        self._store(look, posterior)
                done += len(batch)

    def posterior(self, look: View) -> Posterior:
        """The posterior of one look, from memory, disk or the VAE."""
        key = self._key(look)
        if key in self.memory:
            return self.memory[key]
        found = _read(self._path(look)) if self.keep else None
        if found is None:
            (found,) = self._encode(_pixels(look)[None])
            if self.keep:
                self._store(look, found)
        if self.keep:
            self.memory[key] = found
        return found

    def _store(self, look: View, posterior: Posterior) -> None:
        path = self._path(look)
        temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"mean": posterior.mean, "std": posterior.std}, temporary)
            temporary.replace(path)
        except (OSError, SafetensorError):  # no room: it is encoded again next time
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        self.memory[self._key(look)] = posterior

    def _path(self, look: View) -> Path:
        key = self._key(look)
        return self.folder / key[:2] / f"{key}.safetensors"

    def sample(self, looks: list[View], generator: torch.Generator) -> torch.Tensor:
        """Scaled latents `[batch, channels, h, w]` on the CPU: (mean + std·ε - shift) · scaling (Rombach et al. 2022)."""
        found = [self.posterior(look) for look in looks]
        mean, std = torch.stack([p.mean for p in found]), torch.stack([p.std for p in found])
        return (mean + std * torch.randn(mean.shape, generator=generator) - self.shift) * self.scaling

    def _key(self, look: View) -> str:
        picture, size = look.item.picture, look.item.bucket
        text = f"{picture.content}|{size}|{look.focus}|{look.flipped}|{self.vae_id}|fp32"
        text += f"|{tuple(look.form)}" if look.form else ""
        return hashlib.sha256(text.encode()).hexdigest()[:40]

    @torch.no_grad()
    def _encode(self, pixels: torch.Tensor) -> list[Posterior]:
        """The posteriors of `pixels` `[batch, 3, H, W]` in -1..1."""
        distribution = DiagonalGaussianDistribution(vae.encode(self.parts.vae, pixels.to(self.parts.device)))
        means, stds = distribution.mean.float().cpu(), distribution.std.float().cpu()
        whole = torch.contiguous_format  # a view of a batch would keep all of it in memory
        return [
            Posterior(mean.clone(memory_format=whole), std.clone(memory_format=whole))
            for mean, std in zip(means, stds, strict=True)
        ]


def _pixels(look: View) -> torch.Tensor:
    """The picture cut to its format, changed and mirrored as the look is, `[3, H, W]` in -1..1."""
    picture = look.item.picture
    cut = augment.color_jitter(augment.cut(picture.load(), look.item.bucket, look.focus, look.form), look.form)
    pixels = torch.from_numpy(np.asarray(cut).copy()).permute(2, 0, 1).float() / 127.5 - 1
    return pixels.flip(-1) if look.flipped else pixels


def _one_by_one(device: torch.device) -> bool:
    return device.type == "cpu"


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
