"""Prompts that say how they are drawn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.core.problem import Problem
from trainer.prompts.prompt_line import PromptLine, check, read, without_switches


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a cat", PromptLine("a cat")),
        (
            "a cat, red --n blurry, low quality --w 768 --h 512 --d 7 --l 5.5 --s 28",
            PromptLine("a cat, red", "blurry, low quality", 768, 512, 7, 5.5, 28),
        ),
        ("a cat --N bad --S 4", PromptLine("a cat", negative="bad", steps=4)),
        ("a cat --d 0 --l 0", PromptLine("a cat", seed=0, guidance=0.0)),
        ("a cat --n", PromptLine("a cat", negative="")),
        ("--n blurry", PromptLine("", negative="blurry")),
        ("a cat --ss k_euler_a --s 9", PromptLine("a cat", steps=9, sampler="euler_a")),
        ("a cat --w 64 --w 128", PromptLine("a cat", width=128)),
        ("a cat -- by the sea", PromptLine("a cat -- by the sea")),
        ("a well--lit cat", PromptLine("a well--lit cat")),
        ("a cat --n 512 --", PromptLine("a cat", negative="512 --")),
        ("犬 --n ぼやけ --s 3", PromptLine("犬", negative="ぼやけ", steps=3)),
    ],
)
def test_switches_are_taken_from_the_prompt(text: str, line: PromptLine) -> None:
    assert read(text) == line and without_switches(text) == line.prompt


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        ("a cat --ar 16", "prompt_switch", "--ar"),
        ("a cat --g 3", "prompt_switch", "--g"),
        ("a cat --cn x.png", "prompt_switch", "--cn"),
        ("a cat --s many", "prompt_switch_value", "--s many"),
        ("a cat --w", "prompt_switch_value", "--w"),
        ("a cat --s 0", "steps_range", "0"),
        ("a cat --s 5000", "steps_range", "5000"),
        ("a cat --l nan", "guidance_range", "nan"),
        ("a cat --l -1", "guidance_range", "-1"),
        ("a cat --d -1", "seed_range", "-1"),
        ("a cat --w 500", "size_bad", "2048"),
        ("a cat --h 0", "size_bad", "64"),
        ("a cat --ss lms", "sampler_unknown", "lms"),
    ],
)
def test_what_cannot_be_drawn_so_is_said(text: str, code: str, part: str) -> None:
    with pytest.raises(Problem) as told:
        read(text, "samples.prompts")
    assert (told.value.code, told.value.field) == (code, "samples.prompts")
    assert all(part in told.value.sentence(language) for language in ("en", "ja"))
    assert without_switches(text) == text


@pytest.mark.parametrize("text", ["a <lora:ink:0.8> cat", "a cat <lora:ink:much> --s 3"])
def test_a_lora_in_a_trainings_own_prompt_is_said(text: str) -> None:
    with pytest.raises(Problem) as told:
        check(["a cat --s 3", text], "samples.prompts")
    assert told.value.code == "prompt_lora_here" and "<lora:ink:" in told.value.sentence("en")
    check(["a cat --s 3", "a (cat:1.2)"], "samples.prompts")


@given(st.text("ab -nwhdls0129.<>:", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        line = read(text)
    except Problem:
        return
    assert line == PromptLine(text) or line.prompt == line.prompt.strip()
