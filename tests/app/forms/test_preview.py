"""From the Preview page's fields to a request, and drawn pictures on disk."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.forms import preview
from app.forms.preview import FieldError, parse_form
from app.views import preview as view
from tests.helpers import studio
from trainer.core.home import Home
from trainer.core.texts import t
from trainer.library import drawings
from trainer.library.drawings import Drawings
from trainer.library.library import Library
from trainer.prompts.lora_tags import MAX_LORAS

en = partial(t, language="en")


class Base:
    """The facts of a base the form looks at."""

    def __init__(self, id_: str = "mini", family: str = "sd1") -> None:
        self.id, self.family = id_, family


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.find(tmp_path).create()


def form(*loras: dict[str, Any], **changes: Any) -> dict[str, Any]:
    filled = {"base": "mini", "prompt": "a fox", "negative": "", "seed": 7, "steps": 20, "guidance": 7.0, "width": 128,
              "height": 128, "strip": "usual"}  # fmt: skip
    return filled | {"loras": [{"on": True, "unet": 1, "te": None, **row} for row in loras]} | changes


def ask(home: Home, filled: dict[str, Any], *bases: Base) -> preview.PreviewJob:
    return parse_form(filled, bases or (Base(),), Library(home).cards(), en, "en")


def test_a_lora_draws_with_its_words_as_strongly_unless_said_otherwise(home: Home) -> None:
    path = studio.lora(home)
    assert ask(home, form({"name": "Ink_fox", "unet": 0.8})).request["loras"] == [
        {"path": str(path), "unet": 0.8, "text_encoder": 0.8}
    ]
    assert ask(home, form({"name": "Ink_fox", "unet": 0.8, "te": 0})).request["loras"][0]["text_encoder"] == 0


def test_no_guidance_is_a_value_and_no_steps_are_answered_beside_the_field(home: Home) -> None:
    assert ask(home, form(guidance=0)).request["guidance"] == 0.0
    with pytest.raises(FieldError) as wrong:
        ask(home, form(steps=0))
    assert wrong.value.field == "more" and "200" in wrong.value.sentence


def test_switches_in_the_prompt_are_sent_to_the_fields_below(home: Home) -> None:
    for prompt in ("a fox --n blurry", "a fox --s 3 --l 0", "a fox --ar 16"):
        with pytest.raises(FieldError) as wrong:
            ask(home, form(prompt=prompt))
        assert wrong.value.field == "prompt" and "fields below" in wrong.value.sentence
    assert ask(home, form(prompt="a fox -- at night")).request["prompt"] == "a fox -- at night"


def test_a_lora_whose_name_holds_a_colon_is_drawn_by_its_tag_or_asked_about(home: Home) -> None:
    path = studio.lora(home)
    colon = path.with_name("Ink:2.safetensors")
    shutil.copyfile(path, colon)
    request = ask(home, form(prompt="a fox <lora:ink:2:0.8>")).request
    assert request["loras"] == [{"path": str(colon), "unet": 0.8, "text_encoder": 0.8}] and request["prompt"] == "a fox"
    shutil.copyfile(path, path.with_name("Ink.safetensors"))
    with pytest.raises(FieldError) as wrong:
        ask(home, form(prompt="a fox <lora:ink:2:0.8>"))
    assert wrong.value.field == "prompt" and "<lora:ink:2:0.8>" in wrong.value.sentence


def test_a_sampler_is_asked_for_by_name_and_the_bases_own_without_a_word(home: Home) -> None:
    assert ask(home, form(sampler="unipc")).request["sampler"] == "unipc"
    assert all("sampler" not in ask(home, filled).request for filled in (form(), form(sampler="base"), form(sampler=None)))
    with pytest.raises(FieldError) as wrong:
        ask(home, form(sampler="magic"))
    assert wrong.value.field == "more" and "magic" in wrong.value.sentence


def test_a_row_switched_off_is_not_drawn(home: Home) -> None:
    studio.lora(home)
    assert ask(home, form({"name": "Ink_fox", "on": False})).names == ()


def test_brackets_are_asked_to_be_weights_by_a_tick_alone_and_old_drawings_keep_their_names(home: Home) -> None:
    plain, ticked = (ask(home, form(**words)).request for words in ({}, {"weights": True}))
    assert plain == ask(home, form(weights=False)).request and "weights" not in plain
    assert ticked == plain | {"weights": True}
    assert drawings.key("mini", 1, plain) != drawings.key("mini", 1, ticked)


def test_a_lora_named_in_the_prompt_is_taken_out_of_it_and_its_strength_counts(home: Home) -> None:
    studio.lora(home)
    want = ask(home, form({"name": "Ink_fox"}, prompt="a fox, <lora:ink_fox:0.2:0.6>, snow"))
    assert want.request["prompt"] == "a fox, snow" and want.names == ("Ink_fox",)
    assert want.request["loras"][0]["unet"] == 0.6 and want.request["loras"][0]["text_encoder"] == 0.2


@pytest.mark.parametrize(
    ("changes", "rows", "field", "words"),
    [
        ({"prompt": "a <lora:Ink_fix:1>"}, [], "prompt", "Did you mean “Ink_fox”?"),
        ({"prompt": "a <lora:Ink_fox:lots>"}, [], "prompt", "<lora:Ink_fox:lots> cannot be read"),
        ({"prompt": " "}, [], "prompt", "Say what to draw."),
        ({}, [{"name": "Ink_fox"}, {"name": "Ink_fox"}], "lora", "chosen twice"),
        ({}, [{"name": "gone"}], "lora", "There is no LoRA called “gone”."),
        ({}, [{"name": "Ink_fox", "unet": 11}], "lora", "from -10 to 10"),
        ({}, [{"name": "Ink_fox", "te": float("nan")}], "lora", "from -10 to 10"),
        ({"seed": -1}, [], "more", "whole number"),
        ({"seed": None}, [], "more", "whole number"),
        ({"steps": 0}, [], "more", "from 1 to 200"),
        ({"width": 130}, [], "more", "multiples of 8"),
    ],
)
def test_a_mistake_is_answered_beside_its_field(home: Home, changes: Any, rows: Any, field: str, words: str) -> None:
    studio.lora(home)
    with pytest.raises(FieldError) as caught:
        ask(home, form(*rows, **changes))
    assert caught.value.field == field and words in caught.value.sentence


def test_a_lora_for_another_kind_of_base_is_refused_with_a_sentence(home: Home) -> None:
    studio.lora(home)
    with pytest.raises(FieldError, match=r"made for Stable Diffusion 1\.x and cannot be used with Stable Diffusion XL"):
        ask(home, form({"name": "Ink_fox"}, base="big"), Base("big", "sdxl"))


def test_without_a_base_there_is_a_sentence(home: Home) -> None:
    with pytest.raises(FieldError, match="no base model"):
        parse_form(form(), (), (), en, "en")


@given(st.one_of(st.none(), st.text(max_size=9), st.floats(), st.integers()))
def test_any_strength_told_by_the_page_is_within_reason(said: Any) -> None:
    assert -10 <= preview.strength_of(said) <= 10


def test_the_same_settings_are_one_drawing_and_another_file_is_another(home: Home) -> None:
    path = studio.lora(home)
    request = ask(home, form({"name": "Ink_fox"})).request
    name = drawings.key("mini", 1, request)
    assert name == drawings.key("mini", 1, {**request, "strengths": [1.0]}) and len(name) == 16
    assert len({name, drawings.key("mini", 2, request), drawings.key("mini", 1, {**request, "seed": 8})}) == 3
    path.write_bytes(path.read_bytes() + b" ")
    assert drawings.key("mini", 1, request) != name


def test_drawings_are_found_again_with_form_and_pictures(home: Home) -> None:
    store = Drawings(home.previews)
    drawing = store.begin("0123456789abcdef", form(prompt="狐"))
    for strength in (1.0, 0.0, 0.5):
        drawing = store.add(drawing, strength, studio.picture(drawing.folder / f"p0_s{strength:.2f}.png", 90))
    (found,) = Drawings(home.previews).latest()
    assert list(found.frames) == [0.0, 0.5, 1.0] and found.form["prompt"] == "狐"
    assert found.best() == found.frames[1.0]
    found.frames[0.5].unlink()
    again = store.begin("0123456789abcdef", form(prompt="猫"))
    kept = store.get("0123456789abcdef")
    assert kept is not None and list(again.frames) == [0.0, 1.0] and kept.form["prompt"] == "猫"


@pytest.mark.parametrize("name", ["../../etc", "", None, "0123456789ABCDEF", "0" * 17])
def test_a_name_that_is_no_drawing_finds_nothing(home: Home, name: str | None) -> None:
    assert Drawings(home.previews).get(name) is None


def test_the_strip_holds_every_frame_with_its_address(home: Home) -> None:
    import html
    import json
    import re

    store = Drawings(home.previews)
    drawing = store.begin("0123456789abcdef", form())
    drawing = store.add(drawing, 0.5, studio.picture(drawing.folder / "a.png", 10))
    said = view.strip(drawing, lambda path: f"/files/{path.name}", en, wanted=(0.0, 0.5), size=(128, 64))
    found = re.search(r'data-state="([^"]*)"', said)
    assert found is not None
    state = json.loads(html.unescape(found[1]))
    assert state["frames"] == [{"s": 0.5, "url": "/files/a.png"}] and state["wanted"] == [0.0, 0.5]
    assert (state["width"], state["height"], state["id"]) == (128, 64, "0123456789abcdef")
    assert 'href="/files/a.png?download"' in view.downloads(drawing, lambda path: f"/files/{path.name}", en)


def test_the_line_says_how_far_how_long_and_that_a_training_waits() -> None:
    said = view.progress(en, event="progress", step=30, of=140, drawn=1, wanted=7, left=42.0, training_waits=True)
    assert "Drawing picture 2 of 7" in said and "about 42 s left" in said and "the training waits about 42 s" in said
    assert 'aria-valuenow="30"' in said


def test_as_many_loras_can_be_asked_for_as_the_engine_draws_with(home: Home) -> None:
    names = [studio.lora(home, f"Fox {i}").stem for i in range(MAX_LORAS + 1)]
    assert len(ask(home, form(*({"name": name} for name in names[:-1]))).request["loras"]) == MAX_LORAS
    with pytest.raises(FieldError, match=f"At most {MAX_LORAS}"):
        ask(home, form(*({"name": name} for name in names)))
