"""Makes the environment (.venv) and installs into it when the requirements changed. Called by cli.py.

What is done is written down last, in a stamp file: without it the environment is half-finished and is mended. A package
that pip had not finished has no RECORD (pip writes it last) and is installed anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from app.bootstrap import locks, torch_build
from app.bootstrap.lock import Lock
from app.bootstrap.locks import RUN, TEST
from app.bootstrap.machine import Machine, refuse_unfit, refuse_without_venv, this_machine
from app.bootstrap.pip import clean_environment, run_pip
from app.bootstrap.say import Stop, say, span
from trainer.core.files import read_json, write_json
from trainer.core.home import PROJECT


@dataclass(frozen=True)
class Venv:
    """The environment's folder: `.venv` beside launch.py, or the one that ATELIER_VENV names."""

    folder: Path
    project: Path

    @classmethod
    def find(cls, project: Path = PROJECT) -> Venv:
        """The environment of this project."""
        return cls(Path(os.environ.get("ATELIER_VENV") or project / ".venv").expanduser().absolute(), project)

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def stamp(self) -> Path:
        return self.folder / "atelier.json"

    @property
    def log(self) -> Path:
        return self.folder / "install.log"

    def packages(self) -> Path:
        """The folder the packages are in."""
        if os.name == "nt":
            return self.folder / "Lib" / "site-packages"
        return next(self.folder.glob("lib/python*/site-packages"), self.folder / "lib")

    def digest(self, name: str) -> str:
        """The hash of a requirements file and its locks; the tests' file includes the other one."""
        return locks.digest(self.project, name)

    def state(self, name: str = RUN) -> str:
        """`ready`, `missing`, `half` (an installation did not finish) or `old` (the requirements changed since)."""
        if not self.python.exists():
            return "missing"
        done = read_json(self.stamp)
        if not isinstance(done, dict) or RUN not in done:
            return "half"
        return "ready" if done.get(name) == self.digest(name) else "old"


def ensure(venv: Venv, name: str = RUN) -> bool:
    """Have everything in `name` installed. Returns False when nothing was to do, True when something was installed."""
    if venv.state(name) == "ready":
        return False
    with Lock(venv.folder.with_name(venv.folder.name + ".lock"), waiting=lambda: say("waiting_for_other")):
        if venv.state(name) == "ready":  # the other start did it
            return True
        machine = this_machine()
        refuse_unfit(machine)
        _refuse_foreign_folder(venv)
        started = time.monotonic()
        usable = venv.python.exists() and _works(venv)
        index, build = _torch_source(machine, venv, usable)
        _refuse_full_disk(venv, build)
        _make(venv, usable)
        _install(venv, name, index)
        say("installed", time=span(time.monotonic() - started))
    return True


def _torch_source(machine: Machine, venv: Venv, usable: bool) -> tuple[str | None, str]:
    """Where torch comes from (None: the plain pin) and which build that gives."""
    pin = torch_build.pinned_torch(venv.project / RUN)
    index, plain = torch_build.index_for(machine), torch_build.plain_build(machine) or torch_build.CPU
    if index is None or pin is None or (usable and _has(venv, pin)):
        return None, plain
    wanted = torch_build.right_build(machine)
    if torch_build.answers(index, pin):
        say("torch_from_index_cpu" if wanted == torch_build.CPU else "torch_from_index_gpu", build=wanted)
        return index, wanted
    say("torch_plain_cpu" if wanted == torch_build.CPU else "torch_plain_gpu")
    return None, plain


def _has(venv: Venv, pin: str) -> bool:
    """Whether that version is installed, whichever build, and completely."""
    name, _, version = pin.partition("==")
    kinds = (f"{name}-{version}.dist-info/RECORD", f"{name}-{version}+*.dist-info/RECORD")
    return any(any(venv.packages().glob(kind)) for kind in kinds)


def _refuse_foreign_folder(venv: Venv) -> None:
    """Never touch a folder that is not an environment."""
    if venv.folder.exists() and not (venv.folder / "pyvenv.cfg").exists() and any(venv.folder.iterdir()):
        raise Stop("foreign_folder", status=2, folder=str(venv.folder))


def _refuse_full_disk(venv: Venv, build: str) -> None:
    there = sum(file.stat().st_size for file in venv.folder.rglob("*") if file.is_file()) if venv.folder.exists() else 0
    needed = torch_build.SPACE[build] - there
    place = next(folder for folder in (venv.folder, *venv.folder.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        giga = torch_build.GIGABYTE
        raise Stop("no_space", needed=f"{needed / giga:.1f}", free=f"{free / giga:.1f}", folder=str(place))


def _make(venv: Venv, usable: bool) -> None:
    """An environment whose Python runs and has pip: the one there, or a new one in its place."""
    if usable:
        say({"half": "mending", "old": "updating", "ready": "adding"}[venv.state()])  # ready: only the tests' are new
        return
    refuse_without_venv()
    ours = venv.folder == venv.project / ".venv" or venv.stamp.exists() or venv.log.exists()
    if venv.folder.exists() and any(venv.folder.iterdir()) and not ours:  # a person's own environment is never cleared
        raise Stop("foreign_folder", status=2, folder=str(venv.folder))
    say("making_venv", folder=str(venv.folder), python=".".join(map(str, sys.version_info[:3])))
    command = [sys.executable, "-m", "venv", "--clear", str(venv.folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "?").splitlines()[-1]
        raise Stop("venv_failed", detail=said, folder=str(venv.folder))


def _works(venv: Venv) -> bool:
    command = [str(venv.python), "-c", "import sys, pip; print(sys.version_info[:2] >= (3, 11))"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment(), check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == "True"


def _install(venv: Venv, name: str, index: str | None) -> None:
    done = read_json(venv.stamp, {})
    venv.stamp.unlink(missing_ok=True)
    forget_unfinished(venv.packages())
    venv.log.write_text("", "utf-8")
    if not done:
        say("installing")
    if index:
        pin = torch_build.pinned_torch(venv.project / RUN)
        assert pin is not None
        try:
            run_pip(venv.python, venv.packages(), ["--index-url", index, "--no-deps", pin], venv.log)
        except Stop as stop:
            if stop.key != "no_package":
                raise
            say("torch_not_there")
    _install_locked(venv, name)
    run_pip(venv.python, venv.packages(), ["-r", str(venv.project / name)], venv.log)
    kept = {key: value for key, value in done.items() if key in (RUN, TEST) and key != name}
    now = {RUN: venv.digest(RUN), name: venv.digest(name), "python": sys.version}
    now["torch_from"] = index or done.get("torch_from")
    write_json(venv.stamp, kept | now)


def _install_locked(venv: Venv, name: str) -> None:
    """Install PyTorch's group by exact pin and everything else by pin and hash. `pip install -r` then finds all of it there and
    adds only what the chosen build of torch asks for itself (NVIDIA's libraries)."""
    if not locks.is_current(venv.project, name):
        say("no_current_lock", file=name)
        return
    torch_group = ["--no-deps", "-r", str(venv.project / locks.TORCH_LOCK)]
    run_pip(venv.python, venv.packages(), torch_group, venv.log)
    hashed = ["--no-deps", "--require-hashes", "-r", str(venv.project / locks.LOCKS[name])]
    run_pip(venv.python, venv.packages(), hashed, venv.log)


def forget_unfinished(packages: Path) -> list[str]:
    """Remove what an interrupted pip left: descriptions without a RECORD and folders it had moved aside (`~name`)."""
    removed = []
    for entry in packages.glob("*"):
        unfinished = entry.name.endswith(".dist-info") and not (entry / "RECORD").exists()
        if unfinished or entry.name.startswith("~"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            removed.append(entry.name)
    return removed
