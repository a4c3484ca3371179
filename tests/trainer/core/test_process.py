"""Processes that outlive the page: alive means this very process, a zombie is dead, and ending one ends its group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from tests.helpers.jobs import wait_for
from trainer.core import process
from trainer.core.home import PROJECT

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_child_has_its_own_session_and_its_output_in_the_log(tmp_path):
    code = "print('hello'); import os; print(os.getsid(0))"
    pid, born = process.spawn([sys.executable, "-c", code], tmp_path / "log.txt")
    wait_for(lambda: not process.alive(pid, born))
    assert (tmp_path / "log.txt").read_text().split() == ["hello", str(pid)]
    wait_for(lambda: pid in process.reap() or not psutil.pid_exists(pid))


def test_alive_wants_number_birth_and_boot(tmp_path):
    pid, born = process.spawn(SLEEP, tmp_path / "log.txt")
    try:
        assert process.alive(pid, born) and process.alive(pid, born, process.boot_id())
        assert not process.alive(pid, born + 1) and not process.alive(pid, born - 1)
        assert not process.alive(pid, born, "another start of the machine")
        assert not process.alive(None, born) and not process.alive(pid, None)
    finally:
        process.end(pid, born, 0.0)
    assert not process.alive(pid, born) and not psutil.pid_exists(pid)


def test_the_birth_mark_does_not_move_with_the_clock(monkeypatch):
    before = process.birth(os.getpid())
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 86400)
    assert process.birth(os.getpid()) == before and before == pytest.approx(
        time.clock_gettime(time.CLOCK_BOOTTIME) - (real() - psutil.Process().create_time()), abs=2
    )


def test_a_zombie_counts_as_dead():
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    born = process.birth(child.pid)
    wait_for(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    assert process.birth(child.pid) == born and not process.alive(child.pid, born)
    child.wait()


def test_no_child_of_ours_stays_a_zombie(tmp_path):
    pid, born = process.spawn([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log.txt")
    wait_for(lambda: not process.alive(pid, born))
    assert process.reap()[pid] == 3 and not psutil.pid_exists(pid)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_children_outlive_the_page_that_started_them(tmp_path, how):
    code = f"""
import sys, time
from pathlib import Path
sys.path[:0] = {sys.path!r}
from trainer.core import process
print(*process.spawn({SLEEP!r}, Path({str(tmp_path / "log.txt")!r})), flush=True)
time.sleep(60)
"""
    page = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    assert page.stdout
    pid, born = page.stdout.readline().split()
    os.killpg(page.pid, how)  # what Ctrl-C in its terminal reaches
    page.communicate()
    time.sleep(0.1)
    assert process.alive(int(pid), float(born))
    process.end(int(pid), float(born), 0.5)
    assert not process.alive(int(pid), float(born))


def test_ending_asks_first(tmp_path):
    code = "import signal, time, sys\nsignal.signal(15, lambda *_: (print('asked'), sys.exit(0)))\nprint('up')\ntime.sleep(60)"
    pid, born = process.spawn([sys.executable, "-c", code], tmp_path / "log.txt")
    wait_for(lambda: "up" in (tmp_path / "log.txt").read_text())
    process.end(pid, born, 5.0)
    assert "asked" in (tmp_path / "log.txt").read_text()


def test_ending_kills_the_whole_group_of_one_that_does_not_hear(tmp_path):
    code = (
        "import signal, subprocess, sys, time\nsignal.signal(15, signal.SIG_IGN)\n"
        "code = 'import time; time.sleep(60)'\n"  # an ignored signal stays ignored in what it starts
        "grandchild = subprocess.Popen([sys.executable, '-c', code])\n"
        "print(grandchild.pid)\ntime.sleep(60)"
    )
    pid, born = process.spawn([sys.executable, "-c", code], tmp_path / "log.txt")
    wait_for(lambda: (tmp_path / "log.txt").read_text().endswith("\n"))
    grandchild = int((tmp_path / "log.txt").read_text())
    mark = process.birth(grandchild)
    os.kill(pid, signal.SIGSTOP)
    process.end(pid, born, 0.3)
    assert not process.alive(pid, born)
    wait_for(lambda: not process.alive(grandchild, mark))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has priority classes")
def test_what_computes_gives_way_to_the_page():
    code = "import os; from trainer.core import process; process.give_way(7); process.give_way(3); print(os.nice(0))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 7  # never back up


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_a_thread_gives_way_alone():
    before, found = os.getpriority(os.PRIO_PROCESS, 0), []

    def work() -> None:
        process.thread_gives_way()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0] >= 10 and os.getpriority(os.PRIO_PROCESS, 0) == before
