"""What cannot go on says one sentence with what to do, and leaves everything as it was."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from app.bootstrap import install
from app.bootstrap.install import Venv
from app.bootstrap.machine import Machine, refuse_unfit, refuse_without_venv
from app.bootstrap.say import Stop
from tests.helpers.launching import ROOT, Index, Project
from trainer.core.texts import set_language


def one_sentence(text: str) -> str:
    """The last line said; never a traceback."""
    assert "Traceback" not in text
    return text.strip().splitlines()[-1]


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 6, 15), (3, 10, 13), (3, 14, 0)])
@pytest.mark.parametrize(("language", "expected"), [("en_US.UTF-8", "needs Python 3.11"), ("ja_JP.UTF-8", "が必要です")])
def test_a_python_that_does_not_fit_is_told_which_one_does(
    version: tuple[int, ...],
    language: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = importlib.util.spec_from_file_location("launch_under_test", ROOT / "launch.py")
    assert spec and spec.loader
    launch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(launch)
    kind = namedtuple("kind", "major minor micro")
    monkeypatch.setattr(sys, "argv", ["launch.py"])
    monkeypatch.setenv("LC_ALL", language)
    monkeypatch.delenv("ATELIER_LANG", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "version_info", kind(*version))
        patch.setattr(launch.sys, "version_info", kind(*version))
        if version[0] == 2:
            patch.setattr(
                launch.sys,
                "stderr",
                type(
                    "Bytes",
                    (),
                    {"write": lambda _, text: print(text if isinstance(text, str) else text.decode(), end="")},
                )(),
            )
        status = launch.main()
    said = "".join(capsys.readouterr())
    assert status == 2
    assert expected in said and ".".join(map(str, version)) in said
    assert said.count("\n") == 1


def test_launch_parses_with_an_old_python_and_imports_nothing_at_the_top_but_the_standard_library() -> None:
    tree = ast.parse((ROOT / "launch.py").read_text("utf-8"), feature_version=(3, 7))
    names = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert names == {"io", "os", "sys"}
    assert not [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr | ast.AnnAssign | ast.NamedExpr)]


@pytest.mark.parametrize(
    ("machine", "key"),
    [(Machine("Windows", "x86", 32, None), "python_32bit"), (Machine("Darwin", "x86_64", 64, None), "mac_intel")],
)
def test_a_machine_without_any_pytorch_is_told(machine: Machine, key: str) -> None:
    with pytest.raises(Stop) as stop:
        refuse_unfit(machine)
    assert stop.value.key == key and stop.value.status == 2


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without_venv_is_told_which_package_brings_it(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else found(name))
    set_language("en")
    with pytest.raises(Stop) as stop:
        refuse_without_venv()
    wanted = f"python3.{sys.version_info[1]}-venv" if Path("/etc/debian_version").exists() else "python.org"
    assert wanted in str(stop.value)


def test_a_full_disk_is_told_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (install.RUN, install.TEST):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setenv("ATELIER_TORCH_INDEX", "http://127.0.0.1:9/whl")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "total used free")(100, 99, 1_200_000_000))
    set_language("en")
    venv = Venv(tmp_path / ".venv", tmp_path)
    with pytest.raises(Stop) as stop:
        install.ensure(venv)
    assert stop.value.key == "no_space"
    assert "1.2 GB are free" in str(stop.value)
    assert not venv.folder.exists()


def test_a_registry_that_cannot_be_reached_is_told(installed: Project) -> None:
    (installed.folder / "requirements.txt").write_text("alpha==3.0\n")
    done = installed.launch("demo")
    assert done.returncode == 1 and done.stdout == ""
    assert one_sentence(done.stderr).startswith("The package registry cannot be reached.")
    assert not installed.stamp.exists()


def test_a_package_that_the_registry_does_not_have_is_named(installed: Project, index: Index) -> None:
    (installed.folder / "requirements.txt").write_text("alpha==3.0\n")
    done = installed.launch("demo", index=index)
    assert done.returncode == 1
    assert "has no alpha==3.0 for this Python" in one_sentence(done.stderr)


def test_pip_failing_in_the_middle_is_told_with_its_own_last_words(installed: Project, index: Index) -> None:
    (installed.folder / "requirements.txt").write_text("alpha==2.0\n")
    index.wheels["/simple/alpha/alpha-2.0-py3-none-any.whl"] = b"this is no wheel"
    done = installed.launch("demo", index=index)
    assert done.returncode == 1
    said = one_sentence(done.stderr)
    assert said.startswith("Installing stopped: ERROR:") and str(installed.folder / ".venv/install.log") in said
    assert "alpha" in (installed.folder / ".venv/install.log").read_text()


def test_a_folder_that_is_no_environment_is_never_touched(project: Project, tmp_path: Path, index: Index) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("keep me")
    done = project.launch("demo", index=index, ATELIER_VENV=str(mine))
    assert done.returncode == 2
    assert str(mine) in one_sentence(done.stderr)
    assert [file.name for file in mine.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["frobnicate"], "There is no command frobnicate."),
        (["ui", "--host", "0.0.0.0"], "0.0.0.0 would let other machines in"),
        (["--host", "192.168.0.7"], "192.168.0.7 would let other machines in"),
        (["--host", "example.org"], "example.org would let other machines in"),
        (["--port", "99999"], "99999 is not a port"),
        (["--port", "many"], "That is not understood"),
    ],
)
def test_what_is_not_possible_is_said_in_one_line_before_anything_is_installed(
    project: Project, words: list[str], expected: str
) -> None:
    done = project.launch(*words)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith(expected)
    assert not (project.folder / ".venv").exists()


def test_the_same_sentences_in_japanese(project: Project) -> None:
    by_option = project.launch("--lang", "ja", "frobnicate")
    by_environment = project.launch("frobnicate", LANG="ja_JP.UTF-8")
    assert by_option.stderr == by_environment.stderr
    assert by_option.stderr.startswith("frobnicate というコマンドはありません。") and by_option.stderr.count("\n") == 1


def test_the_doctor_works_before_anything_is_installed(project: Project) -> None:
    done = project.launch("doctor")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("✗ Environment: not installed yet\n    → Type: python launch.py\n✓ Python: ")
    assert not (project.folder / ".venv").exists()


@pytest.mark.skipif(os.name == "nt", reason="needs a shell script as another Python")
def test_ctrl_c_while_installing_ends_without_a_traceback(installed: Project, index: Index) -> None:
    import signal
    import threading
    import time

    (installed.folder / "requirements.txt").write_text("alpha==2.0\n")
    index.add("simple", "alpha", "2.0")
    wheel = "/simple/alpha/alpha-2.0-py3-none-any.whl"
    index.held[wheel] = threading.Event()
    process = installed.start("demo", index=index)
    deadline = time.monotonic() + 60
    while wheel not in index.asked and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert one_sentence(err) == "Stopped. Start again to go on from here."
