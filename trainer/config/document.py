"""Writes docs/options.md from the tree of options: `python -m trainer.config.document`. A test keeps the page current."""

from __future__ import annotations

from pathlib import Path

from trainer.config import renamed
from trainer.config.options import Option, label, options

PAGE = Path(__file__).resolve().parents[2] / "docs" / "options.md"


def page() -> str:
    """The whole page as Markdown."""
    lines = [
        "# Options",
        "",
        "Every option of a training. The same names hold in the form, in TOML files (`[section]` and `name = value`), on the",
        "command line (`section.name=value`) and in the metadata of the LoRA file. This page is written by",
        "`python -m trainer.config.document`. Former names, given where there are any, still work everywhere.",
    ]
    section = ""
    for known in options():
        if known.section != section:
            section = known.section
            lines += ["", f"## {section}"]
        lines += ["", f"### `{known.name}` — {label(known, 'en')}", "", f"*{_facts(known)}*", "", known.help]
    return "\n".join(lines) + "\n"


def _facts(known: Option) -> str:
    default = "empty" if known.default in (None, "", ()) else known.default
    default = str(default).lower() if known.kind == "bool" else default
    words = [known.kind, f"default {default}"]
    if known.choices:
        words.append("one of " + ", ".join(known.choices))
    if known.low is not None:
        words.append(f"{'more than' if known.open_low else 'from'} {known.low:g}")
    if known.high is not None:
        words.append(f"to {known.high:g}")
    if known.step is not None:
        words.append(f"a multiple of {known.step:g}")
    if known.variants:
        words.append(f"only with {known.section}.name = {' or '.join(known.variants)}")
    if former := renamed.FORMER.get(known.name):
        words.append(f"formerly `{former}`")
    words += [f"{value} was formerly {before}" for before, value in renamed.VALUES.get(known.name, {}).items()]
    return ", ".join(str(word) for word in words)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
