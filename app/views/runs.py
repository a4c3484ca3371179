"""A run as HTML: the list, the state in words, the numbers, the pictures in time. Called by app/pages/runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from app.ui import charts
from app.ui.format import Translate, ago, duration, esc, size, speed, time_left
from app.views import parts

TONES = {
    "draft": "quiet", "queued": "wait", "starting": "work", "running": "work", "pausing": "wait", "paused": "wait",
    "stopping": "wait", "stopped": "quiet", "succeeded": "good", "failed": "bad", "interrupted": "bad",
}  # fmt: skip
ACTIONS: dict[str, frozenset[str]] = {
    "draft": frozenset({"delete"}),
    "queued": frozenset({"stop", "first", "up", "down"}),
    "starting": frozenset({"stop"}),
    "running": frozenset({"pause", "stop", "save", "sample"}),
    "pausing": frozenset({"stop"}),
    "paused": frozenset({"resume", "stop"}),
    "stopping": frozenset(),
    "stopped": frozenset({"resume", "delete"}),
    "succeeded": frozenset({"delete"}),
    "failed": frozenset({"resume", "delete"}),
    "interrupted": frozenset({"resume", "delete"}),
}
"""What can be asked of a run: from its state alone, so no button can be stuck at its last click."""
ALIVE = frozenset({"starting", "running", "pausing", "paused", "stopping"})
File = Callable[[Any], str | None]


def actions(state: str, place: int | None = None, waiting: int = 0) -> frozenset[str]:
    """The buttons to show for a run in `state`; of one that waits as `place` of `waiting`, those that would change it."""
    unchanging = {"first", "up"} if place == 1 else set()
    return ACTIONS.get(state, frozenset()) - unchanging - ({"down"} if place == waiting else set())


def state_words(row: Any, t: Translate) -> str:
    """The state as a person says it."""
    if row.state == "queued" and row.position:
        return t("page.runs.state.queued_at", place=row.position)
    return t(f"page.runs.state.{row.state}")


def bell(t: Translate) -> str:
    """The switch for the browser's notifications (app/static/news.js)."""
    labels = {name: t(f"page.runs.{name}") for name in ("bell", "bell_on", "bell_refused")}
    return f'<atelier-bell data-words="{esc(json.dumps(labels, ensure_ascii=False))}"></atelier-bell>'


def listing(
    rows: Sequence[Any], chosen: str | None, thumbs: dict[str, str | None], t: Translate, href: Callable[..., str]
) -> str:
    """All runs, newest first, as buttons; the chosen one is marked. Their clicks are heard by the page's own script."""
    items = []
    for row in sorted(rows, key=lambda row: row.created or 0, reverse=True):
        state = state_words(row, t)
        share = parts.bar(row.step, row.total, state, TONES[row.state]) if row.state in ALIVE and row.total else ""
        current = ' aria-current="true"' if row.id == chosen else ""
        ask = f'{parts.tells("run", row.id)} data-address="{esc(href("runs", run=row.id))}"'
        items.append(
            f'<li><button type="button" {ask}{current}>{parts.picture(thumbs.get(row.id), "")}'
            f'<span class="r-name">{esc(row.name or row.id)}</span><span class="r-when">'
            f"{parts.mark(state, TONES[row.state])} {esc(ago(row.created, t))}</span>{share}</button></li>"
        )
    return f'<ul class="r-list" aria-label="{esc(t("page.runs.list"))}">{"".join(items)}</ul>'


def head(row: Any, t: Translate, lang: str, *, ahead: str = "", result: str | None = None, pending: Sequence[str] = ()) -> str:
    """Name, state, bar and numbers of the chosen run, what it does now and after this step (`pending` requests), why it ended,
    and the way to its result."""
    tone = TONES[row.state]
    of = t("page.runs.step_of", step=f"{row.step:,}", total=f"{row.total:,}") if row.total else ""
    left = time_left(row.eta_low, row.eta_high, t) if row.state == "running" else ""
    sentence = {
        "queued": t("page.runs.queued_behind", name=ahead) if ahead else t("page.runs.queued_next"),
        "paused": t("page.runs.paused"),
        "pausing": t("page.runs.pausing"),
        "stopping": t("page.runs.stopping"),
        "stopped": t("page.runs.stopped"),
        "draft": t("page.runs.draft"),
        "failed": " ",
        "interrupted": " ",
        "starting": t("page.runs.starting"),
        "succeeded": t("page.runs.succeeded", span=duration(row.ended - row.started, t))
        if row.ended and row.started
        else t("page.runs.succeeded_plain"),
    }.get(row.state) or stage(row.stage, row.stage_done, row.stage_of, t)
    if row.state in ("running", "pausing"):
        span = t("page.runs.pending.span", span=duration(row.rate, t)) if row.rate else ""
        sentence = " · ".join(
            (sentence, *(t(f"page.runs.pending.{ask}", span=span) for ask in pending if ask in ("save", "sample")))
        )
    numbers = parts.facts(
        (
            (t("page.runs.step"), of),
            (t("page.runs.left"), left),
            (t("page.runs.speed"), speed(1 / row.rate if row.rate else None, t) if row.state in ALIVE else ""),
            (t("page.runs.memory"), size(row.memory) if row.memory and row.state in ALIVE else ""),
            (t("page.runs.began"), ago(row.started, t) if row.started else ""),
        )
    )
    go = f'<a class="p-go" href="{esc(result)}">{esc(t("page.runs.show"))}</a>' if result else ""
    return (
        f'<div class="r-head"><div class="r-title"><h2>{esc(row.name or row.id)}</h2>'
        f"{parts.mark(state_words(row, t), tone)}{go}</div>"
        f"{parts.bar(row.step, row.total or 1, of or t('page.runs.step'), tone)}"
        f'<p class="r-now" role="status">{esc(sentence.strip())}</p>{why(row, t, lang)}{numbers}</div>'
    )


def why(row: Any, t: Translate, lang: str) -> str:
    """Why a run ended that should not have (or does not answer), what to do, and that nothing made so far is lost."""
    ended = row.state in ("failed", "interrupted")
    if not ended and not row.unresponsive:
        return ""
    reason = row.reason_text(lang) or t(f"page.runs.why_{row.state}")
    rest = (t("page.runs.goes_on", step=f"{row.step:,}") if row.step else t("page.runs.begins_again")) if ended else ""
    more = f"<p>{esc(rest)}</p>" if rest else ""
    return f'<div class="r-why" role="alert"><p>{esc(reason)}</p>{more}</div>'


def stage(name: str | None, done: int, of: int, t: Translate) -> str:
    """What the trainer does at this moment: `Drawing test pictures, 2 of 4`."""
    sentence = t(f"stages.{name or 'training'}")
    return t("page.runs.stage_of", words=sentence, done=done, of=of) if of > 1 else sentence


def loss(losses: Sequence[tuple[int, float, float]], total: int, t: Translate, judged: Sequence[Any] = ()) -> str:
    """The smoothed loss line with the sentence that keeps people from staring at it, and what the pictures kept back say."""
    if len(losses) < 2:
        return ""
    first, last = losses[0][2], losses[-1][2]
    label = t("page.runs.loss_spoken", steps=f"{losses[-1][0]:,}", first=f"{first:.3g}", last=f"{last:.3g}")
    return (
        f'<section class="r-loss"><h3>{esc(t("page.runs.loss"))}</h3>{charts.loss_chart(losses, total, label=label)}'
        f'<p class="a-note">{esc(t("page.runs.loss_words"))}</p>{judgement(judged, t)}</section>'
    )


def judgement(judged: Sequence[Any], t: Translate) -> str:
    """How the newest state does on the pictures kept back, against the untouched base and the best so far."""
    if not judged:
        return ""
    newest, best = judged[-1], min(judged, key=lambda one: one.ratio)
    side = "closer" if newest.ratio < 1 else "further"
    sentence = t(f"page.runs.judged_{side}", step=f"{newest.step:,}", percent=f"{abs(1 - newest.ratio) * 100:.1f}")
    more = t("page.runs.judged_best") if best is newest else t("page.runs.judged_earlier", step=f"{best.step:,}")
    return f'<p class="a-note r-judged" role="status">{esc(sentence)} {esc(more)}</p>'


def timeline(samples: Sequence[Any], file: File, t: Translate) -> str:
    """Sample pictures: a row a prompt, a column a step, oldest left. Nothing where none is drawn yet."""
    rows: dict[int, dict[int, Any]] = {}
    for sample in samples:
        rows.setdefault(sample.index, {})[sample.step] = sample
    if not rows:
        return f'<p class="a-note">{esc(t("page.runs.no_pictures"))}</p>'
    body = []
    for index in sorted(rows):
        drawn = rows[index]
        prompt = drawn[max(drawn)].prompt
        cells = "".join(_cell(drawn[step], index, file, t) for step in sorted(drawn))
        caption = f'<p class="r-prompt">{esc(prompt)}</p>'
        attributes = f'tabindex="0" role="group" aria-label="{esc(prompt)}"'
        body.append(f'<div class="r-row">{caption}<div class="r-strip" {attributes}>{cells}</div></div>')
    return f'<section class="r-time"><h3>{esc(t("page.runs.pictures"))}</h3>{"".join(body)}</section>'


def _cell(sample: Any, index: int, file: File, t: Translate) -> str:
    caption = t("page.runs.at_start") if sample.step == 0 else t("page.runs.at_step", step=f"{sample.step:,}")
    alt, large = f"{sample.prompt}, {caption}", f"{caption} · {sample.prompt}"
    picture = parts.picture(file(sample.file), alt, group=f"p{index}", caption=large)
    return f"<figure>{picture}<figcaption>{esc(caption)}</figcaption></figure>"


def kept(saved: Sequence[Any], file: File, t: Translate) -> str:
    """What a person saved on the way, as files to take; nothing where nothing was asked for."""
    lines = []
    for one in sorted((one for one in saved if one.wanted), key=lambda one: one.step):
        link, label = file(one.file), esc(t("page.runs.kept_file", file=one.file))
        at = esc(t("page.runs.kept_at", step=f"{one.step:,}"))
        lines.append(f'<li>{at}: <a class="p-link" href="{esc(link)}?download" download>{label}</a></li>' if link
                     else f"<li>{at}: {esc(one.file)}</li>")  # fmt: skip
    return f'<section class="r-notes"><h3>{esc(t("page.runs.kept"))}</h3><ul>{"".join(lines)}</ul></section>' if lines else ""


def notes(sentences: Sequence[str], t: Translate) -> str:
    """What the run mentioned on its way, each thing once."""
    if not sentences:
        return ""
    lines = "".join(f"<li>{esc(line)}</li>" for line in dict.fromkeys(sentences))
    return f'<section class="r-notes"><h3>{esc(t("page.runs.notes"))}</h3><ul>{lines}</ul></section>'


def log(text: str, t: Translate) -> str:
    """The last lines the trainer printed."""
    return (
        f'<pre class="r-log" tabindex="0">{esc(text)}</pre>'
        if text.strip()
        else f'<p class="a-note">{esc(t("page.runs.no_log"))}</p>'
    )
