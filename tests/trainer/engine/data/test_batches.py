"""The order of looks: even, full batches, the same wherever one starts."""

from __future__ import annotations

import shutil
from collections import Counter
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainer.config.lines import read_subset
from trainer.core.problem import Problem
from trainer.engine.base import load_base
from trainer.engine.data import latents as cache
from trainer.engine.data.batches import BucketBatchSampler, load_examples, total_steps
from trainer.engine.data.masks import Masks
from trainer.images.geometry.augment import Augmentation
from trainer.images.set.examples import Example, View, augmentation_of, augmentations_of, micro_conditioning


def items(*shapes: tuple[tuple[int, int], int, int]) -> list[Example]:
    """(format, how many, repeats)."""

    def picture(**known: object) -> Any:
        return SimpleNamespace(**known)

    return [Example(picture(id=f"{size}{i}", repeats=repeats), size) for size, many, repeats in shapes for i in range(many)]


def test_batches_are_full_and_of_one_format():
    plan = BucketBatchSampler(items(((64, 64), 5, 1), ((96, 64), 3, 1)), 2, 0, False)
    for batch in islice(plan.batches(), 50):
        assert len(batch) == 2 and len({look.item.bucket for look in batch}) == 1


def test_every_picture_is_seen_equally_often_and_repeats_count():
    plan = BucketBatchSampler(items(((64, 64), 5, 1), ((96, 64), 3, 1), ((64, 96), 1, 4)), 2, 0, False)
    seen = Counter(look.item.picture.id for batch in islice(plan.batches(), 600) for look in batch)
    once = [n for name, n in seen.items() if not name.startswith("(64, 96)")]
    assert max(once) - min(once) <= 3 and sum(once) / len(once) == 100
    assert seen["(64, 96)0"] == 400


def test_starting_later_gives_the_same_batches():
    plan = BucketBatchSampler(items(((64, 64), 5, 1), ((96, 64), 4, 1)), 3, 7, True)
    whole = [[(look.item.picture.id, look.flipped) for look in b] for b in islice(plan.batches(), 40)]
    late = [[(look.item.picture.id, look.flipped) for look in b] for b in islice(plan.batches(17), 23)]
    assert whole[17:] == late


def test_a_round_shows_each_picture_once_in_a_new_order():
    plan = BucketBatchSampler(items(((64, 64), 8, 1)), 4, 1, False)
    batches = list(islice(plan.batches(), 4))
    first = [look.item.picture.id for b in batches[:2] for look in b]
    second = [look.item.picture.id for b in batches[2:] for look in b]
    assert sorted(first) == sorted(second) and first != second


def test_flips_are_about_half():
    plan = BucketBatchSampler(items(((64, 64), 10, 1)), 10, 3, True)
    flips = [look.flipped for b in islice(plan.batches(), 100) for look in b]
    assert 400 < sum(flips) < 600


def test_several_sizes_share_the_looks(bench):
    one, three = bench.config("run.steps="), bench.config("run.steps=", "images.extra_resolutions=128, 96")
    single, items = load_examples(one, 64), load_examples(three, 64)
    assert len(single) == 6 and len(items) == 18
    assert {item.bucket for item in items if item.picture.id == "0000"} == {(64, 64), (96, 96), (128, 128)}
    assert total_steps(three, items) == total_steps(one, single)
    small = load_examples(bench.config("images.extra_resolutions=128", "images.upscale=false"), 64)
    assert len([item for item in small if item.picture.id == "0000"]) == 1  # 64 px: the same format at both sizes


def test_lines_of_a_caption_file_are_captions_of_their_own_and_weights_come_from_the_set(bench):
    (bench.folder / "0000.txt").write_text("a red blob\n\n  a round thing \n")
    (bench.folder / "set.json").write_text('{"pictures": {"0001": {"weight": 2.5}, "0002": {"weight": -1}}}')
    items = {item.picture.id: item for item in load_examples(bench.config("captions.one_per_line=true"), 64)}
    assert items["0000"].captions == ("a red blob", "a round thing")
    assert items["0001"].captions == ("blob 1, red, round",)
    assert [items[name].weight for name in ("0000", "0001", "0002")] == [1.0, 2.5, 1.0]
    whole = {item.picture.id: item for item in load_examples(bench.config(), 64)}
    assert whole["0000"].captions == ("a red blob a round thing",)


def test_a_round_is_shuffled_once_not_once_a_look(monkeypatch):
    import random

    shuffled = []
    original = random.Random.shuffle
    monkeypatch.setattr(random.Random, "shuffle", lambda self, x: (shuffled.append(len(x)), original(self, x)))
    plan = BucketBatchSampler(items(((64, 64), 100, 1)), 4, 1, False)
    list(islice(plan.batches(), 50))
    assert shuffled == [100, 100]


def test_further_folders_count_and_repeat_as_their_lines_say(bench, tmp_path):
    for place in (bench.folder / "inside", bench.folder.parent / "3_beside", tmp_path / "far"):
        shutil.copytree(bench.folder, place, ignore=lambda *_: ["inside", "3_beside"])
    (tmp_path / "far" / "set.json").write_text('{"pictures": {"0001": {"weight": 2, "repeats": 2}}}')
    config = bench.config("run.steps=", "images.subsets=inside = 0.5\n3_beside = 1\n" + f"{tmp_path / 'far'} = 0.25, 4")
    items = load_examples(config, 64)
    assert len(items) == 24
    told = {(item.picture.file.parent.name, item.picture.id): (item.weight, item.picture.repeats) for item in items}
    assert told[bench.folder.name, "0001"] == (1, 1) and told["inside", "0001"] == (0.5, 1)
    assert told["3_beside", "0001"] == (1, 3) and told["far", "0001"] == (0.5, 8) and told["far", "0002"] == (0.25, 4)
    assert total_steps(config, items) == -(-(6 + 6 + 18 + 28) * config.run.epochs // config.run.batch_size)
    with pytest.raises(Problem) as told:
        load_examples(bench.config("images.subsets=nowhere = 1"), 64)
    assert (told.value.code, told.value.field) == ("folder_missing", "images.subsets")
    for line in ("nowhere", "= 1", "a = 0", "a = 11", "a = 1, 0", "a = 1, x", "a = nan"):
        with pytest.raises(ValueError):
            read_subset(line)
    assert read_subset(r"C:\a = b, c = 2, 5") == (r"C:\a = b, c", 2.0, 5)


def test_cuts_lie_along_what_hangs_over_and_follow_from_the_seed(bench, monkeypatch):
    config = bench.config("images.buckets=false", "images.random_crops=4", "images.flip_augment=true")
    items = load_examples(config, 64)
    wide, square = items[-1], items[0]  # 96 x 64 and 64 x 64, both cut to 64 x 64
    places = [View(wide, False, cut).focus for cut in range(4)]
    others = [place for place in places[1:] if place is not None]
    assert places[0] is None and len(others) == 3 and len(set(places)) == 4
    assert all(1 / 3 <= x <= 2 / 3 and y == 0.5 for x, y in others)
    assert {View(square, False, cut).focus for cut in range(4)} == {None}
    plan = BucketBatchSampler(items, 2, 0, True, 4)
    looks = [look for batch in islice(plan.batches(), 40) for look in batch]
    assert {look.cut for look in looks} == {0, 1, 2, 3}
    assert [look for batch in islice(plan.batches(20), 20) for look in batch] == looks[40:]

    latents = cache.LatentCache(load_base(config, bench.home), bench.home.cache / "latents")
    cut = []
    made = cache._pixels
    monkeypatch.setattr(cache, "_pixels", lambda look: (cut.append(look), made(look))[1])
    assert latents.prepare(items, True, lambda done, of: None, 4) == items
    assert len(cut) == 2 * (4 * 1 + 2 * 4)  # four square pictures have one cut, two wide ones four; all of them mirrored
    ours = np.asarray(wide.picture.load().crop(box := _box(others[1])), np.float32) / 127.5 - 1
    assert box[2] - box[0] == 64 and np.abs(made(View(wide, False, 2)).permute(1, 2, 0).numpy() - ours).mean() < 0.1


def test_forms_are_changed_the_same_wherever_a_run_goes_on_kept_encoded_and_followed_by_masks_and_sizes(bench, monkeypatch):
    config = bench.config("images.buckets=false", "images.augment_variants=3", "images.color_jitter=0.3", "images.rotation=10")
    items = load_examples(config, 64)
    forms = augmentations_of(config.images)
    plan = BucketBatchSampler(items, 2, 0, False, 1, forms)
    looks = [look for batch in islice(plan.batches(), 60) for look in batch]
    assert [look for batch in islice(plan.batches(20), 40) for look in batch] == looks[40:]
    mine = {look.form for look in looks if look.item == items[0]}
    assert len(mine) == 3 and None in mine and augmentation_of(items[0], 0, forms) is None
    for form in filter(None, mine):
        assert all(0.7 <= factor <= 1.3 for factor in form[:3]) and abs(form.hue) <= 0.03 and abs(form.rotation) <= 10
    assert augmentations_of(bench.config("images.augment_variants=9").images).count == 1
    assert {
        form and form.rotation
        for form in (augmentation_of(i, 1, augmentations_of(bench.config("images.color_jitter=0.1").images)) for i in items)
    } == {0}

    latents = cache.LatentCache(load_base(config, bench.home), bench.home.cache / "latents")
    made, seen = cache._pixels, []
    monkeypatch.setattr(cache, "_pixels", lambda look: (seen.append(look), made(look))[1])
    assert latents.prepare(items, False, lambda done, of: None, 1, forms) == items and len(seen) == 3 * 6
    means = torch.stack([latents.posterior(look).mean for look in seen if look.item == items[0]])
    assert len(seen) == 18 and torch.cdist(means.flatten(1), means.flatten(1)).fill_diagonal_(1).min() > 1e-3
    plain = cache.LatentCache(latents.parts, bench.home.cache / "latents")
    assert plain.prepare(items, False, lambda done, of: None) == items and len(seen) == 18  # the picture itself has one name

    form = Augmentation(1, 1, 1, 0, 10.0)
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))).save(bench.folder / "0000.mask.png")
    straight, turned = (Masks(0.0).of([View(items[0], False, 0, f)], 64, 64)[0, 0] for f in (None, form))
    falls = (turned[1:] - turned[:-1]).mean() / (turned[:, 1:] - turned[:, :-1]).mean()
    assert abs(float(falls) + np.tan(np.radians(10))) < 0.02 and (straight[1:] - straight[:-1]).abs().max() == 0
    larger = np.cos(np.radians(10)) + np.sin(np.radians(10))
    told = micro_conditioning(View(items[-1], False, 0, form))  # 96 x 64 cut to 64 x 64: 16 pixels off on each side
    assert told == (64, 96, round(32 * (larger - 1)), round(16 * larger + 32 * (larger - 1)), 64, 64)


def _box(focus: tuple[float, float]) -> tuple[int, int, int, int]:
    left = round(focus[0] * 96 - 32)
    return left, 0, left + 64, 64
