"""The ledger of runs: one SQLite file that page, supervisor and trainer processes share. Every change of state is here.

A move is one UPDATE that names the states it may start from; who changes no row came too late. Safe from any thread.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from trainer.config.load import dump
from trainer.config.train import TrainConfig
from trainer.core import files, process
from trainer.core.problem import Problem
from trainer.core.run_dir import RunDir
from trainer.jobs.ledger import sqlite_file
from trainer.jobs.ledger.database import Database
from trainer.jobs.ledger.run_row import COLUMNS, RunRow
from trainer.jobs.ledger.states import ACTIVE, ENDED, State, sources

Where = Literal["first", "up", "down"]
NOT_BEGUN = "not_begun"
"""Why a run is interrupted whose folder was found without a row: Start was pressed, and nothing more came of it."""
Runner = tuple[int, float, str]
"""(number, birth mark, boot id) of the command that starts a run itself: `launch.py train`."""


_ACTIVE = ", ".join(f"'{state}'" for state in sorted(ACTIVE))


class Store(Database):
    """The runs in `outputs/atelier.db`."""

    # --- runs -------------------------------------------------------------------------------------------------

    def create(self, config: TrainConfig, key: str, state: State = "queued", runner: Runner | None = None) -> str:
        """Write the run folder and its row; the id. The same `key` again gives the same run, not a second one, even where
        the process was killed between the two."""
        with self.making_runs():
            if (existing := self.by_key(key)) is not None:
                return existing
            id_ = self._left_over(key) or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
            files.write_json(self.run_dir(id_).request, {"key": key})
            files.write_json(self.run_dir(id_).config, dump(config))
            return self.enter(id_, config, key, state, created=time.time(), runner=runner)

    @contextmanager
    def making_runs(self) -> Iterator[None]:
        """While this is held no other process or thread makes run folders, or enters those it finds."""
        try:
            with FileLock(self.path.with_name("start.lock"), timeout=sqlite_file.PATIENCE, thread_local=False):
                yield
        except Timeout:
            raise Problem("job_ledger_locked", file=str(self.path)) from None

    def begin_again(self, id_: str, config: TrainConfig, runner: Runner | None = None) -> bool:
        """Queue a run that was found as a folder nothing had come of, with the settings of now: Start was pressed again."""
        files.write_json(self.run_dir(id_).config, dump(config))
        pid, born, boot = runner or (None, None, None)
        more = {
            "name": config.save.name,
            "device": device_key(config.run.device),
            "total": config.run.steps or 0,
            "runner_pid": pid,
            "runner_born": born,
            "runner_boot": boot,
        }
        return self.move(id_, "queued", only_from=("interrupted",), attempt=0, **more)

    def not_begun(self, id_: str) -> bool:
        """Whether a run is a folder that was found, and nothing came of it yet."""
        return bool(self.read("SELECT 1 FROM runs WHERE id=? AND why=? AND deleted IS NULL", (id_, NOT_BEGUN)))

    def key_of(self, run: RunDir) -> str | None:
        """The press of Start a run folder comes from; None where an earlier version made it."""
        tree = files.read_json(run.request)
        key = tree.get("key") if isinstance(tree, dict) else None
        return key if isinstance(key, str) and key else None

    def _left_over(self, key: str) -> str | None:
        """The folder an earlier try with this key left without a row."""
        listed = {row["id"] for row in self.read("SELECT id FROM runs")}
        leftovers = (RunDir(path.parent) for path in sorted(self.runs.glob("*/request.json")) if path.parent.name not in listed)
        return next((run.id for run in leftovers if self.key_of(run) == key), None)

    def enter(
        self,
        id_: str,
        config: TrainConfig,
        key: str,
        state: State,
        *,
        created: float,
        runner: Runner | None = None,
        **more: Any,
    ) -> str:
        """The row of a run whose folder exists. Where `key` is known already, that run's id."""
        pid, born, boot = runner or (None, None, None)
        values: dict[str, Any] = {
            "id": id_,
            "key": key,
            "name": config.save.name,
            "device": device_key(config.run.device),
            "state": state,
            "created": created,
            "queued": time.time() if state == "queued" else None,
            "total": config.run.steps or 0,
            "runner_pid": pid,
            "runner_born": born,
            "runner_boot": boot,
            **more,
        }
        names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
        inserted = self.write(
            f"INSERT INTO runs({names}, place) SELECT {marks}, COALESCE(MAX(place), 0) + 1 FROM runs WHERE true"
            # a supervisor of an earlier version may have found the folder before this row: it is this run
            " ON CONFLICT(id) DO UPDATE SET key=excluded.key, state=excluded.state, queued=excluded.queued, why=NULL,"
            " runner_pid=excluded.runner_pid, runner_born=excluded.runner_born, runner_boot=excluded.runner_boot"
            f" WHERE runs.state='interrupted' AND runs.why='{NOT_BEGUN}' AND runs.key IN (runs.id, excluded.key)"
            " AND excluded.key!=runs.id ON CONFLICT DO NOTHING",
            values,
        )
        return id_ if inserted else self.by_key(key) or id_

    def by_key(self, key: str) -> str | None:
        """The id of the run that was made with this idempotency key."""
        rows = self.read("SELECT id FROM runs WHERE key=?", (key,))
        return rows[0]["id"] if rows else None

    def get(self, id_: str) -> RunRow:
        """One run, or Problem."""
        rows = self._rows("id=? AND deleted IS NULL", (id_,))
        if not rows:
            raise Problem("job_unknown", id=id_)
        return rows[0]

    def list(self) -> list[RunRow]:
        """All runs, the newest first."""
        return self._rows("deleted IS NULL ORDER BY created DESC, place DESC")

    def active(self, device: str | None = None) -> list[RunRow]:
        """The runs that have a process or are about to."""
        more = " AND device=?" if device else ""
        return self._rows(f"state IN ({_ACTIVE}) AND deleted IS NULL{more}", (device,) if device else ())

    def queue(self) -> list[RunRow]:
        """The waiting runs in the order in which they will start."""
        return self._rows("state='queued' AND deleted IS NULL ORDER BY place")

    def with_process(self) -> list[RunRow]:
        """Runs that are active or whose process was not yet seen to have ended."""
        return self._rows(f"pid IS NOT NULL OR state IN ({_ACTIVE})")

    def move(
        self,
        id_: str,
        to: State,
        reason: str | None = None,
        params: dict[str, Any] | None = None,
        *,
        only_from: Iterable[State] | None = None,
        attempt: int | None = None,
        patience: float | None = None,
        **more: Any,
    ) -> bool:
        """Bring a run into state `to`; False where the table (or `only_from`, `attempt`) does not allow it.

        `reason` is a code with `params`; `more` are columns of the table with their new values.
        """
        allowed = sources(to) & frozenset(only_from) if only_from is not None else sources(to)
        values: dict[str, Any] = {"state": to, "why": reason, "params": json.dumps(params or {}), **more}
        now = time.time()
        if to in ENDED:
            values |= {"ended": now, "silent": None, "eta_low": None, "eta_high": None, "stage": None}
        if to == "queued":
            values |= {"queued": now, "ended": None, "silent": None, "stage": None}
        places = ", place=(SELECT COALESCE(MAX(place), 0) + 1 FROM runs)" if to == "queued" else ""
        begun = ", started=COALESCE(started, :now)" if to == "running" else ""
        fence = " AND attempt=:fence" if attempt is not None else ""
        states = ", ".join(f"'{state}'" for state in sorted(allowed)) or "''"
        sets = ", ".join(f"{name}=:{name}" for name in values)
        return (
            self.write(
                f"UPDATE runs SET {sets}{places}{begun} WHERE id=:id AND deleted IS NULL AND state IN ({states}){fence}",
                {**values, "id": id_, "now": now, "fence": attempt},
                patience,
            )
            == 1
        )

    def shift(self, id_: str, where: Where) -> bool:
        """Move a waiting run among those that wait for its device; False where it no longer waits.

        The runs exchange their places in one transaction, so whatever several pages ask at once, each keeps one place.
        """

        def exchange(connection: sqlite3.Connection) -> bool:
            waiting = connection.execute(
                "SELECT id, place FROM runs WHERE state='queued' AND deleted IS NULL"
                " AND device=(SELECT device FROM runs WHERE id=?) ORDER BY place",
                (id_,),
            ).fetchall()
            order = [row["id"] for row in waiting]
            if id_ not in order:
                return False
            at = order.index(id_)
            order.remove(id_)
            order.insert({"first": 0, "up": max(0, at - 1), "down": at + 1}[where], id_)
            moved = [(row["place"], id_) for row, id_ in zip(waiting, order, strict=True) if row["id"] != id_]
            connection.executemany("UPDATE runs SET place=? WHERE id=?", moved)
            return True

        return self.transaction(exchange)

    def start_next(self, id_: str) -> bool:
        """queued -> starting, where nothing else holds the device. One statement: of many callers one gets True."""
        return (
            self.write(
                f"""UPDATE runs SET state='starting', why=NULL, pid=NULL, born=NULL, silent=NULL, stage='loading', quiet=0
            WHERE id=:id AND state='queued' AND pid IS NULL AND deleted IS NULL AND NOT EXISTS(
                SELECT 1 FROM runs other WHERE other.device=runs.device AND other.id!=runs.id
                AND (other.state IN ({_ACTIVE}) OR other.pid IS NOT NULL))""",
                {"id": id_},
            )
            == 1
        )

    def spawned(self, id_: str, pid: int, born: float) -> None:
        """Note the process just started, so that one that dies before it takes the run is seen."""
        self.write(
            "UPDATE runs SET pid=?, born=?, boot=? WHERE id=? AND pid IS NULL AND state IN ('starting', 'stopping')",
            (pid, born, process.boot_id(), id_),
        )

    def claim(self, id_: str, last: int = 0) -> int | None:
        """Called by the trainer process: take the run. Its attempt number, or None where another process has it. `last` is
        the last number the run folder knows: a ledger put back from its copy may know less, and no number is given twice."""
        pid, born, boot = process.me()
        now = time.time()
        with self._lock:
            taken = self.write(
                """UPDATE runs SET state='running', pid=:pid, born=:born, boot=:boot, attempt=MAX(attempt, :last)+1,
                heartbeat=:now, beats=beats+1, quiet=0, started=COALESCE(started, :now), stage='loading', stage_done=0,
                stage_of=0
                WHERE id=:id AND state='starting' AND (pid IS NULL OR (pid=:pid AND boot=:boot)) AND deleted IS NULL""",
                {"id": id_, "pid": pid, "born": born, "boot": boot, "now": now, "last": last},
            )
            return self.get(id_).attempt if taken else None

    def reattach(self, id_: str, attempt: int, who: Runner, state: State, *, same: bool = False) -> bool:
        """Give a run to the trainer that lives, in whatever state a ledger put back from its copy shows it. False where the
        row is not there, or its attempt is not an earlier one (or with `same` this one)."""
        pid, born, boot = who
        return (
            self.write(
                f"""UPDATE runs SET state=:state, why=NULL, params='{{}}', pid=:pid, born=:born, boot=:boot, attempt=:attempt,
            heartbeat=:now, beats=beats+1, started=COALESCE(started, :now), ended=NULL, silent=NULL
            WHERE id=:id AND attempt{"<=" if same else "<"}:attempt AND deleted IS NULL""",
                {"id": id_, "state": state, "pid": pid, "born": born, "boot": boot, "attempt": attempt, "now": time.time()},
            )
            == 1
        )

    def progress(self, id_: str, attempt: int, values: dict[str, Any], patience: float | None = None) -> bool:
        """Write a heartbeat with what is known; False where the fence is lost: another attempt has the run."""
        sets = ", ".join(["heartbeat=:now", "beats=beats+1", *(f"{name}=:{name}" for name in values)])
        return (
            self.write(
                f"UPDATE runs SET {sets} WHERE id=:id AND attempt=:attempt AND state IN ({_ACTIVE})",
                {**values, "now": time.time(), "id": id_, "attempt": attempt},
                patience,
            )
            == 1
        )

    def mark(self, id_: str, **values: Any) -> None:
        """Set plain columns that are not the state."""
        sets = ", ".join(f"{name}=:{name}" for name in values)
        self.write(f"UPDATE runs SET {sets} WHERE id=:id", {**values, "id": id_})

    @property
    def runs(self) -> Path:
        """Where the run folders are, beside the ledger."""
        return self.path.parent / "runs"

    def run_dir(self, id_: str) -> RunDir:
        """The run's folder."""
        return RunDir(self.runs / id_)

    def _rows(self, where: str, values: Any = ()) -> list[RunRow]:
        return [
            RunRow(**{**dict(row), "params": json.loads(row["params"])})
            for row in self.read(f"SELECT {COLUMNS} FROM runs WHERE {where}", values)
        ]


def device_key(device: str) -> str:
    """A device's name in leases. `auto`, `cpu` and the first GPU count as one: they share what a person waits for."""
    return device if device.startswith("cuda:") and device != "cuda:0" else "main"
