"""Two complete servers on one home: what both do at once is whole, one run is trained once, and one outlives the other."""

from __future__ import annotations

import io
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.app.test_restart import start
from trainer.config import load
from trainer.core import events
from trainer.core.home import PROJECT, Home
from trainer.images.set.image_set import list_sets
from trainer.jobs.jobs import Jobs

pytestmark = pytest.mark.slow
Servers = tuple[tuple[str, subprocess.Popen[bytes]], tuple[str, subprocess.Popen[bytes]]]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """Two real server processes on the home at `tmp_path`, each with its address."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    with ThreadPoolExecutor(2) as pool:
        processes = list(pool.map(lambda port: start(tmp_path, port), ports))
    one, other = ((f"http://127.0.0.1:{port}", process) for port, process in zip(ports, processes, strict=True))
    yield one, other
    for process in processes:
        process.kill()
        process.wait()


def until(true: Callable[[], object], seconds: float = 240.0) -> None:
    """Wait for what was promised."""
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.2)


def drop(address: str, number: int) -> str:
    """Drop a set of three pictures with captions under one and the same title; the set's name."""
    with httpx.Client(base_url=address, headers={"Origin": address}, timeout=120) as client:
        batch = client.post("/uploads/new").json()["id"]
        for index in range(3):
            buffer = io.BytesIO()
            Image.new("RGB", (96, 96), (60 * index, 30 * number, 90)).save(buffer, "PNG")
            for name, data in ((f"{index}.png", buffer.getvalue()), (f"{index}.txt", f"fox {number} {index}".encode())):
                client.put(f"/uploads/{batch}/file", params={"path": name}, content=data).raise_for_status()
        done = client.post(f"/uploads/{batch}/finish", json={"title": "Foxes", "kind": "style", "lang": "en"})
        return done.raise_for_status().json()["set"]


def test_drops_at_both_at_once_become_whole_sets_of_their_own(servers: Servers, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        names = list(pool.map(lambda number: drop(servers[number % 2][0], number), range(8)))
    sets = {image_set.folder.name: image_set for image_set in list_sets(Home(tmp_path))}
    assert len(set(names)) == 8 and set(names) <= set(sets)
    for number, name in enumerate(names):
        assert [picture.caption for picture in sets[name].pictures()] == [f"fox {number} {index}" for index in range(3)]


def test_a_run_is_trained_once_and_outlives_the_server_that_started_it(servers: Servers, tmp_path: Path) -> None:
    home = Home(tmp_path)
    tree = {
        "images": {"folder": str(PROJECT / "datasets" / "example-style"), "resolution": 64},
        "run": {"steps": 12, "batch_size": 1},
        "lora": {"rank": 1},
        "samples": {"steps": 1, "prompts": ["a fox"], "every": 100_000},
        "save": {"name": "both", "every": 100_000},
        "rights": {"pictures_ok": True},
    }
    jobs = Jobs(home)
    runs = [jobs.submit(load.build(tree), f"press {number}") for number in range(2)]
    try:
        until(lambda: any(row.step for row in jobs.rows()))
        assert sum(row.state == "running" for row in jobs.rows()) == 1  # one device, one run
        servers[0][1].kill()
        until(lambda: all(row.state == "succeeded" for row in jobs.rows()))
        for run in runs:
            kinds = [event.kind for event in events.read(jobs.run_dir(run).events)[0]]
            assert kinds.count("started") == 1 and kinds.count("finished") == 1
        assert len(list(home.loras.glob("*.safetensors"))) == 2
        assert httpx.get(f"{servers[1][0]}/healthz").json() == {"ready": True}
    finally:
        jobs.close()
