"""An image set as HTML: the contact sheet, what the report found, sets to choose from. Used by Train and Images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from app.ui.format import esc
from app.ui.services import Ui
from trainer.images.geometry import masks

if TYPE_CHECKING:
    from trainer.images.report.finding import Finding
    from trainer.images.report.report import Report
    from trainer.images.set.image_set import ImageSet
    from trainer.images.set.picture import Picture

ELSEWHERE = 6
"""Pictures of further folders named in a finding."""
DOES = ("remove", "add_trigger")
"""Actions of findings that one click carries out; the others lead to where it is done."""


def tell(name: str, **data: Any) -> str:
    """The attributes of an element that, when clicked, tells Python `data` under `name` (app/static/tell.js)."""
    return f'data-says="{esc(name)}" data-said="{esc(json.dumps(data, ensure_ascii=False))}"'


def thumb(image_set: ImageSet, picture: Picture, side: int = 320) -> str:
    """The address of a picture's small version; it changes with the file, so that a browser may keep it."""
    stamp = picture.file.stat().st_mtime_ns if picture.file.exists() else 0
    return f"/thumbs/{quote(image_set.folder.name)}/{quote(picture.id)}?side={side}&v={stamp:x}"


def film(image_set: ImageSet, picture: Picture, side: int = 320) -> str:
    """The film over what a picture's mask file leaves out, as an image; empty where there is none."""
    file = masks.mask_path(picture)
    if file is None:
        return ""
    stamp = file.stat().st_mtime_ns
    address = f"/films/{quote(image_set.folder.name)}/{quote(picture.id)}?side={side}&v={stamp:x}"
    return f'<img class="i-film" src="{esc(address)}" alt="" loading="lazy">'


def sheet(ui: Ui, image_set: ImageSet, pictures: Sequence[Picture], most: int = 24) -> str:
    """The pictures of a set on the light table, the first `most` of them."""
    items = "".join(
        f'<li><img src="{esc(thumb(image_set, p))}" alt="{esc(p.caption or p.original)}" loading="lazy"></li>'
        for p in pictures[:most]
    )
    rest = len(pictures) - most
    more = f'<li class="s-more">+ {rest}</li>' if rest > 0 else ""
    return f'<ul class="s-sheet" aria-label="{esc(ui.t("page.train.sheet"))}">{items}{more}</ul>'


def heading(ui: Ui, image_set: ImageSet, count: int, links: Iterable[tuple[str, str]]) -> str:
    """The set's title, how many pictures, and where to go from here: (label, attributes of the link or button)."""
    ways = "".join(
        f"<a {how}>{esc(label)}</a>"
        if how.startswith("href")
        else f'<button type="button" class="a-link" {how}>{esc(label)}</button>'
        for label, how in links
    )
    return (
        f'<div class="s-head"><h2>{esc(image_set.meta_in(ui.lang).title)}</h2>'
        f'<span class="a-quiet">{esc(ui.t("page.train.pictures", count=count))}</span>'
        f'<span class="s-ways">{ways}</span></div>'
    )


def report(ui: Ui, image_set: ImageSet, result: Report) -> str:
    """Every finding with its sentence and, where there is one, its button."""
    if not result.findings:
        return f'<p class="s-fine">{esc(ui.t("page.train.fine"))}</p>'
    lines = "".join(_finding(ui, image_set, number, finding) for number, finding in enumerate(result.findings))
    return f'<ul class="s-findings" aria-label="{esc(ui.t("page.train.findings"))}">{lines}</ul>'


def _finding(ui: Ui, image_set: ImageSet, number: int, finding: Finding) -> str:
    button = ""
    if finding.action:
        label = esc(ui.t(f"findings.action.{finding.action}"))
        if finding.action in DOES:
            attributes = tell("fix", action=finding.action, targets=list(finding.targets), word=finding.params.get("word", ""))
            button = f'<button type="button" class="a-small" {attributes}>{label}</button>'
        elif finding.action == "set_trigger":
            button = f'<button type="button" class="a-small" data-focus="field-captions-trigger">{label}</button>'
        elif finding.action == "add":
            button = f'<button type="button" class="a-small" data-focus="field-images">{label}</button>'
        else:
            first = finding.targets[0] if finding.targets else None
            address = ui.href("images", set=image_set.folder.name, picture=first)
            button = f'<a class="a-small" href="{esc(address)}">{label}</a>'
    elsewhere = [name for name in finding.pictures if "/" in name]
    where = ", ".join(elsewhere[:ELSEWHERE]) + (" …" if len(elsewhere) > ELSEWHERE else "")
    line = f'<span class="s-fix">{esc(ui.t("page.train.elsewhere", names=where))}</span>' if elsewhere else ""
    return (
        f'<li class="s-{finding.severity}"><p>{esc(finding.why(ui.lang))}'
        f'<span class="s-fix">{esc(finding.fix(ui.lang))}</span>{line}</p>{button}</li>'
    )


def undo(ui: Ui) -> str:
    """The button that takes the last deletion or bulk edit back."""
    return f'<button type="button" class="a-small" {tell("fix", action="undo")}>{esc(ui.t("page.train.undo"))}</button>'


def restore(ui: Ui, place: str) -> str:
    """The button that brings a set back from the trash; `place` is its folder there."""
    attributes = tell("fix", action="restore", place=place)
    return f'<button type="button" class="a-small" {attributes}>{esc(ui.t("page.runs.undo"))}</button>'


def choices(ui: Ui, sets: Sequence[ImageSet], most: int = 6, heading: str = "page.train.or_choose") -> str:
    """Sets to go on with, newest first, each as three of its pictures."""
    cards = []
    for image_set in sorted(sets, key=lambda one: one.folder.stat().st_mtime, reverse=True)[:most]:
        pictures = image_set.pictures()
        images = "".join(f'<img src="{esc(thumb(image_set, p, 160))}" alt="" loading="lazy">' for p in pictures[:3])
        cards.append(
            f'<button type="button" class="s-card" {tell("choose", set=image_set.folder.name)}>'
            f'<span class="s-three">{images}</span>'
            f"<b>{esc(image_set.meta_in(ui.lang).title)}</b>"
            f'<span class="a-quiet">{esc(ui.t("page.train.pictures", count=len(pictures)))}</span></button>'
        )
    if not cards:
        return ""
    return f'<h2 class="s-or">{esc(ui.t(heading))}</h2><div class="s-cards">{"".join(cards)}</div>'


def drop(ui: Ui, image_set: ImageSet | None, kind: str = "style", *, names: bool = False) -> str:
    """The drop zone: large while there is nothing, small to add more; with `names` it offers file names as captions."""
    attributes = {
        "title": ui.t("page.train.drop.more" if image_set else "page.train.drop.title"),
        "hint": ui.t("page.train.drop.more_hint" if image_set else "page.train.drop.hint"),
        "files": ui.t("page.train.drop.files"),
        "folder": ui.t("page.train.drop.folder"),
        "sending": ui.t("page.train.drop.sending"),
        "reading": ui.t("page.train.drop.reading"),
        "reading-count": ui.t("page.train.drop.reading_count"),
        "nothing": ui.t("page.train.drop.nothing"),
        "broken": ui.t("page.train.drop.broken"),
        "names": ui.t("page.images.names_as_captions") if names else "",
        "set": image_set.folder.name if image_set else "",
        "kind": kind,
        "lang": ui.lang,
    }
    data = " ".join(f'data-{name}="{esc(value)}"' for name, value in attributes.items())
    return f'<atelier-drop class="{"d-small" if image_set else "d-large"}" {data}></atelier-drop>'
