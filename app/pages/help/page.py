"""Help: what a LoRA is, when it fits, how to choose pictures, what strength does, licences. Words from `page.help`."""

from __future__ import annotations

import gradio as gr

from app.ui.format import esc
from app.ui.html import markup, title
from app.ui.services import Ui
from app.ui.theme import STATIC
from app.views.sets import thumb

TOPICS = ("what", "kinds", "fits", "pictures", "captions", "strength", "several", "licences", "stuck")
PICTURES = {"strength": "strength", "what": "what"}
"""Topics with a picture the program made: `app/static/help/<name>.png` (or `<name>_ja.png`), where it is there."""
GOOD = ("0001", "0004", "0009", "0012")


def build(ui: Ui) -> None:
    """Short topics, one under the other, each with its anchor."""
    ways = "".join(f"<a href='#help-{topic}'>{esc(ui.t(f'page.help.{topic}.title'))}</a>" for topic in TOPICS)
    with gr.Column(elem_classes="a-page h-page"):
        title(ui, "help")
        markup(f"<nav class='h-ways' aria-label='{esc(ui.t('page.help.contents'))}'>{ways}</nav>")
        for topic in TOPICS:
            markup(_topic(ui, topic))
        with gr.Row(elem_classes="a-action"):
            markup(f"<p class='a-quiet'>{esc(ui.t('page.help.foot'))}</p>")
            gr.Button(ui.t("page.help.train"), variant="primary", elem_id="help-train", link=ui.href("train"))


def _topic(ui: Ui, topic: str) -> str:
    """A heading, paragraphs (split at blank lines in the text), and a picture or an example where there is one."""
    paragraphs = "".join(f"<p>{esc(part.strip())}</p>" for part in ui.t(f"page.help.{topic}.text").split("\n\n"))
    extra = _example(ui) if topic == "pictures" else _lists(ui) if topic == "fits" else _picture(ui, topic)
    heading = esc(ui.t(f"page.help.{topic}.title"))
    return f"<section class='h-topic' id='help-{topic}'><h2>{heading}</h2>{paragraphs}{extra}</section>"


def _picture(ui: Ui, topic: str) -> str:
    """The picture of a topic, if the program's own have been put there."""
    for name in (f"{PICTURES.get(topic)}_{ui.lang}.png", f"{PICTURES.get(topic)}.png"):
        if topic in PICTURES and (STATIC / "help" / name).is_file():
            alt = esc(ui.t(f"page.help.{topic}.alt"))
            image = f"<img src='/static/help/{name}' alt='{alt}' loading='lazy'>"
            return f"<figure class='h-figure'>{image}<figcaption>{alt}</figcaption></figure>"
    return ""


def _lists(ui: Ui) -> str:
    """Where it fits and where it does not, side by side."""
    columns = ""
    for side in ("yes", "no"):
        items = "".join(f"<li>{esc(line.strip())}</li>" for line in ui.t(f"page.help.fits.{side}").strip().splitlines())
        columns += f"<div class='h-{side}'><h3>{esc(ui.t(f'page.help.fits.{side}_title'))}</h3><ul>{items}</ul></div>"
    return f"<div class='h-two'>{columns}</div>"


def _example(ui: Ui) -> str:
    """Good pictures from the example set beside what makes a set bad."""
    image_set = ui.services.set("example-style")
    chosen = [p for p in image_set.pictures() if p.id in GOOD] if image_set else []
    images = (
        "".join(f"<img src='{esc(thumb(image_set, p, 320))}' alt='{esc(p.caption)}' loading='lazy'>" for p in chosen)
        if image_set
        else ""
    )
    bad = ""
    if image_set and chosen:
        one = esc(thumb(image_set, chosen[0], 160))
        bad = f"<div class='h-row h-same'>{f'<img src={one!r} alt=>' * 4}</div>"
    good_words, bad_words = esc(ui.t("page.help.pictures.good")), esc(ui.t("page.help.pictures.bad"))
    return (
        f"<div class='h-two'><div class='h-yes'><div class='h-row'>{images}</div><p>{good_words}</p></div>"
        f"<div class='h-no'>{bad}<p>{bad_words}</p></div></div>"
    )
