"""The light table as HTML: the strip element's state, the line that says how far drawing is, what was drawn before.

Called by app/actions/previews.py and app/pages/preview; the strip itself is app/static/strip.js.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from app.ui.format import Translate, ago, duration, esc
from app.views import parts
from trainer.library.drawings import Drawing
from trainer.prompts.lora_tags import number

File = Callable[[Any], str | None]
STRIPS: dict[str, tuple[float, ...]] = {
    "few": (0.0, 0.5, 1.0),
    "usual": (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5),
    "slider": (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0),
    "wide": (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0),
}
_LABELS = ("strength", "exact", "compare", "film", "base", "picture", "drawn", "nearest")


def strip(
    drawing: Drawing | None,
    file: File,
    t: Translate,
    *,
    wanted: Sequence[float] = (),
    size: tuple[int, int] = (1, 1),
    strength: float | None = None,
    empty: str = "",
) -> str:
    """The strip element for a drawing, or an empty one that says what will stand there. `wanted` are still to come."""
    frames = [] if drawing is None else [{"s": s, "url": file(path)} for s, path in sorted(drawing.frames.items())]
    state: dict[str, Any] = {
        "id": drawing.key if drawing else "",
        "frames": frames,
        "wanted": sorted(wanted),
        "width": size[0],
        "height": size[1],
        "empty": empty,
    }
    if strength is not None:
        state["strength"] = strength
    labels = {name: t(f"page.preview.strip.{name}") for name in _LABELS}
    return (
        f'<atelier-strip data-words="{esc(json.dumps(labels, ensure_ascii=False))}" '
        f'data-state="{esc(json.dumps(state, ensure_ascii=False))}"></atelier-strip>'
    )


def progress(
    t: Translate,
    *,
    event: str,
    step: int = 0,
    of: int = 0,
    drawn: int = 0,
    wanted: int = 0,
    left: float | None = None,
    training_waits: bool = False,
) -> str:
    """What the worker does now, how far, how long; and that a training waits meanwhile."""
    if event == "loading":
        sentence = t("page.preview.loading")
    elif wanted > 1:
        sentence = t("page.preview.drawing_of", n=min(drawn + 1, wanted), of=wanted)
    else:
        sentence = t("page.preview.drawing")
    tail = t("page.preview.left", span=duration(left, t)) if left is not None and left >= 1 else ""
    wait = ""
    if training_waits:
        wait = t("page.preview.training_waits", span=duration(left, t)) if left else t("page.preview.training_waits_some")
    line = " · ".join(part for part in (sentence, tail, wait) if part)
    return f'<div class="v-progress">{parts.bar(step, of or 1, sentence)}<p role="status">{esc(line)}</p></div>'


def done(t: Translate, seconds: float | None, count: int) -> str:
    """One quiet line when all is drawn."""
    if seconds is None or count == 0:
        return f'<p class="v-done a-note" role="status">{esc(t("page.preview.had"))}</p>'
    return f'<p class="v-done a-note" role="status">{esc(t("page.preview.done", n=count, span=duration(seconds, t)))}</p>'


def downloads(drawing: Drawing | None, file: File, t: Translate) -> str:
    """Links that save the pictures; each carries its settings inside the PNG."""
    if drawing is None or not drawing.frames:
        return ""
    links = "".join(
        f'<a href="{esc(file(path))}?download" download>{s:g}</a>' for s, path in sorted(drawing.frames.items()) if file(path)
    )
    return f'<p class="v-save"><span>{esc(t("page.preview.save"))}</span> {links}</p>'


def recent(drawings: Sequence[Drawing], chosen: str | None, file: File, t: Translate) -> str:
    """What was drawn lately; a click brings its settings and pictures back."""
    if not drawings:
        return ""
    items = []
    for drawing in drawings:
        prompt = str(drawing.form.get("prompt", ""))
        current = ' aria-current="true"' if drawing.key == chosen else ""
        ask = f'{parts.tells("drawing", drawing.key)} data-show="preview-table"{current}'
        items.append(
            f'<li><button type="button" {ask} title="{esc(prompt)}">'
            f"{parts.picture(file(drawing.best()), '')}<span>{esc(prompt or t('page.preview.no_prompt'))}</span>"
            f"<small>{esc(ago(drawing.time, t))}</small></button></li>"
        )
    return f'<section class="v-recent"><h2>{esc(t("page.preview.recent"))}</h2><ul>{"".join(items)}</ul></section>'


def hints(cards: Sequence[Any], t: Translate) -> str:
    """How the chosen LoRAs want to be used: the trigger word, to copy, and the recommended strength."""
    lines = []
    for card in cards:
        strength = t("page.preview.hint", name=card.name, strength=number(card.recommended.best))
        lines.append(f"<p>{esc(strength)} {parts.copied(card.trigger, t)}</p>")
    return f'<div class="v-hints">{"".join(lines)}</div>' if lines else ""


def no_lora(link: str, t: Translate) -> str:
    """The library is empty: the base draws all the same, and this is how one makes a LoRA."""
    return f'<p class="a-note">{esc(t("page.preview.no_lora"))} <a href="{esc(link)}">{esc(t("page.preview.make_one"))}</a></p>'


def seconds_a_picture(begun: float, now: float, step: int, steps: int) -> float | None:
    """How long one picture takes, from how long `step` steps took; None before there is anything to go by."""
    return (now - begun) / step * steps if step >= 2 and now > begun else None
