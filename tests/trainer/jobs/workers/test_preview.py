"""The preview client with a worker that draws nothing: turns, cancelling, a worker that dies, a training beside it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from tests.helpers.jobs import wait_for
from trainer.core import process
from trainer.core.home import PROJECT
from trainer.jobs.ledger import lease
from trainer.jobs.ledger.lease import DeviceLease
from trainer.jobs.workers.preview import PreviewClient

PROGRAM = PROJECT / "tests" / "helpers" / "worker_program.py"


def worker(home):
    return [sys.executable, str(PROGRAM), "--home", str(home.root)]


@pytest.fixture
def client(home, store):
    client_ = PreviewClient(home, store, command=worker, patience=5)
    yield client_
    client_.close()


def draw(client, prompt="a", steps=3, base="mini"):
    return client.draw(base, {"prompt": prompt, "steps": steps}, client.home.previews / "x")


def kinds(answers):
    return [answer["event"] for answer in answers]


def starts(home):
    return [int(pid) for pid in (home.root / "starts.txt").read_text().split()]


def test_the_base_is_loaded_once_for_many_draws(home, client):
    assert kinds(draw(client)) == ["loading", "progress", "progress", "progress", "picture", "done"]
    assert kinds(draw(client)) == ["progress", "progress", "progress", "picture", "done"]
    assert kinds(draw(client, base="other"))[0] == "loading"
    assert len(starts(home)) == 1


def test_warming_loads_ahead_but_not_beside_a_training(home, client, store, config):
    id_ = store.create(config, "a")
    store.start_next(id_)
    client.warm("mini")
    assert not (home.root / "starts.txt").exists()
    store.move(id_, "failed")
    client.warm("mini")
    wait_for(lambda: client._worker and client._worker.base == "mini")
    assert "loading" not in kinds(draw(client))


def test_later_draws_queue_and_know_their_place(client):
    events: dict[str, list] = {}

    def draw_as(name):
        events[name] = list(draw(client, steps=15))

    first = threading.Thread(target=draw_as, args=("first",))
    first.start()
    wait_for(lambda: client._waiting)
    others = [threading.Thread(target=draw_as, args=(name,)) for name in ("second", "third")]
    for thread in others:
        thread.start()
        time.sleep(0.1)
    for thread in (first, *others):
        thread.join()
    assert all(answers[-1]["event"] == "done" for answers in events.values())
    assert events["second"][0] | {"id": 0} == {"id": 0, "event": "queued", "position": 1}
    assert [a["position"] for a in events["third"] if a["event"] == "queued"] == [2, 1]


def test_a_worker_that_dies_is_started_again_once(home, client):
    assert kinds(draw(client, "die once"))[-1] == "done"
    assert len(starts(home)) == 2


def test_a_worker_that_dies_twice_is_told(home, client, store):
    last = list(draw(client, "die"))[-1]
    assert (last["event"], last["code"]) == ("failed", "job_preview_died")
    assert lease.holder(store, "main") is None
    assert kinds(draw(client))[-1] == "done"


def test_what_the_worker_refuses_is_passed_on(client):
    assert list(draw(client, "refuse"))[-1]["code"] == "prompt_missing"


def test_cancel_ends_the_draw_that_is_on(client):
    answers = []
    for answer in draw(client, steps=500):
        answers.append(answer)
        if answer.get("step") == 3:
            client.cancel()
    assert answers[-1]["event"] == "cancelled" and len(answers) < 100
    assert kinds(draw(client))[-1] == "done"


def test_a_page_that_leaves_cancels_and_gives_the_device_back(home, client, store):
    answers = draw(client, steps=500)
    while next(answers).get("step") != 3:
        pass
    assert lease.holder(store, "main") == "preview"
    answers.close()
    assert lease.holder(store, "main") is None and not client._waiting
    assert kinds(draw(client)) == ["progress"] * 3 + ["picture", "done"]
    assert len(starts(home)) == 1


def test_a_training_waits_only_for_the_drawing_not_for_the_loading(home, client, store):
    waits: list[bool] = []
    device = DeviceLease(store, "main", "run 1", waits.append, poll=0.01)
    device.acquire()
    over = threading.Event()

    def train():
        while not over.wait(0.01):
            device.between()

    trainer = threading.Thread(target=train)
    trainer.start()
    seen = []
    for answer in draw(client):
        seen.append((answer["event"], lease.holder(store, "main")))
    over.set()
    trainer.join()
    assert seen[:2] == [("loading", "train"), ("waiting", "train")]
    assert {holder for event, holder in seen[2:]} == {"preview"}
    assert waits == [True, False] and lease.holder(store, "main") == "train"
    device.close()


def test_the_worker_goes_where_a_training_needs_the_memory(home, store, config):
    client = PreviewClient(home, store, command=worker, idle=0.1)
    assert kinds(draw(client))[-1] == "done"
    pid = starts(home)[0]
    time.sleep(0.4)
    assert process.birth(pid) is not None
    store.start_next(store.create(config, "a"))
    wait_for(lambda: process.birth(pid) is None)
    assert kinds(draw(client))[:2] == ["loading", "progress"]
    client.close()


def test_a_worker_that_cannot_start_is_told(home, store):
    client = PreviewClient(home, store, command=lambda home: ["/no/such/program"])
    assert list(draw(client))[-1]["code"] == "job_no_process"
    client.close()


def test_closing_ends_the_worker_and_later_draws_are_refused(home, client):
    list(draw(client))
    pid = starts(home)[0]
    client.close()
    assert process.birth(pid) is None
    assert list(draw(client))[-1]["code"] == "job_preview_closed"


def test_the_worker_ends_with_the_page(home):
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
from tests.trainer.jobs.workers.test_preview import PreviewClient, draw, worker
from trainer.core.home import Home
client = PreviewClient(Home.find({str(home.root)!r}), command=worker)
print(list(draw(client))[-1]["event"], client._worker.pid, flush=True)
sys.stdin.read()
"""
    page = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert page.stdout
    event, pid = page.stdout.readline().split()
    born = process.birth(int(pid))
    assert event == "done" and born
    page.kill()
    page.communicate()
    wait_for(lambda: not process.alive(int(pid), born))
