"""What can be taken back in an image set: deletions, bulk edits of captions, masks by machine; each a folder in `.trash`.

A deletion moves the files there, so nothing is lost before the trash is emptied; it survives a restart. What is decided
is written to `.trash/intent.json` first: killed in the middle, it is finished when the set is opened next.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from trainer.core import files
from trainer.images.set import staging
from trainer.images.set.limits import LIMITS

INTENT = "intent.json"


@dataclass
class UndoEntry:
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


def captions_entry(
    folder: Path, before: dict[str, str], after: dict[str, str] | None = None, token: str | None = None
) -> UndoEntry:
    """The act that remembers captions before they are changed; with a `token` that is still known, as more of the same."""
    existing = next((entry for entry in all_entries(folder) if entry.token == token), None)
    entry = existing or UndoEntry(_token(folder, "captions"), "captions", _now())
    entry.captions.update({id_: text for id_, text in before.items() if id_ not in entry.captions})
    entry.after.update(after or {})
    return entry


def record_reading(folder: Path, written: dict[str, Path], entries: dict[str, dict[str, Any]], after: dict[str, str]) -> str:
    """Remember caption files, byte for byte, before their letters are read otherwise: `written` by picture, `entries` the
    notes of the pictures, `after` the captions they get."""
    entry = UndoEntry(_token(folder, "reading"), "reading", _now(), entries=entries, after=after)
    place = folder / ".trash" / entry.token
    place.mkdir(parents=True)
    for file in written.values():
        if file.is_file():
            shutil.copyfile(file, place / file.name)
    files.write_json(place / "act.json", asdict(entry))
    return entry.token


def deletion_entry(folder: Path, entries: dict[str, dict[str, Any]]) -> UndoEntry:
    """The act that remembers the notes of pictures before they go."""
    return UndoEntry(_token(folder, "delete"), "delete", _now(), entries=entries)


@dataclass
class Intent:
    """What was decided and is being done, all of it by names below the set's folder."""

    token: str
    act: dict[str, Any] | None = None
    """The act to keep, so that it can be taken back; None where an act is being taken back."""
    captions: dict[str, str] = field(default_factory=dict)
    """File name of a caption -> its text."""
    moves: list[list[str]] = field(default_factory=list)
    """[from, to] of files."""
    notes: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    """Picture -> its note in set.json, None where that goes."""


def carry_out(folder: Path, intent: Intent) -> None:
    """Write down what was decided, then do it. Raises StorageProblem where even the first cannot be written."""
    files.write_json(folder / ".trash" / INTENT, asdict(intent))
    finish(folder)


def finish(folder: Path) -> None:
    """Do what was decided and is not done yet; doing it twice does no harm."""
    note = folder / ".trash" / INTENT
    intent = _read(note)
    if intent is None:
        return
    with files.writing(folder):
        place = folder / ".trash" / intent.token
        if intent.act is not None:
            files.write_json(place / "act.json", intent.act)
        for name, text in intent.captions.items():
            files.write_text(folder / name, f"{text}\n" if text else "")
        for old, new in intent.moves:
            if (folder / old).is_file():
                (folder / new).parent.mkdir(parents=True, exist_ok=True)
                os.replace(folder / old, folder / new)
        if intent.notes:
            content = staging.read_set(folder)
            notes = staging.notes_of(content)
            for id_, entry in intent.notes.items():
                notes.pop(id_, None) if entry is None else notes.update({id_: entry})
            staging.write_set(folder, content)
        if intent.act is None:
            shutil.rmtree(place, ignore_errors=True)
        for old_act in [a for a in all_entries(folder) if a.what == "captions"][: -LIMITS.acts]:
            shutil.rmtree(folder / ".trash" / old_act.token, ignore_errors=True)
        note.unlink(missing_ok=True)
        files.sync_folder(note.parent)


def record_mask(folder: Path, id_: str, file: Path, note: dict[str, Any], sha256: str, token: str | None) -> str:
    """Remember a mask before it is made or taken away: the `file` that is there moves into the trash, `note` is its
    picture's, `sha256` the sha256 of the new one. With a `token` that is still known, as more of the same act."""
    existing = next((entry for entry in all_entries(folder) if entry.token == token), None)
    entry = existing or UndoEntry(_token(folder, "masks"), "masks", _now())
    place = folder / ".trash" / entry.token
    again = id_ in entry.after  # what lies there is the same act's own: what was there before it is kept
    entry.entries.setdefault(id_, note)
    entry.after[id_] = sha256
    files.write_json(place / "act.json", asdict(entry))
    if again:
        file.unlink(missing_ok=True)
    elif file.is_file():
        os.replace(file, place / file.name)
    return entry.token


def _read(note: Path) -> Intent | None:
    """What stands in `intent.json`; None where there is none, or one that leads out of the set."""
    content = files.read_json(note)
    try:
        intent = Intent(**content)
        names = [intent.token, *intent.captions, *(name for move in intent.moves for name in move)]
        safe = all(name and ".." not in Path(name).parts and not Path(name).is_absolute() for name in names)
        return intent if safe and all(len(move) == 2 for move in intent.moves) else None
    except (TypeError, AttributeError):
        return None


def moves_back(folder: Path, entry: UndoEntry) -> list[list[str]]:
    """[from, to] of every file an act put away; where a file of that name is there meanwhile, to a free name."""
    place = folder / ".trash" / entry.token
    moves = []
    for file in sorted(file for file in place.rglob("*") if file.is_file()):
        if file.name != "act.json":
            target = folder / file.relative_to(place)
            target = files.free_name(target.parent, file.stem, file.suffix) if target.exists() else target
            moves.append([file.relative_to(folder).as_posix(), target.relative_to(folder).as_posix()])
    return moves


def newest(folder: Path) -> UndoEntry | None:
    """The act that would be taken back."""
    entries = all_entries(folder)
    return entries[-1] if entries else None


def all_entries(folder: Path) -> list[UndoEntry]:
    """Every act that can be taken back, oldest first."""
    result = []
    for place in sorted((folder / ".trash").glob("[0-9]*")):
        data = files.read_json(place / "act.json")
        if isinstance(data, dict) and data.get("what") in ("captions", "delete", "masks", "reading"):
            tables = ("captions", "entries", "after")
            texts, entries, after = (data[key] if isinstance(data.get(key), dict) else {} for key in tables)
            result.append(UndoEntry(place.name, data["what"], str(data.get("when", "")), texts, entries, after))
    return result


def _token(folder: Path, what: str) -> str:
    taken = [int(place.name[:6]) for place in (folder / ".trash").glob("[0-9]*-*") if place.name[:6].isdecimal()]
    return f"{max(taken, default=0) + 1:06d}-{what}"


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
