"""Every word a person reads is in both languages, and none stands in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.config.options import help_text, label, options
from trainer.core.texts import LANGUAGES, _tree, lookup

APP = Path(__file__).resolve().parents[2] / "app"
SOURCES = [path for path in APP.rglob("*.py") if "bootstrap" not in path.parts]
SHOWN = ("label", "info", "placeholder", "value", "title", "alt", "description")
WORD = re.compile(r"[A-Za-z\u3040-\u30ff\u4e00-\u9fff]{2,}")


def keys(tree: object, above: str = "") -> Iterator[str]:
    if isinstance(tree, dict):
        for name, inner in tree.items():
            yield from keys(inner, f"{above}.{name}" if above else name)
    else:
        yield above


def calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            yield node


def test_both_languages_say_the_same_things() -> None:
    english, japanese = (set(keys(_tree(lang))) for lang in LANGUAGES)
    helps = {key for key in japanese if key.startswith("options.") and key.endswith(".help")}
    assert english - japanese == set()
    assert japanese - english == helps  # the English help is the docstring of the field itself


def test_both_languages_take_the_same_parameters() -> None:
    for key in keys(_tree("en")):
        found = [set(re.findall(r"{(\w+)", str(lookup(key, lang)))) for lang in LANGUAGES]
        assert found[0] == found[1] or key in ("ago.day", "ago.date"), key  # month as a word or as a number


@pytest.mark.parametrize("option", options(), ids=lambda option: option.name)
def test_every_option_is_named_and_explained_in_both_languages(option) -> None:
    for lang in LANGUAGES:
        assert label(option, lang) != option.name
        assert len(help_text(option, lang)) > 20
    assert re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", help_text(option, "ja"))
    if option.kind == "choice":
        for choice in option.choices:
            assert isinstance(lookup(f"choices.{option.name}.{choice}", "ja"), str), choice


def test_every_text_the_pages_ask_for_is_there() -> None:
    known = set(keys(_tree("en")))
    asked = 0
    for path in SOURCES:
        for call in calls(path):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if name != "t" or not call.args:
                continue
            key = call.args[0]
            asked += 1
            if isinstance(key, ast.Constant):
                assert key.value in known, f"{path.name}: {key.value}"
            elif isinstance(key, ast.JoinedStr):
                parts = [
                    re.escape(str(part.value)) if isinstance(part, ast.Constant) else "[^.]+(?:[.][^.]+)*"
                    for part in key.values
                ]
                pattern = re.compile("".join(parts))
                assert any(pattern.fullmatch(one) for one in known), f"{path.name}: {ast.unparse(key)}"
    assert asked > 100


@pytest.mark.parametrize("path", sorted((APP / "pages").glob("*.py")), ids=lambda path: path.stem)
def test_no_words_stand_in_the_pages(path: Path) -> None:
    for call in calls(path):
        func = ast.unparse(call.func)
        if not (func.startswith("gr.") or func in ("markup", "parts.markup")):
            continue
        said = [word.value for word in call.keywords if word.arg in SHOWN]
        if func not in ("gr.State", "gr.Timer", "gr.update", "gr.Radio", "gr.Dropdown", "gr.BrowserState", "gr.on"):
            said += call.args[:1]
        for node in said:
            for text in _constants(node):
                plain = re.sub(r"<[^<>]*>?|[^<>]*>|&\w+;", " ", text) if "<" in text or ">" in text else text
                if func != "gr.Radio" and func != "gr.Dropdown":
                    assert not WORD.search(plain), f"{path.name}:{call.lineno}: {text!r}"


def _constants(node: ast.expr) -> Iterator[str]:
    """The literal text of a string or f-string, as one string with its gaps left out."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "" for part in node.values)
