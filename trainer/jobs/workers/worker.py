"""The preview worker as a process with lines in and out. Used by preview.py alone."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from trainer.core import process
from trainer.core.home import PROJECT

DIED: dict[str, Any] = {"event": "died"}


class WorkerProcess:
    """The process and its lines."""

    def __init__(self, argv: list[str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as errors:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=PROJECT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
                **process.detached(),
            )
        self.base: str | None = None
        """The base it has loaded, as far as known."""
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._writing = threading.Lock()
        assert self._process.stdin and self._process.stdout
        self._input: IO[bytes] = self._process.stdin
        output = self._process.stdout
        self._listener = threading.Thread(target=self._listen, args=(output,), name="preview", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """The process number."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether it runs and its lines are still read."""
        return self._process.poll() is None and self._listener.is_alive()

    def send(self, job: dict[str, Any]) -> None:
        """One line; a worker that is gone shows in `answers`."""
        with self._writing:
            try:
                self._input.write(json.dumps(job, ensure_ascii=False).encode() + b"\n")
                self._input.flush()
            except (OSError, ValueError):
                return

    def answers(self, name: str, give_up: float | None = None) -> Iterator[dict[str, Any]]:
        """What is said to the request `name`, and `died` where the process ends first (or `give_up` passes)."""
        while True:
            try:
                answer = self._answers.get(timeout=0.5)
            except queue.Empty:
                if give_up is not None and time.monotonic() > give_up:
                    return
                if not self.is_alive() and self._answers.empty():
                    yield DIED
                    return
                continue
            if answer is DIED:
                self._answers.put(DIED)
                yield DIED
                return
            if answer.get("id") == name and "event" in answer:
                yield answer

    def close(self) -> None:
        """Ask it to quit, wait a little, end it."""
        self.send({"do": "quit"})
        with self._writing:
            try:
                self._input.close()
            except OSError:  # it was gone already
                pass
        try:
            self._process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(timeout=3)

    def _listen(self, output: IO[bytes]) -> None:
        with output:
            for line in output:
                try:
                    answer = json.loads(line)
                except ValueError:
                    continue
                if isinstance(answer, dict):
                    self._answers.put(answer)
        self._process.wait()
        self._answers.put(DIED)
