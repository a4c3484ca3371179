"""Small pieces every page uses: a title, a sheet of our own HTML, a hidden field a script can speak through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import gradio as gr
from gradio.context import Context

from app.ui.services import Ui

Field = gr.Checkbox | gr.Dropdown | gr.Number | gr.Radio | gr.Textbox
"""What a person fills in."""
EVENT_DEFAULTS: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""For every event: no address of its own in an API, no grey film over what is being answered."""
TYPING_EVENTS: dict[str, Any] = {**EVENT_DEFAULTS, "trigger_mode": "always_last"}
"""For events that come with each letter typed: while one is being answered only the last of the others waits."""


def markup(value: str = "", **options: Any) -> gr.HTML:
    """Our own HTML on the page. Everything a person typed must have gone through `html.escape`."""
    return gr.HTML(value, js_on_load=None, padding=False, **options)


def plain(value: str = "", **options: Any) -> gr.HTML:
    """`markup` without Gradio's styles for running text: buttons, lists and pictures look as our style sheets say."""
    return markup(value, apply_default_css=False, **options)


def title(ui: Ui, page: str) -> gr.HTML:
    """The heading of a page and the sentence under it: `page.<page>.title` and `.lead`."""
    return markup(f"<h1>{escape(ui.t(f'page.{page}.title'))}</h1><p class='a-lead'>{escape(ui.t(f'page.{page}.lead'))}</p>")


def problem(sentence: str | None) -> str:
    """A mistake, to be shown right below what made it; nothing where there is none."""
    return f"<p class='a-problem' role='alert'>{escape(sentence)}</p>" if sentence else ""


def leave(address: str) -> str:
    """Markup that takes the browser to another page."""
    return f'<atelier-go data-to="{escape(address)}"></atelier-go>'


def signal(name: str) -> gr.Textbox:
    """A field nobody sees: a script of ours writes into it (`atelier.tell(name, text)` in app/static/tell.js), Python
    listens with `.input`."""
    return gr.Textbox(show_label=False, elem_id=f"signal-{name}", elem_classes="a-hidden", container=False, max_lines=1)


def remembered() -> gr.BrowserState:
    """The set last worked on, in this browser; which sets there are and what is in them, the server knows alone."""
    return gr.BrowserState("", storage_key="lora-atelier.set", secret="lora-atelier")


def on_load(fn: Callable[..., Any], inputs: Sequence[Any] | set[Any], outputs: Sequence[Any]) -> Any:
    """Run `fn` when the page being built is opened; what `.then` can go on from. Until `fn` has answered, nothing on the
    page can be typed or clicked (app/static/wait.js): its answer would overwrite what was."""
    blocks = Context.root_block
    assert blocks is not None, "called outside a page"
    waiting = markup("<atelier-wait></atelier-wait>")
    opened = blocks.load(fn, inputs, outputs, **EVENT_DEFAULTS)
    opened.then(_filled, None, [waiting], queue=False, **EVENT_DEFAULTS)  # also after a failure
    return opened


def _filled() -> str:
    """Nothing stands where `on_load` had the page wait."""
    return ""
