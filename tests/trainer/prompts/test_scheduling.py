"""Words that change while a picture is drawn, case by case as AUTOMATIC1111 reads them."""

from __future__ import annotations

import pytest

from trainer.prompts import scheduling


@pytest.mark.parametrize(("text", "course"), [
    ("a cat", [(0, "a cat")]), ("a [cat:dog:0.5], red", [(0, "a cat, red"), (5, "a dog, red")]),
    ("a [dog:0.3]", [(0, "a "), (3, "a dog")]), ("a [cat::7]", [(0, "a cat"), (7, "a ")]),
    ("[a:b:20]", [(0, "a")]), ("[a:b:0]", [(0, "b")]), ("[a:b:1.0]", [(0, "a")]), ("[a:b:1]", [(0, "a"), (1, "b")]),
    ("[(cat:1.2):[dog:fox:8]:0.5]", [(0, "(cat:1.2)"), (5, "dog"), (8, "fox")]),
    ("[cat]", [(0, "[cat]")]), ("[a:b]", [(0, "[a:b]")]), (r"\[a:b:0.5\]", [(0, r"\[a:b:0.5\]")]),
    ("[a:b:0.5", [(0, "[a:b:0.5")]),
    ("([a:b:0.5]:1.3)", [(0, "(a:1.3)"), (5, "(b:1.3)")]), ("[[a:b:0.5]]", [(0, "[a]"), (5, "[b]")]),
    ("[a|b|c] d", [(step, f"{'abc'[step % 3]} d") for step in range(10)]), ("[a:b|c:0.9]", [(0, "a"), (9, "b|c")]),
])  # fmt: skip
def test_words_change_at_their_step_or_in_turn(text: str, course: list[tuple[int, str]]) -> None:
    assert scheduling.prompt_schedule(text, 10) == course
