"""The geometry of formats: sizes, choice, crop, and the cut itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.pictures import scene
from trainer.images.geometry import buckets

sides = st.integers(32, 16_384)
focuses = st.tuples(st.floats(0, 1), st.floats(0, 1))


def test_the_formats_of_512() -> None:
    assert buckets.buckets(512) == [(384, 640), (448, 576), (512, 512), (576, 448), (640, 384)]


def test_1024_has_the_formats_found_from_the_longer_side_too() -> None:
    dense, before = set(buckets.buckets(1024)), set(buckets.buckets(1024, dense=False))
    assert dense - before == {(1280, 768), (768, 1280), (1408, 704), (704, 1408)} and len(before) == 9
    assert buckets.assign(1280, 768, sorted(dense)) == (1280, 768) and buckets.assign(2000, 1000, sorted(dense)) == (1408, 704)
    assert buckets.assign(1280, 768, sorted(before)) == (1344, 768)


@pytest.mark.parametrize(("resolution", "ratio"), [(512, 2.0), (768, 3.0), (1024, 1.0), (1024, 2.0), (1024, 4.0), (1024, 8.0)])
def test_formats_are_all_that_the_rule_says(resolution: int, ratio: float) -> None:
    """Every width, the largest height below the area, and the same turned; written out without the code's shortcuts."""
    expected = {(resolution, resolution)}
    for width in range(64, 16 * resolution, 64):
        height = max((h for h in range(64, 16 * resolution, 64) if h * width <= resolution**2), default=0)
        if height and max(width, height) / min(width, height) <= ratio:
            expected |= {(width, height), (height, width)}
    assert set(buckets.buckets(resolution, 64, ratio)) == expected


def test_a_wider_ratio_keeps_panoramas_whole() -> None:
    narrow, wide = (buckets.assign(4000, 1000, buckets.buckets(1024, 64, ratio)) for ratio in (2.0, 4.0))
    assert buckets.cut_share(4000, 1000, narrow) > 0.4 and wide == (2048, 512) and buckets.cut_share(4000, 1000, wide) == 0


@pytest.mark.parametrize(
    ("resolution", "step"), [(64, 8), (128, 16), (512, 64), (768, 64), (1024, 64), (1000, 64), (2048, 128)]
)
def test_formats_have_about_the_area_and_fitting_sides(resolution: int, step: int) -> None:
    sizes = buckets.buckets(resolution, step)
    assert len(sizes) >= 5 and len(sizes) == len(set(sizes))
    for width, height in sizes:
        assert width % step == height % step == 0 and max(width, height) <= 2 * min(width, height)
        assert 0.75 * resolution**2 <= width * height <= resolution**2
        assert (height, width) in sizes


@pytest.mark.parametrize(("resolution", "step"), [(64, 8), (128, 16), (256, 32), (512, 64), (1024, 64)])
def test_small_resolutions_get_finer_steps(resolution: int, step: int) -> None:
    assert buckets.step_for(resolution) == step


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((1000, 1000), (512, 512)),
        ((1500, 1000), (640, 384)),
        ((1000, 1290), (448, 576)),
        ((4000, 1000), (640, 384)),
        ((512, 512), (512, 512)),
    ],
)
def test_the_format_closest_in_shape_is_taken(size: tuple[int, int], bucket: tuple[int, int]) -> None:
    assert buckets.assign(*size, buckets.buckets(512)) == bucket


@given(sides, sides)
def test_a_picture_and_its_turned_twin_get_turned_formats(width: int, height: int) -> None:
    formats = buckets.buckets(512)
    bucket, other = buckets.assign(width, height, formats), buckets.assign(height, width, formats)
    assert bucket == other[::-1]


@given(sides, sides)
def test_without_upscaling_no_picture_grows(width: int, height: int) -> None:
    bucket = buckets.assign(width, height, buckets.buckets(512), upscale=False, step=32)
    assert bucket[0] <= width and bucket[1] <= height and bucket[0] % 32 == bucket[1] % 32 == 0
    if width >= 640 and height >= 640:
        assert bucket == buckets.assign(width, height, buckets.buckets(512))


@given(sides, sides, st.sampled_from(buckets.buckets(512)), focuses)
def test_the_crop_stays_inside_has_the_shape_and_is_as_large_as_can_be(width, height, bucket, focus) -> None:
    crop = buckets.crop_box(width, height, bucket, focus)
    wide, high = crop.right - crop.left, crop.bottom - crop.top
    assert -1e-6 <= crop.left < crop.right <= width + 1e-6 and -1e-6 <= crop.top < crop.bottom <= height + 1e-6
    assert wide / high == pytest.approx(bucket[0] / bucket[1], rel=1e-6)
    assert wide == pytest.approx(width) or high == pytest.approx(height)
    assert wide * crop.scale == pytest.approx(bucket[0])


@pytest.mark.parametrize(
    ("focus", "left"), [(None, 250), ((0.5, 0.5), 250), ((0.0, 0.5), 0), ((1.0, 0.9), 500), ((0.4, 0.5), 150)]
)
def test_the_focus_moves_the_crop_up_to_the_edge(focus: tuple[float, float] | None, left: float) -> None:
    assert buckets.crop_box(1000, 500, (512, 512), focus) == pytest.approx((1.024, left, 0, left + 500, 500))


def test_cutting_gives_the_format_and_the_chosen_part() -> None:
    image = Image.new("RGB", (800, 400), "#ff0000")
    image.paste((0, 0, 255), (400, 0, 800, 400))
    for focus, colour in ((0.0, [255, 0, 0]), (1.0, [0, 0, 255])):
        side = np.asarray(buckets.cut(image, (256, 256), (focus, 0.5)))
        assert side.shape == (256, 256, 3)
        assert (side[:, 3:-3] == colour).all()
    middle = np.asarray(buckets.cut(image, (256, 256)))
    assert (
        middle.shape == (256, 256, 3) and middle[128, 60].tolist() == [255, 0, 0] and middle[128, 200].tolist() == [0, 0, 255]
    )


def test_a_picture_of_the_format_itself_is_left_untouched() -> None:
    assert buckets.cut(scene(1, (512, 512)), (512, 512)) == scene(1, (512, 512))


def test_how_much_is_cut_off() -> None:
    assert buckets.cut_share(512, 512, (512, 512)) == 0
    assert buckets.cut_share(1000, 500, (512, 512)) == pytest.approx(0.5)
