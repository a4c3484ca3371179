"""What became of a run whose process is gone: read from its events, written into the ledger. Used by the supervisor.

The events are written before the ledger, so a process killed in between has still said how it ended.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer import events, files
from trainer.config.load import build
from trainer.jobs import process
from trainer.jobs.states import ACTIVE, State
from trainer.jobs.store import RunRow, Store
from trainer.problem import Problem
from trainer.run_dir import RunDir

TAIL = 65536


def last_end(run: RunDir) -> events.Event | None:
    """The event that ended the newest attempt, None where it ended without a word."""
    try:
        size = run.events.stat().st_size
    except FileNotFoundError:
        return None
    told, _ = events.read(run.events, max(0, size - TAIL))
    for event in reversed(told):
        if isinstance(event, events.Finished | events.Stopped | events.Failed):
            return event
        if isinstance(event, events.Started | events.Step):
            return None
    return None


def settle(store: Store, row: RunRow, status: int | None) -> None:
    """Bring a run whose process has died into the state it ended in. `status`: its exit status where known."""
    end = last_end(store.run_dir(row.id)) if row.attempt else None
    only = tuple(ACTIVE)
    if isinstance(end, events.Finished):
        store.move(row.id, "succeeded", only_from=only, attempt=row.attempt, lora=end.file, step=end.step)
    elif isinstance(end, events.Stopped) or row.state == "stopping":
        store.move(row.id, "stopped", only_from=only, attempt=row.attempt)
    elif isinstance(end, events.Failed):
        store.move(row.id, "failed", end.code, end.params, only_from=only, attempt=row.attempt)
    elif row.state == "starting" and row.boot != process.boot_id():  # the machine went down just then
        store.move(row.id, "queued", only_from=("starting",))
    elif row.state == "starting":
        log = store.run_dir(row.id).log.name
        store.move(row.id, "failed", "job_start_failed", {"log": log}, only_from=("starting",))
    else:
        why = "killed" if status in (None, -9, -15) else "crashed"
        store.move(row.id, "interrupted", why, only_from=only, attempt=row.attempt)
        row = store.get(row.id)
        if row.state == "interrupted" and row.requeues == 0 and has_checkpoint(store.run_dir(row.id)):
            store.move(row.id, "queued", "goes_on_by_itself", only_from=("interrupted",), requeues=1)


def has_checkpoint(run: RunDir) -> bool:
    """Whether a checkpoint is there whose files have the hashes of its manifest."""
    for manifest in sorted(run.checkpoints.glob("*/manifest.json"), reverse=True):
        told = files.read_json(manifest)
        listed = told.get("files") if isinstance(told, dict) and manifest.parent.name.isdigit() else None
        if isinstance(listed, dict) and all(_whole(manifest.parent / name, facts) for name, facts in listed.items()):
            return True
    return False


def _whole(path: Path, facts: dict[str, object]) -> bool:
    return path.is_file() and files.sha256(path) == facts.get("sha256")


def adopt(store: Store) -> list[str]:
    """Enter run folders the ledger does not know, as after a restored backup: their files say what they are."""
    known = {row["id"] for row in store.read("SELECT id FROM runs")}
    adopted = []
    for folder in sorted(store.run_dir("x").path.parent.glob("*/config.json")):
        run = RunDir(folder.parent)
        if run.id in known:
            continue
        try:
            config = build(json.loads(run.config.read_text("utf-8")))
        except (Problem, ValueError, OSError):
            continue  # not a run of this version: left where it is
        end, told = last_end(run), _last_step(run)
        facts: dict[str, Any] = {"step": told.step, "total": told.total} if told else {}
        created = run.config.stat().st_mtime
        if isinstance(end, events.Finished):
            store.enter(run.id, config, run.id, "succeeded", created=created, ended=end.time, lora=end.file, **facts)
        elif isinstance(end, events.Failed):
            store.enter(run.id, config, run.id, "failed", created=created, ended=end.time, why=end.code,
                        params=json.dumps(end.params), **facts)
        else:
            state: State = "stopped" if isinstance(end, events.Stopped) else "interrupted"
            store.enter(run.id, config, run.id, state, created=created, **facts)
        adopted.append(run.id)
    return adopted


def _last_step(run: RunDir) -> events.Step | None:
    if not run.events.exists():
        return None
    told, _ = events.read(run.events, max(0, run.events.stat().st_size - TAIL))
    return next((event for event in reversed(told) if isinstance(event, events.Step)), None)
