"""The facts behind the doctor's sentences, as plain JSON values: everything slow happens here. Called by doctor.py.

Standard library only, so that it runs before anything is installed (psutil is used where it is). Whatever could hang or
crash (the graphics driver, torch, xformers) is asked in a child process with a time limit.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from trainer.core.home import PROJECT, Home

HUB = "https://huggingface.co"
PROBE_LIMIT = 90.0  # seconds: torch and xformers from a cold, slow disk


def collect(home: Home, environment: str = "ready") -> dict[str, Any]:
    """The facts, as plain JSON: everything slow happens here, every judgement in the rules below."""
    place = next(folder for folder in (home.root, *home.root.parents) if folder.exists())
    return {
        "environment": environment,
        "python": platform.python_version(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "system": platform.system(),
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory": _memory(),
        "disk": shutil.disk_usage(place).free,
        "home": str(home.root),
        "writable": os.access(place, os.W_OK),
        "cards": nvidia_cards(),
        "torch": _probe() if environment == "ready" else None,
        "versions": _versions() if environment == "ready" else [],
        "hub": _hub_answers(),
        "fonts": japanese_fonts(),
    }


def _processor() -> str:
    if platform.system() == "Linux":
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8", "replace"), re.MULTILINE)
        if match:
            return match[1]
    return platform.processor() or platform.machine()


def _memory() -> tuple[int, int] | None:
    """Total and free bytes; a container's limit counts where it is smaller."""
    try:
        import psutil
    except ImportError:  # not installed yet
        if platform.system() != "Linux":
            return None
        lines = dict(re.findall(r"^(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text("utf-8"), re.MULTILINE))
        total, free = int(lines["MemTotal"]) * 1024, int(lines.get("MemAvailable", lines["MemFree"])) * 1024
    else:
        memory = psutil.virtual_memory()
        total, free = memory.total, memory.available
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text("ascii").strip()).isdigit():
        total, free = min(total, int(text)), min(free, int(text))
    return total, free


def nvidia_smi() -> str | None:
    """Where the driver's own tool is, if there is a driver."""
    places = [
        "/usr/lib/wsl/lib/nvidia-smi",
        os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvidia-smi.exe"),
    ]
    return shutil.which("nvidia-smi") or next((place for place in places if os.path.exists(place)), None)


def nvidia_cards(limit: float = 10.0) -> list[dict[str, Any]]:
    """NVIDIA cards (name, driver, capability, total and free bytes; 0 where they are not told) as the driver's tool names them;
    none where it fails or hangs. Where CUDA_VISIBLE_DEVICES shows some of them to CUDA, those alone."""
    tool, visible = nvidia_smi(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if tool is None or visible in ("", "-1"):
        return []
    asked = "name,driver_version,compute_cap,memory.total,memory.free"
    command = [tool, f"--query-gpu={asked}", "--format=csv,noheader,nounits", *([f"--id={visible}"] if visible else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [[part.strip() for part in row.rsplit(",", 4)] for row in done.stdout.splitlines()]
    named = [
        {"name": row[0], "driver": row[1], "capability": row[2], "total": _mebibytes(row[3]), "free": _mebibytes(row[4])}
        for row in rows
        if len(row) == 5
    ]
    return named if done.returncode == 0 else []


def _mebibytes(text: str) -> int:
    return int(text) * 2**20 if text.isascii() and text.isdigit() else 0


def _probe(limit: float = PROBE_LIMIT) -> dict[str, Any]:
    """What torch says of itself, asked in a child: {"failed": "hung" | "crashed" | "broken"} when it cannot say."""
    environment = dict(os.environ, PYTHONPATH=str(PROJECT), PYTHONUTF8="1")
    command = [sys.executable, "-m", "trainer.engine.probes.doctor_probe"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": "hung"}
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        errors = done.stderr.strip().splitlines()
        kind = "crashed" if done.returncode < 0 or done.returncode > 2**30 else "broken"
        return {"failed": kind, "detail": errors[-1][:200] if errors else str(done.returncode)}


def _versions() -> list[tuple[str, str, str | None]]:
    """(package, pin, what is installed) for every pin that holds on this system. `2.13.0+cpu` satisfies `2.13.0`."""
    rows = []
    for line in (PROJECT / "requirements.txt").read_text("utf-8").splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)\s*(;.*)?$", line)
        if not match:
            continue
        try:
            installed = importlib.metadata.version(match[1]).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            installed = None
        if installed is not None or not match[3]:  # one with a marker is not for every system
            rows.append((match[1], match[2], installed))
    return rows


def _hub_answers(timeout: float = 2.0) -> bool:
    """Whether the Hugging Face hub answers; needed only to fetch a base model."""
    try:
        urllib.request.urlopen(urllib.request.Request(HUB, method="HEAD"), timeout=timeout).close()
    except urllib.error.HTTPError:
        return True  # it answered
    except (OSError, ValueError):
        return False
    return True


def japanese_fonts() -> bool | None:
    """Whether this machine can show Japanese; None where that cannot be asked (Windows and macOS bring fonts)."""
    lister = shutil.which("fc-list")
    if platform.system() != "Linux" or lister is None:
        return None
    try:
        done = subprocess.run([lister, ":lang=ja"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return bool(done.stdout.strip())
