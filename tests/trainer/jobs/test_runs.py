"""Runs from Start to their end, with real processes: what happens to them and to everything around them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.helpers.jobs import QUICK, command, wait_for
from trainer.core import events, files, process
from trainer.core.problem import Problem
from trainer.jobs.supervisor import Supervisor, Timeouts
from trainer.jobs.trainer.trainer_process import TrainerProcess


def reached(jobs, id_, step=3):
    """The row once the run has made `step` steps, as the ledger knows it."""
    wait_for(lambda: jobs.row(id_).state == "running" and jobs.row(id_).step >= step)
    return jobs.row(id_)


def ends(jobs, id_, state, seconds=20.0):
    wait_for(lambda: jobs.row(id_).state == state, seconds)
    return jobs.row(id_)


def events_of(jobs, id_):
    return events.read(jobs.run_dir(id_).events)[0]


def written_as(run, **values):
    """The run folder names another process as its trainer."""
    files.write_json(run.attempt, files.read_json(run.attempt) | values)


def test_a_run_goes_from_the_queue_to_its_lora(jobs, supervisor, config, plan):
    plan(steps=30)
    id_ = jobs.submit(config, "one")
    row, view = ends(jobs, id_, "succeeded"), jobs.follow(id_)
    assert (row.step, row.total, row.attempt, row.reason) == (30, 30, 1, None)
    assert row.lora and os.path.exists(row.lora)
    assert [point[0] for point in view.losses] == list(range(1, 31))
    assert [saved.step for saved in view.saved] == [10, 20, 30]
    wait_for(lambda: jobs.row(id_).pid is None)


def test_a_second_start_queues_and_begins_when_the_first_is_done(jobs, supervisor, config, plan):
    plan(steps=40)
    first, second = jobs.submit(config, "a"), jobs.submit(config, "b")
    third = jobs.submit(config, "c")
    reached(jobs, first)
    assert [jobs.row(i).position for i in (first, second, third)] == [None, 1, 2]
    ends(jobs, third, "succeeded", 30)
    rows = {row.id: row for row in jobs.rows()}
    assert rows[first].ended <= rows[second].started and rows[second].ended <= rows[third].started


def test_the_ledger_shows_progress_while_it_runs(jobs, supervisor, config, plan):
    plan(steps=100, seconds=0.03)
    row = reached(jobs, jobs.submit(config, "a"), 20)
    assert row.total == 100 and row.rate == pytest.approx(0.03) and row.memory == 1000
    assert 0 < row.eta_low <= (100 - 20) * 0.03 and row.eta_low < row.eta_high < 20
    assert 0 < row.loss < 1 and row.seconds_since_event < 1


def test_pause_and_resume_and_save_now(jobs, supervisor, config, plan):
    plan(steps=1000, save=1000)
    id_ = jobs.submit(config, "a")
    reached(jobs, id_)
    jobs.save_now(id_)
    wait_for(lambda: jobs.follow(id_).saved)
    jobs.pause(id_)
    step = ends(jobs, id_, "paused").step
    assert jobs.pause(id_).state == "paused"
    time.sleep(0.3)
    assert jobs.row(id_).step == step
    jobs.resume(id_)
    reached(jobs, id_, step + 3)
    jobs.stop(id_)
    assert ends(jobs, id_, "stopped").attempt == 1


def test_stop_keeps_and_resume_goes_on_from_there(jobs, supervisor, config, plan):
    plan(steps=60, save=1000)
    id_ = jobs.submit(config, "a")
    reached(jobs, id_, 5)
    assert jobs.stop(id_).state == "stopping"
    assert jobs.stop(id_).state == "stopping"
    stopped = ends(jobs, id_, "stopped")
    assert jobs.stop(id_).state == "stopped"
    assert jobs.resume(id_).state in ("queued", "starting", "running")
    row = ends(jobs, id_, "succeeded")
    starts = [e.step for e in events_of(jobs, id_) if isinstance(e, events.Started)]
    steps = [e.step for e in events_of(jobs, id_) if isinstance(e, events.Step)]
    assert starts == [0, stopped.step] and steps == list(range(1, 61)) and row.attempt == 2


def test_requests_of_the_attempt_before_are_not_for_the_next(jobs, supervisor, config, plan):
    plan(steps=40, fault="kill", at=5, save=1000)
    id_ = jobs.submit(config, "a")
    ends(jobs, id_, "interrupted")
    jobs.run_dir(id_).ask("stop")
    jobs.resume(id_)
    assert ends(jobs, id_, "succeeded").step == 40


def test_stop_before_it_began_takes_it_from_the_queue(jobs, config):
    id_ = jobs.submit(config, "a")
    assert jobs.stop(id_).state == "stopped"
    with pytest.raises(Problem, match="not running"):
        jobs.pause(id_)


def test_resuming_a_finished_run_is_answered_with_a_sentence(jobs, supervisor, config, plan):
    plan(steps=3)
    id_ = jobs.submit(config, "a")
    ends(jobs, id_, "succeeded")
    with pytest.raises(Problem) as caught:
        jobs.resume(id_)
    assert caught.value.code == "job_resume_finished"
    assert jobs.stop(id_).state == "succeeded"


def test_sigterm_stops_after_the_step_and_keeps(jobs, supervisor, config, plan):
    plan(steps=1000, save=1000)
    id_ = jobs.submit(config, "a")
    row = reached(jobs, id_)
    os.kill(row.pid, signal.SIGTERM)
    row = ends(jobs, id_, "stopped")
    assert jobs.run_dir(id_).checkpoint(row.step).is_dir()


def test_stop_is_heard_while_the_pictures_are_encoded(jobs, supervisor, config, plan):
    plan(encode=1000)
    id_ = jobs.submit(config, "a")
    wait_for(lambda: jobs.row(id_).stage == "encoding" and jobs.row(id_).stage_of == 1000)
    jobs.stop(id_)
    assert ends(jobs, id_, "stopped", 3).step == 0
    assert isinstance(events_of(jobs, id_)[-1], events.Stopped)


def test_a_killed_trainer_is_noticed_and_goes_on_once_by_itself(jobs, supervisor, config, plan):
    plan(steps=60, seconds=0.03)
    id_ = jobs.submit(config, "a")
    row = reached(jobs, id_, 12)
    os.kill(row.pid, signal.SIGKILL)
    took = wait_for(lambda: jobs.row(id_).requeues == 1)
    assert took < 10
    row = reached(jobs, id_, 20)
    assert row.attempt == 2
    os.kill(row.pid, signal.SIGKILL)
    row = ends(jobs, id_, "interrupted")
    assert row.reason == "killed" and "resumed" in row.reason_text("en")
    steps = [e.step for e in events_of(jobs, id_) if isinstance(e, events.Step)]
    begins = [e.step for e in events_of(jobs, id_) if isinstance(e, events.Started)]
    assert begins[1] >= 10 and steps.count(11) == 2 - (begins[1] > 10)
    view = jobs.follow(id_)
    assert [p[0] for p in view.losses] == list(range(1, steps[-1] + 1))
    assert any("gone on by itself" in note for note in view.note_texts("en"))


def test_a_killed_trainer_without_a_checkpoint_waits_for_a_person(jobs, supervisor, config, plan):
    plan(steps=15, fault="kill", at=5)
    id_ = jobs.submit(config, "a")
    row = ends(jobs, id_, "interrupted")
    assert (row.requeues, row.reason) == (0, "killed")
    jobs.resume(id_)
    assert ends(jobs, id_, "succeeded").attempt == 2


def test_a_damaged_checkpoint_does_not_count(jobs, supervisor, config, plan):
    plan(steps=1000, save=10)
    id_ = jobs.submit(config, "a")
    row = reached(jobs, id_, 11)
    os.kill(row.pid, signal.SIGSTOP)
    for file in jobs.run_dir(id_).checkpoints.glob("*/adapter.safetensors"):
        file.write_bytes(b"x" + file.read_bytes()[1:])
    os.kill(row.pid, signal.SIGKILL)
    assert ends(jobs, id_, "interrupted").requeues == 0


@pytest.mark.parametrize(
    ("fault", "why", "word"),
    [
        ("problem", "nan_stop", "step 5"),
        ("memory", "job_memory", "memory"),
        ("unexpected", "job_unexpected", "number"),
    ],
)
def test_a_fault_is_told_in_words(jobs, supervisor, config, plan, fault, why, word):
    plan(fault=fault, steps=15)
    id_ = jobs.submit(config, "a")
    row = ends(jobs, id_, "failed")
    assert row.reason == why and word in row.reason_text("en")
    assert isinstance(events_of(jobs, id_)[-1], events.Failed)
    if fault == "unexpected":
        log = jobs.follow(id_).log_tail
        assert row.params["id"] in log and "ZeroDivisionError" in log and "hf_abc" not in log
    jobs.resume(id_)
    assert ends(jobs, id_, "succeeded").attempt == 2


def test_a_full_disk_is_a_pause_with_its_reason_and_goes_on_by_itself(home, jobs, supervisor, config, plan):
    plan(fault="disk", steps=20)
    id_ = jobs.submit(config, "a")
    row = ends(jobs, id_, "paused")
    assert row.reason == "disk" and "disk is nearly full" in row.reason_text("en")
    time.sleep(0.2)
    assert jobs.row(id_).state == "paused"
    (home.root / "room").touch()
    row = ends(jobs, id_, "succeeded")
    assert row.attempt == 1 and row.reason is None


def test_a_ledger_that_cannot_be_written_ends_no_training(store, jobs, config, capsys):
    id_ = jobs.submit(config, "a")
    store.start_next(id_)
    trainer = TrainerProcess(jobs.run_dir(id_), store, store.claim(id_) or 0, beat=0.1, tick=0.05)
    store.read("PRAGMA query_only=1")
    for event in (events.Paused(step=1), events.Stage(name="training"), events.Step(step=2, total=9, loss=0.5)):
        trainer.emit(event)
    assert "could not be written" in capsys.readouterr().err
    store.read("PRAGMA query_only=0")
    trainer.emit(events.Finished(step=9, seconds=1.0, file="/x/red.safetensors"))
    assert trainer.finish() == 0
    assert [e.kind for e in events_of(jobs, id_)] == ["paused", "stage", "step", "finished"]
    assert jobs.row(id_).state == "succeeded"
    store.mark(id_, pid=None)


def test_a_trainer_that_cannot_even_begin_has_failed(jobs, supervisor, config, plan):
    plan(dead_on_arrival=True)
    id_ = jobs.submit(config, "a")
    row = ends(jobs, id_, "failed")
    assert row.reason == "job_start_failed" and "does not even begin" in jobs.follow(id_).log_tail


def test_a_held_trainer_is_shown_as_not_answering_and_stop_ends_it(jobs, supervisor, config, plan):
    plan(steps=1000)
    id_ = jobs.submit(config, "a")
    row = reached(jobs, id_, 11)
    os.kill(row.pid, signal.SIGSTOP)
    wait_for(lambda: jobs.row(id_).unresponsive == "no_heartbeat")
    assert "does not answer" in jobs.row(id_).reason_text("en")
    jobs.stop(id_)
    row = ends(jobs, id_, "stopped")
    wait_for(lambda: jobs.row(id_).pid is None)


def test_a_trainer_that_goes_on_answers_again(jobs, supervisor, config, plan):
    plan(steps=1000)
    id_ = jobs.submit(config, "a")
    pid = reached(jobs, id_).pid
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: jobs.row(id_).unresponsive)
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: jobs.row(id_).unresponsive is None)
    assert jobs.row(id_).state == "running"


def test_a_hung_loop_with_a_heartbeat_is_seen_and_stop_kills_it(home, jobs, config, plan):
    plan(fault="hang", at=5)
    watch = Supervisor(home, jobs.store, command=command, timeouts=Timeouts(tick=0.05, step=1.0, stop=1.0, grace=0.3))
    watch.start()
    try:
        id_ = jobs.submit(config, "a")
        wait_for(lambda: jobs.row(id_).unresponsive == "no_step")
        pid = jobs.row(id_).pid
        jobs.stop(id_)
        ends(jobs, id_, "stopped")
        wait_for(lambda: not psutil.pid_exists(pid))
    finally:
        watch.stop()


def test_a_clock_put_back_an_hour_spoils_nothing(jobs, supervisor, config, plan):
    plan(steps=60, fault="clock", at=5, seconds=0.04)
    id_ = jobs.submit(config, "a")
    row = reached(jobs, id_, 20)
    assert row.unresponsive is None and 0 < row.eta_low < row.eta_high < 10 and row.seconds_since_event < 1
    assert ends(jobs, id_, "succeeded").attempt == 1


def test_a_number_used_again_is_not_taken_for_the_trainer(jobs, store, supervisor, config, plan):
    plan(steps=1000)
    id_ = jobs.submit(config, "a")
    row = reached(jobs, id_)
    supervisor.stop()
    another = {"pid": os.getpid(), "born": (process.birth(os.getpid()) or 0) - 5}
    written_as(jobs.run_dir(id_), **another)
    store.mark(id_, **another)
    supervisor.start()
    ends(jobs, id_, "interrupted")
    process.end(row.pid, row.birth, 0)


def test_a_restart_of_the_machine_is_noticed(jobs, store, supervisor, config, plan):
    plan(steps=1000)
    id_ = jobs.submit(config, "a")
    row = reached(jobs, id_)
    supervisor.stop()
    another = {"pid": os.getpid(), "born": process.birth(os.getpid()), "boot": "another start"}
    written_as(jobs.run_dir(id_), **another)
    store.mark(id_, **another)
    supervisor.start()
    ends(jobs, id_, "interrupted")
    process.end(row.pid, row.birth, 0)


def test_a_trainer_that_lost_its_run_to_another_attempt_ends(jobs, store, supervisor, config, plan):
    plan(steps=1000)
    id_ = jobs.submit(config, "a")
    row = reached(jobs, id_)
    supervisor.stop()
    store.write("UPDATE runs SET attempt=attempt+1 WHERE id=?", (id_,))
    wait_for(lambda: not process.alive(row.pid, row.birth))
    assert "taken this run over" in jobs.follow(id_).log_tail


def test_killing_the_page_leaves_the_training_alone(home, jobs, config, plan, store):
    plan(steps=100)
    page = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"""
import sys, time
sys.path[:0] = {sys.path!r}
from tests.helpers.jobs import QUICK, command
from trainer.core.home import Home
from trainer.jobs.supervisor import Supervisor
Supervisor(Home.find({str(home.root)!r}), timeouts=QUICK, command=command).start()
time.sleep(60)
""",
        ]
    )
    id_ = jobs.submit(config, "a")
    row = reached(jobs, id_)
    page.kill()
    page.wait()
    wait_for(lambda: jobs.row(id_).step > row.step + 20)
    after = Supervisor(home, store, timeouts=QUICK, command=command)
    after.start()
    row = ends(jobs, id_, "succeeded")
    after.stop()
    assert row.attempt == 1 and row.step == 100


def test_two_pages_on_one_home_start_a_run_once(home, jobs, supervisor, config, plan):
    plan(steps=30)
    other = Supervisor(home, timeouts=QUICK, command=command)
    other.start()
    try:
        id_ = jobs.submit(config, "a")
        assert ends(jobs, id_, "succeeded").attempt == 1
        assert sum(isinstance(e, events.Started) for e in events_of(jobs, id_)) == 1
        supervisor.stop()  # the other takes over
        second = jobs.submit(config, "b")
        assert ends(jobs, second, "succeeded").attempt == 1
    finally:
        other.stop()
        other.store.close()


def test_a_run_that_got_no_process_is_queued_again(home, store, jobs, config):
    id_ = jobs.submit(config, "a")
    assert store.start_next(id_)  # and then the supervisor was killed
    watch = Supervisor(home, store, timeouts=Timeouts(birth=0.1), command=lambda run, home: ["/no/such/program"])
    watch.tick()
    assert jobs.row(id_).state == "starting"
    time.sleep(0.15)
    watch.tick()
    row = jobs.row(id_)
    assert row.state == "failed" and row.reason == "job_no_process"  # queued again, started, and no such program


def test_an_end_told_before_the_ledger_knew_is_found_in_the_events(home, store, jobs, config):
    id_ = jobs.submit(config, "a")
    store.start_next(id_)
    store.claim(id_)
    log = events.EventLog(jobs.run_dir(id_).events)
    log.write(events.Started(step=0, total=5, attempt=1, pid=1))
    log.write(events.Finished(step=5, seconds=1, file="/x/red.safetensors"))
    store.mark(id_, pid=999_999_999, born=1.0)
    Supervisor(home, store, command=command).tick()
    row = jobs.row(id_)
    assert (row.state, row.lora, row.step) == ("succeeded", "/x/red.safetensors", 5)


def test_delete_is_refused_while_it_runs_and_can_be_undone_after(home, jobs, supervisor, config, plan):
    plan(steps=1000)
    id_ = jobs.submit(config, "a")
    reached(jobs, id_)
    with pytest.raises(Problem) as caught:
        jobs.delete(id_)
    assert caught.value.code == "job_delete_running"
    jobs.stop(id_)
    ends(jobs, id_, "stopped")
    wait_for(lambda: jobs.row(id_).pid is None)
    step = jobs.row(id_).step
    token = jobs.delete(id_)
    assert jobs.rows() == [] and not jobs.run_dir(id_).path.exists()
    assert (home.trash / "runs" / id_ / "config.json").exists()
    assert jobs.restore(token).step == step and jobs.run_dir(id_).config.exists()
    assert len(jobs.follow(id_).losses) == step
