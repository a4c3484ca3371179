"""What training sees of a picture: an example (its bucket, captions and weight) and the views of it.

Used by the engine and the bench."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from trainer.config.sections.images import Images
from trainer.images.geometry import buckets
from trainer.images.geometry.augment import Augmentation, AugmentationSettings, zoom
from trainer.images.set.image_set import Picture

Size = tuple[int, int]


NO_AUGMENTATION = AugmentationSettings()
"""No form but the picture itself."""


@dataclass(frozen=True)
class Example:
    """One picture as training sees it."""

    picture: Picture
    bucket: Size
    """Width and height in pixels it is cut to."""
    captions: tuple[str, ...] = ("",)
    """One of these is read at every look."""
    weight: float = 1.0
    """How much an error on it counts."""


@dataclass(frozen=True)
class View:
    """One look at one picture."""

    item: Example
    flipped: bool
    cut: int = 0
    """Which of the picture's cuts: 0 is the usual one, the others lie anywhere along the side that hangs over."""
    form: Augmentation | None = None
    """How it is changed in colour or turned; None is the picture as it is."""

    @property
    def bucket(self) -> Size:
        """Width and height in pixels it is cut to."""
        return self.item.bucket

    @property
    def micro_conditioning(self) -> tuple[float, ...]:
        """What SDXL is told of the picture's size and cut: see `micro_conditioning`."""
        return micro_conditioning(self)

    @property
    def focus(self) -> buckets.Focus | None:
        """The middle of what is cut, 0..1; the usual one where nothing hangs over."""
        picture = self.item.picture
        crop = buckets.crop_box(picture.width, picture.height, self.item.bucket, picture.focus)
        wide, high = crop.right - crop.left, crop.bottom - crop.top
        free = picture.width - wide, picture.height - high
        if not self.cut or max(free) < 1:
            return picture.focus
        place = random.Random(derive_seed("cut", picture.file.name, self.cut)).random()
        return (place * free[0] + wide / 2) / picture.width, (place * free[1] + high / 2) / picture.height


def derive_seed(*parts: object) -> int:
    """A 63-bit number that follows from `parts`: the seed of one random decision."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def augmentations_of(images: Images) -> AugmentationSettings:
    """The forms each picture has by the options: one where nothing is to be changed."""
    changed = bool(images.color_jitter or images.rotation)
    return AugmentationSettings(images.augment_variants, images.color_jitter, images.rotation) if changed else NO_AUGMENTATION


def augmentation_of(item: Example, number: int, forms: AugmentationSettings) -> Augmentation | None:
    """Form `number` of a picture; 0 is the picture itself, whatever the others are."""
    return forms.draw(random.Random(derive_seed("form", item.picture.file.name, number))) if number else None


def micro_conditioning(view: View) -> tuple[float, ...]:
    """Height and width of the picture as it was, top and left of the cut, height and width of what is trained, all in
    pixels (Podell et al. 2023, 2.2). The cut is counted after scaling and, in a mirrored look, from the other side."""
    picture, (width, height) = view.item.picture, view.item.bucket
    crop = buckets.crop_box(picture.width, picture.height, (width, height), view.focus)
    left = picture.width - crop.right if view.flipped else crop.left
    larger = zoom((width, height), view.form)  # a turned form is scaled up, and its edges are cut off too
    top, left = (at * crop.scale * larger + side * (larger - 1) / 2 for at, side in ((crop.top, height), (left, width)))
    return picture.height, picture.width, round(top), round(left), height, width
