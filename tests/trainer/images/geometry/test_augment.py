"""Forms of a picture: no empty corner, turned by the angle said, colours by the factors said."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.helpers.pictures import scene
from trainer.images.geometry import augment, buckets
from trainer.images.geometry.augment import Augmentation, AugmentationSettings

PLAIN = Augmentation(1, 1, 1, 0, 0)


@pytest.mark.parametrize("bucket", [(64, 64), (96, 48), (40, 64), (512, 320)])
@pytest.mark.parametrize("turn", [-30.0, -1.3, 0.01, 7.0, 29.9])
def test_a_turned_picture_has_no_empty_corner_and_its_format(bucket: tuple[int, int], turn: float) -> None:
    for size in ((200, 200), (90, 300), bucket):
        cut = augment.cut(Image.new("RGB", size, "white"), bucket, None, PLAIN._replace(rotation=turn))
        assert cut.size == bucket and np.asarray(cut).min() == 255
    assert 1 <= augment.zoom(bucket, PLAIN._replace(rotation=turn)) < 1.9


def test_it_is_turned_around_the_middle_of_the_cut_against_the_clock() -> None:
    image = Image.new("RGB", (200, 100))
    ImageDraw.Draw(image).ellipse((116, 26, 124, 34), fill="white")  # 20.5 to the right of the middle and 19.5 above it
    form = PLAIN._replace(rotation=15.0)
    light = np.asarray(augment.cut(image, (200, 100), None, form).convert("L"), np.float64)
    y, x = (float((light * axis).sum() / light.sum()) + 0.5 for axis in np.indices(light.shape))
    angle, far = math.atan2(19.5, 20.5) + math.radians(15), math.hypot(19.5, 20.5) * augment.zoom((200, 100), form)
    assert (x - 100, 50 - y) == pytest.approx((far * math.cos(angle), far * math.sin(angle)), abs=1.0)


def test_colours_follow_their_factors() -> None:
    picture = scene(3, (48, 48))
    pixels_ = np.asarray(picture, np.float64)
    grey = np.asarray(picture.convert("L"), np.float64)
    references = {
        "brightness": pixels_ * 1.2, "contrast": round(grey.mean()) + (pixels_ - round(grey.mean())) * 1.2,
        "saturation": grey[..., None] + (pixels_ - grey[..., None]) * 1.2,
    }  # fmt: skip
    for name, expected in references.items():
        got = np.asarray(augment.color_jitter(picture, PLAIN._replace(**{name: 1.2})), np.float64)
        assert np.abs(got - np.clip(expected, 0, 255)).max() <= 1.5, name
    red = Image.new("RGB", (4, 4), (200, 0, 0))
    turned = np.asarray(augment.color_jitter(red, PLAIN._replace(hue=1 / 3)))
    assert np.allclose(turned[0, 0], (0, 200, 0), atol=4)
    assert augment.color_jitter(picture, PLAIN) == picture == augment.color_jitter(picture, None)


def test_without_a_turn_it_is_cut_as_ever_and_chance_keeps_within_what_is_asked() -> None:
    picture = scene(1, (120, 80))
    for form in (None, PLAIN):
        assert augment.cut(picture, (64, 64), (0.2, 0.5), form) == buckets.cut(picture, (64, 64), (0.2, 0.5))
    drawn = [AugmentationSettings(4, 0.5, 20).draw(random.Random(seed)) for seed in range(300)]
    assert all(0.5 <= factor <= 1.5 for form in drawn for factor in form[:3])
    assert max(form.rotation for form in drawn) > 15 and min(form.rotation for form in drawn) < -15
    assert 0.04 < max(abs(form.hue) for form in drawn) <= 0.05
    assert AugmentationSettings(4, 0.0, 0.0).draw(random.Random(0)) == PLAIN
