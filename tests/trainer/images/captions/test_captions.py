"""Captions: nothing a person types or a file holds breaks them, and training sees the same words for the same seed."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config.sections.captions import Captions
from trainer.images.captions import captions, encodings
from trainer.images.captions.captions import CaptionRules, training_caption
from trainer.images.captions.encodings import Reading

anything = st.text(st.characters(), max_size=300)
words = st.lists(st.text(st.characters(categories=("L", "N")), min_size=1, max_size=8), min_size=1, max_size=10)


@given(st.binary(max_size=400))
def test_any_bytes_become_one_clean_line(data: bytes) -> None:
    (reading,) = encodings.read_all([data])
    text = captions.clean(reading.text)
    assert "\n" not in text and text == text.strip() and captions.clean(text) == text
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in text)
    text.encode("utf-8")


@given(anything)
def test_any_text_survives_cleaning_and_utf8(text: str) -> None:
    once = captions.clean(text)
    assert captions.clean(once) == once
    assert encodings.read_all([once.encode("utf-8")]) == [Reading(once.removeprefix("\ufeff"), "utf-8")]


def test_tags_join_and_cutting() -> None:
    assert captions.tags(" a cat ,, red hat,") == ["a cat", "red hat"]
    assert captions.join(["a cat", "red hat"]) == "a cat, red hat"
    assert captions.shorten("abc def, ghi", 100) == ("abc def, ghi", False)
    assert captions.shorten("x" * 50, 10) == ("x" * 10, True)
    assert captions.shorten("word " * 10, 22) == ("word word word word", True)


@pytest.mark.parametrize(
    ("text", "trigger", "expected"),
    [
        ("a cat", "ohwx", "ohwx, a cat"),
        ("", "ohwx", "ohwx"),
        ("a cat", "", "a cat"),
        ("an OHWX cat", "ohwx", "an OHWX cat"),
        ("ohwxish cat", "ohwx", "ohwx, ohwxish cat"),
        ("a bear, inkstamp style", "inkstamp style", "a bear, inkstamp style"),
        ("これはミコです", "ミコ", "これはミコです"),
        ("a cat", "a.*", "a.*, a cat"),
    ],
)
def test_the_trigger_is_put_in_front_where_it_is_missing(text: str, trigger: str, expected: str) -> None:
    assert captions.with_trigger(text, trigger) == expected


@given(words, st.integers(0, 5), st.integers(0, 2**32))
def test_shuffling_keeps_the_front_and_loses_nothing(parts: list[str], keep: int, seed: int) -> None:
    rng = random.Random(seed)
    mixed = captions.shuffle(parts, keep, rng)
    assert mixed[:keep] == parts[:keep] and sorted(mixed) == sorted(parts)
    for share, expected in ((0.0, parts), (1.0, parts[:keep])):
        assert captions.drop(parts, CaptionRules(tag_dropout=share), keep, rng) == expected


def test_training_sees_the_same_words_for_the_same_seed() -> None:
    rules = CaptionRules(trigger="ohwx", shuffle_tags=True, keep_tokens=1, dropout=0.2, tag_dropout=0.3)
    views = [
        [training_caption("a, b, c, d, e, f", rules, rng) for _ in range(200)] for rng in (random.Random(5), random.Random(5))
    ]
    assert views[0] == views[1]
    assert 20 <= views[0].count("") <= 60
    assert all(view == "" or view.startswith("ohwx") for view in views[0]) and len(set(views[0])) > 100
    assert training_caption("a, b", CaptionRules(), random.Random(0)) == "a, b"


def test_the_options_of_a_training_fit_as_rules() -> None:
    rules = Captions(trigger="ohwx", shuffle_tags=True, keep_tokens=2, dropout=0.0)
    view = training_caption("a, b, c", rules, random.Random(1))
    assert view.startswith("ohwx, a, ") and sorted(captions.tags(view)) == ["a", "b", "c", "ohwx"]
    assert training_caption("a", Captions(dropout=1.0), random.Random(1)) == ""


def view_of(text: str, **rules) -> str:
    return training_caption(text, CaptionRules(**rules), random.Random(3))


def test_parts_outside_the_separators_stay_and_the_mark_goes() -> None:
    views = {
        training_caption("a, b ||| c, d, e ||| f", CaptionRules("ohwx", True, keep_tokens_separator="|||"), random.Random(seed))
        for seed in range(40)
    }
    assert len(views) == 6
    assert all(view.startswith("ohwx, a, b, ") and view.endswith(", f") for view in views)
    assert view_of("a ||| b", keep_tokens_separator="|||") == "a, b"
    assert view_of("a, b", keep_tokens_separator="|||") == "a, b"


def test_only_named_parts_are_left_out_and_some_never() -> None:
    assert view_of("x, red, hat, Cat", tag_dropout=1.0, tag_dropout_only=("RED", "hat")) == "x, Cat"
    assert view_of("x, red, hat", tag_dropout=1.0, tag_dropout_never=("Hat",)) == "x, hat"
    seen = [training_caption("x, a", CaptionRules(tag_dropout=0.25), random.Random(seed)) for seed in range(400)]
    assert 70 <= seen.count("x") <= 130


def test_prefix_and_suffix_stand_around_and_may_hold_the_trigger() -> None:
    assert view_of("a, b", trigger="ohwx", prefix="art of ", suffix=", best") == "art of, ohwx, a, b, best"
    assert view_of("a, b", trigger="ohwx", prefix="art by ohwx") == "art by ohwx, a, b"
    assert view_of("", prefix="x") == "x"
    assert view_of("a", prefix="x", dropout=1.0) == ""


def test_what_stands_in_brackets_stays_together_where_brackets_are_weights() -> None:
    text = "ohwx, (a, b:1.2), [c, d], e"
    rules = CaptionRules(shuffle_tags=True, tag_dropout=1.0, tag_dropout_only=("a, b",), weighted=True)
    seen = {training_caption(text, rules, random.Random(seed)) for seed in range(40)}
    assert seen == {"ohwx, [c, d], e", "ohwx, e, [c, d]"}
    plain = CaptionRules(tag_dropout=1.0, tag_dropout_only=("e",))
    assert training_caption(text, plain, random.Random(0)) == "ohwx, (a, b:1.2), [c, d]"


def test_braces_are_a_choice_only_when_asked() -> None:
    assert view_of("a {red|blue} hat") == "a {red|blue} hat"
    seen = {
        training_caption("a {red|{dark|light} blue} {x}", CaptionRules(wildcards=True), random.Random(i)) for i in range(60)
    }
    assert seen == {"a red {x}", "a dark blue {x}", "a light blue {x}"}
    assert view_of("{|} a }{ | {{", wildcards=True) == "a }{ | {{"


@pytest.mark.parametrize(
    ("text", "word", "expected"),
    [
        ("ohwx, a hat", "", "a hat"),
        ("a photo of OHWX in a hat", "a dog", "a photo of a dog in a hat"),
        ("ohwxish", "", "ohwxish"),
        ("", "a dog", ""),
    ],
)
def test_the_trigger_can_be_taken_out(text: str, word: str, expected: str) -> None:
    assert captions.without_trigger(text, "ohwx", word) == expected


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("a cat", 2), ("a photo of a cat, red hat", 8), ("in 2024", 5), ("extraordinarily", 3), ("黒猫", 3)],
)
def test_token_estimate(text: str, tokens: int) -> None:
    assert captions.estimate_tokens(text) == tokens


@pytest.mark.parametrize(
    ("trigger", "problem"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("cat", "common"),
        ("Blue Girl", "common"),
        ("猫", "common"),
        ("ink stamp zz", "spaces"),
        ("ohwx", None),
    ],
)
def test_trigger_words_are_judged(trigger: str, problem: str | None) -> None:
    assert captions.trigger_problem(trigger) == problem


@pytest.mark.parametrize(
    ("name", "word"),
    [("Ink Stamp", "inkstamp"), ("Cat", "catxq"), ("", "xqlook"), ("ミコ・ミコ", "ミコミコ"), ("7", "7xq")],
)
def test_a_trigger_is_proposed_from_a_name(name: str, word: str) -> None:
    assert captions.propose_trigger(name) == word


@given(st.text(max_size=40))
def test_a_proposed_trigger_is_always_a_good_one(name: str) -> None:
    assert captions.trigger_problem(captions.propose_trigger(name)) is None


def test_edits() -> None:
    assert captions.adding("hat")("a cat") == "a cat, hat"
    assert captions.adding("hat", front=True)("a cat") == "hat, a cat"
    assert captions.adding("cat")("a cat") == "a cat"
    assert captions.removing("Hat")("a cat, hat, hatstand") == "a cat, hatstand"
    assert captions.replacing("cat", r"\1 dog")("a Cat, cats") == r"a \1 dog, \1 dogs"
    assert captions.replacing("cat", "")("cat, dog") == "dog"
    assert captions.replacing("", "x")("cat") == "cat"
