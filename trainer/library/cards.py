"""One LoRA's card: its header, its sidecar and its picture read together. Called by library.py."""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from PIL import Image, UnidentifiedImageError

from trainer.adapters.metadata import slider_of
from trainer.adapters.weights import refuse_others
from trainer.bases import licences
from trainer.core import files
from trainer.core.problem import Problem
from trainer.formats.detect import file_format, rank
from trainer.formats.header import read_header

PICTURES = (".png", ".preview.png", ".jpg", ".jpeg", ".webp", ".preview.jpg", ".preview.jpeg", ".preview.webp")
SIDECARS = (".json", ".txt", *PICTURES)
MAX_SHOWN = 4096
"""Characters of any one text from a file that are shown."""


class Strength(NamedTuple):
    """How strongly to use a LoRA: factors of its weights, 1 as it was trained."""

    low: float
    best: float
    high: float


USUAL = Strength(0.5, 1.0, 1.2)


@dataclass(frozen=True)
class Card:
    """What the library shows of a LoRA. `name` is the file's name without ending and stands for the LoRA everywhere."""

    name: str
    file: Path
    title: str = ""
    picture: Path | None = None
    purpose: str = ""
    kind: str = ""
    """`style`, `character`, `concept`, `slider`, or empty for files from elsewhere."""
    adapter: str = ""
    """`lora`, `locon`, `loha` …"""
    family: str = ""
    trigger: str = ""
    prompt: str = ""
    """The first its own run tried it with."""
    base: str = ""
    base_licence: str = ""
    rights: str = ""
    """Whose the pictures are and under which licence."""
    licence: str = ""
    """The conditions the LoRA itself is given under."""
    date: float | None = None
    steps: int | None = None
    pictures: int | None = None
    rank: int | None = None
    clip_skip: int | None = None
    """The text encoder's layer from the end that prompts are read at, where it is not the last."""
    vae: str = ""
    """The separate VAE it was trained with and is drawn with."""
    slider: tuple[str, str, str] | None = None
    """(target, positive, negative) of a slider."""
    recommended: Strength = USUAL
    state: str = "trying"
    notes: str = ""
    negative: str = ""
    size: int = 0
    run_id: str = ""
    ours: bool = False
    hash: str = ""
    """The 12 digits A1111 writes into its pictures."""
    broken: Problem | None = None

    def dump(self) -> dict[str, Any]:
        """As JSON, for the cache."""
        tree = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("file", "broken")}
        tree["picture"] = str(self.picture) if self.picture else None
        tree["recommended"] = list(self.recommended)
        tree["broken"] = {"code": self.broken.code, "params": self.broken.params} if self.broken else None
        return tree

    @classmethod
    def load(cls, tree: dict[str, Any], file: Path) -> Card:
        """From `dump`."""
        problem = tree["broken"]
        return cls(**tree | {
            "file": file,
            "picture": Path(tree["picture"]) if tree["picture"] else None,
            "recommended": Strength(*tree["recommended"]),
            "slider": tuple(tree["slider"]) if tree.get("slider") else None,
            "broken": Problem(problem["code"], **problem["params"]) if problem else None,
        })  # fmt: skip


def picture_beside(file: Path, names: set[str]) -> str | None:
    """The name of the picture that stands beside a LoRA, among the folder's names."""
    return next((file.stem + end for end in PICTURES if file.stem + end in names), None)


def card(file: Path, names: set[str], covers: Path) -> Card:
    """The card of a file. `names` is its folder's listing; `covers` is where a picture from inside it is put.

    A file that cannot be read is a card with `broken` set; FileNotFoundError where it is gone.
    """
    beside = picture_beside(file, names)
    picture = file.with_name(beside) if beside else None
    stat = file.stat()
    try:
        header = read_header(file)
    except Problem as problem:
        facts = {"title": file.stem, "picture": picture, "date": stat.st_mtime, "size": stat.st_size}
        return Card(file.stem, file, broken=problem, **facts)
    metadata = {key: value[:400_000] for key, value in header.metadata.items()}
    sidecar = files.read_json(file.with_suffix(".json"), {})
    sidecar = sidecar if isinstance(sidecar, dict) else {}
    own = _dict(sidecar.get("atelier"))
    seen = file_format(header)
    base, run, rights = _tree(metadata, "atelier.base"), _tree(metadata, "atelier.run"), _tree(metadata, "atelier.licences")
    config = _tree(metadata, "atelier.config")
    base_name = _text(base.get("id")) or metadata.get("ss_sd_model_name", "")
    broken = _no_adapter(seen.kind, file.name)
    return Card(
        name=file.stem,
        file=file,
        title=_cut(metadata.get("modelspec.title") or metadata.get("ss_output_name") or file.stem),
        picture=picture or _cover(metadata, covers / f"{file.stem}-{stat.st_mtime_ns}.png"),
        purpose=_cut(_text(sidecar.get("description")) or metadata.get("modelspec.description", "")),
        kind=_cut(_text(_dict(config.get("run")).get("kind"))),
        adapter=seen.kind,
        family=seen.family,
        trigger=_cut(_text(sidecar.get("activation text")) or trigger(metadata)),
        prompt=_cut(metadata.get("atelier.prompt", "")),
        base=_cut(base_name),
        base_licence=_cut(_text(rights.get("base")) or licences.of_base(base_name).title),
        rights=_cut(_text(rights.get("pictures"))),
        licence=_cut(_text(rights.get("result")) or ("" if "base" in rights else metadata.get("modelspec.license", ""))),
        date=_date(metadata) or stat.st_mtime,
        steps=_int(metadata.get("ss_steps")),
        pictures=_int(run.get("pictures")),
        rank=rank(header),
        clip_skip=skip if (skip := _int(metadata.get("ss_clip_skip"))) and skip > 1 else None,
        vae=_cut(metadata.get("ss_vae_name", "")),
        slider=slider_of(metadata),
        recommended=_recommended(own.get("recommended"), sidecar.get("preferred weight"), stated_strength(metadata)),
        state="in_use" if own.get("state") == "in_use" else "trying",
        notes=_cut(_text(sidecar.get("notes"))),
        negative=_cut(_text(sidecar.get("negative text"))),
        size=stat.st_size,
        run_id=_cut(_text(run.get("id"))),
        ours="atelier.version" in metadata,
        hash=metadata.get("sshs_model_hash", "")[:12],
        broken=broken,
    )


def _no_adapter(kind: str, name: str) -> Problem | None:
    try:
        refuse_others(kind, name)
    except Problem as problem:
        return problem
    return None


def trigger(metadata: dict[str, str]) -> str:
    """The word that calls it: as stated, else nothing (the commonest tag of a file from elsewhere is only a guess)."""
    return metadata.get("modelspec.trigger_phrase") or metadata.get("trained_words") or ""


def stated_strength(metadata: dict[str, str]) -> Strength | None:
    """What a file of ours recommends."""
    inside = _tree(metadata, "atelier.strength")
    return _three([inside.get(key) for key in Strength._fields])


def _three(value: Any) -> Strength | None:
    numbers = [float(item) for item in value if _number(item)] if isinstance(value, list) else []
    return Strength(*numbers) if len(numbers) == 3 else None


def _recommended(own: Any, preferred: Any, inside: Strength | None) -> Strength:
    strength = _three(own) or inside
    if strength:
        return strength
    if _number(preferred) and preferred > 0:  # A1111 writes 0 for "not set"
        return Strength(min(0.5, preferred), float(preferred), max(1.2, preferred))
    return USUAL


def _cover(metadata: dict[str, str], into: Path) -> Path | None:
    """The picture inside a file, drawn anew as a small PNG; None where there is none or it is not a picture."""
    if into.exists():
        return into
    try:
        raw = base64.b64decode(json.loads(metadata["ssmd_cover_images"])[0])
    except (KeyError, ValueError, TypeError, IndexError, binascii.Error):
        return None
    try:
        with Image.open(io.BytesIO(raw), formats=("JPEG", "PNG", "WEBP")) as image:
            if image.width * image.height > 16 * 2**20:
                return None
            image.thumbnail((512, 512))
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "PNG")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    try:
        files.write_bytes(into, buffer.getvalue())
    except OSError:  # a cache that cannot be written is not kept
        return None
    return into


def _tree(metadata: dict[str, str], key: str) -> dict[str, Any]:
    try:
        return _dict(json.loads(metadata.get(key, "{}")))
    except (ValueError, RecursionError):
        return {}


def _date(metadata: dict[str, str]) -> float | None:
    for key in ("ss_training_finished_at", "ss_training_started_at"):
        try:
            timestamp = float(metadata.get(key, ""))
        except ValueError:
            continue
        if 0 < timestamp < 4e9:
            return timestamp
    try:
        return datetime.fromisoformat(metadata.get("modelspec.date", "")).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _int(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
