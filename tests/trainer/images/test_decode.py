"""Every kind of bad or odd picture file: the exact refusal, or the exact pixels."""

from __future__ import annotations

import io
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.trainer.images.making import chunk, png, png16, saved, scene
from trainer.images import decode
from trainer.images.limits import Limits

BOMB = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"A" * 80_000_000, 9))
JPEG = saved(scene(), "JPEG", quality=90)


def open_(data: bytes, **options: object) -> tuple[Image.Image, list[str]]:
    return decode.decode(io.BytesIO(data), **options)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"hello, I am no picture", "not_a_picture"),
        (JPEG[: len(JPEG) // 2], "damaged"),
        (JPEG[:-300], "damaged"),
        (saved(scene())[:-2000], "damaged"),
        (saved(scene(), "WEBP")[:-500], "damaged"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "damaged"),
        (b"BM" + b"\xff" * 60, "damaged"),
        (b"GIF89a" + b"\xff" * 60, "damaged"),
        (png(20_000, 20_000), "too_many_pixels"),
        (png(12_000, 12_000), "too_many_pixels"),
        (png(20_000, 1000), "too_many_pixels"),
        (png(1, 1), "too_small"),
        (png(31, 31), "too_small"),
        (png(1, 5000), "ratio"),
        (png(100, 2100), "ratio"),
        (png(64, 64, before=BOMB), "text_bomb"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='/etc/passwd'/></svg>", "other_format"),
        (b"<?xml version='1.0'?>\n<!-- hi --><svg/>", "other_format"),
        (b"%PDF-1.7\n", "other_format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "other_format"),
        (b"8BPS\0\1", "other_format"),
        (b"SIMPLE  =                    T", "other_format"),
        (b"\xff\x0a\0\0", "other_format"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "other_format"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heic"),
        (saved(scene(), "TIFF"), "tiff"),
        (b"PK\x03\x04rest", "archive"),
        (b"7z\xbc\xaf\x27\x1c", "archive"),
    ],
)
def test_refused_with_its_reason(data: bytes, code: str) -> None:
    with pytest.raises(decode.Refused) as refused:
        open_(data)
    assert refused.value.code == code


def test_progressive_jpeg_with_endless_scans_is_refused_before_decoding() -> None:
    with pytest.raises(decode.Refused) as refused:
        open_(JPEG[:-2] + b"\xff\xda\0\x08" * 5000 + b"\xff\xd9")
    assert refused.value.code == "damaged"
    assert open_(saved(scene(), "JPEG", progressive=True))[0].size == (256, 256)


@pytest.mark.parametrize("side", [20_000, 12_000])
def test_memory_stays_flat_before_a_pixel_bomb(side: int) -> None:
    bomb = png(side, side, rows=zlib.compress(b"\0" * 20_000_000, 9))
    tracemalloc.start()
    with pytest.raises(decode.Refused):
        open_(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_other_parsers_are_never_called(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda fp, formats: opened.append(tuple(formats)) or real(fp, formats=formats))
    for data in (saved(scene(), "TIFF"), saved(scene(), "EPS"), saved(scene(), "PCX"), b"8BPS" + b"\0" * 99):
        with pytest.raises(decode.Refused):
            open_(data)
    assert opened == []
    open_(JPEG)
    assert opened == [("JPEG",)]


def test_bytes_decide_not_the_name() -> None:
    opened = decode.open_picture(io.BytesIO(JPEG))
    assert opened.kind == "JPEG"


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "AVIF", "JPEG"])
def test_every_accepted_format_gives_the_picture(kind: str) -> None:
    image, notices = open_(saved(scene(3), kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert image.mode == "RGB" and image.size == (256, 256) and notices == [] and image.info == {}
    off = np.abs(np.asarray(image, int) - np.asarray(scene(3), int)).mean()
    assert off == 0 if kind in ("PNG", "BMP", "WEBP") else off < 8


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (257, 1), (40_000, 156), (65_535, 255)])
def test_sixteen_bits_are_scaled_not_clipped(value: int, expected: int) -> None:
    assert open_(png16(value))[0].getpixel((5, 5)) == (expected,) * 3
    assert open_(png16(value, colours=3))[0].getpixel((5, 5)) == (expected,) * 3


def test_cmyk_becomes_srgb() -> None:
    cyan = Image.new("CMYK", (64, 64), (255, 0, 0, 0))
    red, green, blue = open_(saved(cyan, "JPEG", quality=95))[0].getpixel((9, 9))
    assert red < 12 and green > 243 and blue > 243


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_the_background_and_hidden_colour_stays_hidden(mode: str) -> None:
    image = Image.new("RGBA", (64, 64), (0, 255, 0, 0))
    image.paste((200, 0, 0, 255), (0, 0, 32, 64))
    if mode == "P":
        data = saved(image.convert("RGB").quantize(8), transparency=image.convert("RGB").quantize(8).getpixel((50, 5)))
    else:
        data = saved(image.convert(mode))
    on_white, notices = open_(data)
    assert on_white.getpixel((50, 5)) == (255, 255, 255)
    assert notices == ["transparent"]
    assert open_(data, background=(10, 20, 30))[0].getpixel((50, 5)) == (10, 20, 30)


def test_half_transparent_is_mixed() -> None:
    assert open_(saved(Image.new("RGBA", (64, 64), (0, 0, 0, 128))))[0].getpixel((1, 1)) == (127, 127, 127)


def test_an_opaque_alpha_channel_is_no_notice() -> None:
    assert open_(saved(scene().convert("RGBA"))) == (scene(), [])


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_turn_is_made_and_dropped(turn: int) -> None:
    upright = scene(1, (96, 64))
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(back[turn]) if turn in back else upright
    exif = Image.Exif()
    exif[0x0112] = turn
    image, _ = open_(saved(stored, "PNG", exif=exif))
    assert image == upright
    assert len(Image.open(io.BytesIO(decode.as_png(image))).getexif()) == 0


def test_gps_comments_and_profiles_do_not_reach_our_file() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    exif[0x010E] = "my-secret-place"
    data = saved(scene(), "JPEG", exif=exif, comment=b"my-secret-place", icc_profile=srgb())
    stored = decode.as_png(open_(data)[0])
    assert b"my-secret-place" in data and b"my-secret-place" not in stored
    kinds = {
        stored[i : i + 4]
        for i in range(len(stored))
        if stored[i : i + 4] in (b"eXIf", b"iCCP", b"tEXt", b"pHYs", b"zTXt")
    }
    assert kinds == set()


def test_a_wide_colour_profile_is_converted() -> None:
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # a profile for other numbers than RGB
    plain = Image.new("RGB", (64, 64), (180, 90, 40))
    image, notices = open_(saved(plain, "PNG", icc_profile=swapped))
    assert notices == ["profile_broken"] and image.getpixel((0, 0)) == (180, 90, 40)
    image, notices = open_(saved(plain, "PNG", icc_profile=wide()))
    red, green, _ = image.getpixel((0, 0))
    assert notices == [] and red > 185 and green < 90  # the same colour takes larger numbers in sRGB
    image, notices = open_(saved(plain, "PNG", icc_profile=srgb()))
    assert notices == [] and image.getpixel((0, 0)) == (180, 90, 40)


def test_a_broken_profile_is_left_aside_with_a_notice() -> None:
    assert open_(saved(scene(), "PNG", icc_profile=b"nonsense" * 40)) == (scene(), ["profile_broken"])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_taken_and_told(kind: str) -> None:
    red, blue = (Image.new("RGB", (64, 64), colour) for colour in ("#ff0000", "#0000ff"))
    lossless = {"lossless": True} if kind == "WEBP" else {}
    image, notices = open_(saved(red, kind, save_all=True, append_images=[blue], duration=100, **lossless))
    assert notices == ["first_frame"] and image.getpixel((5, 5)) == (255, 0, 0)


def test_limits_are_parameters() -> None:
    with pytest.raises(decode.Refused) as refused:
        open_(saved(scene()), limits=Limits(pixels=1000))
    assert refused.value.code == "too_many_pixels"


def test_equal_pixels_have_equal_content_whatever_the_file() -> None:
    one, two = (open_(saved(scene(2), kind))[0] for kind in ("PNG", "BMP"))
    assert decode.content_hash(one) == decode.content_hash(two) != decode.content_hash(scene(3))
    assert decode.content_hash(Image.new("RGB", (40, 60))) != decode.content_hash(Image.new("RGB", (60, 40)))


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def wide() -> bytes:
    """An ICC profile with Display P3's primaries: the sRGB one, name and three columns exchanged."""
    data = bytearray(srgb())
    count = int.from_bytes(data[128:132], "big")
    columns = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    for i in range(count):
        entry = data[132 + 12 * i : 144 + 12 * i]
        at, name = int.from_bytes(entry[4:8], "big"), bytes(entry[:4])
        if name in columns:
            for k, value in enumerate(columns[name]):
                data[at + 8 + 4 * k : at + 12 + 4 * k] = round(value * 65536).to_bytes(4, "big", signed=True)
        if name == b"desc":
            size = int.from_bytes(entry[8:12], "big")
            text = bytes(data[at : at + size])
            for old, new in (("sRGB".encode("utf-16-be"), "P3xx".encode("utf-16-be")), (b"sRGB", b"P3xx")):
                text = text.replace(old, new)
            data[at : at + size] = text
    return bytes(data)


RSS = """
import io, resource, sys
from trainer.images import decode
bombs = [open(name, "rb").read() for name in sys.argv[1:]]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for bomb in bombs:
    try:
        decode.decode(io.BytesIO(bomb))
    except decode.Refused as refused:
        print(refused.code)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory of a process as Linux tells it")
def test_no_bomb_makes_the_process_grow_by_fifty_megabytes(tmp_path: Path) -> None:
    names = []
    for number, bomb in enumerate(
        (png(20_000, 20_000, rows=zlib.compress(b"\0" * 50_000_000, 9)), png(64, 64, before=BOMB))
    ):
        names.append(str(tmp_path / f"{number}.png"))
        Path(names[-1]).write_bytes(bomb)
    said = subprocess.run([sys.executable, "-c", RSS, *names], capture_output=True, text=True, check=True, timeout=60)
    first, second, grown = said.stdout.split()
    assert (first, second) == ("too_many_pixels", "text_bomb")
    assert int(grown) < 50_000
