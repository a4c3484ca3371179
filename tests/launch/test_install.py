"""A real environment is made and filled from an index on loopback: first start, second start, mending, changing."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time

import pytest

from tests.helpers.launching import First, Index, Project, card


def words(text: str) -> dict[str, str]:
    """What the stand-in trainer printed: `ran … alpha 1.0 venv /path`."""
    parts = text.split()
    return {"alpha": parts[parts.index("alpha") + 1], "venv": parts[parts.index("venv") + 1]}


def test_the_first_start_makes_an_environment_and_runs_the_command_in_it(first: First) -> None:
    assert first.done.returncode == 0, first.done.stderr
    assert first.done.stdout.startswith("ran demo --out x ")
    assert words(first.done.stdout) == {"alpha": "1.0", "venv": str(first.project.folder / ".venv")}
    assert "Setting up for the first time" in first.done.stderr and "Installed in" in first.done.stderr
    stamp = json.loads(first.project.stamp.read_text())
    assert len(stamp["requirements.txt"]) == 64 and "requirements-dev.txt" not in stamp
    assert sum(path.endswith(".whl") for path in first.asked) == 2


def test_the_second_start_installs_nothing(installed: Project, index: Index) -> None:
    stamp, log = installed.stamp.stat().st_mtime_ns, (installed.folder / ".venv/install.log").stat().st_mtime_ns
    done = installed.launch("check", "some folder", index=index)
    assert done.returncode == 0 and done.stdout.startswith("ran check some folder ")
    assert done.stderr == ""
    assert index.asked == []
    assert installed.stamp.stat().st_mtime_ns == stamp
    assert (installed.folder / ".venv/install.log").stat().st_mtime_ns == log


def test_a_half_finished_installation_is_mended(installed: Project, index: Index) -> None:
    installed.stamp.unlink()
    packages = installed.packages()
    (packages / "alpha-1.0.dist-info" / "RECORD").unlink()  # pip writes it last: this is one it had not finished
    (packages / "alpha.py").unlink()
    (packages / "~eta").mkdir()  # what pip moves aside while it replaces a package
    done = installed.launch("demo", index=index)
    assert done.returncode == 0, done.stderr
    assert "was not finished" in done.stderr
    assert (packages / "alpha.py").exists() and not (packages / "~eta").exists()
    assert index.fetched("alpha") == 1 and index.fetched("beta") == 0
    assert installed.stamp.exists()


@pytest.mark.skipif(os.name == "nt", reason="kills a process group")
def test_an_installation_killed_in_the_middle_goes_on_at_the_next_start(installed: Project, index: Index) -> None:
    (installed.folder / "requirements.txt").write_text("alpha==2.0\nbeta==2.0\n")
    index.add("simple", "alpha", "2.0")
    index.add("simple", "beta", "2.0")
    slow = "/simple/beta/beta-2.0-py3-none-any.whl"
    index.held[slow] = threading.Event()
    process = installed.start("demo", index=index)
    deadline = time.monotonic() + 60
    while slow not in index.asked and time.monotonic() < deadline:
        time.sleep(0.05)
    assert slow in index.asked
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not installed.stamp.exists()
    index.held.pop(slow).set()
    done = installed.launch("demo", index=index)
    assert done.returncode == 0, done.stderr
    assert words(done.stdout)["alpha"] == "2.0"
    assert installed.stamp.exists()
    assert not (installed.folder / ".venv" / "tmp").exists()


def test_changed_requirements_are_installed_and_only_then(installed: Project, index: Index) -> None:
    index.add("simple", "alpha", "2.0")
    (installed.folder / "requirements.txt").write_text("alpha==2.0\nbeta==1.0\n")
    done = installed.launch("demo", index=index)
    assert done.returncode == 0, done.stderr
    assert "has changed" in done.stderr
    assert words(done.stdout)["alpha"] == "2.0"
    assert (index.fetched("alpha"), index.fetched("beta")) == (1, 0)
    asked = len(index.asked)
    assert installed.launch("demo", index=index).returncode == 0
    assert len(index.asked) == asked


def test_a_broken_environment_is_made_anew(installed: Project, index: Index) -> None:
    python = installed.folder / ".venv/bin/python"
    if os.name == "nt":
        pytest.skip("an environment's Python is a copy on Windows")
    python.unlink()
    python.symlink_to(installed.folder / "gone")
    (installed.packages() / "torch-1.0.dist-info").mkdir()
    (installed.packages() / "torch-1.0.dist-info" / "RECORD").write_text("")
    (installed.folder / "requirements.txt").write_text("torch==1.0\nalpha==1.0\n")
    index.add("simple", "torch", "1.0")
    index.add("whl/cpu", "torch", "1.0+cpu")
    done = installed.launch("demo", index=index)
    assert done.returncode == 0, done.stderr
    assert "Making an environment" in done.stderr
    assert words(done.stdout)["alpha"] == "1.0"
    if sys.platform == "linux":
        assert torch_version(installed) == "1.0+cpu"  # what the lost environment had does not count


def test_two_starts_at_once_install_once(installed: Project, index: Index) -> None:
    index.add("simple", "alpha", "2.0")
    (installed.folder / "requirements.txt").write_text("alpha==2.0\nbeta==1.0\n")
    wheel = "/simple/alpha/alpha-2.0-py3-none-any.whl"
    index.held[wheel] = threading.Event()
    one = installed.start("demo", index=index)
    deadline = time.monotonic() + 60
    while wheel not in index.asked and time.monotonic() < deadline:
        time.sleep(0.05)
    two = installed.start("demo", index=index)
    assert two.stderr is not None
    assert "Another start is installing" in two.stderr.readline()
    index.held[wheel].set()
    for process in (one, two):
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert words(out)["alpha"] == "2.0"
    assert index.fetched("alpha") == 1


def torch_version(project: Project) -> str:
    namespace: dict[str, str] = {}
    exec((project.packages() / "torch.py").read_text(), namespace)
    return namespace["version"]


@pytest.mark.skipif(os.uname().sysname != "Linux" if hasattr(os, "uname") else True, reason="the plain pin differs")
@pytest.mark.parametrize(
    ("says", "build"),
    [(None, "cpu"), ("GeForce GTX 1080, 550.54.14, 6.1", "cu126"), ("GeForce RTX 4090, 580.65, 8.9", None)],
    ids=["no card", "old card", "new card"],
)
def test_torch_comes_from_its_own_index_where_the_plain_one_is_wrong(
    installed: Project, index: Index, says: str | None, build: str | None
) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the plain pin is another build on this processor")
    card(installed.tools, says)
    (installed.folder / "requirements.txt").write_text("torch==1.0\nalpha==1.0\nbeta==1.0\n")
    index.add("simple", "torch", "1.0")
    for name in ("cpu", "cu126", "cu130"):
        index.add(f"whl/{name}", "torch", f"1.0+{name}")
    done = installed.launch("demo", index=index)
    assert done.returncode == 0, done.stderr
    assert torch_version(installed) == (f"1.0+{build}" if build else "1.0")
    (installed.folder / "requirements.txt").write_text("torch==1.0\nalpha==1.0\n# changed\n")
    asked = len(index.asked)
    done = installed.launch("demo", index=index)  # torch is there: its index is not even asked
    assert done.returncode == 0 and "standard build" not in done.stderr and len(index.asked) == asked
    stamp = json.loads(installed.stamp.read_text())
    assert stamp["torch_from"] == (f"{index.url}/whl/{build}" if build else None)


@pytest.mark.skipif(os.name == "nt", reason="the plain pin is the right one there")
@pytest.mark.parametrize("offered", [None, "0.9+cpu"], ids=["does not answer", "other versions only"])
def test_torch_is_the_plain_one_where_its_own_index_does_not_help(
    installed: Project, index: Index, offered: str | None
) -> None:
    (installed.folder / "requirements.txt").write_text("torch==1.0\nalpha==1.0\nbeta==1.0\n")
    index.add("simple", "torch", "1.0")
    if offered:
        index.add("whl/cpu", "torch", offered)
    done = installed.launch("demo", index=index)
    assert done.returncode == 0, done.stderr
    assert "taking the standard build" in done.stderr
    assert torch_version(installed) == "1.0"
