"""Gradio's blocks with one boundary around every event: whatever goes wrong in it, the browser gets a sentence."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.server.refusals import refusal
from trainer.core.home import Home
from trainer.core.texts import t


class Pages(gr.Blocks):
    """All pages of one language. An event with data of wrong lengths, kinds or values is refused, never shown as it broke."""

    home: Home
    language: str

    @classmethod
    def of(cls, home: Home, language: str, **options: Any) -> Pages:
        """Blocks that refuse in `language` and keep traces in `home`."""
        made = cls(**options)
        made.home, made.language = home, language
        made.has_launched = True  # a mounted app never launches, and Gradio checks which files an event names only then
        return made

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """One event: what comes in is read, the function called, its answer written (gradio.Blocks.process_api)."""
        try:
            return await super().process_api(*args, **kwargs)
        except Exception as error:
            _, sentence = refusal(error, self.home, self.language)
            raise gr.Error(sentence, title=t("app.name", language=self.language), print_exception=False) from error
