"""What a person is told of a run that was killed: what happened to this attempt, never what an earlier one said."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.helpers.jobs import QUICK, command, wait_for
from trainer.config.load import dump
from trainer.core import events, files, process
from trainer.jobs.ledger.run_store import Store
from trainer.jobs.recovery import adopt
from trainer.jobs.supervisor import Supervisor
from trainer.jobs.trainer import attempt


def ends(jobs, id_, state, seconds=60.0):
    wait_for(lambda: jobs.row(id_).state == state, seconds)
    return jobs.row(id_)


@pytest.mark.parametrize("first", ["stopped", "failed"])
def test_killed_while_loading_after_an_earlier_end_it_is_interrupted_and_can_go_on(jobs, supervisor, config, plan, first):
    plan(steps=1000, save=1000, **({"fault": "problem", "at": 4} if first == "failed" else {}))
    id_ = jobs.submit(config, "a")
    if first == "stopped":
        wait_for(lambda: jobs.row(id_).step >= 3)
        jobs.stop(id_)
    ends(jobs, id_, first)
    plan(encode=1000)
    jobs.resume(id_)
    wait_for(lambda: jobs.row(id_).stage == "encoding" and jobs.row(id_).attempt == 2)
    os.kill(jobs.row(id_).pid, signal.SIGKILL)
    wait_for(lambda: jobs.row(id_).requeues == 1 or jobs.row(id_).state == "interrupted")
    plan(steps=12)
    if jobs.row(id_).state == "interrupted":
        assert jobs.row(id_).reason == "killed" and "resumed" in jobs.row(id_).reason_text("en")
        jobs.resume(id_)
    else:  # a checkpoint was there: it goes on by itself, which is as good
        assert first == "stopped"
        wait_for(lambda: jobs.row(id_).attempt == 3)
        if jobs.row(id_).stage == "encoding":
            os.kill(jobs.row(id_).pid, signal.SIGKILL)
            assert ends(jobs, id_, "interrupted").reason == "killed"
            jobs.resume(id_)
    assert ends(jobs, id_, "succeeded").step >= 12


def test_stopped_while_it_loads_again_it_is_stopped_and_not_failed_as_before(jobs, supervisor, config, plan):
    plan(steps=1000, save=1000, fault="problem", at=4)
    id_ = jobs.submit(config, "a")
    assert ends(jobs, id_, "failed").reason == "nan_stop"
    plan(encode=1000)
    jobs.resume(id_)
    wait_for(lambda: jobs.row(id_).stage == "encoding")
    row = jobs.row(id_)
    os.kill(row.pid, signal.SIGSTOP)
    jobs.stop(id_)
    os.kill(row.pid, signal.SIGKILL)
    row = ends(jobs, id_, "stopped")
    assert row.reason is None


@pytest.mark.parametrize(
    ("number", "state", "why"),
    [
        (signal.SIGKILL, "interrupted", "killed"),
        (signal.SIGTERM, "interrupted", "killed"),
        (None, "failed", "job_start_failed"),
    ],
)
def test_killed_while_it_starts_is_an_interruption_and_its_own_fault_a_failure(home, jobs, store, config, number, state, why):
    def slow(run, home):
        return [sys.executable, "-c", "import time; time.sleep(600)" if number else "raise SystemExit('broken')"]

    watch = Supervisor(home, store, timeouts=QUICK, command=slow)
    watch.start()
    try:
        id_ = jobs.submit(config, "a")
        if number:
            wait_for(lambda: jobs.row(id_).state == "starting" and jobs.row(id_).pid)
            os.kill(jobs.row(id_).pid, number)
        assert ends(jobs, id_, state).reason == why
    finally:
        watch.stop()


def test_killed_while_it_starts_unseen_it_is_interrupted(home, jobs, store, config):
    """The server was killed too: nobody knows the exit status."""
    id_ = jobs.submit(config, "a")
    assert store.start_next(id_)
    store.spawned(id_, 999_999_999, 1.0)
    Supervisor(home, store, timeouts=QUICK, command=command).tick()
    assert (jobs.row(id_).state, jobs.row(id_).reason) == ("interrupted", "killed")


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("order", ["start, restart", "restart, start", "start", "restart, resume, start"])
def test_one_press_of_start_is_one_run_wherever_the_server_is_killed(home, jobs, store, config, plan, monkeypatch, order):
    plan(steps=5)

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Store, "enter", killed)
        with pytest.raises(Killed):
            jobs.submit(config, "one press")
    assert len(list(home.runs.iterdir())) == 1 and store.list() == []
    for act in order.split(", "):
        if act == "restart":
            adopt(store)
            assert [(row.state, row.reason) for row in store.list()] in ([("interrupted", "not_begun")], [("queued", None)])
        elif act == "resume":
            jobs.resume(store.list()[0].id)
        else:
            id_ = jobs.submit(config, "one press")
    assert [row.id for row in store.list()] == [id_] and jobs.row(id_).state == "queued"
    assert [path.name for path in home.runs.iterdir()] == [id_]
    watch = Supervisor(home, store, timeouts=QUICK, command=command)
    watch.start()
    try:
        assert ends(jobs, id_, "succeeded").attempt == 1
    finally:
        watch.stop()


def test_killed_before_the_settings_were_written_the_next_press_makes_the_run(home, jobs, store, config, monkeypatch):
    real = files.write_json

    def killed(path, value):
        if path.name == "config.json":
            raise Killed
        real(path, value)

    with monkeypatch.context() as patch:
        patch.setattr("trainer.core.files.write_json", killed)
        with pytest.raises(Killed):
            jobs.submit(config, "one press")
    assert adopt(store) == []
    id_ = jobs.submit(config, "one press")
    assert [row.id for row in store.list()] == [path.name for path in home.runs.iterdir()] == [id_]


def test_a_press_that_came_through_twice_leaves_no_second_run_behind(home, store, config):
    id_ = store.create(config, "one press")
    stray = store.run_dir("20261130-000000-aaaaaa")  # written at the same moment, by a process killed before it took it away
    files.write_json(stray.request, {"key": "one press"})
    files.write_json(stray.config, dump(config))
    assert adopt(store) == [] and [row.id for row in store.list()] == [id_] and not stray.path.exists()


def test_the_newest_attempt_s_end_is_read_from_its_own_events(store, config):
    """Also where the ledger is lost after it was gone on with."""
    id_ = store.create(config, "a")
    run = store.run_dir(id_)
    log = events.EventLog(run.events)
    log.write(events.Started(step=0, total=9, attempt=1, pid=1))
    log.write(events.Stopped(step=4))
    attempt.begin(run, 2)
    current = attempt.read(run)
    assert current and current.begins == run.events.stat().st_size and current.is_of(*process.me()[:2])
    log.write(events.Stage(name="loading"))
    store.write("DELETE FROM runs")
    run.attempt.write_text(run.attempt.read_text().replace(f'"pid": {os.getpid()}', '"pid": 999999999'))
    assert adopt(store) == [id_] and store.get(id_).state == "interrupted"
