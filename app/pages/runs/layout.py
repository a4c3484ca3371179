"""What stands on the Runs page and where. No behaviour: handlers.py answers, page.py wires."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr
from gradio.blocks import Block

from app.ui.html import plain, signal, title
from app.ui.services import Ui
from app.views import runs

BUTTONS = ("first", "up", "down", "pause", "resume", "save", "sample", "stop", "delete")
"""What can be asked of a run, in the order the buttons stand."""


@dataclass(frozen=True, eq=False)
class RunsParts:
    """Every part of the page that an event reads or answers."""

    html: dict[str, gr.HTML]
    """Of the run shown, by their names in a `Snapshot`: head, pictures, loss, score, notes, log, list."""
    buttons: dict[str, gr.Button]
    undo: gr.Button
    message: gr.HTML
    question: gr.Row
    """Asks whether a run goes on although its image set is another."""
    set_as_it_is: gr.Button
    leave: gr.Button
    log_fold: gr.Accordion
    run: gr.State
    """The id of the run shown."""
    digests: gr.State
    """What the page shows of it: `Snapshot.digests`."""
    trashed: gr.State
    """The id of the run that can be put back."""
    pick: gr.Textbox
    """What a press in the list sends."""
    timer: gr.Timer

    @property
    def shown(self) -> list[Block]:
        """What a look at a run may change."""
        return [*self.html.values(), *self.buttons.values(), self.log_fold, self.run, self.digests]


def build(ui: Ui, seconds: float) -> RunsParts:
    """The list at the side, the chosen run large beside it; its timer ticks every `seconds`."""
    t, html = ui.t, {}
    with gr.Column(elem_classes="a-page r-page"):
        title(ui, "runs")
        plain(runs.bell(t), elem_id="run-bell")
        with gr.Row(elem_classes="r-columns"):
            with gr.Column(elem_classes="r-main", scale=3, min_width=320):
                html["head"] = plain(elem_id="run-head")
                with gr.Row(elem_classes="r-buttons"):
                    buttons = {
                        name: gr.Button(t(f"page.runs.{name}"), visible=False, elem_id=f"run-{name}", size="md", scale=0)
                        for name in BUTTONS
                    }
                    undo = gr.Button(t("page.runs.undo"), visible=False, elem_id="run-undo", size="md", scale=0)
                message = plain(elem_id="run-message")
                with gr.Row(elem_classes="r-buttons", visible=False) as question:
                    set_as_it_is = gr.Button(t("page.runs.set_as_it_is"), elem_id="run-set-as-it-is", size="md", scale=0)
                    leave = gr.Button(t("page.runs.leave"), elem_id="run-leave", size="md", scale=0)
                html |= {name: plain(elem_id=f"run-{name}") for name in ("pictures", "loss", "score", "notes")}
                with gr.Accordion(t("page.runs.log"), open=False, visible=False, elem_classes="r-fold") as log_fold:
                    html["log"] = plain(elem_id="run-log")
            html["list"] = plain(elem_classes="r-side", elem_id="run-list")
    return RunsParts(
        html=html,
        buttons=buttons,
        undo=undo,
        message=message,
        question=question,
        set_as_it_is=set_as_it_is,
        leave=leave,
        log_fold=log_fold,
        run=gr.State(None),
        digests=gr.State({}),
        trashed=gr.State(None),
        pick=signal("run"),
        timer=gr.Timer(seconds),
    )
