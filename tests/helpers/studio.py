"""A home with real things in it for tests of runs, preview and library: LoRA files, runs with events, pictures."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image, ImageDraw

from tests.helpers.lora_files import factors, facts
from trainer.adapters import file as lora_file
from trainer.adapters import metadata
from trainer.config import load
from trainer.config.train import TrainConfig
from trainer.core import events, files
from trainer.core.home import Home
from trainer.core.run_dir import RunDir
from trainer.jobs.ledger.run_store import Store
from trainer.library.library import register

T = TypeVar("T")
PROMPTS = ("a fox, inkstamp", "a <b>red</b> apple")


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of `coroutine`, from a loop in a thread of its own: a browser's own loop may be running in the test's."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def picture(path: Path, shade: int, words: str = "") -> Path:
    """A small real PNG."""
    image = Image.new("RGB", (96, 96), (shade, 200 - shade // 2, 140))
    ImageDraw.Draw(image).text((8, 40), words, "white")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    files.write_bytes(path, buffer.getvalue())
    return path


def lora(home: Home, name: str = "Ink fox", **sections: Any) -> Path:
    """A LoRA file as a training writes it, with card and picture."""
    tree = {
        "run": {"kind": "character"},
        "captions": {"trigger": "inkfox"},
        "lora": {"rank": 4, "alpha": 2.0},
        "rights": {
            "pictures_ok": True,
            "pictures_licence": "drawn by me",
            "licence": "CC-BY-4.0",
            "purpose": "Ink foxes",
        },
        "images": {"folder": "datasets/foxes"},
        "save": {"name": name},
    }
    config = TrainConfig.model_validate(load.merge(tree, sections))
    said = metadata.build(
        config,
        facts(),
        steps=120,
        total_steps=120,
        items=[("inkfox, a fox", (512, 512), 1)] * 3,
        loss=0.1,
        started=1.7e9,
        finished=1.7e9 + 60,
        name=name,
        run_id="20261123-ink",
    )
    path = lora_file.write(home.loras / f"{said['ss_output_name']}.safetensors", factors(), said)
    register(path, picture(home.cache / "cover.png", 90, "fox"))
    return path


def run(home: Home, name: str, state: str = "succeeded", steps: int = 40, total: int = 40, **columns: Any) -> str:
    """A run in the ledger with the events and pictures of `steps` steps; its id."""
    store = Store(home.database)
    config = TrainConfig.model_validate({"save": {"name": name}, "run": {"steps": total}})
    id_ = store.create(config, name, state="draft")  # nothing takes a draft from the queue while its folder is filled
    folder = RunDir(home.runs / id_)
    log = events.EventLog(folder.events)
    log.write(events.Started(step=0, total=total, attempt=1, pid=1, facts={"device": "cpu"}))
    for step in range(steps + 1):
        if step:
            loss = 0.4 / (1 + step / 10)
            log.write(events.Step(step=step, total=total, loss=loss, seconds=0.5, memory=900_000_000))
        if step % 20 == 0:
            for index, prompt in enumerate(PROMPTS):
                made = picture(folder.sample(step, index), 20 + 2 * step, f"{step}")
                file = made.relative_to(folder.path).as_posix()
                log.write(events.Sample(step=step, index=index, prompt=prompt, file=file))
    log.write(events.Note(code="long_captions", params={"count": 2, "limit": 75}))
    files.write_text(folder.log, "step 1\n<script>alert(1)</script>\n")
    values = {
        "step": steps,
        "total": total,
        "rate": 0.5,
        "memory": 900_000_000,
        "queued": 1.7e9,
        "started": 1.7e9,
        "state": state,
    } | columns
    if state in ("succeeded", "stopped", "failed", "interrupted"):
        values.setdefault("ended", 1.7e9 + 200)
    store.mark(id_, **values)
    store.close()
    return id_
