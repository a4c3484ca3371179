"""Takes a half-finished work folder from one machine to another in a few files of limited size.

`python -m tools.mini_base carry-out` and `carry-in` call this, and `take-up` makes a work folder of the finished model.
Averaged weights travel in fp16; the optimiser's state stays behind (it starts afresh and warms up), which costs far less
than the hundreds of megabytes it would take.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import torch

from .ldm import TAUGHT
from .progress import RUNNING, running

STAGES = ("vae", "ldm", "judge")
_KEPT = (".png", ".csv", ".json", ".txt", ".md")


def carry_out(work: Path, out: Path, limit: int = 15 * 2**20) -> list[Path]:
    """Write `carry.000`, `carry.001` … into `out`, none larger than `limit` bytes."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("carry.*"):
        old.unlink()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for stage in STAGES:
            if (work / stage / "state.pt").is_file():
                _add(archive, f"{stage}/state.pt", _light_state(work / stage / "state.pt"))
        for folder in ("vae/model", "judge/model", "tokenizer"):
            for file in sorted((work / folder).glob("*")):
                if file.is_file():
                    data = _halved(file) if file.suffix == ".safetensors" else file.read_bytes()
                    _add(archive, f"{folder}/{file.name}", data)
        for file in sorted(work.glob("*/*")) + sorted(work.glob("*")):
            if file.is_file() and file.suffix in _KEPT and file.parent.name != "tokenizer":
                _add(archive, file.relative_to(work).as_posix(), file.read_bytes())
    data = stream.getvalue()
    parts = []
    for number, start in enumerate(range(0, len(data), limit)):
        part = out / f"carry.{number:03d}"
        part.write_bytes(data[start : start + limit])
        parts.append(part)
    print(f"{len(parts)} files, {len(data) / 1e6:.1f} MB", flush=True)
    return parts


def carry_in(parts: Path, work: Path) -> None:
    """Put the files of a folder with `carry.000` … back together in `work`; a stage that is further on stays."""
    data = b"".join(p.read_bytes() for p in sorted(parts.glob("carry.*")))
    if not data:
        raise FileNotFoundError(f"no carry.000 in {parts}")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
        ahead = {
            member.name.split("/")[0]
            for member in members
            if member.name.endswith("state.pt")
            and (work / member.name).exists()
            and _spent(work / member.name) >= _spent_in(archive, member)
        }
        for member in members:
            if member.name.split("/")[0] not in ahead:
                archive.extract(member, work, filter="data")


def take_up(model: Path, work: Path) -> None:
    """Make `work` a folder in which the finished `model` can be taught on: its weights are the averaged ones.

    Stages that are there already stay. FileNotFoundError without the model's facts; ValueError where they do not tell
    how it was trained.
    """
    from diffusers import UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]
    from transformers import AutoModel, CLIPTextModel

    training = json.loads((model / "atelier.json").read_text(encoding="utf-8")).get("training")
    if not training:
        raise ValueError(f"{model / 'atelier.json'} does not say how long the model was trained")
    for part, folder in (("vae", "vae/model"), ("judge", "judge/model"), ("tokenizer", "tokenizer")):
        if not (work / folder).exists():
            shutil.copytree(model / part, work / folder)
    accuracy = work / "judge" / "accuracy.json"
    if not accuracy.exists():
        shutil.copy(model / "judge" / "accuracy.json", accuracy)
    unet = UNet2DConditionModel.from_pretrained(model / "unet")
    text_encoder = CLIPTextModel.from_pretrained(model / "text_encoder")
    _take_up(work, "ldm", [unet, text_encoder], training["ldm"])
    _take_up(work, "judge", [AutoModel.from_pretrained(model / "judge")], training["judge"])
    (work / "ldm" / TAUGHT).write_text(json.dumps(training["ldm"]["things"]) + "\n", encoding="utf-8")
    _one_row(work / "vae" / "curve.csv", training["vae"])


def _take_up(work: Path, stage: str, modules: list[Any], spent: dict[str, Any]) -> None:
    file = work / stage / "state.pt"
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    average = [weight.detach().half() for module in modules for weight in module.parameters()]
    counters = (spent["steps"], spent["samples"], spent["minutes"] * 60)
    buffers = {"judge": running(modules[0])} if stage == "judge" else {}
    torch.save({"modules": None, "average": average, "buffers": buffers, "optimiser": None, "counters": counters}, file)
    _one_row(work / stage / "curve.csv", spent)


def _one_row(curve: Path, spent: dict[str, Any]) -> None:
    """The least a curve needs to tell how long a stage took; later rows follow it."""
    if not curve.exists():
        curve.parent.mkdir(parents=True, exist_ok=True)
        row = {"step": spent["steps"], "seconds": spent["minutes"] * 60, "samples": spent["samples"], "loss": ""}
        curve.write_text(",".join(row) + "\n" + ",".join(str(v) for v in row.values()) + "\n", encoding="utf-8")


def _spent(file: Path) -> float:
    return torch.load(file, map_location="cpu", weights_only=True)["counters"][2]


def _spent_in(archive: tarfile.TarFile, member: tarfile.TarInfo) -> float:
    stream = archive.extractfile(member)
    assert stream is not None
    return torch.load(io.BytesIO(stream.read()), map_location="cpu", weights_only=True)["counters"][2]


def _light_state(file: Path) -> bytes:
    """A stage's state with averaged weights in fp16 and nothing else that is large.

    The modules' own weights are the averaged ones: parameters come in the order the average was made in.
    """
    state = torch.load(file, map_location="cpu", weights_only=True)
    average = [tensor.half() for tensor in state["average"]]
    modules = state["modules"] or {}
    buffers = {name: {k: v for k, v in kept.items() if k.endswith(RUNNING)} for name, kept in modules.items()}
    buffers = buffers or state.get("buffers", {})
    light = {"modules": None, "average": average, "buffers": buffers, "optimiser": None, "counters": state["counters"]}
    stream = io.BytesIO()
    torch.save(light, stream)
    return stream.getvalue()


def _halved(file: Path) -> bytes:
    """A weight file in fp16."""
    from safetensors.torch import load_file, save

    return save({name: tensor.half() for name, tensor in load_file(file).items()})


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
