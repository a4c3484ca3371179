"""What a person asks of a running training: read between two steps from `control.jsonl`. Made by the trainer process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress

from trainer.core import files
from trainer.core.run_dir import RunDir


class Control:
    """Flags set by requests. `between` is called between two steps, for the ledger's heartbeat and the device lease."""

    def __init__(self, run: RunDir, between: Callable[[], None] | None = None) -> None:
        self.run, self.between = run, between
        self.stop = self.pause = self.save = self.sample = False
        self._read_file = run.path / "control.read"
        self._offset = int(files.read_json(self._read_file, 0))

    def ask(self, what: str) -> None:
        """A request from inside the process, such as a signal: `stop`, `pause`, `resume`, `save`, `sample`."""
        if what == "resume":
            self.pause = False
        elif what in ("stop", "pause", "save", "sample"):
            setattr(self, what, True)

    def poll(self) -> None:
        """Take in new requests; what was read once is never read again, also after a crash."""
        if self.between:
            self.between()
        try:
            size = self.run.control.stat().st_size
        except FileNotFoundError:
            return
        if size <= self._offset:
            return
        with open(self.run.control, "rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.splitlines():
            try:
                self.ask(str(json.loads(line)["ask"]))
            except (ValueError, KeyError, TypeError):
                continue
        self._offset += len(whole)
        with suppress(OSError):  # a full disk: after a crash they would be read again, which does no harm
            files.write_json(self._read_file, self._offset)

    def take(self, what: str) -> bool:
        """Whether `what` (`save` or `sample`) was asked; asking is used up."""
        asked = getattr(self, what)
        setattr(self, what, False)
        return asked

    def wait(self, seconds: float = 0.2) -> None:
        """Sleep a little while paused, then look again."""
        time.sleep(seconds)
        self.poll()
