"""Every kind of bad or odd picture file: the exact refusal, or the exact pixels."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.helpers.pictures import chunk, film, grey_profile, png, png16, png_rows, saved, scene
from trainer.images.decoding import decode
from trainer.images.geometry import masks
from trainer.images.set.limits import Limits

BOMB = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"A" * 80_000_000, 9))
JPEG = saved(scene(), "JPEG", quality=90)


def open_(data: bytes, **options: Any) -> tuple[Image.Image, list[str]]:
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


def test_jpeg_of_nothing_but_markers_is_refused_at_once() -> None:
    with pytest.raises(decode.Refused) as refused:
        open_(JPEG[:2] + b"\xff\xfe\0\x02" * 2_000_000 + JPEG[2:])
    assert refused.value.code == "damaged"


@pytest.mark.parametrize("behind", [film(7_000_000), film(7_000_000, before=b"MotionPhoto_Data"), film(60_000)])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_film_behind_a_photo_is_left_out_and_told(behind: bytes, progressive: bool) -> None:
    photo = saved(scene(), "JPEG", quality=90, progressive=progressive)
    assert behind.count(b"\xff\xda") > 100 or len(behind) < 1_000_000
    image, notices = open_(photo + behind)
    assert image == open_(photo)[0] and notices == ["film"]


def test_a_film_hides_neither_a_bomb_nor_a_torn_picture() -> None:
    frame = JPEG.index(b"\xff\xc0") + 5
    huge = JPEG[:frame] + struct.pack(">HH", 20_000, 20_000) + JPEG[frame + 4 :]
    for photo, code in ((huge, "too_many_pixels"), (JPEG[: len(JPEG) // 2], "damaged")):
        with pytest.raises(decode.Refused) as refused:
            open_(photo + film(7_000_000))
        assert refused.value.code == code


def test_scan_markers_inside_segments_and_behind_the_end_do_not_count() -> None:
    comment = b"\xff\xfe" + (2 + 4 * 5000).to_bytes(2, "big") + b"\xff\xda\0\x08" * 5000
    assert open_(JPEG[:2] + comment + JPEG[2:]) == open_(JPEG)
    assert open_(JPEG + b"\xff\xda" * 5000) == open_(JPEG)


def test_a_phone_photo_with_a_second_picture_behind_it_is_the_first_one() -> None:
    data = saved(scene(1), "MPO", save_all=True, append_images=[scene(2)], quality=90)
    image, notices = open_(data)
    assert notices == [] and np.abs(np.asarray(image, int) - np.asarray(scene(1), int)).mean() < 8


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
    pixel = open_(saved(cyan, "JPEG", quality=95))[0].getpixel((9, 9))
    assert isinstance(pixel, tuple)
    red, green, blue = pixel
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


@pytest.mark.parametrize(
    ("bits", "colour", "left", "right", "key", "value"),
    [
        (1, 0, b"\x00", b"\xff", (0,), (255, 255, 255)),
        (2, 0, b"\x55", b"\xaa", (1,), (170, 170, 170)),
        (4, 0, b"\x33", b"\xaa", (3,), (170, 170, 170)),
        (8, 0, b"\x05", b"\xaa", (5,), (170, 170, 170)),
        (16, 0, b"\x12\x34", b"\x80\x00", (0x1234,), (128, 128, 128)),
        (16, 0, b"\x00\x00", b"\x00\xff", (0,), (1, 1, 1)),
        (8, 2, b"\x01\x02\x03", b"\xff\x00\x80", (1, 2, 3), (255, 0, 128)),
        (16, 2, b"\x12\x34\x22\x22\x33\x33", b"\x80\x00\x00\x00\xff\xff", (0x1234, 0x2222, 0x3333), (128, 0, 255)),
    ],
)
def test_one_transparent_colour_of_any_depth(
    bits: int, colour: int, left: bytes, right: bytes, key: tuple[int, ...], value: tuple[int, int, int]
) -> None:
    pixels = max(1, 8 // bits)  # that one unit of `left` and `right` holds
    units = 64 // pixels
    data = png_rows((128, 40), bits, colour, (left * units + right * units), chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)))
    image, notices = open_(data, background=(10, 20, 30))
    assert image.size == (128, 40) and notices == ["transparent"]
    assert (image.getpixel((20, 20)), image.getpixel((100, 20))) == ((10, 20, 30), value)
    opacity = masks.alpha(io.BytesIO(data))
    assert opacity is not None and (opacity.getpixel((20, 20)), opacity.getpixel((100, 20))) == (0, 255)


def test_sixteen_bit_grey_with_alpha() -> None:
    pixel = struct.pack(">HH", 0x4000, 0x8000)
    image, notices = open_(png_rows((40, 40), 16, 4, pixel * 40), background=(0, 0, 0))
    assert notices == ["transparent"] and image.getpixel((3, 3)) == (32, 32, 32)


def _srgb_of(value: float, gamma: float) -> int:
    """The sRGB number of a grey of 0..1 under a gamma (IEC 61966-2-1)."""
    light = value**gamma
    return round(255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
@pytest.mark.parametrize("mode", ["L", "LA", "1", "RGB", "16", "LA16"])
def test_a_grey_profile_is_applied_whatever_the_pixels_are_kept_in(gamma: float, mode: str) -> None:
    profile, expected = grey_profile(gamma), _srgb_of(136 / 255, gamma)
    plain = Image.new("L", (40, 40), 136)
    if mode == "1":
        half = Image.new("1", (40, 40), 0)
        half.paste(1, (20, 0, 40, 40))
        image, notices = open_(saved(half, icc_profile=profile))
        assert (image.getpixel((5, 5)), image.getpixel((30, 5)), notices) == ((0,) * 3, (255,) * 3, [])
        return
    if mode in ("16", "LA16"):
        alpha = b"\xff\xff" if mode == "LA16" else b""
        pixel = struct.pack(">H", 136 * 257) + alpha
        iccp = chunk(b"iCCP", b"grey\0\0" + zlib.compress(profile))
        data = png_rows((40, 40), 16, 4 if alpha else 0, pixel * 40, iccp)
    else:
        data = saved(plain.convert(mode), icc_profile=profile)
    image, notices = open_(data)
    assert notices == []
    assert abs(image.getpixel((5, 5))[0] - expected) <= 1  # type: ignore[index]


def test_a_grey_profile_keeps_the_transparency() -> None:
    image = Image.new("LA", (64, 64), (136, 255))
    image.paste((0, 0), (0, 0, 32, 64))
    data = saved(image, icc_profile=grey_profile(1.0))
    laid, notices = open_(data, background=(9, 9, 9))
    assert notices == ["transparent"] and laid.getpixel((5, 5)) == (9, 9, 9)
    assert abs(laid.getpixel((50, 5))[0] - _srgb_of(136 / 255, 1.0)) <= 1  # type: ignore[index]


def test_grey_pixels_with_a_colour_profile_and_colours_with_a_grey_one() -> None:
    grey = Image.new("L", (40, 40), 90)
    assert open_(saved(grey, "JPEG", quality=95, icc_profile=srgb())) == (grey.convert("RGB"), [])
    assert open_(saved(grey, icc_profile=wide()))[1] == []
    red = Image.new("RGB", (40, 40), (200, 10, 10))
    assert open_(saved(red, icc_profile=grey_profile(1.0))) == (red, ["profile_broken"])


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
        stored[i : i + 4] for i in range(len(stored)) if stored[i : i + 4] in (b"eXIf", b"iCCP", b"tEXt", b"pHYs", b"zTXt")
    }
    assert kinds == set()


def test_a_wide_colour_profile_is_converted() -> None:
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # a profile for other numbers than RGB
    plain = Image.new("RGB", (64, 64), (180, 90, 40))
    image, notices = open_(saved(plain, "PNG", icc_profile=swapped))
    assert notices == ["profile_broken"] and image.getpixel((0, 0)) == (180, 90, 40)
    image, notices = open_(saved(plain, "PNG", icc_profile=wide()))
    pixel = image.getpixel((0, 0))
    assert isinstance(pixel, tuple)
    red, green, _ = pixel
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
    image, two = (open_(saved(scene(2), kind))[0] for kind in ("PNG", "BMP"))
    assert decode.content_hash(image) == decode.content_hash(two) != decode.content_hash(scene(3))
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
from trainer.images.decoding import decode
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
    for number, bomb in enumerate((png(20_000, 20_000, rows=zlib.compress(b"\0" * 50_000_000, 9)), png(64, 64, before=BOMB))):
        names.append(str(tmp_path / f"{number}.png"))
        Path(names[-1]).write_bytes(bomb)
    output = subprocess.run([sys.executable, "-c", RSS, *names], capture_output=True, text=True, check=True, timeout=60)
    first, second, grown = output.stdout.split()
    assert (first, second) == ("too_many_pixels", "text_bomb")
    assert int(grown) < 50_000
