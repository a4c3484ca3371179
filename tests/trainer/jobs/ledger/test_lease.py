"""Who has the device: a training lends it between two steps and gets it back, whatever becomes of the borrower."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from tests.helpers.jobs import wait_for
from trainer.core import events, process
from trainer.jobs.ledger import lease
from trainer.jobs.ledger.lease import DeviceLease, borrow
from trainer.jobs.ledger.run_store import Store


class Training(threading.Thread):
    """Makes steps of 10 ms, with the hook between them."""

    def __init__(self, home, **more) -> None:
        super().__init__(daemon=True)
        self.store = Store(home.database)
        self.waits: list[bool] = []
        self.lease = DeviceLease(self.store, "main", "run 1", self.waits.append, poll=0.01, **more)
        self.lease.acquire()
        self.steps, self.over = 0, threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            self.lease.between()
            assert self.lease.held
            time.sleep(0.01)
            self.steps += 1
        self.lease.close()
        self.store.close()


@pytest.fixture
def training(home):
    thread = Training(home)
    thread.start()
    yield thread
    thread.over.set()
    thread.join()


def lent(store):
    return store.read("SELECT * FROM leases")


def test_a_training_yields_between_two_steps_and_goes_on(store, training):
    wait_for(lambda: training.steps > 5)
    begun = time.monotonic()
    with borrow(store, "main", poll=0.01) as granted:
        assert granted and time.monotonic() - begun < 10
        assert lease.holder(store, "main") == "preview"
        wait_for(lambda: training.waits == [True])
        steps = training.steps
        time.sleep(0.2)
        assert training.steps == steps
    assert lease.holder(store, "main") == "train"
    wait_for(lambda: training.steps > steps + 3)
    assert training.waits == [True, False]


def test_a_free_device_is_had_at_once(store):
    begun = time.monotonic()
    with borrow(store, "main") as granted:
        assert granted and time.monotonic() - begun < 5
    assert lease.holder(store, "main") is None and lent(store) == []


def test_between_costs_little_while_nobody_asks(home, store):
    device = DeviceLease(store, "main", "run 1", lambda begins: None)
    device.acquire()
    times = []
    for _ in range(3000):
        begun = time.perf_counter()
        device.between()
        times.append(time.perf_counter() - begun)
    device.close()
    assert sorted(times)[len(times) // 2] < 1e-3


def test_two_previews_take_turns_and_the_training_gets_a_step_in_between(home, store, training):
    order: list[str] = []

    def draw(name: str) -> None:
        with borrow(store, "main", poll=0.01) as granted:
            order.append(f"{name} {granted}")
            time.sleep(0.15)

    threads = [threading.Thread(target=draw, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(order) == ["a True", "b True"]
    wait_for(lambda: training.waits == [True, False, True, False])


def dead() -> tuple[int, float, str]:
    """The marks of a process that is gone."""
    gone = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    mark = process.birth(gone.pid)
    gone.communicate()
    return gone.pid, mark or 0.0, process.boot_id()


def test_a_request_of_a_dead_page_never_blocks(store, training):
    names = "device, holder, kind, pid, born, boot, asked"
    store.write(f"INSERT INTO requests({names}) VALUES('main', 'x', 'preview', ?, ?, ?, 0)", dead())
    wait_for(lambda: store.read("SELECT * FROM requests") == [])
    steps = training.steps
    wait_for(lambda: training.steps > steps + 5)
    assert training.waits == []


def test_a_page_that_dies_while_drawing_gives_the_device_back(home, store, training):
    code = f"""
import sys, time
from pathlib import Path
sys.path[:0] = {sys.path!r}
from trainer.jobs.ledger.lease import borrow
from trainer.jobs.ledger.run_store import Store
with borrow(Store(Path({str(home.database)!r})), "main", poll=0.01) as granted:
    print(granted, flush=True)
    time.sleep(60)
"""
    page = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert page.stdout and page.stdout.readline() == "True\n"
    steps = training.steps
    page.kill()
    page.communicate()
    wait_for(lambda: training.steps > steps + 5)
    assert lease.holder(store, "main") == "train"


def test_a_training_that_died_holds_nothing(store):
    names = "device, holder, kind, pid, born, boot, since"
    store.write(f"INSERT INTO leases({names}) VALUES('main', 'run 1', 'train', ?, ?, ?, 0)", dead())
    assert lease.holder(store, "main") is None
    with borrow(store, "main") as granted:
        assert granted


def test_a_training_that_dies_while_it_waits_is_not_given_the_device_back(store):
    with borrow(store, "main"):
        pid, born, boot = dead()
        store.write("UPDATE leases SET lender='run 1', lender_pid=?, lender_born=?, lender_boot=?", (pid, born, boot))
    assert lent(store) == []


def test_where_nobody_yields_the_preview_goes_on_beside_it(home, store):
    device = DeviceLease(store, "main", "run 1", lambda begins: None)
    device.acquire()  # and then encodes for minutes without a step
    with borrow(store, "main", patience=0.2, poll=0.01) as granted:
        assert not granted
    assert lease.holder(store, "main") == "train" and store.read("SELECT * FROM requests") == []
    device.close()
    assert lease.holder(store, "main") is None


def test_a_device_nobody_touches_any_more_is_taken_back(home, store):
    training = Training(home, patience=0.5)
    training.start()
    with borrow(store, "main", poll=0.01):
        wait_for(lambda: training.waits)
        for _ in range(4):
            time.sleep(0.2)
            lease.touch(store, "main")
        assert training.waits == [True]
        wait_for(lambda: training.waits == [True, False])
    assert lease.holder(store, "main") == "train"
    training.over.set()
    training.join()


def test_giving_up_while_waiting_withdraws_the_request(home, store):
    device = DeviceLease(store, "main", "run 1", lambda begins: None)
    device.acquire()

    def give_up() -> None:
        raise KeyError

    with pytest.raises(KeyError), borrow(store, "main", waiting=give_up):
        pass
    assert store.read("SELECT * FROM requests") == []
    assert device.between() is True and device.held
    device.close()


def test_a_preview_is_drawn_between_two_pictures_being_encoded(jobs, supervisor, config, plan, store):
    plan(encode=100, steps=5)
    id_ = jobs.submit(config, "a")
    wait_for(lambda: jobs.row(id_).stage == "encoding" and jobs.row(id_).stage_of == 100)
    begun = time.monotonic()
    with borrow(store, "main", poll=0.01) as granted:
        assert granted and time.monotonic() - begun < 20
        wait_for(lambda: jobs.row(id_).stage == "waiting")
    wait_for(lambda: jobs.row(id_).stage == "encoding")
    jobs.stop(id_)


def test_a_real_trainer_says_that_it_waits(jobs, supervisor, config, plan, store):
    plan(steps=1000)
    id_ = jobs.submit(config, "a")
    wait_for(lambda: jobs.row(id_).step > 3)
    with borrow(store, "main", poll=0.01) as granted:
        assert granted
        wait_for(lambda: jobs.row(id_).stage == "waiting")
        step = jobs.row(id_).step
    wait_for(lambda: jobs.row(id_).step > step + 3)
    jobs.pause(id_)
    wait_for(lambda: jobs.row(id_).state == "paused")
    begun = time.monotonic()
    with borrow(store, "main") as granted:
        assert granted and time.monotonic() - begun < 5  # a paused training holds nothing
    jobs.resume(id_)
    step = jobs.row(id_).step
    wait_for(lambda: jobs.row(id_).step > step + 3)
    assert lease.holder(store, "main") == "train"
    stages = [e.name for e in events.read(jobs.run_dir(id_).events)[0] if isinstance(e, events.Stage)]
    assert stages.count("waiting") == 1
    jobs.stop(id_)
    wait_for(lambda: jobs.row(id_).state == "stopped")
    wait_for(lambda: lease.holder(store, "main") is None)
