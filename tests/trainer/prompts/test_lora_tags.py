"""LoRAs named inside a prompt, and prompts to try one with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.images.captions.captions import trial_prompts
from trainer.prompts.lora_tags import Tag, number, parse, resolve

_letters = st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="<>:=")
_names = st.text(_letters, min_size=1, max_size=20).map(str.strip).filter(bool)
_strengths = st.integers(-20_000, 20_000).map(lambda n: n / 10_000)


@pytest.mark.parametrize(
    ("prompt", "left", "tags"),
    [
        ("a cat", "a cat", ()),
        ("a cat <lora:ink:0.8>", "a cat", (Tag("ink", 0.8, 0.8),)),
        ("<lora:ink:0.8> a cat", "a cat", (Tag("ink", 0.8, 0.8),)),
        ("a cat, <lora:ink:0.8>, at night", "a cat, at night", (Tag("ink", 0.8, 0.8),)),
        ("<lora:ink:1>, a cat", "a cat", (Tag("ink"),)),
        ("a cat, <lora:ink>", "a cat", (Tag("ink"),)),
        ("a <lora:ink:0.5:1.25> cat", "a cat", (Tag("ink", unet=1.25, text_encoder=0.5),)),
        ("a<LoRA: ink : .5 >b", "ab", (Tag("ink", 0.5, 0.5),)),
        ("<lora:ink:te=0.5:unet=-1>x", "x", (Tag("ink", unet=-1, text_encoder=0.5),)),
        ("<lora:ink:unet=0.3>x", "x", (Tag("ink", unet=0.3, text_encoder=1),)),
        ("<lora:水墨 v2:0.8>猫", "猫", (Tag("水墨 v2", 0.8, 0.8),)),
        ("<lora:a:0.5><lora:b:1> x <lora:a:0.25>", "x", (Tag("a", 0.75, 0.75), Tag("b"))),
        ("a < b > c <b>", "a < b > c <b>", ()),
    ],
)
def test_tags_are_taken_out_and_the_rest_reads_on(prompt, left, tags):
    parsed = parse(prompt)
    assert (parsed.prompt, parsed.tags, parsed.broken) == (left, tags, ())


@pytest.mark.parametrize(
    "tag",
    [
        "<lora:>",
        "<lora::1>",
        "<lora:ink:much>",
        "<lora:ink:nan>",
        "<lora:ink:1e999>",
        "<lora:ink:1:2:3:4>",
        "<lora:ink:depth=1>",
        "<lora:ink:200>",
        "<lora:ink:1e9>",
        "<lora:ink:inf>",
        "<lora:ink:abc>",
    ],
)
def test_a_tag_that_cannot_be_read_is_named_and_not_drawn(tag):
    parsed = parse(f"a cat {tag}")
    assert (parsed.prompt, parsed.tags, parsed.broken) == ("a cat", (), (tag,))


def test_a_path_is_no_name_and_fifty_tags_are_fifty():
    found = resolve(parse("x <lora:../../x:1>").tags, ["ink"])
    assert found.tags == () and [name for name, _ in found.unknown] == ["../../x"]
    assert len(parse(" ".join(f"<lora:a{n}:1>" for n in range(50))).tags) == 50


@given(st.text(max_size=200))
def test_any_text_can_be_read(prompt):
    parsed = parse(prompt)
    assert parse(parsed.prompt).prompt == parsed.prompt or "<" in parsed.prompt
    if not parsed.tags and not parsed.broken:
        assert parsed.prompt == prompt


@given(st.text("<>:lora,.= 0189-e\n", max_size=60))
def test_text_that_looks_like_tags_can_be_read(prompt):
    parsed = parse(prompt)
    for tag in parsed.tags:
        assert tag.name and abs(tag.unet) < 1e5 and abs(tag.text_encoder) < 1e5


@given(_names, _strengths, _strengths)
def test_a_written_tag_reads_back_the_same(name, unet, text_encoder):
    parsed = parse(f"a cat {Tag(name, unet, text_encoder)}")
    assert parsed.prompt == "a cat"
    (tag,) = parsed.tags
    assert tag.name == name
    assert tag.unet == pytest.approx(unet, abs=1e-9) and tag.text_encoder == pytest.approx(text_encoder, abs=1e-9)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.8, "0.8"), (1.0, "1"), (-0.25, "-0.25"), (0.0, "0"), (-0.00001, "0"), (10.0, "10"), (0.1 + 0.2, "0.3")],
)
def test_strengths_are_written_as_people_type_them(value, text):
    assert number(value) == text


def test_names_are_found_without_case_and_ending():
    found = resolve((Tag("Ink_V1.safetensors", 0.5, 0.5), Tag("水墨")), ["ink_v1", "水墨"])
    assert found.tags == (Tag("ink_v1", 0.5, 0.5), Tag("水墨")) and found.unknown == ()


def test_an_exact_name_wins_over_one_in_another_case():
    assert resolve((Tag("ink"),), ["INK", "ink"]).tags == (Tag("ink"),)


def test_two_spellings_of_one_name_add_up():
    assert resolve((Tag("ink", 0.5, 0.5), Tag("INK", 0.25, 0)), ["ink"]).tags == (Tag("ink", 0.75, 0.5),)


def test_an_unknown_name_comes_with_the_nearest_one():
    found = resolve((Tag("ikn_wash"), Tag("zzz")), ["ink_wash", "paper"])
    assert found.tags == () and found.unknown == (("ikn_wash", "ink_wash"), ("zzz", None))


@pytest.mark.parametrize(
    ("tag", "names", "found"),
    [
        ("<lora:foo:1:0.8>", ["foo:1"], Tag("foo:1", 0.8, 0.8)),
        ("<lora:foo:1>", ["foo:1", "bar"], Tag("foo:1")),
        ("<lora:FOO:1:0.2:0.8>", ["foo:1"], Tag("FOO:1", unet=0.8, text_encoder=0.2)),
        ("<lora:a:b:c:te=0.5>", ["a:b:c"], Tag("a:b:c", text_encoder=0.5)),
        ("<lora:a:b:0.5>", ["a:b", "a:b:c"], Tag("a:b", 0.5, 0.5)),
        ("<lora:foo:0.8>", ["foo", "bar:1"], Tag("foo", 0.8, 0.8)),
    ],
)
def test_a_name_with_a_colon_is_known_by_the_library(tag, names, found):
    parsed = parse(f"a cat {tag}", names)
    assert (parsed.prompt, parsed.tags, parsed.broken) == ("a cat", (found,), ())
    assert resolve(parsed.tags, names).unknown == ()


def test_a_tag_that_fits_two_loras_is_not_guessed():
    parsed = parse("a cat <lora:foo:1:0.8>", ["foo", "foo:1"])
    assert parsed.tags == () and parsed.broken == ("<lora:foo:1:0.8>",)
    assert parse("x <lora:foo:0.8>", ["foo", "foo:1"]).tags == (Tag("foo", 0.8, 0.8),)


@pytest.mark.parametrize(
    ("kind", "trigger", "expected"),
    [
        ("style", "ink style", ("ink style, a fox, white background", "ink style, an owl")),
        ("character", "zibbo", ("zibbo", "zibbo, a fox, white background")),
        ("character", "", ("a fox, white background", "an owl")),
        ("", "fox", ("a fox, white background", "fox, an owl")),
    ],
)
def test_a_lora_is_tried_with_its_trigger_and_the_bases_own_prompts(kind: str, trigger: str, expected: tuple) -> None:
    assert trial_prompts(kind, trigger, ["a fox, white background", "an owl", "a castle"]) == expected


def test_a_character_is_tried_first_as_its_own_set_calls_it() -> None:
    captions = ["a fox", "a zibbo mascot waving, white background", "a zibbo mascot asleep"]
    assert trial_prompts("character", "zibbo", ["an owl"], captions) == (captions[1], "zibbo, an owl")
    long = ["zibbo " * 50]
    assert trial_prompts("character", "zibbo", ["an owl"], long) == ("zibbo", "zibbo, an owl"), "too long to be a test"
    assert trial_prompts("style", "ink style", ["an owl", "a fox"], captions) == ("ink style, an owl", "ink style, a fox")
