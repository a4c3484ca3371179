"""Everything but PyTorch's group is installed from a lock with hashes; an edited list of requirements is noticed."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from app.bootstrap import locks
from tests.helpers.launching import ROOT, Index, Project, wheel
from tools import lock as lock_tool

SUPPORTED = "torch xformers sympy mpmath networkx setuptools"


def write_lock(project: Project, index: Index, hashes: dict[str, str], unhashed: str = "") -> None:
    """Requirements with one direct package, and a lock that names what it depends on, too."""
    (project.folder / "requirements.txt").write_text("alpha==3.0\n" + unhashed)
    index.add("simple", "alpha", "3.0", requires="gamma>=1")
    index.add("simple", "gamma", "1.0")
    index.add("simple", "gamma", "1.1")
    stamp = locks.stamp(project.folder, locks.RUN)
    pins = [f"{pin} --hash=sha256:{digest}\n" for pin, digest in hashes.items()]
    (project.folder / "requirements.lock").write_text(f"# a lock\n{stamp}\n{''.join(pins)}")
    (project.folder / "requirements-torch.lock").write_text(f"# a lock\n{stamp}\n{unhashed}")


def test_every_package_is_the_locked_version_and_has_the_locked_hash(installed: Project, index: Index) -> None:
    write_lock(installed, index, {})
    hashes = {"alpha==3.0": index.sha256("alpha", "3.0"), "gamma==1.0": index.sha256("gamma", "1.0")}
    write_lock(installed, index, hashes)
    done = installed.launch("demo", index=index)
    assert done.returncode == 0, done.stderr
    assert (installed.packages() / "gamma-1.0.dist-info").is_dir()  # 1.1 fits as well, the lock says 1.0
    assert "without checking hashes" not in done.stderr
    asked = len(index.asked)
    assert installed.launch("demo", index=index).returncode == 0 and len(index.asked) == asked


def test_a_file_with_another_hash_is_not_installed_and_the_sentence_names_it(installed: Project, index: Index) -> None:
    write_lock(installed, index, {})
    write_lock(installed, index, {"alpha==3.0": index.sha256("alpha", "3.0"), "gamma==1.0": "0" * 64})
    done = installed.launch("demo", index=index)
    assert done.returncode == 1
    assert "gamma==1.0" in done.stderr and "SHA-256" in done.stderr
    assert not (installed.packages() / "gamma-1.0.dist-info").exists() and not installed.stamp.exists()


def test_pytorchs_group_needs_no_hash_and_brings_the_rest_of_its_build(installed: Project, index: Index) -> None:
    index.add("simple", "torch", "9.0", requires="nvidia-thing==2.0")
    index.wheels["/simple/nvidia-thing/nvidia_thing-2.0-py3-none-any.whl"] = wheel("nvidia_thing", "2.0")
    write_lock(installed, index, {}, unhashed="torch==9.0\n")
    hashes = {"alpha==3.0": index.sha256("alpha", "3.0"), "gamma==1.0": index.sha256("gamma", "1.0")}
    write_lock(installed, index, hashes, unhashed="torch==9.0\n")
    done = installed.launch("demo", index=index)
    assert done.returncode == 0, done.stderr
    packages = {path.name for path in installed.packages().glob("*.dist-info")}
    assert {"torch-9.0.dist-info", "nvidia_thing-2.0.dist-info", "gamma-1.0.dist-info"} <= packages


@pytest.mark.parametrize("change", ["edited", "missing"])
def test_requirements_without_a_current_lock_are_installed_and_that_is_said(
    installed: Project, index: Index, change: str
) -> None:
    write_lock(installed, index, {"alpha==3.0": "0" * 64})
    if change == "edited":
        (installed.folder / "requirements.txt").write_text("alpha==3.0\nbeta==1.0\n")
    else:
        (installed.folder / "requirements-torch.lock").unlink()
    done = installed.launch("demo", index=index)
    assert done.returncode == 0, done.stderr
    assert "without checking hashes" in done.stderr and "requirements.txt" in done.stderr


@pytest.mark.parametrize("source", [locks.RUN, locks.TEST])
def test_the_projects_own_locks_belong_to_its_requirements(source: str) -> None:
    assert locks.is_current(ROOT, source), f"{source} was changed: run `python -m tools.lock`"
    entries = lock_tool.parse((ROOT / locks.LOCKS[source]).read_text("utf-8"))
    direct = {
        re.split(r"[=;\s]", line)[0].lower().replace("_", "-")
        for file in locks.sources(source)
        for line in (ROOT / file).read_text("utf-8").splitlines()
        if re.match(r"[A-Za-z]", line)
    }
    names = {entry.name for entry in entries}
    assert direct - names <= {"torch", "xformers"}
    assert all(entry.hashes for entry in entries)
    assert not names & set(SUPPORTED.split()) and not any(lock_tool.BY_BUILD.match(name) for name in names)


def test_no_hash_of_a_build_of_pytorch_stands_in_a_lock() -> None:
    text = (ROOT / locks.TORCH_LOCK).read_text("utf-8")
    pins = [line for line in text.splitlines() if not line.startswith("#")]
    assert "--hash" not in text and "torch==2.13.0" in pins
    assert {re.split(r"[=\s]", pin)[0] for pin in pins} == set(SUPPORTED.split())


def test_both_locks_name_the_same_versions() -> None:
    run, test = (
        {entry.pin: entry.hashes for entry in lock_tool.parse((ROOT / locks.LOCKS[source]).read_text("utf-8"))}
        for source in (locks.RUN, locks.TEST)
    )
    assert set(run) <= set(test) and all(test[pin] == hashes for pin, hashes in run.items())


def test_the_group_of_pytorch_is_what_nothing_else_asks_for() -> None:
    text = """torch==1.0 \\
    --hash=sha256:aa
    # via
    #   -r requirements.txt
    #   peft
sympy==1.0 \\
    --hash=sha256:bb
    # via torch
mpmath==1.0 ; sys_platform == 'linux' \\
    --hash=sha256:cc
    # via sympy
jinja2==1.0 \\
    --hash=sha256:dd
    # via
    #   gradio
    #   torch
"""
    entries = lock_tool.parse(text)
    assert lock_tool.torch_group(entries) == {"torch", "xformers", "sympy", "mpmath"}
    assert [entry.lines(with_hashes=False) for entry in entries][2] == "mpmath==1.0 ; sys_platform == 'linux'\n"


def test_the_tool_says_whether_the_locks_are_current() -> None:
    command = [sys.executable, "-m", "tools.lock", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, "up to date")
