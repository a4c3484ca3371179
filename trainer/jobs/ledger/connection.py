"""An SQLite connection that outlives an emptied `-shm` file. Made by sqlite_file.connect; everything on the ledger uses it.

In WAL mode every program that has the ledger open maps the index beside it (`-shm`) into its memory. Where another program
empties that file, the next touch of the mapping is a SIGBUS: the process is gone, and with it the training. The file holds
nothing the write-ahead log does not: grown to its size again it is an index of zeros, which SQLite builds anew from the log.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

REGION = 32768
"""Bytes SQLite maps at a time (https://www.sqlite.org/walformat.html, section 2): a file in use is never smaller."""


class Connection(sqlite3.Connection):
    """Gives the `-shm` file its size back before each statement: one `stat` each time. What empties it in the middle of a
    statement is not caught."""

    _shared: Path | None = None
    _size = REGION

    def watch(self, database: Path) -> None:
        """Look after the index beside `database`; to be called before the first statement."""
        self._shared = database.with_name(f"{database.name}-shm")

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        self._restore_size()
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        self._restore_size()
        return super().executemany(sql, parameters)

    def executescript(self, sql_script: str, /) -> sqlite3.Cursor:
        self._restore_size()
        return super().executescript(sql_script)

    def backup(self, target: sqlite3.Connection, **kwargs: Any) -> None:
        self._restore_size()
        super().backup(target, **kwargs)

    def close(self) -> None:
        self._restore_size()  # the last one to close takes the log into the ledger
        super().close()

    def _restore_size(self) -> None:
        if self._shared is None:
            return
        with suppress(OSError):  # not there: no WAL here, or nothing was read yet
            size = os.stat(self._shared).st_size
            if size < self._size:
                os.truncate(self._shared, self._size)  # by its name: closing a descriptor would drop SQLite's locks on it
            else:
                self._size = size
