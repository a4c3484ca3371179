"""The LoRAs of a studio as cards, read from file headers and the small files beside them. For page and recipe.

Beside `<name>.safetensors` stand `<name>.json` (A1111's card, plus our own table `atelier`) and `<name>.png`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from trainer import files
from trainer.adapters import file as lora_file
from trainer.adapters.hashes import file_model_hash
from trainer.adapters.header import read_header
from trainer.cards import SIDECARS, Card, Strength, card, picture_beside, stated_strength
from trainer.config.train import TrainConfig
from trainer.home import Home
from trainer.problem import Problem

__all__ = ["Card", "Library", "Strength", "register"]

STATES = ("trying", "in_use")
_TEXTS = {"notes": 10_000, "purpose": 2_000, "trigger": 500, "negative": 2_000}
_A1111 = {"SD1": ("sd_v1",), "SD2": ("sd_v2", "sd_v2_v"), "SDXL": ("sdxl_base_v1-0",)}


def register(file: Path, picture: Path | None = None) -> Path:
    """Write the card files beside a LoRA just saved; returns the card. Nothing that is there already is replaced."""
    said = read_header(file).metadata
    strength = stated_strength(said)
    own = {"state": "trying"} | ({"recommended": list(strength)} if strength else {})
    version = said.get("ss_base_model_version", "")
    sidecar = file.with_suffix(".json")
    if not sidecar.exists():
        files.write_json(sidecar, {
            "description": said.get("modelspec.description", ""),
            "sd version": next((name for name, ids in _A1111.items() if version in ids), "Unknown"),
            "activation text": said.get("modelspec.trigger_phrase", ""),
            "preferred weight": strength.best if strength else 0.0,
            "negative text": "",
            "notes": "",
            "atelier": own,
        })  # fmt: skip
    if picture is not None and picture.exists() and picture_beside(file, set(os.listdir(file.parent))) is None:
        files.write_bytes(file.with_suffix(".png"), picture.read_bytes())
    return sidecar


class Library:
    """The LoRAs in `outputs/loras`. Cards are kept in a small cache by the files' times, so that many stay quick."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._cache_file = home.cache / "library.json"
        cached = files.read_json(self._cache_file, {})
        self._cache: dict[str, Any] = cached if isinstance(cached, dict) else {}

    def cards(self) -> list[Card]:
        """Every LoRA, newest first. A file that cannot be read is a card with `broken` set."""
        try:
            names = set(os.listdir(self.home.loras))
        except FileNotFoundError:
            return []
        found, cache = [], {}
        for name in sorted(names):
            if not name.lower().endswith(".safetensors") or name.startswith("."):
                continue
            path = self.home.loras / name
            try:
                entry = self._entry(path, names)
            except FileNotFoundError:  # gone since the folder was listed
                continue
            cache[name] = entry
            found.append(Card.load(entry["card"], path))
        if cache != self._cache:
            self._cache = cache
            files.write_json(self._cache_file, cache)
        return sorted(found, key=lambda one: (-(one.date or 0.0), one.name))

    def card(self, name: str) -> Card:
        """One LoRA's card."""
        path = self._path(name)
        return Card.load(self._entry(path, set(os.listdir(path.parent)))["card"], path)

    def _entry(self, path: Path, names: set[str]) -> dict[str, Any]:
        stamp = [_stamp(path), _stamp(path.with_suffix(".json")), picture_beside(path, names), len(fields(Card))]
        known = self._cache.get(path.name)
        if isinstance(known, dict) and known.get("stamp") == stamp:
            return known
        return {"stamp": stamp, "card": card(path, names, self.home.cache / "covers").dump()}

    def rename(self, name: str, new: str) -> str:
        """Give a LoRA another name, the files beside it and the name other programs show included; returns the name."""
        path, stem = self._path(name), files.safe_name(new, "lora")
        if stem == path.stem:
            return stem
        target = path.with_name(f"{stem}.safetensors")
        if target.exists() and not target.samefile(path):  # the same file: only upper and lower case change
            raise Problem("lora_name_taken", field="name", name=stem)
        if any(path.with_name(stem + end).exists() for end in SIDECARS) and not target.exists():
            raise Problem("lora_name_taken", field="name", name=stem)
        metadata = self._metadata(path)
        if "atelier.version" in metadata:
            lora_file.rewrite(path, path, {"ss_output_name": stem, "modelspec.title": new.strip()[:200]})
        for end in (".safetensors", *SIDECARS):
            beside = path.with_name(path.stem + end)
            if beside.exists():
                os.rename(beside, path.with_name(stem + end))
        return stem

    def set(self, name: str, **fields: Any) -> Card:
        """Change what a card says: `notes purpose trigger negative state recommended` (best, or low, best, high)."""
        path = self._path(name)
        sidecar = path.with_suffix(".json")
        said = files.read_json(sidecar, {})
        said = dict(said) if isinstance(said, dict) else {}
        own = dict(said.get("atelier") or {}) if isinstance(said.get("atelier"), dict) else {}
        places = {"notes": "notes", "purpose": "description", "trigger": "activation text", "negative": "negative text"}
        for field, value in fields.items():
            if field in places:
                said[places[field]] = str(value)[: _TEXTS[field]]
            elif field == "state":
                if value not in STATES:
                    raise Problem("lora_value", field="state", given=str(value))
                own["state"] = value
            elif field == "recommended":
                strength = _strength(value, self.card(name).recommended)
                own["recommended"] = list(strength)
                said["preferred weight"] = min(2.0, max(0.0, strength.best))
            else:
                raise Problem("lora_field", field_name=field)
        files.write_json(sidecar, said | {"atelier": own})
        return self.card(name)

    def trash(self, name: str) -> str:
        """Move a LoRA and what belongs to it out of sight; returns the token `undo` takes."""
        path = self._path(name)
        token = f"{time.time_ns():020d}"
        folder = self.home.trash / "loras" / token
        folder.mkdir(parents=True)
        for end in (".safetensors", *SIDECARS):
            beside = path.with_name(path.stem + end)
            if beside.exists():
                shutil.move(beside, folder / beside.name)
        return token

    def undo(self, token: str | None = None) -> str:
        """Bring back what was trashed last (or what `token` names); returns its name, a new one if that is taken."""
        bins = self.home.trash / "loras"
        waiting = sorted(item.name for item in bins.iterdir()) if bins.is_dir() else []
        chosen = token if token is not None else (waiting[-1] if waiting else "")
        if chosen not in waiting:
            raise Problem("lora_nothing_to_undo")
        kept = next((bins / chosen).glob("*.safetensors"))
        self.home.loras.mkdir(parents=True, exist_ok=True)
        stem = files.free_name(self.home.loras, kept.stem, ".safetensors").stem
        for item in list((bins / chosen).iterdir()):
            shutil.move(item, self.home.loras / (stem + item.name.removeprefix(kept.stem)))
        (bins / chosen).rmdir()
        return stem

    def again(self, name: str) -> dict[str, Any]:
        """The tree of options to train it again the same way: from its run while that is here, else from the file."""
        metadata = self._metadata(self._path(name))
        try:
            tree = json.loads(metadata["atelier.config"])
            run = str(json.loads(metadata.get("atelier.run", "{}")).get("id", ""))
        except (KeyError, ValueError, AttributeError) as error:
            raise Problem("lora_no_recipe", name=name) from error
        if run and run == Path(run).name and run not in (".", ".."):
            own = files.read_json(self.home.runs / run / "config.json")
            if isinstance(own, dict):
                return _known(own)
        tree = _known(tree if isinstance(tree, dict) else {})
        tree.get("images", {})["folder"] = ""  # a file from elsewhere names no folder here and ticks nothing for you
        tree.get("rights", {})["pictures_ok"] = False
        return tree

    def verify(self, name: str) -> bool:
        """Whether the tensors are still the ones the file was signed with."""
        path = self._path(name)
        return self._metadata(path).get("sshs_model_hash") == file_model_hash(path)

    def _path(self, name: str) -> Path:
        path = self.home.loras / f"{name}.safetensors"
        if not name or any(c in name for c in '/\\:\0') or not path.is_file():
            raise Problem("lora_unknown", name=name[:80])
        return path

    @staticmethod
    def _metadata(path: Path) -> dict[str, str]:
        try:
            return read_header(path).metadata
        except Problem:
            return {}


def _stamp(path: Path) -> list[int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return [stat.st_mtime_ns, stat.st_size]


def _strength(value: Any, old: Strength) -> Strength:
    numbers = [value] if isinstance(value, int | float) else list(value)
    try:
        numbers = [float(number) for number in numbers]
    except (TypeError, ValueError) as error:
        raise Problem("lora_value", field="recommended", given=str(value)[:80]) from error
    if len(numbers) == 1:
        best = numbers[0]
        numbers = [min(old.low, best), best, max(old.high, best)]
    if len(numbers) != 3 or not all(math.isfinite(n) and -10 <= n <= 10 for n in numbers) or numbers != sorted(numbers):
        raise Problem("lora_value", field="recommended", given=str(value)[:80])
    return Strength(*numbers)


def _known(tree: dict[str, Any]) -> dict[str, Any]:
    """The sections of today's tree of options: what an older or newer version wrote besides is left out."""
    return {name: dict(tree[name]) for name in TrainConfig.model_fields if isinstance(tree.get(name), dict)}
