"""The queue's order is a person's to change, from several pages at once, over restarts and on the command line."""

from __future__ import annotations

import threading

import psutil
import pytest

from tests.helpers.jobs import QUICK, command, wait_for
from trainer.commands import queue
from trainer.core import process
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.jobs.jobs import Jobs
from trainer.jobs.ledger.run_store import Store
from trainer.jobs.supervisor import Supervisor


def order(jobs: Jobs) -> list[str]:
    return [row.id for row in jobs.store.queue()]


def test_the_queue_changes_its_order_and_keeps_it_over_a_restart(jobs, config, plan, home):
    plan(steps=2)
    a, b, c = (jobs.submit(config, key) for key in "abc")
    assert jobs.reorder(c, "first").position == 1 and order(jobs) == [c, a, b]
    assert jobs.reorder(a, "down").position == 3 and order(jobs) == [c, b, a]
    assert jobs.reorder(b, "up").position == 1 and order(jobs) == [b, c, a]
    jobs.reorder(b, "up"), jobs.reorder(a, "down")  # nothing beyond the ends
    assert [row.position for row in jobs.store.queue()] == [1, 2, 3]
    d = jobs.submit(config, "d")
    assert order(jobs) == [b, c, a, d]

    again = Store(home.database)  # the studio opened anew
    assert [row.id for row in again.queue()] == [b, c, a, d]
    watcher = Supervisor(home, again, timeouts=QUICK, command=command)
    watcher.start()
    wait_for(lambda: all(jobs.row(id_).state == "succeeded" for id_ in (a, b, c, d)))
    watcher.stop()
    again.close()
    assert sorted((a, b, c, d), key=lambda id_: jobs.row(id_).started or 0) == [b, c, a, d]


def test_a_second_card_has_a_queue_of_its_own(jobs, config, plan, supervisor):
    plan(steps=400)
    other = config.model_copy(update={"run": config.run.model_copy(update={"device": "cuda:1"})})
    first, second, waits = (jobs.submit(each, key) for key, each in (("a", config), ("b", other), ("c", config)))
    wait_for(lambda: jobs.row(first).state == jobs.row(second).state == "running")
    assert jobs.row(waits).state == "queued" and jobs.row(waits).position == 1
    for run in (first, second, waits):
        jobs.stop(run)
    wait_for(lambda: not jobs.store.active())


def test_two_studios_with_a_home_each_train_at_once_each_on_the_card_it_was_shown(tmp_path, config, home, monkeypatch):
    rows, watchers = [], []
    for card in ("0", "1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", card)
        own = Home(tmp_path / card).create()
        (own.root / "fake.json").write_text('{"steps": 400}')
        jobs = Jobs(own, Store(own.database))
        watchers.append((jobs, Supervisor(own, jobs.store, timeouts=QUICK, command=command)))
        watchers[-1][1].start()
        rows.append(jobs.submit(config, card))
        wait_for(lambda jobs=jobs: jobs.row(rows[-1]).state == "running")
    devices = [jobs.row(row) for (jobs, _), row in zip(watchers, rows, strict=True)]
    assert [row.state for row in devices] == ["running"] * 2
    assert [psutil.Process(row.pid).environ()["CUDA_VISIBLE_DEVICES"] for row in devices] == ["0", "1"]
    for (jobs, watcher), row in zip(watchers, devices, strict=True):
        jobs.stop(row.id)
        wait_for(lambda row=row: not process.alive(row.pid, row.birth, row.boot))
        wait_for(lambda jobs=jobs: not jobs.store.active())
        watcher.stop()
        process.reap()
        jobs.close()
        jobs.store.close()


def test_pages_that_move_runs_at_the_same_moment_lose_and_double_none(jobs, config, home):
    ids = [jobs.submit(config, str(number)) for number in range(6)]
    other = jobs.submit(config.model_copy(update={"run": config.run.model_copy(update={"device": "cuda:1"})}), "other")
    stores = [Store(home.database) for _ in range(4)]

    def push(store: Store, shift: int) -> None:
        for turn in range(12):
            store.shift(ids[(turn + shift) % 6], ("first", "up", "down")[(turn + shift) % 3])

    threads = [threading.Thread(target=push, args=(store, i)) for i, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    main = [row for row in jobs.store.queue() if row.device == "main"]
    assert sorted(row.id for row in main) == sorted(ids) and [row.position for row in main] == [1, 2, 3, 4, 5, 6]
    assert jobs.row(other).position == 1  # another device has a queue of its own


def test_a_run_that_no_longer_waits_is_answered_with_a_sentence(jobs, config):
    id_ = jobs.submit(config, "a")
    jobs.stop(id_)
    with pytest.raises(Problem) as caught:
        jobs.reorder(id_, "first")
    assert caught.value.code == "job_not_waiting"


def test_a_run_of_the_command_line_that_waits_before_ours_goes_first(jobs, config, plan, home):
    theirs = jobs.submit(config, "theirs", runner=process.me())
    ours = jobs.submit(config, "ours")
    page = Supervisor(home, jobs.store, timeouts=QUICK, command=command)
    page.tick()
    assert [jobs.row(id_).state for id_ in (theirs, ours)] == ["queued", "queued"]
    jobs.reorder(ours, "first")
    page.tick()
    assert jobs.row(ours).state in ("starting", "running")


def test_the_command_shows_the_queue_and_moves_by_place_name_or_id(jobs, config, home, capsys):
    where = ["--home", str(home.root)]
    assert queue.main(where) == 0 and "No run waits" in capsys.readouterr().out
    named = config.model_copy(update={"save": config.save.model_copy(update={"name": "blue"})})
    a, b, c = jobs.submit(config, "a"), jobs.submit(config, "b"), jobs.submit(named, "c")
    assert queue.main(["blue", "first", *where]) == 0 and order(jobs) == [c, a, b]
    assert queue.main(["3", "up", *where]) == 0 and order(jobs) == [c, b, a]
    assert capsys.readouterr().out.splitlines()[-3:] == [f"1  blue  ({c})", f"2  red  ({b})", f"3  red  ({a})"]
    assert queue.main([a, "out", *where]) == 0 and order(jobs) == [c, b]
    with pytest.raises(Problem, match="green"):
        queue.main(["green", "up", *where])
    jobs.submit(config, "d")
    with pytest.raises(Problem, match="Several"):
        queue.main(["red", "up", *where])
