"""Weights in brackets, case by case as AUTOMATIC1111 reads them."""

from __future__ import annotations

import pytest

from trainer.prompts import weights


@pytest.mark.parametrize(("text", "pieces"), [
    ("a cat", [("a cat", 1)]), ("", []), ("a (cat:1.2)", [("a ", 1), ("cat", 1.2)]), ("(a)", [("a", 1.1)]),
    ("((a))", [("a", 1.21)]), ("[a]", [("a", 1 / 1.1)]), ("([a])", [("a", 1)]), ("(a:0.5) b", [("a", 0.5), (" b", 1)]),
    ("(a (b:2) c:0.5)", [("a ", 0.5), ("b", 1.0), (" c", 0.5)]), ("a (b", [("a ", 1), ("b", 1.1)]),
    ("a [b (c", [("a ", 1), ("b ", 1 / 1.1), ("c", 1.0)]), ("a) b", [("a) b", 1)]), ("a:1.2) b", [("a:1.2) b", 1)]),
    (r"a \(b\) \[c\] \\ d", [(r"a (b) [c] \ d", 1)]), (r"\d", [(r"\d", 1)]), ("(a: 1.5 )", [("a", 1.5)]),
    ("(a:.5)", [("a", 0.5)]), ("(a:-1)", [("a", -1)]), ("(a:b:2)", [("a:b", 2)]), ("(ratio 16:9)", [("ratio 16", 9)]),
    ("(a:1.2.3)", [("a:1.2.3", 1.1)]), ("(a:9999)", [("a:9999", 1.1)]), ("(犬:1.3)", [("犬", 1.3)]), ("()", []),
])  # fmt: skip
def test_brackets_are_read_as_weights(text: str, pieces: list[tuple[str, float]]) -> None:
    read = weights.read(text)
    assert [words for words, _ in read] == [words for words, _ in pieces]
    assert [weight for _, weight in read] == pytest.approx([weight for _, weight in pieces])
    assert weights.plain(text) == "".join(words for words, _ in pieces)


@pytest.mark.parametrize(("text", "parts"), [
    ("a, b,, c ", ["a", "b", "c"]), ("a, (b, c:1.2), [d, e], f", ["a", "(b, c:1.2)", "[d, e]", "f"]),
    (r"a \(b, c\), d", [r"a \(b", r"c\)", "d"]), ("(a, b", ["(a, b"]), ("a), b", ["a)", "b"]),
    ("((a, b:2), c), d", ["((a, b:2), c)", "d"]),
])  # fmt: skip
def test_commas_in_brackets_part_nothing(text: str, parts: list[str]) -> None:
    assert weights.parts(text) == parts
