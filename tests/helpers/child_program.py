"""A trainer process with a tiny engine, for the tests of jobs: `python child_program.py run DIR --home H`.

What the engine does stands in `fake.json` of the home: steps, seconds a step, where to save, how to end. Everything
around it is the real child: ledger, events, heartbeat, signals, lease.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.core import events, files
from trainer.core.problem import Problem
from trainer.images import provenance
from trainer.images.provenance import Sources
from trainer.jobs.trainer import trainer_process


def save(run, step, sources=None):
    """A checkpoint with a manifest as the real engine writes it."""
    folder = run.checkpoint(step)
    folder.mkdir(parents=True, exist_ok=True)
    data = str(step).encode()
    (folder / "adapter.safetensors").write_bytes(data)
    facts = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    manifest = {"step": step, "files": {"adapter.safetensors": facts}}
    files.write_json(folder / "manifest.json", manifest | ({"sources": sources.kept()} if sources else {}))


def newest(run):
    return max((int(p.parent.name) for p in run.checkpoints.glob("*/manifest.json")), default=0)


def train(run, config, home, emit, control, attempt):
    """Counts to `steps`."""
    plan = {"steps": 200, "seconds": 0.02, "save": 10, "fault": None, "at": 5}
    plan |= files.read_json(home.root / "fake.json", {})
    step, sources = newest(run), Sources(config, home) if plan.get("check") else None
    emit(events.Stage(name="loading"))
    if sources:
        provenance.check(run, provenance.kept_by(run), sources)
        sources.note()
    for done in range(plan.get("encode", 0)):
        emit(events.Stage(name="encoding", done=done, of=plan["encode"]))
        time.sleep(0.05)
    emit(events.Started(step=step, total=plan["steps"], attempt=attempt, pid=os.getpid(), facts={"device": "fake"}))
    emit(events.Stage(name="training"))
    while step < plan["steps"]:
        control.poll()
        if control.take("save"):
            save(run, step)
            emit(events.Saved(step=step, file=f"checkpoints/{step:06d}/lora.safetensors"))
        if control.pause and not control.stop:
            save(run, step)
            emit(events.Paused(step=step))
            while control.pause and not control.stop:
                control.wait(0.02)
            if not control.stop:
                emit(events.Stage(name="training"))
        if control.stop:
            save(run, step)
            emit(events.Stopped(step=step))
            return None
        time.sleep(plan["seconds"])
        step += 1
        if plan["fault"] and step == plan["at"] and attempt == 1:
            fault(plan["fault"], emit, home)
        emit(events.Step(step=step, total=plan["steps"], loss=1.0 / step, seconds=plan["seconds"], memory=1000))
        if step % plan["save"] == 0:
            emit(events.Stage(name="saving"))
            save(run, step, sources)
            emit(events.Saved(step=step, file=f"checkpoints/{step:06d}/lora.safetensors"))
    file = home.loras / f"{config.save.name}.safetensors"
    files.write_text(file, "made")
    emit(events.Finished(step=step, seconds=1.0, file=str(file)))
    return file


def fault(kind, emit, home):
    if kind == "problem":
        raise Problem("nan_stop", step=5)
    if kind == "memory":
        raise MemoryError
    if kind == "unexpected":
        raise ZeroDivisionError("a token hf_abcdefghijklmnop")
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "clock":
        real = time.time
        time.time = lambda: real() - 3600
    if kind == "disk":  # as the real engine tells it
        emit(events.Stage(name="disk"))
        emit(events.Note(code="disk_waits", params={"free": 1, "needed": 2}))
        while not (home.root / "room").exists():
            time.sleep(0.02)
        emit(events.Note(code="disk_again"))
    if kind == "gate":  # goes on when a test says so
        while not (home.root / "gate").exists():
            time.sleep(0.02)
    if kind == "hang":
        time.sleep(600)


if __name__ == "__main__":
    assert sys.argv[1] == "run"
    if files.read_json(Path(sys.argv[sys.argv.index("--home") + 1]) / "fake.json", {}).get("dead_on_arrival"):
        sys.exit("it does not even begin")
    sys.exit(trainer_process.main(sys.argv[2:], train=train, beat=0.2, tick=0.05))
