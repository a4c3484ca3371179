"""What can be taken back in an image set: deletions, bulk edits of captions, masks by machine; each a folder in `.trash`.

A deletion moves the files there, so nothing is lost before the trash is emptied; it survives a restart.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from trainer import files
from trainer.images.limits import LIMITS


@dataclass
class Act:
    """One act. `captions` holds the texts before an edit, `after` those a captioner wrote (only they are taken back), or
    the sha256 of masks that were made (empty: taken away); `entries` the set.json notes of deleted or masked pictures."""

    token: str
    what: Literal["captions", "delete", "masks", "reading"]
    when: str
    captions: dict[str, str] = field(default_factory=dict)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many pictures it touched."""
        return len(self.captions) or len(self.entries) or len(self.after)


def record_captions(
    folder: Path, before: dict[str, str], after: dict[str, str] | None = None, token: str | None = None
) -> str:
    """Remember captions before they are changed; with a `token` that is still known, as more of the same act."""
    known = next((act for act in all_acts(folder) if act.token == token), None)
    act = known or Act(_token(folder, "captions"), "captions", _now())
    act.captions.update({id_: text for id_, text in before.items() if id_ not in act.captions})
    act.after.update(after or {})
    files.write_json(folder / ".trash" / act.token / "act.json", asdict(act))
    for old in [a for a in all_acts(folder) if a.what == "captions"][: -LIMITS.acts]:
        shutil.rmtree(folder / ".trash" / old.token)
    return act.token


def record_delete(folder: Path, gone: list[Path], entries: dict[str, dict[str, Any]]) -> str:
    """Move files into the trash. The note is written first, so a kill in between loses nothing."""
    act = Act(_token(folder, "delete"), "delete", _now(), entries=entries)
    place = folder / ".trash" / act.token
    files.write_json(place / "act.json", asdict(act))
    for file in gone:
        if file.exists():
            target = place / file.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            os.replace(file, target)
    return act.token


def record_reading(
    folder: Path, written: dict[str, Path], entries: dict[str, dict[str, Any]], after: dict[str, str]
) -> str:
    """Remember caption files, byte for byte, before their letters are read otherwise: `written` by picture, `entries` the
    notes of the pictures, `after` the captions they get."""
    act = Act(_token(folder, "reading"), "reading", _now(), entries=entries, after=after)
    place = folder / ".trash" / act.token
    place.mkdir(parents=True)
    for file in written.values():
        if file.is_file():
            shutil.copyfile(file, place / file.name)
    files.write_json(place / "act.json", asdict(act))
    return act.token


def record_mask(folder: Path, id_: str, file: Path, note: dict[str, Any], made: str, token: str | None) -> str:
    """Remember a mask before it is made or taken away: the `file` that is there moves into the trash, `note` is its
    picture's, `made` the sha256 of the new one. With a `token` that is still known, as more of the same act."""
    known = next((act for act in all_acts(folder) if act.token == token), None)
    act = known or Act(_token(folder, "masks"), "masks", _now())
    place = folder / ".trash" / act.token
    again = id_ in act.after  # what lies there is the same act's own: what was there before it is kept
    act.entries.setdefault(id_, note)
    act.after[id_] = made
    files.write_json(place / "act.json", asdict(act))
    if again:
        file.unlink(missing_ok=True)
    elif file.is_file():
        os.replace(file, place / file.name)
    return act.token


def take_back(folder: Path, token: str | None) -> Act | None:
    """Undo the file moves of one act (default: the newest) and forget it; the caller puts texts and entries back."""
    known = all_acts(folder)
    act = next((a for a in known if a.token == token), None) if token else (known[-1] if known else None)
    if act is None:
        return None
    place = folder / ".trash" / act.token
    for file in sorted(file for file in place.rglob("*") if file.is_file()):
        if file.name != "act.json":
            target = folder / file.relative_to(place)
            target.parent.mkdir(exist_ok=True)
            os.replace(file, target if not target.exists() else files.free_name(target.parent, file.stem, file.suffix))
    shutil.rmtree(place)
    return act


def newest(folder: Path) -> Act | None:
    """The act that would be taken back."""
    known = all_acts(folder)
    return known[-1] if known else None


def all_acts(folder: Path) -> list[Act]:
    """Every act that can be taken back, oldest first."""
    found = []
    for place in sorted((folder / ".trash").glob("[0-9]*")):
        said = files.read_json(place / "act.json")
        if isinstance(said, dict) and said.get("what") in ("captions", "delete", "masks", "reading"):
            tables = ("captions", "entries", "after")
            texts, entries, after = (said[key] if isinstance(said.get(key), dict) else {} for key in tables)
            found.append(Act(place.name, said["what"], str(said.get("when", "")), texts, entries, after))
    return found


def _token(folder: Path, what: str) -> str:
    taken = [int(place.name[:6]) for place in (folder / ".trash").glob("[0-9]*-*") if place.name[:6].isdecimal()]
    return f"{max(taken, default=0) + 1:06d}-{what}"


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
