"""The LoRAs of a studio as cards, read from file headers and the small files beside them. For page and recipe.

Beside `<name>.safetensors` stand `<name>.json` (A1111's card, plus our own table `atelier`) and `<name>.png`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from trainer.adapters import file as lora_file
from trainer.config import renamed
from trainer.config.train import TrainConfig
from trainer.core import files
from trainer.core.home import Home
from trainer.core.journal import Journal
from trainer.core.problem import Problem
from trainer.formats.hashes import file_model_hash
from trainer.formats.header import read_header
from trainer.library.cards import SIDECARS, Card, Strength, card, picture_beside, stated_strength

__all__ = ["Card", "Library", "Strength", "register"]

STATES = ("trying", "in_use")
_TEXTS = {"notes": 10_000, "purpose": 2_000, "trigger": 500, "negative": 2_000}
_LONGEST_FIRST = sorted(SIDECARS, key=len, reverse=True)
_A1111 = {"SD1": ("sd_v1",), "SD2": ("sd_v2", "sd_v2_v"), "SDXL": ("sdxl_base_v1-0",)}


def register(file: Path, picture: Path | None = None) -> Path:
    """Write the card files beside a LoRA just saved; returns the card. Nothing that is there already is replaced."""
    sidecar = file.with_suffix(".json")
    if not sidecar.exists():
        files.write_bytes(sidecar, sidecar_of(file))
    if picture is not None and picture.exists() and picture_beside(file, set(os.listdir(file.parent))) is None:
        files.write_bytes(file.with_suffix(".png"), picture.read_bytes())
    return sidecar


def sidecar_of(file: Path) -> bytes:
    """`<name>.json`, as JSON bytes, of a LoRA nobody has edited a card of yet: A1111's fields and ours under `atelier`."""
    metadata = read_header(file).metadata
    strength = stated_strength(metadata)
    own = {"state": "trying"} | ({"recommended": list(strength)} if strength else {})
    version = metadata.get("ss_base_model_version", "")
    return files.json_bytes({
        "description": metadata.get("modelspec.description", ""),
        "sd version": next((name for name, ids in _A1111.items() if version in ids), "Unknown"),
        "activation text": metadata.get("modelspec.trigger_phrase", ""),
        "preferred weight": strength.best if strength else 0.0,
        "negative text": "",
        "notes": "",
        "atelier": own,
    })  # fmt: skip


class Library:
    """The LoRAs in `outputs/loras`. Cards are kept in a small cache by the files' times, so that many stay quick.

    Every change is one act of a journal: killed in the middle, it is finished or taken back the next time anybody looks.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self.bins = home.trash / "loras"
        self._journal = Journal(home.outputs, home.loras, "library")
        self._journal.recover()
        self._mend_trash()
        self._cache_file = home.cache / "library.json"
        cached = files.read_json(self._cache_file, {})
        self._cache: dict[str, Any] = cached if isinstance(cached, dict) else {}

    def cards(self) -> list[Card]:
        """Every LoRA, newest first. A file that cannot be read is a card with `broken` set."""
        if self._journal.pending():
            self._journal.recover()
        try:
            names = set(os.listdir(self.home.loras))
        except FileNotFoundError:
            return []
        cards, cache = [], {}
        for name in sorted(names):
            if not name.lower().endswith(".safetensors") or name.startswith("."):
                continue
            path = self.home.loras / name
            try:
                entry = self._entry(path, names)
            except FileNotFoundError:  # gone since the folder was listed
                continue
            cache[name] = entry
            cards.append(Card.load(entry["card"], path))
        if cache != self._cache:
            self._cache = cache
            with contextlib.suppress(OSError):  # a cache that cannot be written is not kept
                files.write_json(self._cache_file, cache)
        return sorted(cards, key=lambda one: (-(one.date or 0.0), one.name))

    def card(self, name: str) -> Card:
        """One LoRA's card. Problem where there is none of that name."""
        path = self._path(name)
        return Card.load(self._entry(path, set(os.listdir(path.parent)))["card"], path)

    def _entry(self, path: Path, names: set[str]) -> dict[str, Any]:
        stamp = [_stamp(path), _stamp(path.with_suffix(".json")), picture_beside(path, names), len(fields(Card))]
        cached = self._cache.get(path.name)
        if isinstance(cached, dict) and cached.get("stamp") == stamp:
            return cached
        return {"stamp": stamp, "card": card(path, names, self.home.cache / "covers").dump()}

    def add(self, file: Path, name: str) -> str:
        """Take a LoRA file from elsewhere in, with its card; the name it got, a free one like `name`. `file` stays."""
        with self._journal.act() as act:
            self.home.loras.mkdir(parents=True, exist_ok=True)
            target = files.free_name(self.home.loras, files.safe_name(name, "lora"), ".safetensors")
            act.bring(file, target)
            if not target.with_suffix(".json").exists():  # a card that a person put there first is this LoRA's
                act.write(sidecar_of(file), target.with_suffix(".json"))
        return target.stem

    def rename(self, name: str, new: str) -> str:
        """Give a LoRA another name, the files beside it and the name other programs show included; returns the name."""
        with self._journal.act() as act:
            path, stem = self._path(name), files.safe_name(new, "lora")
            if stem == path.stem:
                return stem
            target = path.with_name(f"{stem}.safetensors")
            if target.exists() and not target.samefile(path):  # the same file: only upper and lower case change
                raise Problem("lora_name_taken", field="name", name=stem)
            if any(path.with_name(stem + end).exists() for end in SIDECARS) and not target.exists():
                raise Problem("lora_name_taken", field="name", name=stem)
            if "atelier.version" in self._metadata(path):
                changes = {"ss_output_name": stem, "modelspec.title": new.strip()[:200]}
                act.write(lora_file.rewritten(path, changes), path)
            for end in (".safetensors", *SIDECARS):
                beside = path.with_name(path.stem + end)
                if beside.exists():
                    act.move(beside, path.with_name(stem + end))
        return stem

    def set(self, name: str, **fields: Any) -> Card:
        """Change what a card says: `notes purpose trigger negative state recommended` (best, or low, best, high).

        Problem for a name, a field or a value that does not exist.
        """
        with self._journal.act() as act:
            sidecar = self._path(name).with_suffix(".json")
            act.write(files.json_bytes(self._changed_sidecar(name, sidecar, fields)), sidecar)
        return self.card(name)

    def _changed_sidecar(self, name: str, sidecar: Path, fields: dict[str, Any]) -> dict[str, Any]:
        """The sidecar's content with `fields` changed."""
        content = files.read_json(sidecar, {})
        content = dict(content) if isinstance(content, dict) else {}
        own = dict(content.get("atelier") or {}) if isinstance(content.get("atelier"), dict) else {}
        places = {"notes": "notes", "purpose": "description", "trigger": "activation text", "negative": "negative text"}
        for field, value in fields.items():
            if field in places:
                content[places[field]] = str(value)[: _TEXTS[field]]
            elif field == "state":
                if value not in STATES:
                    raise Problem("lora_value", field="state", given=str(value))
                own["state"] = value
            elif field == "recommended":
                strength = _strength(value, self.card(name).recommended)
                own["recommended"] = list(strength)
                content["preferred weight"] = min(2.0, max(0.0, strength.best))
            else:
                raise Problem("lora_field", field_name=field)
        return content | {"atelier": own}

    def trash(self, name: str) -> str:
        """Move a LoRA and what belongs to it out of sight; returns the token `undo` takes."""
        with self._journal.act() as act:
            path = self._path(name)
            number = time.time_ns()
            while (folder := self.bins / f"{number:020d}").exists():
                number += 1
            for end in (".safetensors", *SIDECARS):
                beside = path.with_name(path.stem + end)
                if beside.exists():
                    act.move(beside, folder / beside.name)
        return folder.name

    def undo(self, token: str | None = None) -> str:
        """Bring back what was trashed last (or what `token` names); returns its name, a new one if that is taken."""
        with self._journal.act() as act:
            waiting = self.trashed()
            chosen = token if token is not None else (waiting[-1] if waiting else "")
            if chosen not in waiting:
                raise Problem("lora_nothing_to_undo")
            items = sorted((self.bins / chosen).iterdir(), key=lambda item: item.suffix != ".safetensors")
            old, stem, version = items[0].stem, items[0].stem, 1
            while any((self.home.loras / (stem + item.name.removeprefix(old))).exists() for item in items):
                version += 1
                stem = f"{old}_v{version}"
            for item in items:
                act.move(item, self.home.loras / (stem + item.name.removeprefix(old)))
            act.rmdir(self.bins / chosen)
        return stem

    def trashed(self) -> list[str]:
        """What `undo` can bring back, by token, the newest last."""
        try:
            return sorted(item.name for item in self.bins.iterdir() if any(item.glob("*.safetensors")))
        except FileNotFoundError:
            return []

    def _mend_trash(self) -> None:
        """What earlier versions left when they were killed while bringing a LoRA back: its files join it again."""
        with contextlib.suppress(OSError):
            for folder in list(self.bins.iterdir()) if self.bins.is_dir() else ():
                if not folder.is_dir() or any(folder.glob("*.safetensors")):
                    continue
                for item in list(folder.iterdir()):
                    stem = next((item.name.removesuffix(end) for end in _LONGEST_FIRST if item.name.endswith(end)), None)
                    place = self.home.loras / item.name
                    if stem and place.with_name(f"{stem}.safetensors").is_file() and not place.exists():
                        os.rename(item, place)
                if not any(folder.iterdir()):
                    folder.rmdir()

    def again(self, name: str) -> dict[str, Any]:
        """The tree of options to train it again the same way: from its run while that is here, else from the file.

        Problem where the file holds no options of ours.
        """
        metadata = self._metadata(self._path(name))
        try:
            tree = json.loads(metadata["atelier.config"])
            run = str(json.loads(metadata.get("atelier.run", "{}")).get("id", ""))
        except (KeyError, ValueError, AttributeError) as error:
            raise Problem("lora_no_recipe", name=name) from error
        if run and run == Path(run).name and run not in (".", ".."):
            own = files.read_json(self.home.runs / run / "config.json")
            if isinstance(own, dict):
                return _current_options(own)
        tree = _current_options(tree if isinstance(tree, dict) else {})
        tree.get("images", {})["folder"] = ""  # a file from elsewhere names no folder here and ticks nothing for you
        tree.get("rights", {})["pictures_ok"] = False
        return tree

    def verify(self, name: str) -> bool:
        """Whether the tensors still have the hash (`sshs_model_hash`) that the file carries."""
        path = self._path(name)
        return self._metadata(path).get("sshs_model_hash") == file_model_hash(path)

    def _path(self, name: str) -> Path:
        path = self.home.loras / f"{name}.safetensors"
        if not files.is_name(path.name) or ":" in path.name or not name or not path.is_file():
            raise Problem("lora_unknown", name=str(name)[:80])
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


def _current_options(tree: dict[str, Any]) -> dict[str, Any]:
    """The sections of today's tree of options, under today's names; what another version wrote besides is left out."""
    return renamed.modernized_file(
        {name: dict(tree[name]) for name in TrainConfig.model_fields if isinstance(tree.get(name), dict)}
    )
