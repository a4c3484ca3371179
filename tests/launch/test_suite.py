"""`launch.py test`: with a browser everything runs; without one the browser tests are left out, never quietly in CI."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.bootstrap import suite
from app.bootstrap.say import Stop
from tests.helpers.launching import Index, Project


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any browser, where nothing can be installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CHROMIUM", "")  # set, not removed: so that it is put back after the test
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(suite, "PLACES", {})
    monkeypatch.setattr(suite, "can_install", lambda: False)
    return tmp_path


def test_without_a_browser_its_tests_are_left_out_and_that_is_said(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert suite.pytest_arguments(["tests/app", "-q"]) == ["tests/app", "-q", "-m", "not browser"]
    assert "the browser tests are left out" in capsys.readouterr().err
    assert suite.pytest_arguments(["-m", "slow"]) == ["-m", "slow"]  # a person's own choice stays


def test_without_a_browser_a_ci_run_fails(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(Stop) as stop:
        suite.pytest_arguments([])
    assert stop.value.key == "no_browser_ci" and stop.value.status != 0


@pytest.mark.parametrize("how", ["named", "on the path"])
def test_a_browser_that_is_there_is_handed_to_the_tests(bare: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = bare / ("my-browser" if how == "named" else "google-chrome")
    browser.write_text("#!/bin/sh\n")
    browser.chmod(0o755)
    if how == "named":
        monkeypatch.setenv("CHROMIUM", str(browser))
    assert suite.pytest_arguments(["-q"]) == ["-q"]
    assert os.environ["CHROMIUM"] == str(browser)


def test_the_whole_suite_runs_in_as_many_processes_as_there_are_cores_up_to_four(bare: Path, monkeypatch: pytest.MonkeyPatch):
    browser = bare / "google-chrome"
    browser.write_text("#!/bin/sh\n")
    browser.chmod(0o755)
    for cores, processes in ((1, "1"), (2, "2"), (64, "4"), (None, "1")):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert suite.pytest_arguments([]) == ["-n", processes, "--dist", "loadfile"]


def test_the_test_command_installs_what_the_tests_need_and_passes_its_words_on(
    installed: Project, index: Index, tmp_path: Path
) -> None:
    index.add("simple", "pytest", "1.0")
    (installed.folder / "requirements-dev.txt").write_text("-r requirements.txt\npytest==1.0\n")
    browser = tmp_path / "browser"
    browser.write_text("#!/bin/sh\n")
    browser.chmod(0o755)
    (installed.folder / "pytest.py").write_text(
        "import os, sys\nprint('ran', os.getcwd(), os.environ['CHROMIUM'], *sys.argv[1:])\nsys.exit(5)\n"
    )
    done = installed.launch("test", "-k", "two words", index=index, CHROMIUM=str(browser), CI="true")
    assert done.stdout == f"ran {installed.folder} {browser} -k two words\n", done.stderr
    assert done.returncode == 5  # pytest's own status
    assert index.fetched("pytest") == 1
    sentences = done.stderr.splitlines()
    assert sentences[0] == "Installing what the tests need." and sentences[-1].startswith("Installed in ")
    done = installed.launch("test", index=index, CHROMIUM=str(browser))
    assert done.stdout.startswith("ran ") and index.fetched("pytest") == 1
    asked = len(index.asked)
    assert installed.launch("demo", index=index).returncode == 0  # the tests' packages do no harm to the rest
    assert len(index.asked) == asked


def test_the_chaos_command_runs_the_campaign_with_its_words_and_needs_no_browser(
    installed: Project, index: Index, bare: Path
) -> None:
    index.add("simple", "pytest", "1.0")
    (installed.folder / "requirements-dev.txt").write_text("-r requirements.txt\npytest==1.0\n")
    campaign = installed.folder / "tests" / "chaos"
    campaign.mkdir(parents=True)
    (campaign / "__main__.py").write_text("import os, sys\nprint('ran', os.getcwd(), *sys.argv[1:])\nsys.exit(1)\n")
    done = installed.launch("test", "--chaos", "--kills", "9", "--seed", "4", index=index, CI="true")
    assert done.stdout == f"ran {installed.folder} --kills 9 --seed 4\n", done.stderr
    assert done.returncode == 1  # something did not hold
