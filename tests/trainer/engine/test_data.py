"""The order of looks: even, full batches, the same wherever one starts."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from types import SimpleNamespace

from trainer.engine.data import Item, Plan


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


def test_a_round_is_shuffled_once_not_once_a_look(monkeypatch):
    import random

    shuffled = []
    original = random.Random.shuffle
    monkeypatch.setattr(random.Random, "shuffle", lambda self, x: (shuffled.append(len(x)), original(self, x)))
    plan = Plan(items(((64, 64), 100, 1)), 4, 1, False)
    list(islice(plan.batches(), 50))
    assert shuffled == [100, 100]
