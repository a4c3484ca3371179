"""Decoded pixels of any depth, colour space and transparency as upright 8-bit sRGB. Used by decode.py and masks.py."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error, zlib.error
)  # fmt: skip
"""What Pillow raises on bad bytes."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_KEY_SCALE = {"L;2": 85, "L;4": 17}
"""What the decoder multiplies 2-bit and 4-bit grey by."""


def to_srgb(image: Image.Image, notices: list[str], background: Colour = WHITE) -> Image.Image:
    """A loaded picture turned upright, scaled to 8 bit, converted to sRGB and laid on `background`.

    Adds to `notices`: profile_broken, transparent."""
    turn, profile = _TURNS.get(orientation(image)), image.info.get("icc_profile")
    image, alpha = split(image)
    if profile:
        image = _apply_profile(image, profile, notices)
    image = _eight_bit(image).convert("RGB")
    if alpha is not None and alpha.getextrema()[0] < 255:  # type: ignore[operator]
        notices.append("transparent")
        flat = Image.new("RGB", image.size, background)
        flat.paste(image, mask=alpha)
        image = flat
    if turn is not None:
        image = image.transpose(turn)
    image.info = {}
    return image


def split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours of a loaded picture (mode L, RGB, CMYK or 16-bit I;16) and how opaque each pixel is (mode L), None where
    the picture says nothing about it."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        key = image.info.get("transparency")
        alpha = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)) if isinstance(key, int) else None
        return Image.fromarray(np.clip(values, 0, 65535).astype(np.uint16)), alpha
    if image.has_transparency_data:
        grey = image.mode in ("1", "L", "LA", "La")
        image = image.convert("LA" if image.mode == "La" else "RGBA")
        return image.convert("L" if grey else "RGB"), image.getchannel("A")
    if image.mode == "1":
        return image.convert("L"), None
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB"), None


def scale_key(image: Image.Image) -> None:
    """Bring the transparent colour of an opened PNG to the 8 bits its pixels are decoded to (Pillow leaves it as it stands in
    the file for grey of 2 and 4 bits and for colours of 16)."""
    key, tile = image.info.get("transparency"), getattr(image, "tile", None)
    mode = tile[0][3] if tile else None
    mode = mode[0] if isinstance(mode, tuple) and mode else mode
    if isinstance(key, int) and mode in _KEY_SCALE:
        image.info["transparency"] = key * _KEY_SCALE[mode]
    elif isinstance(key, tuple) and mode == "RGB;16B":
        image.info["transparency"] = tuple(part >> 8 for part in key)


def orientation(image: Image.Image) -> int:
    """The EXIF turn, 1 where there is none or it cannot be read."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except BROKEN:
        return 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as they will be once the EXIF turn is made."""
    return (image.height, image.width) if orientation(image) >= 5 else image.size


def upright(part: Image.Image, of: Image.Image) -> Image.Image:
    """`part` (a channel of the opened picture `of`) turned as that picture asks to be."""
    turn = _TURNS.get(orientation(of))
    return part if turn is None else part.transpose(turn)


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey: 65535 -> 255 (Pillow's own conversion clips everything above 255 to white)."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.float32)
    return Image.fromarray(np.clip(np.rint(values / 257.0), 0, 255).astype(np.uint8))


def _apply_profile(image: Image.Image, profile: bytes, notices: list[str]) -> Image.Image:
    """`image` in sRGB by its own ICC profile; a broken or unfitting profile is left aside with a notice."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = profile[16:20].decode("ascii", "replace").strip()  # ICC.1, 7.2: the data colour space
        name = ImageCms.getProfileDescription(source).lower()
        if space == "RGB" and "srgb" in name and "linear" not in name and image.mode != "CMYK":
            return image
        fitting = _in_space(image, space)
        converted = ImageCms.profileToProfile(fitting, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, *BROKEN):
        notices.append("profile_broken")
        return image
    return converted if converted is not None else image


def _in_space(image: Image.Image, space: str) -> Image.Image:
    """The picture with the channels a profile of `space` speaks of: grey pixels stored as colours fit a grey profile, and the
    other way round. Raises ValueError where they do not fit."""
    grey = image.mode in ("L", "I;16")
    if space == "GRAY" and not grey and image.mode == "RGB":
        red, green, blue = (channel.tobytes() for channel in image.split())
        if red == green == blue:
            return image.getchannel("R")
    elif space == "RGB" and grey:
        return _eight_bit(image).convert("RGB")
    if (space == "GRAY" and grey) or space == image.mode:
        return image
    raise ValueError(space)
