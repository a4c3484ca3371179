"""The ledger as an open file: reading and writing from any thread, patiently. The store's ground; leases use it too."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from trainer.jobs.ledger import sqlite_file

T = TypeVar("T")
_NOWHERE = (0, 0)


class Database:
    """One connection, one statement at a time. `repaired` says what was done to a damaged file when it was opened."""

    def __init__(self, database: Path) -> None:
        self.path = database
        self._lock = threading.RLock()
        self._connection, self.repaired = sqlite_file.open_ledger(database)
        self._file: tuple[int, int] | None = self._identity()
        self.opened = 1
        """How often the file was opened: it changes where the file was lost, damaged or put back from its copy."""

    def close(self) -> None:
        """Let the file go."""
        with self._lock:
            self._connection.close()

    # --- settings ---------------------------------------------------------------------------------------------

    def setting(self, name: str, default: Any = None) -> Any:
        """A small remembered value of this home."""
        rows = self.read("SELECT value FROM settings WHERE name=?", (name,))
        return json.loads(rows[0]["value"]) if rows else default

    def remember(self, name: str, value: Any) -> None:
        """Keep a small value."""
        self.write(
            "INSERT INTO settings VALUES(?, ?) ON CONFLICT(name) DO UPDATE SET value=excluded.value", (name, json.dumps(value))
        )

    # --- the file ---------------------------------------------------------------------------------------------

    def back_up(self) -> None:
        """Keep a copy for the day the file is damaged."""
        self._execute(lambda connection: sqlite_file.back_up(connection, self.path))

    def verify(self) -> None:
        """Read the file anew and repair it where it is damaged: a connection goes on with the pages it has in memory, and
        notices nothing."""
        with self._lock:
            if self._identity() == self._file and not sqlite_file.is_intact(self.path):
                self._reopen(damaged=True)

    def read(self, sql: str, values: Any = ()) -> list[sqlite3.Row]:
        """Rows of a query."""
        return self._execute(lambda connection: connection.execute(sql, values).fetchall())

    def write(self, sql: str, values: Any = (), patience: float | None = None) -> int:
        """One changing statement, durable when this returns: how many rows it changed."""
        return self._execute(lambda connection: connection.execute(sql, values).rowcount, patience)

    def transaction(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Several statements as one, with the right to write from the start."""

        def transactional(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = operation(connection)
                connection.execute("COMMIT")
                return result
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

        return self._execute(transactional)

    def _execute(self, operation: Callable[[sqlite3.Connection], T], patience: float | None = None) -> T:
        with self._lock:
            if self._identity() != self._file:  # lost, or repaired by another process: what we hold is not the ledger now
                self._reopen(damaged=False)
            try:
                return sqlite_file.patiently(lambda: operation(self._connection), patience)
            except sqlite3.DatabaseError as error:
                if not sqlite_file.is_damage(error):
                    raise sqlite_file.to_problem(error, self.path) from error
            self._reopen(damaged=True)  # damaged under our hands
            try:
                return sqlite_file.patiently(lambda: operation(self._connection), patience)
            except sqlite3.DatabaseError as error:
                raise sqlite_file.to_problem(error, self.path) from error

    def _reopen(self, damaged: bool) -> None:
        """Let the file go and open the one that is there now, made whole where it is not."""
        self._file = None
        self._connection.close()
        self._connection, repaired = sqlite_file.open_ledger(self.path, damaged)
        self.repaired = repaired or self.repaired
        self._file = self._identity()
        self.opened += 1

    def _identity(self) -> tuple[int, int]:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return _NOWHERE
        return status.st_dev, status.st_ino
