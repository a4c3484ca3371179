"""Pieces of HTML that several pages share: a picture that opens large, a bar, a mark, a list of facts."""

from __future__ import annotations

import json
from collections.abc import Iterable

from app.ui.format import Translate, esc


def tells(name: str, value: str) -> str:
    """Attributes of a button that tells Python `value` under `name` when pressed (app/static/tell.js)."""
    return f'data-says="{esc(name)}" data-said="{esc(json.dumps({"value": value}, ensure_ascii=False))}"'


def picture(address: str | None, alt: str, *, group: str = "", caption: str = "", lazy: bool = True) -> str:
    """A picture on white; with a `group` a click opens it large with its caption (app/static/large.js)."""
    if not address:
        return '<span class="p-blank" aria-hidden="true"></span>'
    how = ' loading="lazy" decoding="async"' if lazy else ""
    image = f'<img src="{esc(address)}" alt="{esc(alt)}"{how}>'
    if not group:
        return f'<span class="p-picture">{image}</span>'
    return (
        f'<a class="p-picture" href="{esc(address)}" data-large="{esc(group)}" data-caption="{esc(caption or alt)}">{image}</a>'
    )


def bar(done: float, of: float, label: str, tone: str = "work") -> str:
    """How far something is, also for a screen reader."""
    share = 0.0 if of <= 0 else min(1.0, max(0.0, done / of))
    return (
        f'<div class="p-bar p-{tone}" role="progressbar" aria-valuemin="0" aria-valuemax="{of:g}" '
        f'aria-valuenow="{min(done, of):g}" aria-label="{esc(label)}"><i style="width:{share * 100:.2f}%"></i></div>'
    )


def mark(label: str, tone: str = "quiet") -> str:
    """A state in words, with a coloured dot that says nothing the words do not."""
    return f'<span class="p-mark p-{tone}">{esc(label)}</span>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values, the empty ones left out. Both are plain text."""
    items = "".join(f"<div><dt>{esc(name)}</dt><dd>{esc(value)}</dd></div>" for name, value in pairs if value)
    return f'<dl class="p-facts">{items}</dl>' if items else ""


def empty(title: str, text: str, link: str = "", label: str = "") -> str:
    """An empty page that says what to do, with a link where there is a next step."""
    go = f'<p><a class="p-go" href="{esc(link)}">{esc(label)}</a></p>' if link else ""
    return f'<div class="a-empty"><h2>{esc(title)}</h2><p>{esc(text)}</p>{go}</div>'


def copied(word: str, t: Translate) -> str:
    """A trigger word with a button that copies it; nothing where there is none."""
    if not word:
        return ""
    copy = f'data-copy="{esc(word)}" data-copied="{esc(t("page.library.copied"))}"'
    return (
        f'<span class="p-copy"><span>{esc(t("page.library.trigger"))}</span><code>{esc(word)}</code>'
        f'<button type="button" {copy}>{esc(t("page.library.copy"))}</button></span>'
    )
