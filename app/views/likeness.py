"""Likeness scores of a run as HTML: a line a step, the copies beside what they copy, and what no score can tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from app.ui.format import Translate, esc
from app.views import parts

File = Callable[[Any], str | None]
Learnt = Callable[[str, str], str | None]
"""The address of a training picture by (folder name, file name), None where it is not here any more."""


def table(
    scored: Sequence[Any], judged: Sequence[Any], samples: Sequence[Any], file: File, learnt: Learnt, t: Translate
) -> str:
    """Every scored step; the validation loss beside it where there is one. Nothing where nothing was scored."""
    if not scored:
        return ""
    ratios = {one.step: one.ratio for one in judged}
    heads = ["step", "likeness", "prompt", "nearest", *(["held_out"] if ratios else [])]
    head = "".join(f'<th scope="col">{esc(t(f"page.runs.score.{name}"))}</th>' for name in heads)
    rows = []
    for one in scored:
        closest = max(one.pictures, key=lambda picture: picture.closeness)
        copies = sum(picture.copied for picture in one.pictures)
        mark = f" {parts.mark(t('page.runs.score.copies', count=copies), 'bad')}" if copies else ""
        cells = [
            f'<th scope="row">{esc(t("page.runs.at_start") if one.step == 0 else f"{one.step:,}")}</th>',
            f"<td>{one.likeness:.3f}</td><td>{_number(one.prompt)}</td><td>{closest.closeness:.3f}{mark}</td>",
            f"<td>{_percent(ratios.get(one.step))}</td>" if ratios else "",
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    among = scored[-1].among
    own = esc(t("page.runs.score.among", likeness=f"{among:.3f}")) if among is not None else ""
    return (
        f'<section class="r-score"><h3>{esc(t("page.runs.score.title"))}</h3><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f'<p class="a-note">{own} {esc(t("page.runs.score.words"))}</p>'
        f'<p class="a-note">{esc(t("page.runs.score.cannot"))} {esc(t("page.runs.score.model", model=scored[-1].model))}</p>'
        f"{copies_of(scored[-1], samples, file, learnt, t)}</section>"
    )


def copies_of(scored: Any, samples: Sequence[Any], file: File, learnt: Learnt, t: Translate) -> str:
    """The copies among the pictures of one step, each beside the picture of the set it comes nearest to."""
    drawn = {sample.index: sample for sample in samples if sample.step == scored.step}
    pairs = []
    for one in scored.pictures:
        if not one.copied or one.index not in drawn:
            continue
        caption = t("page.runs.score.pair", picture=one.nearest, closeness=f"{one.closeness:.3f}")
        ours = parts.picture(file(drawn[one.index].file), drawn[one.index].prompt)
        theirs = parts.picture(learnt(one.folder, one.nearest), one.nearest)
        pairs.append(f"<figure><span>{ours}{theirs}</span><figcaption>{esc(caption)}</figcaption></figure>")
    return f'<div class="r-copies">{"".join(pairs)}</div>' if pairs else ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio * 100:.1f} %"
