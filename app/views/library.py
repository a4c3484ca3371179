"""The library as HTML: pictures, what each LoRA is for, how to use it, where it comes from. For app/pages/library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from app.ui.format import Translate, date, esc, size
from app.views import parts
from trainer.adapters.compat.inspect import slider_line
from trainer.adapters.compat.verdicts import TITLES
from trainer.prompts.lora_tags import number

File = Callable[[Any], str | None]
_titles: dict[str, str] = {**TITLES}


def matches(card: Any, search: str, kind: str = "", state: str = "") -> bool:
    """Whether all words of the search stand somewhere on the card, and kind and state are the wanted ones."""
    text = " ".join(str(getattr(card, name, "") or "") for name in ("name", "purpose", "trigger", "base", "notes", "kind"))
    if kind and card.kind != kind:
        return False
    if state and card.state != state:
        return False
    return all(word in text.casefold() for word in search.casefold().split())


def grid(
    cards: Sequence[Any], chosen: str | None, newest: str | None, file: File, t: Translate, href: Callable[..., str]
) -> str:
    """All cards as a table of pictures; each is a button that opens it beside."""
    items = []
    for card in cards:
        badge = parts.mark(t("page.library.newest"), "work") if card.name == newest else ""
        if card.broken:
            badge = parts.mark(t("page.library.broken"), "bad")
        current = ' aria-current="true"' if card.name == chosen else ""
        purpose = card.purpose or (t(f"page.library.kind.{card.kind}") if card.kind else "")
        ask = f'{parts.tells("card", card.name)} data-address="{esc(href("library", lora=card.name))}" '
        ask += 'data-show="library-card"'
        items.append(
            f'<li><button type="button" {ask}{current}>'
            f"{parts.picture(file(card.picture), '')}<span class='l-name'>{esc(card.name)}</span>"
            f"<span class='l-say'>{esc(purpose)}</span><span class='l-marks'>{badge}</span></button></li>"
        )
    return f'<ul class="l-grid" aria-label="{esc(t("page.library.cards"))}">{"".join(items)}</ul>'


def card(item: Any, file: File, t: Translate, lang: str, *, preview: str, again: str, readme: str = "") -> str:
    """One LoRA in full: large picture, trigger to copy, how strongly to use it, and everything a giver must know."""
    if item.broken:
        why = f'<div class="r-why" role="alert"><p>{esc(item.broken.sentence(lang))}</p></div>'
        return f'<article class="l-card"><div class="l-facts"><h2>{esc(item.name)}</h2>{why}</div></article>'
    best = item.recommended
    strength = t("page.library.strength_range", low=number(best.low), best=number(best.best), high=number(best.high))
    rows = (
        (t("library_texts.slider"), slider_line(item.slider, lang) if item.slider else ""),
        (t("page.library.recommended"), strength),
        (t("page.library.base"), item.base),
        (t("page.library.base_licence"), item.base_licence),
        (t("page.library.rights"), item.rights),
        (t("page.library.licence"), item.licence),
        (t("page.library.made"), date(item.date, t) if item.date else ""),
        (t("page.library.pictures"), f"{item.pictures:,}" if item.pictures else ""),
        (t("page.library.steps"), f"{item.steps:,}" if item.steps else ""),
        (t("page.library.rank"), str(item.rank) if item.rank else ""),
        (t("page.library.clip_skip"), str(item.clip_skip) if item.clip_skip else ""),
        (t("page.library.vae"), item.vae),
        (t("page.library.size"), size(item.size) if item.size else ""),
    )
    large = parts.picture(file(item.picture), item.name, group="library", caption=item.name, lazy=False)
    links = [f'<a class="p-go" href="{esc(preview)}">{esc(t("page.library.try"))}</a>']
    if link := file(item.file):
        links.append(f'<a class="p-link" href="{esc(link)}?download" download>{esc(t("page.library.download"))}</a>')
    if item.ours:
        links.append(f'<a class="p-link" href="{esc(again)}">{esc(t("page.library.again"))}</a>')
    if readme:
        links.append(
            f'<a class="p-link" href="data:text/markdown;charset=utf-8,{quote(readme)}" download="README.md" '
            f'title="{esc(t("page.library.readme_help"))}">{esc(t("page.library.readme"))}</a>'
        )
    return (
        f'<article class="l-card"><div class="l-picture">{large}</div><div class="l-facts"><h2>{esc(item.name)}</h2>'
        f"{parts.mark(t(f'page.library.state.{item.state}'), 'good' if item.state == 'in_use' else 'quiet')}"
        f'<p class="l-say">{esc(item.purpose)}</p>{parts.copied(item.trigger, t)}{parts.facts(rows)}'
        f'<p class="l-links">{"".join(links)}</p></div></article>'
    )


def programs(verdicts: dict[str, Any], t: Translate, notes: Sequence[str] = ()) -> str:
    """Which programs can read the file, each with its reason; below, further `notes` (texts under `library_texts`)."""
    rows = []
    for name, verdict in verdicts.items():
        tone = {"yes": "good", "no": "bad"}.get(verdict.answer, "work")
        answer = t(f"page.library.answer.{verdict.answer}")
        count = t("page.library.layers", matched=verdict.matched, total=verdict.total)
        rows.append(
            f"<tr><th scope='row'>{esc(_titles[name])}</th><td>{parts.mark(answer, tone)}</td>"
            f"<td>{esc(count)}</td><td>{esc(verdict.sentence(t))}</td></tr>"
        )
    more = "".join(f"<p>{esc(t(f'library_texts.{note}'))}</p>" for note in notes)
    return f'<div class="l-programs"><table>{"".join(rows)}</table>{more}</div>'
