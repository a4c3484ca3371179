"""The events of one page, asked without a browser: a handler is called with what its event reads, as Gradio does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from app.server import main
from app.ui.services import Ui

SKIP = gr.skip()
Values = dict[Any, Any]


class Events:
    """A page built by itself. `handlers` and `parts` are its own; values and answers are {component: value}."""

    def __init__(self, page: Any, ui: Ui) -> None:
        main._gradio(ui.services.home)

        def build() -> tuple[gr.Blocks, Any]:
            with gr.Blocks(analytics_enabled=False) as blocks:
                return blocks, page.build(ui)

        self._blocks, self.handlers = main.with_loop(build)
        self.services, self.parts = ui.services, self.handlers.parts

    def ask(self, handler: Callable[..., Any], values: Values | None = None, *more: Any) -> Values:
        """The last answer to the event of `handler`, with `values` of some components and the first value of the others."""
        return self.stream(handler, values, *more)[-1]

    def stream(self, handler: Callable[..., Any], values: Values | None = None, *more: Any) -> list[Values]:
        """All answers. Each names none but its event's outputs, and is never empty. `more` is handed on as it is."""
        return self._answers(next(event for event in self._blocks.fns.values() if event.fn == handler), values, more)

    def press(self, button: gr.Button, values: Values | None = None) -> Values:
        """The last answer to a press on `button`, for a handler that several buttons share."""
        presses = (event for event in self._blocks.fns.values() if (button._id, "click") in event.targets)
        return self._answers(next(presses), values, ())[-1]

    def _answers(self, event: Any, values: Values | None, more: tuple[Any, ...]) -> list[Values]:
        values = values or {}
        assert set(values) <= set(event.inputs), "the event does not read these"
        read = {part: values.get(part, getattr(part, "value", None)) for part in event.inputs}
        answer = event.fn(*([read] if event.inputs_as_dict else read.values()), *more)
        answers = list(answer) if hasattr(answer, "send") else [answer]
        for one in answers:
            assert one, "an empty answer would be taken for a value"
            assert one == SKIP or set(one) <= set(event.outputs), "only the event's own outputs"
        return answers
