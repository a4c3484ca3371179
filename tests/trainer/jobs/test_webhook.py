"""A webhook tells another program how a run ended, and never stands in the way of a training."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from tests.helpers.jobs import wait_for
from trainer.commands import notify
from trainer.core.problem import Problem
from trainer.jobs import webhook


class Receiver(HTTPServer):
    """Another program on this machine that is told; `answer` is its status, `slow` how long it thinks."""

    def __init__(self) -> None:
        self.received: list[dict] = []
        self.answer, self.slow = 204, 0.0
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}/hook?key=hush"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        time.sleep(self.server.slow)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(body))
        self.send_response(self.server.answer)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("plan_", "states"),
    [
        ({"steps": 3}, ["succeeded"]),
        ({"steps": 20, "fault": "problem"}, ["failed"]),
        ({"steps": 20, "fault": "kill", "save": 100}, ["interrupted"]),  # told by the supervisor: the trainer is gone
        ({"steps": 20, "fault": "disk"}, ["paused", "succeeded"]),
    ],
)
def test_another_program_is_told_once_and_nothing_private(jobs, supervisor, config, plan, receiver, home, plan_, states):
    jobs.store.remember(webhook.SETTING, receiver.address)
    plan(**plan_)
    id_ = jobs.submit(config, "a")
    if states[0] == "paused":
        wait_for(lambda: receiver.received)
        (home.root / "room").touch()
    wait_for(lambda: len(receiver.received) == len(states))
    wait_for(lambda: jobs.row(id_).pid is None)
    assert [body["state"] for body in receiver.received] == states
    last = receiver.received[-1]
    assert set(last) == {"program", "run", "name", "state", "why", "started", "ended", "text", "content"}
    assert (last["run"], last["name"]) == (id_, "red") and last["started"] <= last["ended"] and "red" in last["text"]
    assert str(home.root) not in json.dumps(receiver.received)


def test_a_receiver_that_does_not_answer_holds_up_nothing_and_is_named_once_in_the_log(
    jobs, supervisor, config, plan, receiver, home, monkeypatch
):
    receiver.answer = 307
    jobs.store.remember(webhook.SETTING, receiver.address)
    plan(steps=20, fault="disk")
    id_ = jobs.submit(config, "a")
    wait_for(lambda: receiver.received)
    (home.root / "room").touch()
    wait_for(lambda: jobs.row(id_).state == "succeeded" and jobs.row(id_).pid is None)
    log = jobs.run_dir(id_).log.read_text("utf-8")
    assert log.count("127.0.0.1") == 1 and "hush" not in log  # an address may hold a secret
    assert len(receiver.received) == 2  # tried each time, followed nowhere

    row, slow = jobs.row(id_), webhook.Webhook(jobs.store)
    receiver.slow = 0.5
    begun = time.monotonic()
    slow.notify(row)
    assert time.monotonic() - begun < 0.3
    slow.wait()
    assert len(receiver.received) == 3


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "ftp://a.example/x",
        "https://",
        "http://me:pass@a.example/",
        "http://a b.example",
        "http://a:x/",
        "javascript:alert(1)",
        "http://[::1",
        "http://a.example/" + "x" * 2000,
    ],
)
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(Problem) as caught:
        webhook.parse_address(address)
    assert caught.value.code == "webhook_address"


def test_the_command_sets_tries_and_shows_the_address(home, receiver, capsys):
    where = ["--home", str(home.root)]
    assert notify.main([receiver.address, "--try", *where]) == 0
    assert receiver.received[0]["state"] == "trial" and receiver.address in capsys.readouterr().out
    assert notify.main(where) == 0 and receiver.address in capsys.readouterr().out
    receiver.answer = 500
    with pytest.raises(Problem, match=r"127\.0\.0\.1"):
        notify.main(["--try", *where])
    assert notify.main(["off", *where]) == 0 and "No webhook" in capsys.readouterr().out
    with pytest.raises(Problem, match="No address"):
        notify.main(["--try", *where])
