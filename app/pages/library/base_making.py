"""What the fold answers that works on whole bases: a LoRA of the difference of two, or a new base with LoRAs inside.

Wired in page.py. Both go through gigabytes: the work is done in a thread, and the page shows how far it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import gradio as gr

from app.actions import lora_tools
from app.pages.answer import Answer, Values
from app.pages.library.handlers import LibraryHandlers
from app.pages.library.layout import BaseParts, about_way, local_bases, note
from app.ui.html import problem
from app.ui.services import Ui
from app.views.parts import bar
from trainer.core.problem import Problem

POLL = 0.5
"""Seconds between two looks at how far it is."""


class BaseHandlers:
    """Each method answers with parts that are among its event's outputs. What was made is opened in the library."""

    def __init__(self, ui: Ui, parts: BaseParts, library: LibraryHandlers) -> None:
        self.ui, self.parts, self.library = ui, parts, library

    def turned(self, way: str) -> Answer:
        """The fields of the other way."""
        parts, bakes = self.parts, gr.update(visible=way == "bake")
        extracts = gr.update(visible=way != "bake")
        return {
            parts.about: about_way(self.ui, way),
            parts.tuned: extracts,
            parts.rank: extracts,
            parts.loras: bakes,
            parts.strengths: bakes,
        }

    def offered(self) -> Answer:
        """The bases and LoRAs to choose from as they are now."""
        parts, bases = self.parts, gr.update(choices=local_bases(self.ui))
        cards = [card.name for card in self.ui.services.library.cards() if not card.broken]
        return {parts.base: bases, parts.tuned: bases, parts.loras: gr.update(choices=cards)}

    def made(self, values: Values) -> Iterator[Answer]:
        """Make it, with a bar on the way."""
        parts, t, way, done, notes = self.parts, self.ui.t, values[self.parts.way], [0, 1], []

        def progress(*steps: int) -> None:
            done[:] = steps

        with ThreadPoolExecutor(1) as pool:
            work: Future[str] = pool.submit(
                self._make, values, progress, lambda code, params: notes.append(t(f"notes.{code}", **params))
            )
            while not wait([work], POLL).done:
                yield {parts.line: bar(done[0], done[1], t("page.library.bases.bar")), parts.go: gr.update(interactive=False)}
        ready = gr.update(interactive=True)
        try:
            name = work.result()
        except (Problem, OSError) as error:
            failed = t("page.library.bases.failed", why=str(error))
            sentence = error.sentence(self.ui.lang) if isinstance(error, Problem) else failed
            yield {parts.line: problem(sentence), parts.go: ready}
            return
        shown = self.library.show(name, values) if way == "extract" else {}
        line = note(" ".join([t(f"page.library.bases.{way}_done", name=name), *notes]))
        yield {**shown, parts.line: line, parts.go: ready}

    def _make(self, values: Values, progress: lora_tools.Progress, on_note: Any) -> str:
        """The name of what was made."""
        parts, home = self.parts, self.ui.services.home
        base, name = values[parts.base] or "", values[parts.name] or ""
        if values[parts.way] == "bake":
            loras, strengths = values[parts.loras] or [], values[parts.strengths] or ""
            return lora_tools.bake(home, base, loras, strengths, name, progress, on_note)
        return lora_tools.extract(home, base, values[parts.tuned] or "", values[parts.rank] or "", name, progress, on_note)
