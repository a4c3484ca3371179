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
    for entry in options():
        if entry.section != section:
            section = entry.section
            lines += ["", f"## {section}"]
        lines += ["", f"### `{entry.name}` — {label(entry, 'en')}", "", f"*{_facts(entry)}*", "", entry.help]
    return "\n".join(lines) + "\n"


def _facts(option: Option) -> str:
    default = "empty" if option.default in (None, "", ()) else option.default
    default = str(default).lower() if option.kind == "bool" else default
    facts = [option.kind, f"default {default}"]
    if option.choices:
        facts.append("one of " + ", ".join(option.choices))
    if option.low is not None:
        facts.append(f"{'more than' if option.open_low else 'from'} {option.low:g}")
    if option.high is not None:
        facts.append(f"to {option.high:g}")
    if option.step is not None:
        facts.append(f"a multiple of {option.step:g}")
    if option.variants:
        facts.append(f"only with {option.section}.name = {' or '.join(option.variants)}")
    if former := renamed.FORMER.get(option.name):
        facts.append(f"formerly `{former}`")
    facts += [f"{value} was formerly {before}" for before, value in renamed.VALUES.get(option.name, {}).items()]
    return ", ".join(str(word) for word in facts)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
