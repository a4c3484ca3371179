"""The resident process behind the Preview page: keeps a base loaded and draws on request. JSON lines in and out.

Started by trainer/jobs/workers/preview.py as `python -m trainer preview-worker --home DIR`; ends with its standard input.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from trainer.core.home import Home
from trainer.core.problem import Problem


class PreviewWorker:
    """Takes requests one after the other; `cancel` is heard in between."""

    def __init__(self, home: Home, out: Any) -> None:
        self.home, self.out = home, out
        self.cancelled: set[str] = set()
        self.studio: Any = None
        self.base: tuple[str, float] | None = None

    def say(self, **answer: Any) -> None:
        """One answer line."""
        self.out.write(json.dumps(answer, ensure_ascii=False) + "\n")
        self.out.flush()

    def do(self, job: dict[str, Any]) -> None:
        """Draw, or load the base ahead of time (`warm`). Every end is told: done, cancelled or failed."""
        name = str(job.get("id"))
        try:
            if job["do"] == "warm":
                self._load(name, job["base"])
                self.say(id=name, event="done", seconds=0)
            else:
                self._draw(name, job)
        except Problem as problem:
            self.say(id=name, event="failed", code=problem.code, field=problem.field, params=problem.params)
        except Exception as error:
            # The boundary of this process: the page is told, the trace goes to the log, the worker lives on.
            traceback.print_exc(file=sys.stderr)
            code = "memory_short" if "OutOfMemory" in type(error).__name__ else "preview_failed"
            self.studio, self.base = None, None
            self.say(id=name, event="failed", code=code, params={"needed": "?", "free": "?", "detail": str(error)[:200]})

    def _load(self, name: str, base: str) -> Any:
        from trainer.engine.base import fetched
        from trainer.engine.inference.sampling import ImageSampler
        from trainer.engine.speed import device

        facts = fetched(self.home, base, None, lambda event: self.say(id=name, event="loading", base=base))
        stamp = (str(facts.path), facts.path.stat().st_mtime if facts.path else 0.0)
        if self.base != stamp:
            self.say(id=name, event="loading", base=facts.id)
            device.silence_libraries()
            self.studio = None
            where = device.choose_device("auto")
            self.studio, self.base = ImageSampler.load(facts, where, device.choose_dtype("auto", where), self.home), stamp
        return self.studio

    def _draw(self, name: str, job: dict[str, Any]) -> None:
        from trainer.engine.inference.sampling import Cancelled, GenerateRequest

        begun = time.monotonic()
        request = GenerateRequest.from_json(job["request"])
        studio = self._load(name, job["base"])
        out = Path(job["out"])
        drawing = studio.draw(
            request,
            lambda step, of: self.say(id=name, event="progress", step=step, of=of),
            lambda: name in self.cancelled,
        )
        try:
            for drawn in drawing:
                label = "base" if drawn.strength is None and not request.loras else f"s{drawn.strength or 1.0:.2f}"
                if drawn.strength is not None:
                    label = f"s{drawn.strength:.2f}"
                path = drawn.save(out / f"p0_{label}.png")
                self.say(id=name, event="picture", file=str(path), strength=drawn.strength)
        except Cancelled:
            self.say(id=name, event="cancelled")
            return
        for code, params in studio.notes:
            self.say(id=name, event="note", code=code, params=params)
        self.say(id=name, event="done", seconds=round(time.monotonic() - begun, 2))


def main(argv: list[str]) -> int:
    """Serve requests from standard input until it ends or `quit` comes."""
    parser = argparse.ArgumentParser(prog="preview-worker")
    parser.add_argument("--home")
    home = Home.find(parser.parse_args(argv).home)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library that prints must not break the protocol
    worker = PreviewWorker(home, answers)
    jobs: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            try:
                job = json.loads(line)
            except ValueError:
                continue
            if job.get("do") == "cancel":
                worker.cancelled.add(str(job.get("id")))
            elif job.get("do") == "quit":
                break
            else:
                jobs.put(job)
        jobs.put(None)

    threading.Thread(target=listen, daemon=True).start()
    worker.say(event="ready", pid=os.getpid())
    while (job := jobs.get()) is not None:
        worker.do(job)
    return 0
