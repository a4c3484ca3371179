"""What a page's tick costs while many pages are open: `python -m bench.load [--pages 20 --uploads 3 --previews 2]`.

A real server process, a real training on the embedded base, real uploads and drawings through the page's own addresses. A tick
is one round of the Runs page's timer as the browser makes it: the event is put into Gradio's queue and its answer read from the
stream. Prints JSON: seconds of a tick (median, p95) with one page and nothing else, and under load; the server's memory by
minute; `ratio` is the loaded p95 divided by the idle one.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image

from trainer.config import load as config_tree
from trainer.core import process
from trainer.core.home import PROJECT, Home
from trainer.jobs.jobs import Jobs

INTERVAL = 2.0
"""Seconds between two ticks of the Runs page."""


class Page:
    """One open page: what of Gradio's configuration is needed to send its events as the browser does."""

    def __init__(self, client: httpx.AsyncClient, config: dict[str, Any]) -> None:
        self.client, self.config, self.session = client, config, uuid.uuid4().hex[:12]
        self.components = {component["id"]: component["props"] for component in config["components"]}

    def event(self, target: str, trigger: str, outputs: str | None = None) -> dict[str, Any]:
        """The event that `target` (an element id, or "" for a timer) starts and that changes the element `outputs`."""
        for dependency in self.config["dependencies"]:
            changed = {self.components[id_].get("elem_id") for id_ in dependency["outputs"]}
            for id_, name in dependency["targets"]:
                here = name == trigger and (self.components[id_].get("elem_id") or "") == target
                if here and (outputs is None or outputs in changed):
                    return dependency
        raise LookupError(f"{target}.{trigger}")

    async def send(self, dependency: dict[str, Any], **values: Any) -> float:
        """Send an event with its components' first values (or `values` by element id); seconds until its last answer."""
        props = [self.components[id_] for id_ in dependency["inputs"]]
        data = [values.get((one.get("elem_id") or "").replace("-", "_"), one.get("value")) for one in props]
        begun = time.perf_counter()
        body = {"data": data, "fn_index": dependency["id"], "session_hash": self.session, "event_data": None,
                "trigger_id": dependency["targets"][0][0]}  # fmt: skip
        (await self.client.post("/en/gradio_api/queue/join", json=body)).raise_for_status()
        async with self.client.stream("GET", f"/en/gradio_api/queue/data?session_hash={self.session}") as stream:
            async for line in stream.aiter_lines():
                if '"process_completed"' in line:
                    if '"success":true' not in line:
                        raise RuntimeError(line[:500])
                    return time.perf_counter() - begun
        raise RuntimeError("the stream ended without an answer")


async def tick(page: Page, times: list[float], until: float) -> None:
    """Ask as the Runs page does, every two seconds; a late answer delays the next question."""
    event = page.event("", "tick", "run-head")
    await asyncio.sleep(random.uniform(0, INTERVAL))
    while time.monotonic() < until:
        begun = time.monotonic()
        times.append(await page.send(event))
        await asyncio.sleep(max(0.0, INTERVAL - (time.monotonic() - begun)))


async def upload(client: httpx.AsyncClient, until: float, counts: dict[str, int], photos: list[bytes]) -> None:
    """Drop sets of ten pictures, one after the other."""
    number = 0
    while time.monotonic() < until:
        batch = (await client.post("/uploads/new")).json()["id"]
        number += 1
        for name, photo in enumerate(photos):
            path = {"path": f"{name}.jpg"}
            (await client.put(f"/uploads/{batch}/file", params=path, content=photo)).raise_for_status()
        body = {"title": f"upload {number}", "kind": "style", "lang": "en"}
        (await client.post(f"/uploads/{batch}/finish", json=body)).raise_for_status()
        counts["uploaded"] += len(photos)


def photo(seed: int) -> bytes:
    """A JPEG of two megapixels that no other one equals."""
    rough = Image.frombytes("RGB", (48, 32), random.Random(f"{os.getpid()}{seed}").randbytes(48 * 32 * 3))
    buffer = io.BytesIO()
    rough.resize((1728, 1152), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


async def preview(page: Page, until: float, counts: dict[str, int]) -> None:
    """Press Draw with a new seed each time."""
    event = page.event("preview-draw", "click")
    while time.monotonic() < until:
        await page.send(event, preview_prompt="a fox", preview_seed=random.randrange(2**31), preview_steps=4)
        counts["drawn"] += 1


async def watch(server: psutil.Process, sizes: list[int], until: float) -> None:
    """The server's resident memory every ten seconds."""
    while time.monotonic() < until:
        sizes.append(server.memory_info().rss)
        await asyncio.sleep(10)


def percentile(times: list[float], share: float) -> float:
    """The smallest time that `share` of all do not exceed."""
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


async def measure(url: str, server: psutil.Process, home: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Idle first, then with a training and everybody else at work."""
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=100)
    async with httpx.AsyncClient(base_url=url, headers={"Origin": url}, timeout=120, limits=limits) as client:
        config = (await client.get("/en/config")).json()
        idle: list[float] = []
        await tick(Page(client, config), [], time.monotonic() + 10)
        await tick(Page(client, config), idle, time.monotonic() + options.idle)
        photos = [[photo(10 * i + number) for number in range(10)] for i in range(options.uploads)]
        jobs = Jobs(Home.find(home))
        run = jobs.submit(training(options.steps), uuid.uuid4().hex)
        jobs.close()
        until = time.monotonic() + options.seconds
        times: list[float] = []
        sizes: list[int] = []
        counts = {"uploaded": 0, "drawn": 0}
        work = [watch(server, sizes, until), *(tick(Page(client, config), times, until) for _ in range(options.pages))]
        work += [upload(client, until, counts, photos[i]) for i in range(options.uploads)]
        work += [preview(Page(client, config), until, counts) for _ in range(options.previews)]
        await asyncio.gather(*work)
        jobs = Jobs(Home.find(home))
        steps = jobs.row(run).step
        jobs.close()
    minutes = [sizes[i] for i in range(0, len(sizes), 6)]
    return {
        "case": "load", "pages": options.pages, "uploads": options.uploads, "previews": options.previews,
        "idle_median": percentile(idle, 0.5), "idle_p95": percentile(idle, 0.95), "ticks": len(times),
        "median": percentile(times, 0.5), "p95": percentile(times, 0.95), "most": max(times),
        "ratio": percentile(times, 0.95) / percentile(idle, 0.95), "server_megabytes_by_minute": [n >> 20 for n in minutes],
        "growth_after_third_minute": sizes[-1] / sizes[18] - 1 if len(sizes) > 24 else None,
        "trained_steps": steps, **counts,
    }  # fmt: skip


def training(steps: int) -> Any:
    """A training on the example style that lasts longer than the measurement."""
    tree = config_tree.preset("style")
    own = {"run": {"kind": "style", "steps": steps}, "model": {"base": "mini"}, "save": {"name": "load", "every": 500},
           "images": {"folder": str(PROJECT / "datasets" / "example-style")}, "rights": {"pictures_ok": True},
           "samples": {"every": 500}}  # fmt: skip
    return config_tree.build(tree, own)


def main(argv: list[str] | None = None) -> int:
    """Start a server in a home of its own, measure, end it."""
    words = argparse.ArgumentParser(prog="python -m bench.load")
    words.add_argument("--pages", type=int, default=20)
    words.add_argument("--uploads", type=int, default=3)
    words.add_argument("--previews", type=int, default=2)
    words.add_argument("--seconds", type=float, default=240)
    words.add_argument("--idle", type=float, default=30)
    words.add_argument("--steps", type=int, default=100_000)
    words.add_argument("--project", type=Path, default=PROJECT, help="another checkout to measure, for a comparison")
    options = words.parse_args(argv)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        command = [sys.executable, str(options.project / "launch.py"), "ui", "--no-browser"]
        command += ["--home", str(home), "--port", str(port)]
        environment = os.environ | {"ATELIER_VENV": sys.prefix}
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=options.project, env=environment)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(url, server)
            print(json.dumps(asyncio.run(measure(url, psutil.Process(server.pid), home, options)), indent=1))
        finally:
            server.terminate()
            server.wait(30)
            end_trainings(home)
    return 0


def end_trainings(home: Path) -> None:
    """End what was trained: it outlives its server, and nobody wants it."""
    jobs = Jobs(Home.find(home))
    for row in jobs.rows():
        if row.pid and row.birth:
            process.end(row.pid, row.birth)
    jobs.close()


def wait_for(url: str, server: subprocess.Popen[Any]) -> None:
    """Until the page answers; a server that ended is an error."""
    while server.poll() is None:
        try:
            if httpx.get(f"{url}/healthz").json() == {"ready": True}:
                return
        except (httpx.TransportError, ValueError):
            pass
        time.sleep(0.3)
    raise RuntimeError("the server did not start")


if __name__ == "__main__":
    sys.exit(main())
