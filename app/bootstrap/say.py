"""Words on the terminal while setting up: sentences and one live line, on stderr so that a command's own output stays
clean. Used by everything in app/bootstrap."""

from __future__ import annotations

import os
import shutil
import sys
import time
import unicodedata
from typing import Any

from trainer.core.texts import set_language, t

QUIET_LINE_EVERY = 15.0  # seconds between progress lines where the output is not a terminal


class Stop(Exception):
    """Setting up cannot go on: `launch.<key>` says why and what to do. Ends the program with `status`."""

    def __init__(self, key: str, status: int = 1, **params: Any) -> None:
        super().__init__(key)
        self.key, self.status, self.params = key, status, params

    def __str__(self) -> str:
        return t(f"launch.{self.key}", **self.params)


def choose_language(argument: str | None = None) -> str:
    """The language of the words below: the argument, ATELIER_LANG, LC_ALL, LANG, or the language of Windows itself."""
    if argument is None and os.name == "nt" and not any(map(os.environ.get, ("ATELIER_LANG", "LC_ALL", "LANG"))):
        import ctypes

        japanese = 0x11  # primary language of the user interface, lower ten bits
        argument = "ja" if ctypes.windll.kernel32.GetUserDefaultUILanguage() & 0x3FF == japanese else "en"  # pyright: ignore
    return set_language(argument)


def say(key: str, **params: Any) -> None:
    """One sentence of the texts, on its own line."""
    line.clear()
    print(t(f"launch.{key}", **params), file=sys.stderr, flush=True)


def span(seconds: float) -> str:
    """A length of time in words: seconds below a minute, minutes above."""
    if seconds < 60:
        return t("launch.seconds", n=int(seconds))
    return t("launch.minutes", m=int(seconds // 60), s=int(seconds % 60))


class Message:
    """One line that is written over as work goes on; on something that is no terminal, a new line now and then."""

    def __init__(self) -> None:
        self._shown, self._last = False, time.monotonic()

    def show(self, text: str) -> None:
        """Show `text` in place of what was there."""
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write("\r" + cut(text, width, pad=True))
            sys.stderr.flush()
            self._shown = True
        elif time.monotonic() - self._last >= QUIET_LINE_EVERY:
            self._last = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away, so that a sentence can stand there."""
        if self._shown:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write("\r" + " " * width + "\r")
            self._shown = False


def cut(text: str, width: int, pad: bool = False) -> str:
    """`text` in at most `width` columns; Japanese characters take two."""
    used, kept = 0, []
    for character in text:
        wide = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used + wide > width:
            break
        used += wide
        kept.append(character)
    return "".join(kept) + (" " * (width - used) if pad else "")


line = Message()
