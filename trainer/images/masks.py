"""Which part of a picture counts: `name.mask.png` beside it, or what is not transparent. Used by intake and the engine.

Pillow only; a mask file never counts as a picture of the set (trainer/images/picture.py passes over it).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from trainer.images import decode
from trainer.images.picture import Picture
from trainer.images.sources import Entry
from trainer.images.staging import MASK
from trainer.problem import Problem

MASK_STEM = MASK.removesuffix(".png")


def mask_of(picture: Picture) -> Image.Image | None:
    """The mask in mode L at the picture's upright size, white where it counts; None where the whole picture does.

    Raises Problem where the mask cannot be read, has another shape than the picture, or marks nothing.
    """
    file = picture.file.with_name(picture.file.stem + MASK)
    mask = _from_file(file) if file.is_file() else _from_alpha(picture.file)
    if mask is None:
        return None
    shape = mask.width * picture.height / (mask.height * picture.width)
    if not 0.98 < shape < 1.02:
        raise Problem("mask_shape", field="loss.masks", picture=picture.file.name, width=mask.width, height=mask.height)
    if not mask.getbbox():
        raise Problem("mask_empty", field="loss.masks", picture=picture.file.name)
    size = (picture.width, picture.height)
    return mask if mask.size == size else mask.resize(size, Image.Resampling.BILINEAR)


def _from_file(file: Path) -> Image.Image:
    try:
        with open(file, "rb") as handle:
            return decode.decode(handle, background=(0, 0, 0))[0].convert("L")
    except (decode.Refused, OSError) as error:
        raise Problem("mask_broken", field="loss.masks", picture=file.name) from error


def _from_alpha(file: Path) -> Image.Image | None:
    try:
        with open(file, "rb") as handle:
            return alpha(handle)
    except (decode.Refused, OSError) as error:
        raise Problem("picture_broken", picture=file.name, detail=str(error)) from error


def alpha(handle: BinaryIO) -> Image.Image | None:
    """The alpha channel of a picture, turned upright; None where nothing is transparent. Raises Refused."""
    opened = decode.open_picture(handle)
    if not opened.image.has_transparency_data:
        return None
    decode.load(opened)
    found = opened.image.convert("RGBA").getchannel("A")
    return None if found.getextrema() == (255, 255) else decode.upright(found, opened.image)


def partners(pictures: Iterable[Entry]) -> dict[tuple[str, str], Entry]:
    """The mask files of a drop by (group, stem) of the picture they belong to; one without a partner is a picture."""
    pictures = list(pictures)
    stems = {(entry.group, entry.stem) for entry in pictures}
    owners = [((entry.group, entry.stem.removesuffix(MASK_STEM)), entry) for entry in pictures
              if entry.stem.endswith(MASK_STEM)]
    return {owner: entry for owner, entry in owners if owner in stems}
