"""Base models: finding them and reading what they are without loading them. Used by the page, the engine and metadata.

Three layouts: a diffusers folder, a single .safetensors file, a hub id `owner/name[@revision]` (fetched by hub.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from trainer.bases import facts as base_facts
from trainer.bases import hub
from trainer.bases.facts import SUPPORTED, BaseFacts, read_file, read_folder
from trainer.core import files
from trainer.core.files import read_json
from trainer.core.home import CAPTIONER_FOLDER, PROJECT, Home
from trainer.core.problem import Problem
from trainer.formats.architectures import Modules, TextEncoder, UNet, family_modules, modules

__all__ = ["BaseFacts", "download", "find", "find_vae", "layers", "list_bases", "refused_bases"]

EMBEDDED = "mini"
_DEPTH = 3


def list_bases(home: Home) -> list[BaseFacts]:
    """Every base this version can train on: the embedded one first, then the models folder's by title."""
    return [facts for _, facts in _all(home) if isinstance(facts, BaseFacts)]


def refused_bases(home: Home) -> list[tuple[str, Problem]]:
    """(name, why) of everything in the models folder that looks like a base and cannot be used."""
    return [(name, problem) for name, problem in _all(home) if isinstance(problem, Problem)]


def find(home: Home, reference: str, revision: str | None = None) -> BaseFacts:
    """The base called `reference`: an id of `list_bases`, a path to a folder or file, or a hub id; else a Problem.

    A hub id that is not here yet comes back with `path` None: `download` fetches it.
    """
    reference = reference.strip()
    if not reference:
        raise Problem("base_missing", field="model.base", base="", known=_names(home))
    if "://" in reference or reference.lower().startswith(("file:", "http:", "https:")) or "\0" in reference:
        raise Problem("base_url", field="model.base", base=reference[:200])
    if ".." in re.split(r"[/\\]", reference):
        raise Problem("base_dots", field="model.base", base=reference[:200])
    for name, path in _candidates(home):
        if reference in (name, path.stem, path.name) or reference.lower() == _folder_id(path).lower():
            return _supported(_read(path, name))
    asked = hub.parse(reference)
    path = files.expanded(reference)
    if path.is_absolute() or _exists(path) or (path.suffix.lower() in base_facts.WEIGHT_SUFFIXES and not asked):
        return _supported(_read(path.resolve(), str(path)))
    if asked is None:
        raise Problem("base_missing", field="model.base", base=reference[:200], known=_names(home))
    owner_name, asked_revision = asked
    revision = asked_revision or revision
    folder = hub.local(home, owner_name, revision)
    if folder is None:
        return hub.unfetched(owner_name, revision)
    return _supported(_read(folder, owner_name))


def download(
    facts: BaseFacts,
    home: Home,
    token: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Fetch a hub base into the models folder (going on where it stopped) and return its folder. See trainer/bases/hub.py."""
    return hub.download(facts, home, token=token, progress=progress)


def find_vae(home: Home, reference: str) -> Path:
    """Where the VAE `reference` lies: a folder with a VAE's config.json or a single .safetensors file, by path or by its name
    in the models folder; else a Problem. Of a whole base in diffusers' layout its VAE is taken."""
    reference = reference.strip()
    params = {"field": "model.vae", "base": reference[:200]}
    if "://" in reference or "\0" in reference:
        raise Problem("base_url", **params)
    if ".." in re.split(r"[/\\]", reference):
        raise Problem("base_dots", **params)
    own = home.models / reference
    path = own if _exists(own) else files.expanded(reference)
    if path.suffix.lower() in base_facts.PICKLE_SUFFIXES:
        raise Problem("base_pickle", **params)
    if not _exists(path):
        raise Problem("vae_not_here", **params)
    if (path / "vae" / "config.json").is_file():
        path = path / "vae"
    if not (path / "config.json").is_file() and path.suffix.lower() != ".safetensors":
        raise Problem("vae_none", **params)
    return path.resolve()


def layers(facts: BaseFacts) -> Modules:
    """Names and shapes of the layers a LoRA can sit on in this base, read from its configs alone."""
    folder = facts.path if facts.path is not None else Path()
    unet = read_json(folder / "unet" / "config.json") if facts.layout != "file" else None
    if not isinstance(unet, dict):
        return family_modules(facts.family)
    encoders = {}
    for part in ("text_encoder", "text_encoder_2"):
        config = read_json(folder / part / "config.json")
        if isinstance(config, dict):
            encoders[part] = TextEncoder.from_config(config)
    return modules(UNet.from_config(unet), encoders)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name longer than the system allows
        return False


def _folder_id(path: Path) -> str:
    """What a base folder calls itself: its atelier.json's id or its hub id; else nothing."""
    record = read_json(path / "atelier.json") if path.is_dir() else None
    record = record if isinstance(record, dict) else hub.stamp(path) if path.is_dir() else {}
    return str(record.get("id", ""))


def _names(home: Home) -> str:
    return ", ".join(facts.id for facts in list_bases(home)) or "–"


def _supported(facts: BaseFacts) -> BaseFacts:
    if facts.family not in SUPPORTED:
        raise Problem("family_unknown", field="model.base", base=facts.title, family=facts.family_name)
    return facts


def _read(path: Path, name: str) -> BaseFacts:
    if path.suffix.lower() in base_facts.PICKLE_SUFFIXES:
        raise Problem("base_pickle", field="model.base", base=path.name)
    if not _exists(path):
        raise Problem("base_not_here", field="model.base", base=str(path))
    return read_folder(path, name) if path.is_dir() else read_file(path, name)


def _all(home: Home) -> Iterator[tuple[str, BaseFacts | Problem]]:
    for name, path in _candidates(home):
        try:
            yield name, _supported(_read(path, name))
        except Problem as problem:
            yield name, problem


def _candidates(home: Home) -> Iterator[tuple[str, Path]]:
    """(id, path) of what looks like a base: the embedded one, then the models folder, a few levels deep."""
    embedded = PROJECT / "models" / EMBEDDED
    own = home.models / EMBEDDED
    for path in (own, embedded):
        if (path / "model_index.json").is_file():
            yield EMBEDDED, path
            break
    for path in sorted(_walk(home.models, _DEPTH), key=lambda path: str(path).lower()):
        if path not in (own, embedded):
            stamp = hub.stamp(path) if path.is_dir() else {}
            yield str(stamp.get("id") or path.relative_to(home.models).as_posix()), path


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith(".") or entry.name == CAPTIONER_FOLDER:
            continue
        if entry.is_dir():
            if (path / "model_index.json").is_file():
                yield path
            elif depth > 1:
                yield from _walk(path, depth - 1)
        elif path.suffix.lower() in base_facts.WEIGHT_SUFFIXES and not entry.name.endswith(base_facts.VAE_SUFFIX):
            yield path
