"""Every word a person reads, looked up by key in `app/texts/{en,ja}.toml`. Used by the page and by the command line."""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "app" / "texts"
LANGUAGES = ("en", "ja")
_language = "en"


def set_language(language: str | None) -> str:
    """Choose the language of this process; None reads LANG and the like. Returns what was chosen."""
    global _language
    if language is None:
        locale = os.environ.get("ATELIER_LANG") or os.environ.get("LC_ALL") or os.environ.get("LANG") or ""
        language = "ja" if locale.lower().startswith("ja") else "en"
    _language = language if language in LANGUAGES else "en"
    return _language


@cache
def _tree(language: str) -> dict[str, Any]:
    with open(FOLDER / f"{language}.toml", "rb") as file:
        return tomllib.load(file)


def lookup(key: str, language: str | None = None) -> Any:
    """The raw entry under a dotted key, or None. Option names hold dots: use quoted TOML keys or nested tables alike."""
    node: Any = _tree(language or _language)
    rest = key.split(".")
    while rest:
        if not isinstance(node, dict):
            return None
        for size in range(len(rest), 0, -1):
            head = ".".join(rest[:size])
            if head in node:
                node, rest = node[head], rest[size:]
                break
        else:
            return None
    return node


def t(key: str, /, *, language: str | None = None, **params: Any) -> str:
    """The text under `key`, with `{name}` filled from `params`. A missing key shows as the key itself.

    A param may be a list of [key, params]: each is said, and they are put in a row.
    """
    text = lookup(key, language)
    if not isinstance(text, str):
        return key
    return text.format(**{name: _row(value, language) for name, value in params.items()}) if params else text


def _row(value: Any, language: str | None) -> Any:
    if not isinstance(value, list):
        return value
    return t("set_changes.between", language=language).join(t(key, language=language, **params) for key, params in value)
