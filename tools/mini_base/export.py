"""Puts the finished parts together as `models/mini`: fp16 weights, vocabulary files, judge, facts, model card.

`python -m tools.mini_base export` calls `export`. The folder must stay within 40 MB.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from . import ldm
from . import vae as vae_stage
from .card import model_card, training_facts
from .data import Pack
from .judge import thing_sentences
from .judging import STYLE_SENTENCES, background_sentence
from .progress import grid
from .views import BACKGROUND_NAMES

LARGEST = 40_000_000
SAMPLE_PROMPTS = (
    "a frog, white background",  # without a style: a LoRA's own is to show
    "a rocket, blue background",
    "an owl, yellow background",
    "a castle, white background",
)


def export(work: Path, pack: Pack, target: Path, *, machine: str, figures: dict[str, Any] | None = None) -> int:
    """Write the folder beside `target` and move it into place; returns its size in bytes."""
    from transformers import AutoModel, CLIPTextModel

    from .tokenizer import load as load_tokenizer

    if not (work / "ldm" / "model").is_dir():
        raise FileNotFoundError(f"{work / 'ldm' / 'model'} is not there: run `vae`, `judge` and `ldm` first")
    half_written = target.with_name(target.name + ".part")
    shutil.rmtree(half_written, ignore_errors=True)
    from diffusers import UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]

    tokenizer = load_tokenizer(work / "tokenizer")
    unet: Any = UNet2DConditionModel.from_pretrained(work / "ldm" / "model", subfolder="unet", dtype=torch.float32)
    text_encoder = CLIPTextModel.from_pretrained(work / "ldm" / "model", subfolder="text_encoder", dtype=torch.float32)
    vae = vae_stage.load(work, torch.device("cpu"))
    pipe = ldm.assemble(vae, text_encoder, tokenizer, unet)
    pipe.to(torch.float16).save_pretrained(half_written, safe_serialization=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(work / "tokenizer" / name, half_written / "tokenizer" / name)
    if (work / "judge" / "model").is_dir():
        judge = AutoModel.from_pretrained(work / "judge" / "model", dtype=torch.float32)
        judge.half().save_pretrained(half_written / "judge")
        shutil.copy(work / "judge" / "model" / "preprocessor_config.json", half_written / "judge")
        shutil.copy(work / "judge" / "accuracy.json", half_written / "judge")
        _as_float32(half_written / "judge" / "config.json")
        _write_json(half_written / "judge" / "words.json", _words(pack))
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(half_written / "tokenizer" / name, half_written / "judge" / name)
    _as_float32(half_written / "text_encoder" / "config.json")
    _drop_paths(half_written)
    facts = {
        "id": "mini",
        "title": {"en": "Atelier Mini (embedded)", "ja": "アトリエ ミニ（同梱）"},
        "family": "sd1",
        "licence": "Apache-2.0",
        "licence_url": "https://www.apache.org/licenses/LICENSE-2.0",
        "native_resolution": unet.config.sample_size * 8,
        "guidance": 3.0,
        "steps": 20,
        "sample_prompts": list(SAMPLE_PROMPTS),
        "training": training_facts(work),
    }
    if "ldm" in facts["training"]:
        facts["training"]["ldm"]["things"] = len(pack.concepts)
    _write_json(half_written / "atelier.json", facts)
    pipe.to(torch.float32)
    pictures = ldm.draw(pipe, list(ldm.LOOK_AT))
    grid(pictures, 8, half_written / "grid.png", [p.replace(" background", "") for p in ldm.LOOK_AT])
    (half_written / "README.md").write_text(model_card(work, pack, half_written, machine, figures), encoding="utf-8")
    size = sum(f.stat().st_size for f in half_written.rglob("*") if f.is_file())
    if size > LARGEST:
        raise ValueError(f"the model folder is {size / 1e6:.1f} MB; it may be {LARGEST / 1e6:.0f} MB")
    shutil.rmtree(target, ignore_errors=True)
    half_written.replace(target)
    print(f"{target}: {size / 1e6:.1f} MB", flush=True)
    return size


def _words(pack: Pack) -> dict[str, list[str]]:
    """What the judge can tell apart, as it stands in a caption: the captioner of this name chooses from it."""
    grounds = [background_sentence(name) for name in BACKGROUND_NAMES]
    return {"things": thing_sentences(pack), "styles": list(STYLE_SENTENCES), "backgrounds": grounds}


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _as_float32(file: Path) -> None:
    """transformers takes the type from here when none is asked for; a half-precision text encoder beside a
    full-precision UNet would not draw."""
    config = json.loads(file.read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    for part in ("text_config", "vision_config"):
        if part in config:
            config[part]["dtype"] = "float32"
    _write_json(file, config)


def _drop_paths(folder: Path) -> None:
    """Take the paths of the machine that trained the model out of the configurations."""
    for file in [folder / "model_index.json", *folder.glob("*/*config.json")]:
        config = json.loads(file.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        config.pop("is_local", None)
        config.pop("local_files_only", None)
        _write_json(file, config)
