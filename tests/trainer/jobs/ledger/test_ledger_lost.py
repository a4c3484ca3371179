"""The ledger goes, or is damaged, while trainings live: they go on, and every list knows them again."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest

from tests.helpers.jobs import QUICK, command, wait_for
from trainer.core import events, files, process
from trainer.core.problem import Problem
from trainer.jobs.jobs import Jobs
from trainer.jobs.ledger.run_store import Store
from trainer.jobs.recovery import adopt
from trainer.jobs.supervisor import Supervisor
from trainer.jobs.trainer import attempt

DAMAGES = ("deleted", "deleted with all beside it", "emptied", "overwritten", "header", "middle", "cut short", "another file")


def begins(jobs, id_):
    return [event.attempt for event in events.read(jobs.run_dir(id_).events)[0] if isinstance(event, events.Started)]


SPOIL = """
import sys
from pathlib import Path
database, how = Path(sys.argv[1]), sys.argv[2]
data = database.read_bytes()
if how.startswith("deleted"):
    for end in ("", "-wal", "-shm")[: 1 if how == "deleted" else 3]:
        database.with_name(database.name + end).unlink(missing_ok=True)
elif how == "another file":
    database.unlink()
    database.write_bytes(b"hello" * 1000)
elif how == "shm emptied":  # every program that has the ledger open has this file in its memory
    with open(database.with_name(database.name + "-shm"), "r+b") as file:
        file.truncate(0)
else:  # in place: whoever has it open has the damaged file
    with open(database, "r+b") as file:
        if how == "emptied":
            file.truncate(0)
        elif how == "cut short":
            file.truncate(len(data) // 2)
        elif how == "header":
            file.write(b"\\xff" * 100)
        elif how == "middle":
            file.seek(4096)
            file.write(b"\\xa5" * (len(data) - 4096))
        else:
            file.write(b"\\x00garbage" * (len(data) // 8))
"""


def spoil(database, how):
    """What another program does to the file under everybody's hands."""
    subprocess.run([sys.executable, "-c", SPOIL, str(database), how], check=True)


def running(jobs, id_, step=3):
    wait_for(lambda: jobs.row(id_).state == "running" and jobs.row(id_).step >= step, 60)
    return jobs.row(id_)


@pytest.mark.parametrize("how", [*DAMAGES, "shm emptied"])
def test_a_training_outlives_its_ledger(home, jobs, supervisor, config, plan, how):
    plan(steps=100, seconds=0.02)
    id_ = jobs.submit(config, "a")
    running(jobs, id_)
    supervisor.store.read("PRAGMA wal_checkpoint(TRUNCATE)")
    spoil(home.database, how)
    wait_for(lambda: [row.state for row in jobs.rows()] == ["succeeded"], 60)
    row = jobs.row(id_)
    assert (row.attempt, row.step, begins(jobs, id_)) == (1, 100, [1]) and row.lora and os.path.exists(row.lora)
    assert jobs.submit(config, "a") == id_, "the same press of Start is known again"
    wait_for(lambda: [row.pid for row in jobs.rows()] == [None], 60)


def test_with_nobody_watching_the_trainer_enters_itself_again(home, jobs, supervisor, store, config, plan):
    plan(steps=1000)
    id_ = jobs.submit(config, "a")
    row = running(jobs, id_)
    supervisor.stop()
    store.write("DELETE FROM runs")
    wait_for(lambda: [row.id for row in jobs.rows()] == [id_], 60)
    again = running(jobs, id_, row.step + 5)
    assert (again.attempt, again.pid, again.name) == (1, row.pid, "red")
    jobs.pause(id_)
    wait_for(lambda: jobs.row(id_).state == "paused")
    store.write("DELETE FROM runs")
    wait_for(lambda: [row.state for row in jobs.rows()] == ["paused"], 60)
    jobs.stop(id_)
    wait_for(lambda: jobs.row(id_).state == "stopped", 60)


def test_an_older_copy_that_shows_the_run_as_waiting_starts_no_second_trainer(home, jobs, supervisor, store, config, plan):
    plan(steps=120)
    id_ = jobs.submit(config, "a")
    running(jobs, id_)
    store.write("UPDATE runs SET state='queued', attempt=0, pid=NULL, born=NULL WHERE id=?", (id_,))
    wait_for(lambda: jobs.row(id_).state == "succeeded", 60)
    assert begins(jobs, id_) == [1] and jobs.row(id_).attempt == 1


def test_a_second_trainer_process_does_not_begin_beside_a_living_one(home, jobs, supervisor, store, config, plan):
    plan(steps=1000)
    id_ = jobs.submit(config, "a")
    row = running(jobs, id_)
    supervisor.stop()
    store.write("UPDATE runs SET state='starting', attempt=0, pid=NULL, born=NULL WHERE id=?", (id_,))
    other = subprocess.run(command(jobs.run_dir(id_), home), timeout=60, check=False)
    assert other.returncode == attempt.NOT_OURS and process.alive(row.pid, row.birth)
    wait_for(lambda: jobs.row(id_).attempt == 1)
    assert begins(jobs, id_) == [1]


def test_a_run_entered_from_its_folder_gets_no_number_an_old_trainer_may_have(store, config):
    id_ = store.create(config, "a")
    run = store.run_dir(id_)
    log = events.EventLog(run.events)
    for number in (1, 2, 3):
        log.write(events.Started(step=0, total=50, attempt=number, pid=1))
    store.write("DELETE FROM runs")
    assert adopt(store) == [id_] and store.get(id_).attempt == 4  # one more may have begun without telling it
    store.write("DELETE FROM runs")
    files.write_json(run.attempt, {"number": 7, "pid": 999_999_999, "born": 1.0, "boot": "", "begins": 0})
    assert adopt(store) == [id_] and store.get(id_).attempt == 7
    store.move(id_, "queued")
    store.write("UPDATE runs SET attempt=2")  # an older copy was put back
    assert store.start_next(id_) and store.claim(id_, attempt.last_number(run)) == 8
    store.mark(id_, pid=None)


@pytest.mark.parametrize("how", DAMAGES)
def test_every_damage_ends_in_the_copy_and_a_sentence_without_a_restart(home, store, config, how):
    first = store.create(config, "a")
    store.back_up()
    later = store.create(config, "b")
    store.read("PRAGMA wal_checkpoint(TRUNCATE)")
    spoil(home.database, how)
    store.verify()
    store.list()
    adopt(store)
    assert {row.id for row in store.list()} == {first, later}
    assert store.repaired == "restored" and "put back" in (Jobs(home, store).notice("en") or "")
    assert store.move(first, "stopped") and store.read("PRAGMA integrity_check")[0][0] == "ok"


def test_a_damaged_ledger_never_replaces_the_good_copy(home, store, config):
    store.create(config, "a")
    store.back_up()
    copy = home.database.with_name("atelier.db.backup")
    store.create(config, "b")
    store.read("PRAGMA wal_checkpoint(TRUNCATE)")
    spoil(home.database, "middle")
    store.back_up()
    kept = sqlite3.connect(copy)
    assert kept.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert kept.execute("SELECT COUNT(*) FROM runs").fetchone()[0] in (1, 2)
    kept.close()


def test_where_not_even_the_copy_can_be_put_back_a_sentence_says_so(home, store, config, monkeypatch):
    from trainer.jobs.ledger import sqlite_file

    store.create(config, "a")
    store.read("PRAGMA wal_checkpoint(TRUNCATE)")
    monkeypatch.setattr(sqlite_file, "_repair", lambda path: "restored")
    spoil(home.database, "overwritten")
    with pytest.raises(Problem) as caught:
        store.verify()
    assert caught.value.code == "job_ledger_damaged" and "No training is lost" in caught.value.sentence("en")
    monkeypatch.undo()
    assert store.list() == [] and adopt(store)


def test_a_trainer_that_finds_the_ledger_held_waits_and_begins(home, jobs, store, config, plan, monkeypatch):
    plan(steps=5)
    id_ = jobs.submit(config, "a")
    assert store.start_next(id_)
    holder = sqlite3.connect(home.database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
from trainer.jobs.ledger import sqlite_file
sqlite_file.PATIENCE = 0.2
sys.argv = {command(jobs.run_dir(id_), home)[1:]!r}
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    trainer = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert trainer.stderr and "held by another program" in trainer.stderr.readline()
    holder.execute("COMMIT")
    holder.close()
    trainer.communicate(timeout=60)
    assert jobs.row(id_).state == "succeeded"
    store.mark(id_, pid=None)


def test_the_copy_follows_the_runs(home, jobs, supervisor, config, plan):
    plan(steps=5)
    id_ = jobs.submit(config, "a")
    wait_for(lambda: jobs.row(id_).state == "succeeded", 60)

    def copied():
        copy = sqlite3.connect(home.database.with_name("atelier.db.backup"))
        try:
            return copy.execute("SELECT state FROM runs").fetchall() == [("succeeded",)]
        finally:
            copy.close()

    wait_for(copied, 60)


def test_the_command_line_goes_on_showing_a_training_whose_ledger_is_lost(home, config, plan):
    from trainer.jobs import foreground

    plan(steps=60)
    shown = []

    def show(event):
        shown.append(event)
        if isinstance(event, events.Step) and event.step == 10:
            for path in home.outputs.glob("atelier.db*"):
                path.unlink()

    assert foreground.run(config, home, show, timeouts=QUICK, command=command) == 0
    assert [event.step for event in shown if isinstance(event, events.Step)] == list(range(1, 61))


def test_events_a_full_disk_held_up_are_there_in_order_once_there_is_room(tmp_path):
    resource = pytest.importorskip("resource")
    log = events.EventLog(tmp_path / "events.jsonl")
    log.write(events.Paused(step=0))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.path.stat().st_size + 60, before[1]))
    try:
        for step in (1, 2, 3):
            log.write(events.Paused(step=step))
        assert [getattr(event, "step", None) for event in events.read(log.path)[0]] == [0, 1][
            : 1 + (log.path.stat().st_size > 90)
        ]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.write(events.Paused(step=4))
    assert [getattr(event, "step", None) for event in events.read(log.path)[0]] == [0, 1, 2, 3, 4] and log.lost == 0


def test_two_supervisors_after_a_loss_enter_each_run_once(home, store, config):
    ids = {store.create(config, key) for key in "abc"}
    store.write("DELETE FROM runs")
    other = Supervisor(home, Store(home.database), command=command)
    assert sorted(adopt(store) + adopt(other.store)) == sorted(ids)
    other.store.close()
    assert {row.id for row in store.list()} == ids
