"""A person's mistake or a thing that cannot be done, as one clear sentence. Raised anywhere, told by the page and the CLI."""

from __future__ import annotations

from typing import Any

from trainer.core.texts import t


class Problem(Exception):
    """Something to tell a person: `problems.<code>` in the texts, filled with `params`.

    `field` is the dotted option name the problem belongs to (such as `lora.rank`), so that the page
    can answer beside that field and the command line can name it.
    """

    def __init__(self, code: str, *, field: str | None = None, **params: Any) -> None:
        super().__init__(code)
        self.code, self.field, self.params = code, field, params

    def __str__(self) -> str:
        sentence = t(f"problems.{self.code}", **self.params)
        return f"{self.field}: {sentence}" if self.field else sentence

    def sentence(self, language: str | None = None) -> str:
        """The sentence alone, in `language` (default: the language set)."""
        return t(f"problems.{self.code}", language=language, **self.params)
