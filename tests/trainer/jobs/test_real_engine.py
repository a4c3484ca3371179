"""The real trainer process with the real engine on a tiny model: killed and gone on, with a preview drawn meanwhile."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.helpers.jobs import wait_for
from trainer.config import load
from trainer.core import events, files
from trainer.jobs.jobs import Jobs
from trainer.jobs.supervisor import Supervisor, Timeouts
from trainer.jobs.workers.preview import PreviewClient

pytestmark = pytest.mark.slow


@pytest.fixture
def base(home) -> Path:
    from tests.helpers.training_home import make_tiny

    return make_tiny(home.models / "tiny")


@pytest.fixture
def tree(home, base):
    return {
        "model": {"base": str(base)},
        "images": {"folder": str(home.datasets / "set"), "resolution": 64},
        "run": {"steps": 60, "batch_size": 1},
        "samples": {"steps": 1, "every": 1000, "prompts": ["a house"]},
        "save": {"name": "red", "every": 5},
        "rights": {"pictures_ok": True},
        "lora": {"rank": 2},
    }


def losses(jobs: Jobs, id_: str) -> dict[int, float | None]:
    steps, _ = events.read(jobs.run_dir(id_).events)
    return {event.step: event.loss for event in steps if isinstance(event, events.Step)}


def test_kill_resume_preview_and_the_same_numbers(home, jobs, store, tree):
    watch = Supervisor(home, store, timeouts=Timeouts(tick=0.1))
    client = PreviewClient(home, store)
    watch.start()
    try:
        straight = jobs.submit(load.build(tree), "straight")
        wait_for(lambda: jobs.row(straight).state == "succeeded", 120)
        broken = jobs.submit(load.build({**tree, "save": {"name": "again", "every": 5}}), "broken")
        wait_for(lambda: jobs.row(broken).step >= 12, 120)
        os.kill(jobs.row(broken).pid or 0, signal.SIGKILL)
        took = wait_for(lambda: jobs.row(broken).requeues == 1, 10)
        request = {
            "prompt": "a house",
            "steps": 1,
            "guidance": 1.0,
            "width": 64,
            "height": 64,
            "loras": [{"path": str(home.loras / "red.safetensors")}],
            "strengths": [0.0, 1.0],
        }
        answers = list(client.draw(str(home.models / "tiny"), request, home.previews / "p"))
        wait_for(lambda: jobs.row(broken).state == "succeeded", 120)
        wait_for(lambda: jobs.row(broken).pid is None, 20)
        assert took < 10 and jobs.row(broken).attempt == 2
        assert answers[-1]["event"] == "done"
        assert all(Path(a["file"]).is_file() for a in answers if a["event"] == "picture")
        assert losses(jobs, broken) == losses(jobs, straight) and len(losses(jobs, straight)) == 60
        ends = [jobs.run_dir(id_).checkpoint(60) / "adapter.safetensors" for id_ in (straight, broken)]
        assert files.sha256(ends[0]) == files.sha256(ends[1])
    finally:
        client.close()
        watch.stop()


def test_the_real_forecast_is_measured_in_a_child(jobs, tree):
    config = load.build(tree)
    assert jobs.forecast(config) is None
    wait_for(lambda: jobs.forecast(config) is not None, 120)
    forecast = jobs.forecast(config)
    assert forecast and forecast.steps == 60 and 0 < forecast.seconds_per_step < 10 and forecast.file_bytes > 1000
