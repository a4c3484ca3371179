"""A preview worker that draws nothing: speaks the protocol, for the tests of the client. Does what the prompt says."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from pathlib import Path

home = Path(sys.argv[sys.argv.index("--home") + 1])
cancelled: set[str] = set()
jobs: queue.Queue = queue.Queue()


def listen():
    for line in sys.stdin:
        job = json.loads(line)
        if job["do"] == "cancel":
            cancelled.add(job["id"])
        elif job["do"] == "quit":
            break
        else:
            jobs.put(job)
    jobs.put(None)


def emit(**answer):
    print(json.dumps(answer), flush=True)


with open(home / "starts.txt", "a") as starts:
    starts.write(f"{os.getpid()}\n")
threading.Thread(target=listen, daemon=True).start()
print("a library says hello", flush=True)
emit(event="ready", pid=os.getpid())
while (job := jobs.get()) is not None:
    name = job["id"]
    if job["do"] == "warm":
        emit(id=name, event="loading", base=job["base"])
        emit(id=name, event="done", seconds=0)
        continue
    wish = job["request"]["prompt"]
    if wish == "die once" and not (home / "died").exists():
        (home / "died").touch()
        os._exit(3)
    if wish == "die":
        os._exit(3)
    if wish == "refuse":
        emit(id=name, event="failed", code="prompt_missing", params={})
        continue
    for step in range(int(job["request"]["steps"])):
        time.sleep(0.02)
        if name in cancelled:
            emit(id=name, event="cancelled")
            break
        emit(id=name, event="progress", step=step + 1, of=job["request"]["steps"])
    else:
        emit(id=name, event="picture", file=str(Path(job["out"]) / "p0_base.png"), strength=None)
        emit(id=name, event="done", seconds=0.1)
