"""Which part of a picture counts: its mask beside it, or what is not transparent. Used by intake and the engine.

Pillow only; a mask file never counts as a picture of the set (trainer/images/set/picture.py passes over it).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from trainer.core import files
from trainer.core.problem import Problem
from trainer.images.decoding import decode
from trainer.images.set.picture import Picture
from trainer.images.set.staging import MASK

FILM, DENSITY = (214, 40, 40), 150
"""The colour of the film over what does not count, and how dense it is, of 255."""


def mask_file(picture: Picture) -> Path:
    """Where our mask of a picture is, or would be."""
    return picture.file.with_name(picture.file.stem + MASK)


def mask_path(picture: Picture) -> Path | None:
    """The mask file of a picture: ours, else one beside it in another program's manner; None where there is none."""
    own = mask_file(picture)
    return own if own.is_file() else picture.mask


def is_manual(picture: Picture, machine_sha256: str) -> bool:
    """Whether a person made this picture's mask: a file other than the machine's (by its `machine_sha256`), or transparency."""
    file = mask_file(picture)
    if file.is_file():
        return files.sha256(file) != machine_sha256
    if picture.mask is not None:
        return True
    try:
        return _from_alpha(picture.file) is not None
    except Problem:
        return False


def check(pictures: Sequence[Picture]) -> None:
    """Problem, for a training with `loss.masked`, where there are pictures and none of them has a mask."""
    if pictures and not any_of(pictures):
        raise Problem("masks_none", field="loss.masked")


def any_of(pictures: Iterable[Picture]) -> bool:
    """Whether at least one picture has a mask, in a file or as transparency. What was seen is remembered with the set."""
    pictures = list(pictures)
    has_mask = any(mask_path(picture) for picture in pictures) or any(_transparent(picture) for picture in pictures)
    for facts in {id(picture.facts): picture.facts for picture in pictures}.values():
        facts.save(soon=True)
    return has_mask


def _transparent(picture: Picture) -> bool:
    """Whether a picture has transparent parts; what cannot be read has none."""
    transparent = picture.facts.get(picture.file, "transparent")
    if not isinstance(transparent, bool):
        try:
            transparent = _from_alpha(picture.file) is not None
        except Problem:
            transparent = False
        picture.facts.put(picture.file, transparent=transparent)
    return transparent


def overlay(picture: Picture, side: int) -> bytes | None:
    """What does not count as a red film over the picture, as retouchers lay it (PNG, at most `side`); None where all does."""
    mask = mask_of(picture)
    if mask is None:
        return None
    mask.thumbnail((side, side), Image.Resampling.BILINEAR)
    film = Image.new("RGBA", mask.size, FILM)
    film.putalpha(mask.point([(255 - value) * DENSITY // 255 for value in range(256)]))
    buffer = io.BytesIO()
    film.save(buffer, "PNG")
    return buffer.getvalue()


def mask_of(picture: Picture) -> Image.Image | None:
    """The mask in mode L at the picture's upright size, white where it counts; None where the whole picture does.

    Raises Problem where the mask cannot be read, has another shape than the picture, or marks nothing.
    """
    file = mask_path(picture)
    mask = _from_file(file) if file else _from_alpha(picture.file)
    if mask is None:
        return None
    shape = mask.width * picture.height / (mask.height * picture.width)
    if not 0.98 < shape < 1.02:
        raise Problem("mask_shape", field="loss.masked", picture=picture.file.name, width=mask.width, height=mask.height)
    if not mask.getbbox():
        raise Problem("mask_empty", field="loss.masked", picture=picture.file.name)
    size = (picture.width, picture.height)
    return mask if mask.size == size else mask.resize(size, Image.Resampling.BILINEAR)


def _from_file(file: Path) -> Image.Image:
    try:
        with open(file, "rb") as handle:
            return decode.decode(handle, background=(0, 0, 0))[0].convert("L")
    except (decode.Refused, OSError) as error:
        raise Problem("mask_broken", field="loss.masked", picture=file.name) from error


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
    opacity = decode.split(opened.image)[1]
    return None if opacity is None or opacity.getextrema() == (255, 255) else decode.upright(opacity, opened.image)
