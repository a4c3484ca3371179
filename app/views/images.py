"""The Images page's HTML: pictures with their captions on the light table, and one with its cut drawn over it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from app.ui.format import esc
from app.ui.services import Ui
from app.views.sets import film, tell, thumb
from trainer.images.captions import encodings, rereading
from trainer.images.geometry import buckets, masks

if TYPE_CHECKING:
    from trainer.images.set.image_set import ImageSet
    from trainer.images.set.picture import Picture

PER_PAGE = 48


def grid(ui: Ui, image_set: ImageSet, pictures: Sequence[Picture], page: int, chosen: str | None) -> str:
    """One page of the set: each picture a button, its caption below."""
    pages = max(1, -(-len(pictures) // PER_PAGE))
    page = min(max(0, page), pages - 1)
    items = []
    for p in pictures[page * PER_PAGE : (page + 1) * PER_PAGE]:
        current = ' aria-current="true"' if p.id == chosen else ""
        caption = esc(p.caption) if p.caption else f"<em>{esc(ui.t('page.images.no_caption'))}</em>"
        items.append(
            f'<li><button type="button"{current} {tell("picture", id=p.id)} data-shows=".i-pane"><span class="i-thumb">'
            f'<img src="{esc(thumb(image_set, p))}" alt="{esc(p.original)}" loading="lazy" decoding="async">'
            f"{film(image_set, p)}</span>"
            f'<span class="i-words">{caption}</span></button></li>'
        )
    return f'<ul class="i-grid">{"".join(items)}</ul>{_pager(ui, page, pages)}'


def _pager(ui: Ui, page: int, pages: int) -> str:
    if pages < 2:
        return ""
    ways = []
    for to, key in ((page - 1, "earlier"), (page + 1, "later")):
        off = "" if 0 <= to < pages else " disabled"
        label = esc(ui.t(f"page.images.{key}"))
        ways.append(f'<button type="button" class="a-small"{off} {tell("leaf", page=to)}>{label}</button>')
    place = esc(ui.t("page.images.leaf", page=page + 1, pages=pages))
    return f'<nav class="i-pager">{ways[0]}<span class="a-quiet">{place}</span>{ways[1]}</nav>'


def large(
    ui: Ui,
    image_set: ImageSet,
    p: Picture,
    resolution: int,
    step: int,
    upscale: bool,
    formats: tuple[float, bool] = (2.0, True),
) -> str:
    """The picture with exactly the part that training sees; a click or the arrow keys move it."""
    step = buckets.step_for(resolution, step)
    size = buckets.assign(p.width, p.height, buckets.buckets(resolution, step, *formats), upscale=upscale, step=step)
    crop = buckets.crop_box(p.width, p.height, size, p.focus)
    left, top = 100 * crop.left / p.width, 100 * crop.top / p.height
    wide, high = 100 * (crop.right - crop.left) / p.width, 100 * (crop.bottom - crop.top) / p.height
    lost = buckets.cut_share(p.width, p.height, size)
    key = "page.images.cut" if lost >= 0.005 else "page.images.whole"
    sentence = ui.t(key, width=size[0], height=size[1], share=round(100 * lost))
    facts = ui.t("page.images.facts", name=p.original, width=p.width, height=p.height)
    mask = f'<span class="i-masked">{esc(ui.t("page.images.mask.shown"))}</span>' if masks.mask_path(p) else ""
    x, y = p.focus or buckets.CENTRE
    return (
        f'<figure class="i-large"><atelier-cut data-id="{esc(p.id)}" data-x="{x:.3f}" data-y="{y:.3f}" '
        f'data-label="{esc(ui.t("page.images.move"))}">'
        f'<img src="{esc(thumb(image_set, p, 1280))}" alt="{esc(p.caption or p.original)}" '
        f'width="{p.width}" height="{p.height}">{film(image_set, p, 1280)}'
        f'<span class="i-cut" style="left:{left:.3f}%;top:{top:.3f}%;width:{wide:.3f}%;height:{high:.3f}%"></span>'
        f"</atelier-cut><figcaption><span>{esc(sentence)}</span>"
        f'<span class="a-quiet">{esc(facts)}</span>{mask}</figcaption></figure>'
    )


def lead(ui: Ui) -> str:
    """The heading while no set is chosen."""
    return f"<h1>{esc(ui.t('page.images.title'))}</h1><p class='a-lead'>{esc(ui.t('page.images.lead'))}</p>"


def note(message: str, button: str = "") -> str:
    """What was done, with the button that takes it back; nothing without a message."""
    if not message:
        return ""
    return f"<div class='t-told'><p class='t-said' role='status'>{esc(message)}</p>{button}</div>"


def saved(ui: Ui) -> str:
    """That what was typed is on the disk, and since when."""
    return f"<p class='i-saved' role='status'>{esc(ui.t('page.images.saved', clock=f'{datetime.now():%H:%M}'))}</p>"


def example(ui: Ui) -> str:
    """That nothing is saved here: the set is one of the examples."""
    return f"<p class='a-note'>{esc(ui.t('page.images.example'))}</p>"


def tokens(ui: Ui, count: int, limit: int) -> str:
    """How long a caption is in tokens, and that its end is not read where it is too long."""
    key, tone = ("tokens", "a-quiet") if count <= limit else ("tokens_over", "a-warned")
    return f"<p class='{tone} i-tokens'>{esc(ui.t(f'page.images.{key}', count=count, limit=limit))}</p>"


def readings(ui: Ui, image_set: ImageSet, pictures: list[Picture]) -> str:
    """What captions were read as where their bytes do not say it, with the next-best reading as a button."""
    lines = []
    for reading in rereading.readings(image_set, pictures):
        name = encodings.label(reading.encoding, ui.lang)
        sentence = ui.t("page.images.reading.read", count=len(reading.ids), encoding=name, words=reading.excerpt)
        right = tell("fix", action="reading_right", was=reading.encoding)
        buttons = f'<button type="button" class="a-small" {right}>{esc(ui.t("page.images.reading.right"))}</button>'
        if reading.other:
            name = encodings.label(reading.other, ui.lang)
            other = ui.t("page.images.reading.other", encoding=name, words=reading.other_excerpt)
            act = tell("fix", action="read_as", was=reading.encoding, encoding=reading.other)
            buttons = f'<button type="button" class="a-small" {act}>{esc(other)}</button>{buttons}'
        lines.append(f'<div class="t-told i-reading"><p class="t-said">{esc(sentence)}</p>{buttons}</div>')
    return "".join(lines)


def changes(ui: Ui, lines: Sequence[tuple[str, str, str]], most: int = 3) -> str:
    """What a bulk edit would do: how many captions, and the first few before and after."""
    if not lines:
        return f'<p class="a-note">{esc(ui.t("page.images.bulk.none"))}</p>'
    shown = "".join(
        f"<li><del>{esc(before) or '–'}</del><ins>{esc(after) or '–'}</ins></li>" for _, before, after in lines[:most]
    )
    summary = esc(ui.t("page.images.bulk.would", count=len(lines)))
    return f'<p class="a-note">{summary}</p><ul class="i-changes">{shown}</ul>'
