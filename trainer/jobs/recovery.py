"""What became of a run whose process is gone: read from its events, written into the ledger. Used by the supervisor.

The events are written before the ledger, so a process killed in between has still said how it ended.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from trainer.config.load import build
from trainer.config.train import TrainConfig
from trainer.core import events, files, process
from trainer.core.problem import Problem
from trainer.core.run_dir import RunDir
from trainer.jobs.ledger.run_row import RunRow
from trainer.jobs.ledger.run_store import NOT_BEGUN, Store
from trainer.jobs.ledger.states import ACTIVE, State
from trainer.jobs.trainer import attempt
from trainer.library.publication import Publication

KILLED = (-9, -15, -2, -1, attempt.NOT_OURS)
"""Exit statuses of a process nothing was wrong with: ended by SIGKILL, SIGTERM, SIGINT, SIGHUP, or for another's sake."""


def last_end(run: RunDir, row: RunRow | None = None) -> events.Event | None:
    """The event that ended the newest attempt, None where it ended without a word. With `row`: the end its own process wrote;
    what an attempt before wrote is not the end of one that was killed while it started."""
    current = attempt.read(run)
    if row is not None and current is not None and not current.is_of(row.pid, row.birth):
        return None
    for event in reversed(attempt.recent_events(run)):
        if isinstance(event, events.Finished | events.Stopped | events.Failed):
            return event
        if isinstance(event, events.Started | events.Step):
            return None
    return None


def record_outcome(store: Store, row: RunRow, status: int | None) -> None:
    """Bring a run whose process has died into the state it ended in. `status`: its exit status where known."""
    run = store.run_dir(row.id)
    if reattach(store, run, same=True):
        return
    complete(store, run)
    end = last_end(run, row) if row.attempt and row.state != "starting" else None
    only = tuple(ACTIVE)
    killed = status is None or status in KILLED
    if isinstance(end, events.Finished):
        store.move(row.id, "succeeded", only_from=only, attempt=row.attempt, lora=end.file, step=end.step)
    elif isinstance(end, events.Stopped) or row.state == "stopping":
        store.move(row.id, "stopped", only_from=only, attempt=row.attempt)
    elif isinstance(end, events.Failed):
        store.move(row.id, "failed", end.code, end.params, only_from=only, attempt=row.attempt)
    elif row.state == "starting" and row.boot != process.boot_id():  # the machine went down just then
        store.move(row.id, "queued", only_from=("starting",))
    elif row.state == "starting" and not killed:
        store.move(row.id, "failed", "job_start_failed", {"log": run.log.name}, only_from=("starting",))
    else:
        store.move(row.id, "interrupted", "killed" if killed else "crashed", only_from=only, attempt=row.attempt)
        row = store.get(row.id)
        if row.state == "interrupted" and row.requeues == 0 and has_checkpoint(run):
            store.move(row.id, "queued", "goes_on_by_itself", only_from=("interrupted",), requeues=1)


def reattach(store: Store, run: RunDir, same: bool = False) -> bool:
    """Give a run to its trainer where that lives and the ledger shows an earlier attempt (with `same`: shows it as dead);
    True where it lives."""
    current = attempt.read(run)
    if current is None or not current.is_alive():
        return False
    store.reattach(run.id, current.number, (current.pid, current.birth, current.boot), _living_state(run), same=same)
    return True


def _living_state(run: RunDir) -> State:
    last = next(reversed(attempt.recent_events(run)), None)
    waits = isinstance(last, events.Paused) or (isinstance(last, events.Note) and last.code == "disk_waits")
    return "paused" if waits else "running"


def complete(store: Store, run: RunDir) -> None:
    """Card and picture of a LoRA whose trainer was killed just after it appeared in the library."""
    try:
        Publication(run, store.path.parent / "loras").complete()
    except (Problem, OSError) as error:
        files.complain(f"{run.id}: the LoRA's card could not be written: {error}")


def has_checkpoint(run: RunDir) -> bool:
    """Whether a checkpoint is there whose files have the hashes of its manifest."""
    for path in sorted(run.checkpoints.glob("*/manifest.json"), reverse=True):
        manifest_data = files.read_json(path)
        listed = manifest_data.get("files") if isinstance(manifest_data, dict) and path.parent.name.isdigit() else None
        if isinstance(listed, dict) and all(_has_hash(path.parent / name, entry) for name, entry in listed.items()):
            return True
    return False


def _has_hash(path: Path, entry: dict[str, object]) -> bool:
    return path.is_file() and files.sha256(path) == entry.get("sha256")


def adopt(store: Store) -> list[str]:
    """Enter run folders the ledger does not know, as after a restored backup: their files say what they are. A run whose
    trainer lives is given back to it."""
    with store.making_runs():
        return _adopt(store)


def _adopt(store: Store) -> list[str]:
    known_ids = {row["id"] for row in store.read("SELECT id FROM runs")}
    adopted = []
    for path in sorted(store.runs.glob("*/config.json")):
        run = RunDir(path.parent)
        if run.id in known_ids:
            reattach(store, run)
            continue
        try:
            config = build(json.loads(run.config.read_text("utf-8")))
        except (Problem, ValueError, OSError):
            continue  # not a run of this version: left where it is
        if _enter(store, run, config):
            adopted.append(run.id)
    return adopted


def _enter(store: Store, run: RunDir, config: TrainConfig) -> bool:
    key, number = store.key_of(run) or run.id, attempt.last_number(run)
    if number == 0 and store.by_key(key) not in (None, run.id):  # the same press of Start came through in another folder
        shutil.rmtree(run.path, ignore_errors=True)
        return False
    last = next((event for event in reversed(attempt.recent_events(run)) if isinstance(event, events.Step)), None)
    facts: dict[str, Any] = {"attempt": number} | ({"step": last.step, "total": last.total} if last else {})
    end, living = last_end(run), attempt.read(run)
    state: State = "interrupted"
    if living is not None and living.is_alive():
        state, end = _living_state(run), None
        facts |= {"pid": living.pid, "born": living.birth, "boot": living.boot}
    elif isinstance(end, events.Finished):
        state = "succeeded"
        facts |= {"ended": end.time, "lora": end.file}
    elif isinstance(end, events.Failed):
        state = "failed"
        facts |= {"ended": end.time, "why": end.code, "params": json.dumps(end.params)}
    elif isinstance(end, events.Stopped):
        state = "stopped"
    elif number == 0:
        facts |= {"why": NOT_BEGUN}
    if "pid" not in facts:
        complete(store, run)
    return store.enter(run.id, config, key, state, created=run.config.stat().st_mtime, **facts) == run.id
