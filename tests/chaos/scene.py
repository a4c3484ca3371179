"""One home under attack: its programs, what is asked of it, and what must hold of it at any instant and at the end."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from tests.chaos import zygote
from trainer.config import load
from trainer.core import events, files
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.formats.header import read_header
from trainer.jobs.jobs import Jobs
from trainer.jobs.ledger.run_row import RunRow
from trainer.jobs.ledger.states import ENDED

STEPS, EVERY = 8, 4
COLUMNS = ("lost", "twice", "published twice", "half files", "missing", "tensors differ", "acts broken", "unexpected")
SENTENCES = ("disk_full", "storage_full", "job_disk_short")
"""How a training may fail whose disk was full: said, and it can go on."""


class Stage:
    """What all scenes of a campaign share: the zygote, the tiny base, the pictures."""

    def __init__(self, folder: Path, web: bool = True) -> None:
        self.folder, self.address = folder, str(folder / "zygote")
        self.base, self.pictures = folder / "tiny", folder / "set"
        variables = {
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "CHAOS_ZYGOTE": self.address,
            "CUDA_VISIBLE_DEVICES": "",
        }
        variables |= {"CHAOS_WEB": "1"} if web else {}
        words = [sys.executable, str(Path(zygote.__file__)), self.address]
        with open(folder / "zygote.log", "wb") as log:
            self.process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **variables}
            )
        assert self.process.stdout and self.process.stdout.readline() == "ready\n", (folder / "zygote.log").read_text()
        _, connection = zygote.ask(
            self.address, {"what": "base", "argv": [str(self.base)], "log": str(folder / "base.log"), "folder": str(folder)}
        )
        with connection:
            connection.recv(1)
        assert (self.base / "atelier.json").exists(), (folder / "base.log").read_text()
        self.pictures.mkdir()
        for number in range(3):
            Image.new("RGB", (64, 64), (80 * number, 30, 40)).save(self.pictures / f"{number:04d}.png")
            (self.pictures / f"{number:04d}.txt").write_text(f"blob {number}, red")

    def close(self) -> None:
        """End the zygote and everything it started."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Scene:
    """A home of its own. `broken` counts what did not hold, by column; `said` says where."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage, self.folder = stage, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.home = Home(folder / "home").create()
        self.broken: Counter[str] = Counter()
        self.said: list[str] = []
        self.kills = self.faults = 0
        self.started: list[int] = []
        self.meanwhile: Callable[[], object] = lambda: None
        """What goes on happening while a person tries again."""
        self.deal([])
        self.jobs = Jobs(self.home)

    # --- programs ---------------------------------------------------------------------------------------------

    def deal(self, faults: list[dict[str, Any]]) -> None:
        """What happens to the trainers that start from now on, one each."""
        files.write_json(self.folder / "faults.json", faults)

    def start(self, what: str, *argv: str, fault: dict[str, Any] | None = None) -> int:
        """Start one of the studio's programs; its process number."""
        pid, connection = zygote.ask(
            self.stage.address,
            {
                "what": what,
                "argv": list(argv),
                "log": str(self.folder / f"{what}.log"),
                "fault": fault or {},
                "folder": str(self.folder),
            },
        )
        connection.close()
        self.started.append(pid)
        return pid

    def wait(self, what: str, *argv: str, fault: dict[str, Any] | None = None) -> None:
        """Have a program run to its end."""
        _, connection = zygote.ask(
            self.stage.address,
            {
                "what": what,
                "argv": list(argv),
                "log": str(self.folder / f"{what}.log"),
                "fault": fault or {},
                "folder": str(self.folder),
            },
        )
        with connection:
            connection.recv(1)

    def kill(self, pid: int | None) -> bool:
        """kill -9, counted; False where it was dead already."""
        if not pid:
            return False
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        self.kills += 1
        return True

    def trainers(self) -> list[dict[str, Any]]:
        """The trainers that were started, each with the fault dealt to it."""
        path = self.folder / "started"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def close(self) -> None:
        """End every program; keep nothing."""
        for pid in (*self.started, *(one["pid"] for one in self.trainers())):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        self.jobs.close()
        self.jobs.store.close()

    # --- runs -------------------------------------------------------------------------------------------------

    def submit(self, name: str = "red") -> str:
        """Press Start."""
        tree = {
            "model": {"base": str(self.stage.base)},
            "images": {"folder": str(self.stage.pictures), "resolution": 64},
            "run": {"steps": STEPS, "batch_size": 1, "seed": 3},
            "lora": {"rank": 2},
            "memory": {"base_dtype": "fp32"},
            "samples": {"steps": 1, "every": EVERY, "prompts": ["a house", "a red blob"]},
            "save": {"name": name, "every": EVERY},
            "rights": {"pictures_ok": True},
            "captions": {"trigger": "blobby"},
            "optimizer": {"lr": 1e-2},
        }
        return self.patiently(lambda: self.jobs.submit(load.build(tree), f"press of {name}"))

    def patiently(self, act: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Do what a person does again while it is answered by a sentence."""
        limit = time.monotonic() + seconds
        while True:
            try:
                return act()
            except (Problem, sqlite3.Error, OSError) as error:
                if not isinstance(error, Problem):
                    self.unexpected(f"{type(error).__name__}: {error}")
                if time.monotonic() > limit:
                    raise
                self.meanwhile()
                time.sleep(0.1)

    def row(self, id_: str) -> RunRow | None:
        """The run as the list shows it; None while it does not."""
        rows = self.patiently(self.jobs.rows)
        return next((row for row in rows if row.id == id_), None)

    def until(self, id_: str, what: Callable[[RunRow], object], seconds: float = 60.0) -> RunRow | None:
        """Wait for something of a run; None where it does not come."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            row = self.row(id_)
            if row is not None and what(row):
                return row
            time.sleep(0.03)
        return None

    def to_the_end(self, id_: str, seconds: float = 150.0, watch: Callable[[], object] = lambda: None) -> None:
        """Go on, as a person would, until the run is finished; count what killed it on its way."""
        limit, self.meanwhile = time.monotonic() + seconds, watch
        while time.monotonic() < limit:
            watch()
            row = self.row(id_)
            if row is not None and row.state == "succeeded" and row.pid is None:
                break
            if row is not None and row.state in ENDED and row.state != "succeeded" and row.pid is None:
                if row.reason == "job_unexpected" or (row.state == "failed" and row.reason not in SENTENCES):
                    self.unexpected(f"{row.state}: {row.reason} {row.params}")
                self.half_files()
                self.patiently(lambda: self.jobs.resume(id_))
            time.sleep(0.05)
        else:
            row = self.row(id_)
            self.count("lost", f"{id_} is {row.state if row else 'not in the list'} ({row.reason if row else ''})")

    # --- what must hold ---------------------------------------------------------------------------------------

    def count(self, column: str, why: str) -> None:
        """Something did not hold."""
        self.broken[column] += 1
        self.said.append(f"{column}: {why}")

    def unexpected(self, why: str) -> None:
        """An answer that is no sentence."""
        if f"unexpected: {why}" not in self.said:
            self.count("unexpected", why)

    def half_files(self) -> None:
        """No file a person can see is cut off, at any instant."""
        for path in self.home.outputs.rglob("*"):
            if path.name.startswith(".") or not path.is_file() or "broken" in path.name or "cache" in path.parts:
                continue
            if any(".tmp" in part for part in path.relative_to(self.home.outputs).parts):
                continue
            try:
                if path.suffix == ".safetensors":
                    read_header(path)
                elif path.suffix == ".png":
                    with Image.open(path) as picture:
                        picture.load()
                elif path.suffix == ".json":
                    json.loads(path.read_text())
            except FileNotFoundError:
                continue
            except (Problem, OSError, ValueError) as error:
                self.count("half files", f"{path.relative_to(self.home.root)}: {error}")

    def ended_well(self, id_: str, straight: bytes | None) -> bytes | None:
        """Everything a finished run owes; its tensors."""
        run = self.jobs.run_dir(id_)
        self.half_files()
        if (self.folder / "twice").exists():
            self.count("twice", (self.folder / "twice").read_text())
        rows = [row for row in self.patiently(self.jobs.rows) if row.name == "red"]
        if len(rows) != 1 or len([path for path in self.home.runs.iterdir() if (path / "config.json").exists()]) != 1:
            self.count("twice", f"{len(rows)} runs of one press")
        loras = sorted(self.home.loras.glob("*.safetensors"))
        if len(loras) != 1:
            self.count("published twice" if loras else "missing", f"{[path.name for path in loras]}")
            return None
        if not rows or not rows[0].lora or Path(rows[0].lora) != loras[0]:
            self.count("missing", f"the list names {rows[0].lora if rows else None}")
        told = events.read(run.events)[0]
        pictures = {(event.step, event.index) for event in told if isinstance(event, events.Sample)}
        owed = {(step, index) for step in range(0, STEPS + 1, EVERY) for index in (0, 1)}
        wanted = [*(run.sample(*one) for one in owed), *(loras[0].with_suffix(end) for end in (".json", ".png"))]
        for path in wanted:
            if not path.exists():
                self.count("missing", path.name)
        if not pictures >= owed:
            self.count("missing", f"not shown: {sorted(owed - pictures)}")
        data = loras[0].read_bytes()
        tensors = data[8 + int.from_bytes(data[:8], "little") :]
        if straight is not None and tensors != straight:
            self.count("tensors differ", id_)
        return tensors


def instant(rng: random.Random, longest: float) -> float:
    """A random instant, early ones as often as late ones on a scale of ratios."""
    return longest * rng.random() ** 1.5


def clear(folder: Path) -> None:
    """Remove what a scene left."""
    shutil.rmtree(folder, ignore_errors=True)
