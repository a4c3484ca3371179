"""The whole main job on a CUDA device: train in bf16, stop, resume, preview, with sdpa and with xformers where it runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from trainer.adapters.fold import LoraStrength
from trainer.bases import catalog
from trainer.commands.demo import SET
from trainer.commands.train import from_set
from trainer.config import load
from trainer.core import events
from trainer.core.home import PROJECT, Home
from trainer.core.run_dir import RunDir
from trainer.engine.inference.sampling import GenerateRequest, ImageSampler
from trainer.engine.output.control import Control
from trainer.engine.speed import device
from trainer.engine.train import train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]


def main_job(home: Home, attention: str, name: str):
    """Train 60 steps with a stop at 25; returns the LoRA and what was told."""
    base = catalog.find(home, "mini")
    config = load.build(
        load.preset("style", base),
        from_set(SET),
        {"rights": {"pictures_ok": True}, "save": {"name": name}},
        {"images": {"folder": str(SET)}, "samples": {"steps": 8}},
        overrides=["run.steps=60", f"memory.attention={attention}", "run.device=cuda"],
    )
    run = RunDir(home.runs / name)
    run.path.mkdir(parents=True)
    told: list[events.Event] = []

    def stop_at_25(event):
        told.append(event)
        if isinstance(event, events.Step) and event.step == 25:
            run.ask("stop")

    assert train(run, config, home, stop_at_25, Control(run)) is None
    return train(run, config, home, told.append, Control(run), 2), told


@pytest.mark.parametrize("attention", ["sdpa", "xformers"])
def test_the_main_job_in_bf16(tmp_path, attention):
    home = Home(tmp_path).create()
    file, told = main_job(home, attention, f"gpu-{attention}")
    started = [e for e in told if isinstance(e, events.Started)]
    assert [s.facts["dtype"] for s in started] == ["bfloat16"] * 2 and started[1].step >= 25
    if attention == "xformers" and started[0].facts["attention"] == "sdpa":
        pytest.skip(f"xformers was tried and sdpa used: {started[0].facts['attention_why']}")
    steps = [e.loss for e in told if isinstance(e, events.Step)]
    losses = [loss for loss in steps if loss is not None]
    assert len(losses) == len(steps) >= 60 and np.isfinite(losses).all()
    assert np.mean(losses[-15:]) < np.mean(losses[:15])
    where = device.choose_device("auto")
    studio = ImageSampler.load(catalog.find(home, "mini"), where, device.choose_dtype("auto", where))
    asked = GenerateRequest("a fox, white background", steps=8, guidance=3.0, width=128, height=128)
    bare = np.asarray(next(iter(studio.draw(asked))).image, np.int16)
    assert file is not None
    strip = GenerateRequest(**{**asked.__dict__, "loras": (LoraStrength(file),), "strengths": (0.0, 0.5, 1.0)})
    zero, half, one = (np.asarray(d.image, np.int16) for d in studio.draw(strip))
    assert np.array_equal(zero, bare)
    assert 0 < np.abs(half - bare).mean() < np.abs(one - bare).mean()


def test_the_gpu_follows_the_cpu(tmp_path):
    """Three steps in fp32 on both: losses equal to 1e-3, because every random draw is made on the CPU."""
    losses = {}
    for where in ("cpu", "cuda"):
        home = Home(tmp_path / where).create()
        config = load.build(
            load.preset("style", catalog.find(home, "mini")),
            {"images": {"folder": str(SET)}, "save": {"name": where}},
            overrides=[
                "run.steps=3",
                f"run.device={where}",
                "memory.base_dtype=fp32",
                "samples.steps=1",
                "memory.attention=sdpa",
            ],
        )
        run = RunDir(home.runs / where)
        run.path.mkdir(parents=True)
        told: list[events.Event] = []
        train(run, config, home, told.append, Control(run))
        losses[where] = [e.loss for e in told if isinstance(e, events.Step)]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-3)


def test_the_preview_worker_draws_on_the_gpu(tmp_path):
    asked = {
        "id": "1",
        "do": "draw",
        "base": "mini",
        "out": str(tmp_path / "out"),
        "request": {"prompt": "a castle", "steps": 4, "guidance": 3.0, "width": 128, "height": 128},
    }
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "preview-worker", "--home", str(tmp_path)],
        cwd=PROJECT,
        text=True,
        input=json.dumps(asked) + "\n",
        capture_output=True,
        timeout=300,
        check=True,
    )
    told = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert told[0] == "ready" and "picture" in told and told[-1] == "done"
    shutil.rmtree(tmp_path / "out")
