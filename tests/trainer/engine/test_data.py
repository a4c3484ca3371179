"""The order of looks: even, full batches, the same wherever one starts."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from types import SimpleNamespace

from trainer.engine.data import Item, Plan, load_items, total_steps


def items(*shapes: tuple[tuple[int, int], int, int]) -> list[Item]:
    """(format, how many, repeats)."""
    return [Item(SimpleNamespace(id=f"{size}{i}", repeats=repeats), size)
            for size, many, repeats in shapes for i in range(many)]


def test_batches_are_full_and_of_one_format():
    plan = Plan(items(((64, 64), 5, 1), ((96, 64), 3, 1)), 2, 0, False)
    for batch in islice(plan.batches(), 50):
        assert len(batch) == 2 and len({look.item.bucket for look in batch}) == 1


def test_every_picture_is_seen_equally_often_and_repeats_count():
    plan = Plan(items(((64, 64), 5, 1), ((96, 64), 3, 1), ((64, 96), 1, 4)), 2, 0, False)
    seen = Counter(look.item.picture.id for batch in islice(plan.batches(), 600) for look in batch)
    once = [n for name, n in seen.items() if not name.startswith("(64, 96)")]
    assert max(once) - min(once) <= 3 and sum(once) / len(once) == 100
    assert seen["(64, 96)0"] == 400


def test_starting_later_gives_the_same_batches():
    plan = Plan(items(((64, 64), 5, 1), ((96, 64), 4, 1)), 3, 7, True)
    whole = [[(look.item.picture.id, look.flipped) for look in b] for b in islice(plan.batches(), 40)]
    late = [[(look.item.picture.id, look.flipped) for look in b] for b in islice(plan.batches(17), 23)]
    assert whole[17:] == late


def test_a_round_shows_each_picture_once_in_a_new_order():
    plan = Plan(items(((64, 64), 8, 1)), 4, 1, False)
    batches = list(islice(plan.batches(), 4))
    first = [look.item.picture.id for b in batches[:2] for look in b]
    second = [look.item.picture.id for b in batches[2:] for look in b]
    assert sorted(first) == sorted(second) and first != second


def test_flips_are_about_half():
    plan = Plan(items(((64, 64), 10, 1)), 10, 3, True)
    flips = [look.flipped for b in islice(plan.batches(), 100) for look in b]
    assert 400 < sum(flips) < 600


def test_several_sizes_share_the_looks(bench):
    one, three = bench.config("run.steps="), bench.config("run.steps=", "images.resolutions=128, 96")
    single, items = load_items(one, 64), load_items(three, 64)
    assert len(single) == 6 and len(items) == 18
    assert {item.bucket for item in items if item.picture.id == "0000"} == {(64, 64), (96, 96), (128, 128)}
    assert total_steps(three, items) == total_steps(one, single)
    small = load_items(bench.config("images.resolutions=128", "images.upscale=false"), 64)
    assert len([item for item in small if item.picture.id == "0000"]) == 1  # 64 px: the same format at both sizes


def test_lines_of_a_caption_file_are_captions_of_their_own_and_weights_come_from_the_set(bench):
    (bench.folder / "0000.txt").write_text("a red blob\n\n  a round thing \n")
    (bench.folder / "set.json").write_text('{"pictures": {"0001": {"weight": 2.5}, "0002": {"weight": -1}}}')
    items = {item.picture.id: item for item in load_items(bench.config("captions.lines=true"), 64)}
    assert items["0000"].captions == ("a red blob", "a round thing")
    assert items["0001"].captions == ("blob 1, red, round",)
    assert [items[name].weight for name in ("0000", "0001", "0002")] == [1.0, 2.5, 1.0]
    whole = {item.picture.id: item for item in load_items(bench.config(), 64)}
    assert whole["0000"].captions == ("a red blob a round thing",)


def test_a_round_is_shuffled_once_not_once_a_look(monkeypatch):
    import random

    shuffled = []
    original = random.Random.shuffle
    monkeypatch.setattr(random.Random, "shuffle", lambda self, x: (shuffled.append(len(x)), original(self, x)))
    plan = Plan(items(((64, 64), 100, 1)), 4, 1, False)
    list(islice(plan.batches(), 50))
    assert shuffled == [100, 100]
