"""`demo`: the main job without a browser, on the example style and the embedded base. Called by `python -m trainer`."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainer.bases import catalog
from trainer.commands.train import from_set
from trainer.config import load
from trainer.core import events, files
from trainer.core.home import PROJECT, Home
from trainer.core.run_dir import RunDir
from trainer.core.texts import t

SET = PROJECT / "datasets" / "example-style"
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
THINGS = ("a fox", "a castle", "a cactus", "a red apple")
"""None of them is in the example set."""
SEED = 7


def main(argv: list[str]) -> int:
    """Train, draw at strengths 0 … 1.5, and write lora.safetensors, pictures/, contact-sheet.png, result.json."""
    parser = argparse.ArgumentParser(prog="launch.py demo", description=t("commands.demo.about"))
    parser.add_argument("--out", type=Path, help=t("commands.demo.out"))
    parser.add_argument("--home", help=t("commands.home"))
    parser.add_argument("overrides", nargs="*", metavar="section.name=value", help=t("commands.train.overrides"))
    args = parser.parse_intermixed_args(argv)
    home = Home.find(args.home)
    out = args.out or files.free_name(home.outputs, "demo")
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="atelier-demo-") as folder:
        work = Home(Path(folder)).create()
        base = catalog.find(work, "mini")
        config = load.build(
            load.preset("style", base),
            from_set(SET),
            {"rights": {"pictures_ok": True}, "save": {"name": "demo"}},
            {"images": {"folder": str(SET)}, "samples": {"every": 1_000_00, "steps": 4}},
            overrides=args.overrides,
        )
        lora, steps = _train(work, config)
        shutil.copyfile(lora, out / "lora.safetensors")
    trained = time.monotonic() - began
    trigger = config.captions.trigger
    prompts = [f"{thing}, {trigger}, white background" for thing in THINGS]
    differences = _draw(base, out, prompts)
    result = {
        "seconds": round(time.monotonic() - began, 1),
        "training_seconds": round(trained, 1),
        "steps": steps,
        "base": base.id,
        "strengths": list(STRENGTHS),
        "prompts": prompts,
        "mean_abs_diff_to_base": differences,
    }
    files.write_json(out / "result.json", result)
    _print("done", out=out, seconds=round(result["seconds"]))
    return 0


def _train(work: Home, config: Any) -> tuple[Path, int]:
    from trainer.engine.output.control import Control
    from trainer.engine.train import train

    run = RunDir(work.runs / "demo")
    run.path.mkdir(parents=True)
    seen = {"steps": 0}

    def emit(event: events.Event) -> None:
        if isinstance(event, events.Stage) and not event.done:
            _print("stage", stage=t(f"stages.{event.name}"))
        if isinstance(event, events.Step):
            seen["steps"] = event.step
            if event.step % 20 == 0 or event.step == event.total:
                _print("step", step=event.step, total=event.total, loss=f"{event.loss or 0:.4f}")

    return train(run, config, work, emit, Control(run)), seen["steps"]  # type: ignore[return-value]


def _draw(base: Any, out: Path, prompts: list[str]) -> dict[str, float]:
    """Draw every prompt at every strength; returns the mean absolute difference to the base, 0..255, by strength."""
    from trainer.adapters.fold import LoraStrength
    from trainer.engine.inference.sampling import GenerateRequest, ImageSampler
    from trainer.engine.speed import device

    where = device.choose_device("auto")
    studio = ImageSampler.load(base, where, device.choose_dtype("auto", where))
    rows: list[list[Image.Image]] = []
    differences: dict[str, list[float]] = {f"{s:.2f}": [] for s in STRENGTHS}
    for index, prompt in enumerate(prompts):
        _print("drawing", done=index + 1, of=len(prompts))
        request = GenerateRequest(
            prompt, seed=SEED + index, steps=base.steps, guidance=base.guidance, width=base.resolution, height=base.resolution
        )
        bare = np.asarray(next(iter(studio.draw(request))).image, np.float64)
        loras = (LoraStrength(out / "lora.safetensors"),)
        row = []
        for drawn in studio.draw(GenerateRequest(**{**request.__dict__, "loras": loras, "strengths": STRENGTHS})):
            drawn.save(out / "pictures" / f"p{index}_s{drawn.strength:.2f}.png")
            differences[f"{drawn.strength:.2f}"].append(float(np.abs(np.asarray(drawn.image, np.float64) - bare).mean()))
            row.append(drawn.image)
        rows.append(row)
    contact_sheet(rows, [f"{s:g}" for s in STRENGTHS], prompts).save(out / "contact-sheet.png")
    return {strength: round(float(np.mean(values)), 4) for strength, values in differences.items()}


def contact_sheet(rows: list[list[Image.Image]], columns: list[str], labels: list[str], gap: int = 12) -> Image.Image:
    """One picture of all: a row a prompt, a column a strength, on white."""
    width, height = rows[0][0].size
    small, line = ImageFont.load_default(14), 24
    sheet = Image.new("RGB", (gap + len(columns) * (width + gap), line + gap + len(rows) * (height + line + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for x, text in enumerate(columns):
        draw.text((gap + x * (width + gap) + width / 2, gap), text, "#222", small, anchor="mt")
    for y, (row, label) in enumerate(zip(rows, labels, strict=True)):
        top = line + gap + y * (height + line + gap)
        for x, picture in enumerate(row):
            sheet.paste(picture, (gap + x * (width + gap), top))
        draw.text((gap, top + height + 4), label, "#555", small)
    return sheet


def _print(key: str, **params: Any) -> None:
    print(t(f"commands.demo.{key}", **params), flush=True)
