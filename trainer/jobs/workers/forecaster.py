"""Says what a run would cost, measured in a child process while the person still chooses. Used by jobs.py.

One measurement at a time; it ends when a run begins or other settings are asked for, and is remembered in the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from trainer.config.load import dump
from trainer.config.plan import is_slider
from trainer.config.train import TrainConfig
from trainer.core import files, process, workplace
from trainer.core.home import PROJECT, Home
from trainer.core.problem import Problem
from trainer.jobs.ledger.run_store import Store

SECTIONS = ("run", "model", "images", "slider", "lora", "optimizer", "memory", "preservation")
"""Whose options cost something."""
AGAIN = 300.0
"""Seconds after which a measurement that failed is tried again: memory may be free by then."""
LIMIT = 600.0
"""Seconds after which a measurement is given up."""
KILLED = -9
"""How a process ends that the system kills for want of memory."""
_VERSION = 2


@dataclass(frozen=True)
class Forecast:
    """What a run costs. Seconds are for the whole run with loading and encoding, without the test pictures; `cache_bytes` are
    what encoded pictures will take on the disk that are not there yet."""

    seconds_per_step: float
    steps: int
    seconds: float
    file_bytes: int
    peak_bytes: int
    load_seconds: float
    encode_seconds: float
    cache_bytes: int


@dataclass(frozen=True)
class NoForecast:
    """Why there is none: `short` where memory ran out, then with the bytes that were needed and those there are, 0 where
    the system ended the trial before it could tell."""

    short: bool = False
    needed: int = 0
    free: int = 0


def command(config_file: Path, home: Home) -> list[str]:
    """The process that measures."""
    return process.python("forecast", str(config_file), "--home", str(home.root))


class Forecaster:
    """Starts measurements and remembers them. `get` never waits."""

    def __init__(self, home: Home, store: Store, command: Callable[[Path, Home], list[str]] = command) -> None:
        self.home, self.store, self.command = home, store, command
        self._lock = threading.Lock()
        self._key: str | None = None
        self._halt = threading.Event()
        self._failed: dict[str, tuple[float, NoForecast]] = {}
        self._child: subprocess.Popen[Any] | None = None

    def get(self, config: TrainConfig) -> Forecast | NoForecast | None:
        """The forecast where it is known, or why there is none; else None, and a measurement begins unless a run is on."""
        key = self.key(config)
        if (remembered := self._remembered(key)) is not None:
            return remembered
        since, failed = self._failed.get(key, (0.0, None))
        if failed is not None and time.monotonic() - since < AGAIN:
            return failed
        with self._lock:
            if key == self._key or self.store.active():
                return None
            self._halt.set()
            self._key, self._halt = key, threading.Event()
            threading.Thread(target=self._measure, args=(key, config, self._halt), name="forecast", daemon=True).start()
        return None

    def measuring(self) -> bool:
        """Whether a measurement is on."""
        return self._key is not None

    def cancel(self) -> None:
        """End the measurement that is on, if any: a run goes first."""
        with self._lock:
            self._halt.set()
            self._key = None
            if self._child is not None and self._child.poll() is None:
                self._child.kill()

    def key(self, config: TrainConfig) -> str:
        """What a measurement depends on: base, pictures, and the options that cost something."""
        tree = dump(config)
        kept: dict[str, Any] = {name: tree[name] for name in SECTIONS}
        kept["run"] = {k: v for k, v in tree["run"].items() if k not in ("seed", "kind")}
        kept["is_slider"] = is_slider(config)
        kept["trigger"] = bool(config.captions.trigger.strip())  # with one, vectors of its own and holding to the base cost
        kept["save"] = tree["save"]["dtype"]
        folder = Path(config.images.folder)
        listing = sorted(os.scandir(folder), key=lambda e: e.name) if config.images.folder and folder.is_dir() else []
        pictures = [e for e in listing if not e.name.endswith((".txt", ".json"))]
        kept["set"] = [(e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in pictures]
        base = Path(config.model.base)
        kept["base"] = base.stat().st_mtime_ns if base.exists() else None
        return hashlib.sha256(json.dumps([_VERSION, kept], sort_keys=True, default=str).encode()).hexdigest()[:24]

    def _file(self, key: str) -> Path:
        return self.home.cache / "forecasts" / f"{key}.json"

    def _remembered(self, key: str) -> Forecast | None:
        data = files.read_json(self._file(key))
        return _parse_forecast(data) if isinstance(data, dict) else None

    def _measure(self, key: str, config: TrainConfig, halt: threading.Event) -> None:
        lock = FileLock(self.home.cache / "forecast.lock", thread_local=False)
        try:
            while not halt.is_set():  # the one before, or another page's, first has to end
                try:
                    lock.acquire(timeout=0.2)
                    break
                except Timeout:
                    continue
            else:
                return
            with lock:
                forecast = self._run(config, halt)
            if isinstance(forecast, Forecast):
                files.write_json(self._file(key), asdict(forecast))
            elif not halt.is_set():
                self._failed[key] = time.monotonic(), forecast
        except (OSError, Problem) as error:
            self._failed[key] = time.monotonic(), NoForecast()
            files.complain(f"No forecast: {error}")
        finally:
            lock.release()
            with self._lock:
                if self._key == key and self._halt is halt:
                    self._key = None

    def _run(self, config: TrainConfig, halt: threading.Event) -> Forecast | NoForecast:
        limit = time.monotonic() + LIMIT
        with workplace.temporary(self.home.cache / "forecasting") as folder:
            config_file, output = folder / "config.json", folder / "out"
            files.write_json(config_file, dump(config))
            with open(output, "wb") as out, open(self.home.outputs / "forecast.log", "wb") as log:
                child = self._child = subprocess.Popen(
                    self.command(config_file, self.home),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=log,
                    cwd=PROJECT,
                    **process.detached(),
                )
            try:
                while child.poll() is None:
                    if halt.wait(0.2) or self.store.active() or time.monotonic() > limit:
                        halt.set()
                        return NoForecast()
            finally:
                if child.poll() is None:
                    child.kill()
                child.wait()
            if child.returncode != 0:
                return NoForecast(short=child.returncode == KILLED)
            for line in reversed(output.read_text("utf-8", "replace").splitlines()):
                try:
                    data = json.loads(line)
                except ValueError:
                    continue
                return _parse_forecast(data) or _parse_shortage(data)
            return NoForecast()


def _parse_shortage(data: Any) -> NoForecast:
    is_shortage = isinstance(data, dict) and all(isinstance(data.get(name), int) for name in ("needed", "free"))
    return NoForecast(True, data["needed"], data["free"]) if is_shortage else NoForecast()


def _parse_forecast(data: Any) -> Forecast | None:
    names = [field.name for field in fields(Forecast)]
    if not isinstance(data, dict) or not all(isinstance(data.get(name), int | float) for name in names):
        return None
    return Forecast(**{name: data[name] for name in names})
