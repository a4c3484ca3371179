"""The commands behind launch.py: `python -m trainer COMMAND …`. Status 0 only when the thing asked for was done, 2 for a
person's mistake, told in one sentence."""

from __future__ import annotations

import os
import sqlite3
import sys
from importlib import import_module

from trainer.core import process
from trainer.core.files import problem_of
from trainer.core.problem import Problem
from trainer.core.texts import set_language

COMMANDS = {
    "train": "trainer.commands.train",
    "sample": "trainer.commands.sample",
    "demo": "trainer.commands.demo",
    "check": "trainer.images.report.check",
    "caption": "trainer.commands.caption",
    "mask": "trainer.commands.mask",
    "score": "trainer.commands.score",
    "inspect": "trainer.adapters.compat.inspect",
    **{name: f"trainer.commands.lora_files:{name}" for name in ("export", "merge", "resize", "extract", "bake")},
    "card": "trainer.commands.card",
    "queue": "trainer.commands.queue",
    "resume": "trainer.commands.resume",
    "notify": "trainer.commands.notify",
    "doctor": "trainer.hardware.doctor",
    "bench": "bench.__main__",
}
"""For people: module, or module:function where the function is not called `main`."""
INTERNAL = {
    "run": "trainer.jobs.trainer.trainer_process",
    "captions-worker": "trainer.images.captioners.worker",
    "masks-worker": "trainer.images.masking.worker",
    "forecast": "trainer.engine.probes.forecast",
    "preview-worker": "trainer.engine.inference.preview_worker",
}
"""For our own processes."""
PRIORITY = {"preview-worker": 5}
"""How far below the page a process of ours stands (POSIX niceness), where it is not 10: somebody waits for a drawing."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; every function named above takes the words after it and returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    _wait_politely()
    set_language(_language(words))
    command = words.pop(0) if words else ""
    ours = command in INTERNAL
    if ours:
        process.give_way(PRIORITY.get(command, 10))
    try:
        module = COMMANDS.get(command) or INTERNAL.get(command)
        if module is None:
            raise Problem("command_unknown", command=command or "–", commands=", ".join(COMMANDS))
        name, _, function = module.partition(":")
        return getattr(import_module(name), function or "main")(words)
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except (OSError, sqlite3.Error) as error:  # a full or read-only disk is nobody's mistake and needs no trace
        if ours:
            raise
        print(problem_of(error), file=sys.stderr)
        return 2


def _wait_politely() -> None:
    """On a machine that is busy already, threads that wait for each other must not spin: see docs/decisions/0004."""
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.75 * (os.cpu_count() or 1):
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _language(words: list[str]) -> str | None:
    """Take `--lang ja` out of the words; every command understands it."""
    for index, word in enumerate(words):
        if word == "--lang" and index + 1 < len(words):
            language = words[index + 1]
            del words[index : index + 2]
            return language
        if word.startswith("--lang="):
            del words[index]
            return word.removeprefix("--lang=")
    return None


if __name__ == "__main__":
    sys.exit(main())
