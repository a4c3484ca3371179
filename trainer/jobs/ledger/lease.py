"""Who may use a device just now. A training holds it; a preview borrows it between two steps and gives it back.

The ledger keeps one lease a device and the requests for it. Holders are known by process number and birth mark, so one
that died never blocks. The trainer's side is `DeviceLease`, called between steps; the preview's side is `borrow`.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trainer.core import process
from trainer.jobs.ledger import sqlite_file
from trainer.jobs.ledger.run_store import Store

_HOLDER = "holder, kind, pid, born, boot"


def holder(store: Store, device: str) -> str | None:
    """What kind of work holds the device (`train`, `preview`), or None. Dead holders hold nothing."""
    rows = store.read("SELECT * FROM leases WHERE device=?", (device,))
    return rows[0]["kind"] if rows and _is_alive(rows[0]) else None


@contextmanager
def borrow(
    store: Store,
    device: str,
    kind: str = "preview",
    *,
    patience: float = 60.0,
    poll: float = 0.03,
    waiting: Callable[[], None] | None = None,
) -> Iterator[bool]:
    """Hold the device for a while: True where it was granted, False where nobody yielded within `patience` seconds.

    Where a training neither steps nor yields (it encodes, or saves) the caller goes on beside it after `patience`:
    a slow picture is better than none. `waiting` is called again and again meanwhile and may raise to give up.
    """
    name = uuid.uuid4().hex
    me = (name, kind, *process.me())
    granted = store.transaction(lambda c: _acquire(c, device, me))
    try:
        if not granted:
            store.write(
                f"INSERT INTO requests(device, {_HOLDER}, asked) VALUES(?, ?, ?, ?, ?, ?, ?)", (device, *me, time.time())
            )
            limit = time.monotonic() + patience
            while not granted and time.monotonic() < limit:
                if waiting:
                    waiting()
                time.sleep(poll)
                if _mine_or_free(store, device, name):
                    granted = store.transaction(lambda c: _acquire(c, device, me))
            store.write("DELETE FROM requests WHERE holder=?", (name,))
        yield granted
    finally:
        store.transaction(lambda c: _give_back(c, device, name))


def touch(store: Store, device: str) -> None:
    """Say that the borrowed device is still being worked on."""
    store.write("UPDATE leases SET touches=touches+1 WHERE device=?", (device,))


class DeviceLease:
    """The trainer's hold on its device, in the trainer process. `between` costs microseconds while nobody asks."""

    def __init__(
        self,
        store: Store,
        device: str,
        name: str,
        on_wait: Callable[[bool], None],
        *,
        poll: float = 0.03,
        patience: float = 600.0,
    ) -> None:
        self.store, self.device, self.on_wait, self.poll, self.patience = store, device, on_wait, poll, patience
        self.me = (name, "train", *process.me())
        self.held = False
        self._opened = store.opened
        self._watch = sqlite_file.connect(store.path)  # its own, so that changes by the heartbeat's thread show too
        self._seen = -1

    def acquire(self) -> None:
        """Hold the device; waits while a preview draws."""
        self.held = self.store.transaction(lambda c: _acquire(c, self.device, self.me))
        if not self.held:
            self._wait()

    def release(self) -> None:
        """Give the device up: paused or ended."""
        self.held = False
        self.store.transaction(lambda c: _give_back(c, self.device, self.me[0]))

    def close(self) -> None:
        """Release, and let the ledger go."""
        self.release()
        self._watch.close()

    def between(self) -> bool:
        """Between two steps: lend the device where somebody asks, and wait for it. True where the ledger changed."""
        if self._opened != self.store.opened:
            self._reopen()
        if not self.held:
            return False
        version = self._watch.execute("PRAGMA data_version").fetchone()[0]
        if version == self._seen:
            return False
        self._seen = version
        request = self._watch.execute("SELECT 1 FROM requests WHERE device=? LIMIT 1", (self.device,)).fetchone()
        if request is not None and self.store.transaction(self._lend):
            self._wait()
        return True

    def _reopen(self) -> None:
        """The ledger was lost or repaired meanwhile: watch the one there is now, and hold the device in it."""
        self._opened, self._seen = self.store.opened, -1
        self._watch.close()
        self._watch = sqlite_file.connect(self.store.path)
        self.acquire()

    def _lend(self, connection: sqlite3.Connection) -> bool:
        """Hand the lease to the first living request; dead ones are dropped."""
        for row in connection.execute("SELECT * FROM requests WHERE device=? ORDER BY id", (self.device,)).fetchall():
            connection.execute("DELETE FROM requests WHERE id=?", (row["id"],))
            if not _is_alive(row):
                continue
            name, _, pid, born, boot = self.me
            connection.execute(
                f"REPLACE INTO leases(device, {_HOLDER}, since, lender, lender_pid, lender_born, lender_boot)"
                " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self.device,
                    row["holder"],
                    row["kind"],
                    row["pid"],
                    row["born"],
                    row["boot"],
                    time.time(),
                    name,
                    pid,
                    born,
                    boot,
                ),
            )
            self.held = False
            return True
        return False

    def _wait(self) -> None:
        """Until the device is ours again: given back, its holder dead, or untouched for `patience` seconds."""
        self.on_wait(True)
        try:
            self._until_free()
        finally:
            self.on_wait(False)

    def _until_free(self) -> None:
        mark, limit = None, 0.0
        while not self.held:
            time.sleep(self.poll)
            row = next(iter(self.store.read("SELECT * FROM leases WHERE device=?", (self.device,))), None)
            now, seen = time.monotonic(), (row["holder"], row["touches"]) if row else None
            if seen != mark:
                mark, limit = seen, now + self.patience
            if row is None or row["holder"] == self.me[0] or not _is_alive(row) or now >= limit:
                force = now >= limit
                self.held = self.store.transaction(lambda c, force=force: _acquire(c, self.device, self.me, force))


def _acquire(c: sqlite3.Connection, device: str, me: tuple[str, str, int, float, str], force: bool = False) -> bool:
    row = c.execute("SELECT * FROM leases WHERE device=?", (device,)).fetchone()
    if row is not None and row["holder"] == me[0]:
        return True
    if row is not None and not force and _is_alive(row):
        return False
    lender = (None,) * 4
    if row is not None and row["lender"] not in (None, me[0]) and _is_alive(row, "lender_"):
        lender = (row["lender"], row["lender_pid"], row["lender_born"], row["lender_boot"])
    c.execute(
        f"REPLACE INTO leases(device, {_HOLDER}, since, lender, lender_pid, lender_born, lender_boot)"
        " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (device, *me, time.time(), *lender),
    )
    return True


def _give_back(c: sqlite3.Connection, device: str, name: str) -> None:
    """To the training that lent it, where it lives; else nobody holds the device."""
    c.execute("DELETE FROM requests WHERE holder=?", (name,))
    row = c.execute("SELECT * FROM leases WHERE device=? AND holder=?", (device, name)).fetchone()
    if row is None:
        return
    if row["lender"] is not None and _is_alive(row, "lender_"):
        c.execute(
            "UPDATE leases SET holder=lender, kind='train', pid=lender_pid, born=lender_born, boot=lender_boot,"
            " lender=NULL WHERE device=?",
            (device,),
        )
    else:
        c.execute("DELETE FROM leases WHERE device=?", (device,))


def _mine_or_free(store: Store, device: str, name: str) -> bool:
    rows = store.read("SELECT * FROM leases WHERE device=?", (device,))
    return not rows or rows[0]["holder"] == name or not _is_alive(rows[0])


def _is_alive(row: sqlite3.Row, prefix: str = "") -> bool:
    return process.alive(row[f"{prefix}pid"], row[f"{prefix}born"], row[f"{prefix}boot"])
