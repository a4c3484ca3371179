"""The studio's programs as a campaign starts them: their real `main`, with short patience and faults at chosen points.

Run in processes forked by zygote.py. Nothing here stands in for anything of the studio: a trainer trains.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.chaos import kill_points
from trainer.jobs.supervisor import Timeouts

QUICK = Timeouts(tick=0.05, heartbeat=3.0, step=600, birth=1.0, stop=20.0, grace=1.0, leave=5.0, copy=0.3)
ADDRESS = "CHAOS_ZYGOTE"


def load() -> None:
    """Import what takes long, once."""
    for name in (
        "torch",
        "diffusers",
        "transformers",
        "trainer.engine.train",
        "trainer.engine.inference.preview_worker",
        "trainer.engine.inference.sampling",
        "trainer.jobs.trainer.trainer_process",
        "trainer.bases.families.sd1",
        *(("app.server.main", "uvicorn") if "CHAOS_WEB" in os.environ else ()),
    ):
        importlib.import_module(name)
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]
    from transformers import CLIPTextModel, CLIPTokenizer

    assert all((AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel, CLIPTextModel, CLIPTokenizer))
    import torch

    torch.set_num_threads(1)


def run(request: dict[str, Any]) -> int:
    """Be the program a request names; its exit status."""
    folder, fault = Path(request["folder"]), request.get("fault") or {}
    home = folder / "home"
    _shorten()
    count = kill_points.install(fault.get("at", 0), [str(home)])
    try:
        return PROGRAMS[request["what"]](request["argv"], folder)
    finally:
        (folder / f"count-{request['what']}").write_text(str(count()))


def _shorten() -> None:
    from trainer.engine.output import disk_room
    from trainer.jobs.ledger import sqlite_file

    disk_room.MARGIN, disk_room.AGAIN, sqlite_file.PATIENCE = 0, 0.3, 3.0


def _make_base(argv: list[str], _: Path) -> int:
    from tests.helpers.training_home import make_tiny

    make_tiny(Path(argv[0]))
    return 0


def _train(argv: list[str], folder: Path) -> int:
    from trainer.engine.train import train
    from trainer.jobs.trainer import trainer_process

    def alone(run: Any, *rest: Any) -> Any:
        """The real engine, with a lock of the campaign's own that shows two of them at one run."""
        with open(folder / f"{run.id}.alive", "a") as mark:
            try:
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                (folder / "twice").write_text(run.id)
            return train(run, *rest)

    return trainer_process.main(argv, train=alone, beat=0.3, tick=0.1)


def _spawn_by_zygote(folder: Path) -> None:
    """Trainers are forked from the zygote, each with the fault that is next in `faults.json`."""
    from tests.chaos.zygote import ask
    from trainer.core import process

    def spawn(argv: list[str], log: Path, env: dict[str, str] | None = None) -> tuple[int, float]:
        faults = json.loads((folder / "faults.json").read_text())
        fault = faults.pop(0) if faults else {}
        (folder / "faults.tmp").write_text(json.dumps(faults))
        os.replace(folder / "faults.tmp", folder / "faults.json")
        words = argv[argv.index("run") + 1 :]
        pid, connection = ask(
            os.environ[ADDRESS], {"what": "run", "argv": words, "log": str(log), "fault": fault, "folder": str(folder)}
        )
        connection.close()
        with open(folder / "started", "a") as started:
            started.write(json.dumps({"pid": pid, "fault": fault}) + "\n")
        return pid, process.birth(pid) or 0.0

    process.spawn = spawn


def _supervise(_: list[str], folder: Path) -> int:
    from trainer.core.home import Home
    from trainer.jobs.supervisor import Supervisor

    _spawn_by_zygote(folder)
    Supervisor(Home(folder / "home"), timeouts=QUICK).start()
    threading.Event().wait()
    return 0


def _serve(argv: list[str], folder: Path) -> int:
    """The whole page with its supervisor, on the port given."""
    import uvicorn

    from app.server.main import create_app
    from trainer.jobs import supervisor

    _spawn_by_zygote(folder)
    supervisor.Timeouts.__init__.__defaults__ = tuple(vars(QUICK).values())
    uvicorn.run(create_app(folder / "home", "en"), host="127.0.0.1", port=int(argv[0]), log_level="warning")
    return 0


def _draw(argv: list[str], folder: Path) -> int:
    """The Preview page's client, drawing until it is killed: one picture after the other into `previews`."""
    from trainer.core.home import Home
    from trainer.jobs.workers.preview import PreviewClient

    home = Home(folder / "home")
    worker = Path(__file__).with_name("worker.py")

    def command(_: Home) -> list[str]:
        return [sys.executable, "-S", str(worker), os.environ[ADDRESS], str(folder), "--home", str(home.root)]

    client = PreviewClient(home, command=command)
    base, number = argv[0], 0
    request = {"prompt": "a house", "steps": 1, "guidance": 1.0, "width": 64, "height": 64}
    while True:
        number += 1
        last = {}
        for last in client.draw(base, request, home.previews / f"p{number}"):
            if last["event"] == "picture":
                with open(folder / "drawn", "a") as drawn:
                    drawn.write(last["file"] + "\n")
        with open(folder / "ends", "a") as ends:
            ends.write(json.dumps(last) + "\n")
        time.sleep(0.05)


def _work(argv: list[str], folder: Path) -> int:
    from trainer.engine.inference import preview_worker

    (folder / "worker.pid").write_text(str(os.getpid()))
    return preview_worker.main(argv) or 0


def _act(argv: list[str], folder: Path) -> int:
    """One act in the library: which, on which LoRA, what is new. Leaves `act-done`, and `act-failed` with what was raised."""
    import traceback

    from trainer.core.home import Home
    from trainer.core.problem import Problem
    from trainer.library.library import Library

    act, name, new = argv
    try:
        library = Library(Home(folder / "home"))
        acts = {
            "rename": lambda: library.rename(name, new),
            "trash": lambda: library.trash(name),
            "undo": library.undo,
            "set": lambda: library.set(name, notes=new),
            "import": lambda: library.add(Path(new), "incoming"),
        }
        acts[act]()
    except Problem:
        pass  # said in a sentence
    except Exception:
        (folder / "act-failed").write_text(traceback.format_exc())
    (folder / "act-done").touch()
    return 0


PROGRAMS = {
    "library": _act,
    "base": _make_base,
    "run": _train,
    "supervisor": _supervise,
    "web": _serve,
    "page": _draw,
    "preview-worker": _work,
}
