"""What a training learns from, by content: the weights of its base, and the pictures, captions and masks of its sets.

Every checkpoint keeps it (engine/output/checkpoint.py); it is compared where a run goes on: before it is queued (jobs/jobs.py)
and by the trainer itself (engine/train.py), so that no run goes on with something else by itself.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trainer.bases import catalog
from trainer.bases.facts import BaseFacts, hashes_of
from trainer.config.plan import draws
from trainer.config.train import TrainConfig
from trainer.core import files
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.run_dir import RunDir
from trainer.images.captions.files import read_lines
from trainer.images.geometry import masks
from trainer.images.set import subsets
from trainer.images.set.picture import Picture

Kept = dict[str, Any]
PARTS = ("unet", "text_encoder", "text_encoder_2", "vae")
PIECES, PIECE = 64, 4096
SHOWN = 5
"""Names said of each kind of change."""
Change = list[Any]
"""[text key, params]: one part of a sentence, as `texts.t` says it."""


@dataclass(frozen=True)
class Sources:
    """The base and the sets of a run as they lie on this disk now. Reading them raises Problem where something is missing."""

    config: TrainConfig
    home: Home

    @cached_property
    def base(self) -> Kept:
        """{file: {bytes, changed, sample}} of every weight file and {file: {config}} of what says how they are read."""
        return {name: _mark(path) for name, path in _base_files(self.facts, self._vae)}

    @cached_property
    def pictures(self) -> Kept:
        """{name: {content, caption, mask, use}}; empty where the base draws what is learnt."""
        return dict(_pictures(self.config))

    @property
    def facts(self) -> BaseFacts:
        """The base as it lies here; without a path where it must be fetched again."""
        return catalog.find(self.home, self.config.model.base, self.config.model.revision)

    @cached_property
    def digest(self) -> str:
        """One hash of `pictures`: what a person agreed to."""
        return _hash(json.dumps(self.pictures, sort_keys=True).encode())

    @property
    def _vae(self) -> Path | None:
        return catalog.find_vae(self.home, self.config.model.vae) if self.config.model.vae else None

    def note(self) -> None:
        """Look at everything now: what is read into memory is what a checkpoint is to name."""
        _ = self.base, self.pictures

    def kept(self) -> Kept:
        """For a checkpoint: with the SHA-256 of every weight file, read once a process. A file that was exchanged while the
        run held the old one in memory gets none."""
        base = {}
        for name, path in _base_files(self.facts, self._vae):
            mark = self.base.get(name, {})
            unchanged = "sample" in mark and mark == _mark(path)
            base[name] = mark | {"sha256": hashes_of(path)[1]} if unchanged else mark
        return {"base": base, "pictures": self.pictures}


def kept_by(run: RunDir) -> Kept | None:
    """What the newest checkpoint learnt from; None where there is none, or one of a version that did not note it."""
    numbered = [path for path in run.checkpoints.glob("*/manifest.json") if path.parent.name.isdigit()]
    for manifest in sorted(numbered, key=lambda path: int(path.parent.name), reverse=True):
        data = files.read_json(manifest)
        if isinstance(data, dict):
            return data.get("sources") if isinstance(data.get("sources"), dict) else None
    return None


def check(run: RunDir, kept: Kept | None, now: Sources) -> list[Change]:
    """Compare what a checkpoint learnt from with what is here now; the changes of the sets that a person agreed to.

    Problem `resume_base_changed` for another base, `resume_set_changed` for changes of the sets nobody agreed to.
    """
    if kept is None:
        return []
    if now.facts.path is not None and (changed := base_changes(kept.get("base", {}), now)):
        raise Problem("resume_base_changed", base=now.facts.title, files=", ".join(changed[:SHOWN]))
    changes = set_changes(kept.get("pictures", {}), now.pictures)
    if changes and agreed(run) != now.digest:
        raise Problem("resume_set_changed", changes=changes)
    return changes


def agree(run: RunDir, now: Sources) -> None:
    """A person wants this run to go on with the sets as they are now, and only so."""
    files.write_json(run.agreed, {"pictures": now.digest})


def agreed(run: RunDir) -> str | None:
    """The digest of the sets a person agreed to go on with."""
    data = files.read_json(run.agreed)
    return data.get("pictures") if isinstance(data, dict) else None


def base_changes(kept: Kept, now: Sources) -> list[str]:
    """The files of the base that are others now. Another length or other samples are another file; where only the time is
    another one, the whole file is read."""
    current = now.base
    changed = sorted(set(kept) ^ set(current))
    paths = dict(_base_files(now.facts, now._vae))
    for name in sorted(set(kept) & set(current)):
        before, mark = kept[name], current[name]
        other = any(before.get(key) != mark.get(key) for key in ("bytes", "sample", "config"))
        touched = before.get("changed") != mark.get("changed")
        if other or (touched and before.get("sha256") != hashes_of(paths[name])[1]):
            changed.append(name)
    return changed


def set_changes(kept: Kept, now: Kept) -> list[Change]:
    """What is gone, new, renamed or changed, each with a few names."""
    gone, added = [name for name in kept if name not in now], [name for name in now if name not in kept]
    free = Counter(now[name]["content"] for name in added)
    moved = [name for name in gone if free[kept[name]["content"]] and _use_one(free, kept[name]["content"])]
    used = Counter(kept[name]["content"] for name in moved)
    arrived = [name for name in added if not (used[now[name]["content"]] and _use_one(used, now[name]["content"]))]
    both = [name for name in kept if name in now]
    changes = {
        "gone": [name for name in gone if name not in moved],
        "added": arrived,
        "renamed": moved,
        "changed": [name for name in both if kept[name]["content"] != now[name]["content"]],
        **{
            f"{what}s": [name for name in both if kept[name].get(what) != now[name].get(what)]
            for what in ("caption", "mask", "use")
        },
    }
    return [
        [f"set_changes.{what}", {"count": len(names), "names": ", ".join(names[:SHOWN]) + ("…" if names[SHOWN:] else "")}]
        for what, names in changes.items()
        if names
    ]


def _use_one(counts: Counter[str], content: str) -> bool:
    counts[content] -= 1
    return True


def _base_files(facts: BaseFacts, vae: Path | None) -> Iterator[tuple[str, Path]]:
    """(name, file) of everything that decides what the base computes, whatever its folder is called."""
    own, vae = facts.path, vae or facts.vae
    if own is None:
        return
    if own.is_file():
        yield "base", own
    else:
        for part in PARTS:
            if part != "vae" or vae is None:
                yield from _in_folder(part, own / part)
        yield from _in_folder("scheduler", own / "scheduler")
    if vae is not None:
        yield from [("vae", vae)] if vae.is_file() else _in_folder("vae", vae)


def _in_folder(part: str, folder: Path) -> Iterator[tuple[str, Path]]:
    paths = (*folder.glob("*.safetensors"), *folder.glob("config.json"), *folder.glob("scheduler_config.json"))
    yield from ((f"{part}/{path.name}", path) for path in sorted(paths))


def _mark(path: Path) -> Kept:
    """What tells a file from another without reading all of it: length, time, and a hash of 64 pieces, the header's among
    them. Of a configuration its values, without what only names the program that wrote it."""
    if path.suffix == ".json":
        data = files.read_json(path, {})
        data = {key: value for key, value in data.items() if key == "_class_name" or not key.startswith("_")}
        return {"config": _hash(json.dumps(data, sort_keys=True).encode())}
    status, digest = path.stat(), hashlib.sha256()
    with open(path, "rb") as file:
        for number in range(PIECES):
            file.seek(number * max(0, status.st_size - PIECE) // (PIECES - 1))
            digest.update(file.read(PIECE))
    return {"bytes": status.st_size, "changed": status.st_mtime_ns, "sample": digest.hexdigest()[:32]}


def _pictures(config: TrainConfig) -> Iterator[tuple[str, Kept]]:
    """(name, what it is) of every picture: those of the main folder by file name, others behind their folder's name."""
    if draws(config):
        return
    main = Path(config.images.folder)
    named = [
        (p.file.name if p.file.parent == main else f"{p.file.parent.name}/{p.file.name}", p)
        for p in subsets.pictures(config.images)
    ]
    if folder := config.preservation.regularization_folder:
        alone = config.images.model_copy(update={"folder": folder, "subsets": ()})
        named += [(f"{Path(folder).name}/{p.file.name}", p) for p in subsets.pictures(alone)]
    seen: Counter[str] = Counter()
    for name, picture in named:
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name} ({seen[name]})", _picture(picture)


def _picture(picture: Picture) -> Kept:
    try:
        content = picture.content[:32]
    except Problem:  # one that cannot be decoded is what its bytes are
        content = files.sha256(picture.file)[:32]
    mask = masks.mask_file(picture)
    focus = list(picture.focus) if picture.focus else None
    return {
        "content": content,
        "caption": _hash("\n".join(read_lines(picture.caption_file, picture.encoding)).encode()),
        "mask": files.sha256(mask)[:32] if mask.is_file() else "",
        "use": [picture.repeats, picture.weight, focus],
    }


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
