"""Runs pip inside the environment, tells how far it is, and turns its failures into a sentence. Used by install.py.

Progress comes from what pip prints (packages it collects and fetches), from the size of the file it is fetching (its
temporary folder is ours) and, while it unpacks, from the packages that have arrived in site-packages.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from app.bootstrap.environment import MISLEADING
from app.bootstrap.say import Stop, line, span
from trainer.core.texts import t

FETCHING = re.compile(r"^\s*(?:Downloading|Using cached) (?:\S*/)?(?P<file>[^/\s]+\.(?:whl|tar\.gz)) \((?P<size>[^)]+)\)")
COLLECTING = re.compile(r"^\s*Collecting (?P<name>[A-Za-z0-9._-]+)")
LOCAL = re.compile(r"^\s*Processing (?:\S*/)?(?P<file>[^/\s]+\.whl)")
INSTALLING = re.compile(r"^Installing collected packages: (?P<names>.+)$")
# What pip says, the sentence that answers it. The first that fits is told.
FAILURES = (
    (re.compile(r"No space left on device|Errno 28|not enough space on the disk|WinError 112"), "disk_full"),
    (re.compile(r"THESE PACKAGES DO NOT MATCH THE HASHES(?:.|\n)*?(?P<what>[A-Za-z0-9._-]+==[^\s;]+)"), "hash_mismatch"),
    (re.compile(r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError"), "certificate"),
    (
        re.compile(
            r"NewConnectionError|NameResolutionError|Failed to establish a new connection|name resolution|Max retries"
            r"|Network is unreachable|ConnectTimeout|ReadTimeout|Read timed out|RemoteDisconnected|ProxyError"
            r"|Connection (?:refused|reset|aborted|broken)|IncompleteRead|IncompleteDownload"
        ),
        "no_registry",
    ),
    (re.compile(r"No matching distribution found for (?P<what>\S+)"), "no_package"),
    (re.compile(r"Permission denied|Errno 13|WinError 5\b|Access is denied"), "no_permission"),
)


@dataclass
class Progress:
    """How far pip is, as read line by line."""

    collected: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)
    size: str = ""
    installing: list[str] = field(default_factory=list)

    def read(self, text: str) -> None:
        """Take in one line of pip's output."""
        if found := COLLECTING.match(text):
            self.collected.add(plain(found["name"]))
        elif found := FETCHING.match(text):
            self.fetched.append(found["file"].split("-")[0])
            self.size = found["size"]
        elif found := LOCAL.match(text):
            self.fetched.append(found["file"].split("-")[0])
            self.size = ""
        elif found := INSTALLING.match(text):
            self.installing = [plain(name) for name in found["names"].split(", ")]

    def sentence(self, bytes_here: int, arrived: int, seconds: float) -> str:
        """The live line: what pip is doing and how far it is."""
        if self.installing:
            words = t("launch.unpacking", n=arrived, of=len(self.installing))
        elif self.fetched:
            size = re.match(r"([\d.]+) ([kMG]B)", self.size)
            unit = {"kB": 1e3, "MB": 1e6, "GB": 1e9}[size[2]] if size else 1
            part = f"{bytes_here / unit:.0f}/{size[1]} {size[2]}" if size and unit >= 1e6 and bytes_here else self.size
            words = t("launch.fetching", n=len(self.collected), name=self.fetched[-1], size=part)
        else:
            words = t("launch.looking", n=len(self.collected))
        return f"{words} · {span(seconds)}"


def plain(name: str) -> str:
    """A package name as site-packages spells it in lower case."""
    return re.sub(r"[-_.]+", "_", name).lower()


def run_pip(python: Path, packages: Path, arguments: list[str], log: Path) -> str:
    """Run `pip install …` and show how far it is. Returns its output; stops with a sentence when it fails.

    `packages` is the environment's site-packages; all that pip says is added to `log`.
    """
    temporary = log.parent / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-color"]
    command += ["--progress-bar", "off", "--no-warn-script-location", *arguments]
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=clean_environment() | places | {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"},
    )
    try:
        output = _follow(child, temporary, packages, log)
    except BaseException:
        child.terminate()
        child.wait()
        raise
    finally:
        line.clear()
        shutil.rmtree(temporary, ignore_errors=True)
    if child.returncode != 0:
        raise why_it_failed(output, log)
    return output


def clean_environment() -> dict[str, str]:
    """The environment without what would make one Python read another one's packages."""
    return {key: value for key, value in os.environ.items() if key not in (*MISLEADING, "PYTHONPATH")}


def _follow(child: subprocess.Popen[str], temporary: Path, packages: Path, log: Path) -> str:
    lines: queue.Queue[str | None] = queue.Queue()
    assert child.stdout is not None

    def read(stream=child.stdout) -> None:
        for text in stream:
            lines.put(text)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    start, progress, output = time.monotonic(), Progress(), []
    with open(log, "a", encoding="utf-8") as record:
        while True:
            try:
                text = lines.get(timeout=0.4)
            except queue.Empty:
                text = ""
            if text is None:
                break
            if text:
                output.append(text)
                record.write(text)
                progress.read(text)
            arrived = _arrived(packages, progress.installing) if progress.installing else 0
            line.show(progress.sentence(_bytes_in(temporary), arrived, time.monotonic() - start))
    child.wait()
    return "".join(output)


def _arrived(packages: Path, names: list[str]) -> int:
    here = {entry.name.split("-")[0].lower() for entry in os.scandir(packages) if entry.name.endswith(".dist-info")}
    return sum(name in here for name in names)


def _bytes_in(folder: Path) -> int:
    """The size of the largest file below `folder`: the package being fetched now."""
    largest = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                largest = max(largest, os.stat(os.path.join(place, name)).st_size)
            except FileNotFoundError:  # pip moved it meanwhile
                continue
    return largest


def why_it_failed(output: str, log: Path) -> Stop:
    """The sentence for a failed pip: the cause it named, or its last line and where all of it stands."""
    for pattern, key in FAILURES:
        if found := pattern.search(output):
            return Stop(key, 1, log=str(log), **{name: str(word) for name, word in found.groupdict().items()})
    last = [text.strip() for text in output.splitlines() if text.strip()]
    return Stop("pip_failed", detail=last[-1] if last else "?", log=str(log))
