"""Captions read in another encoding than was taken for the likeliest, and back. Used by the Images page and the intake.

What a caption file held when it came lies in the set's `.captions`, so that every reading is made from the bytes themselves;
`set.json` notes under `encoding` what each was read as. A file put into the folder by hand is its own original until then.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trainer.core import files
from trainer.core.encodings import normal
from trainer.core.texts import t
from trainer.images.captions import captions, encodings
from trainer.images.captions.files import data_of
from trainer.images.set import staging, undo
from trainer.images.set.undo import UndoEntry

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from trainer.images.set.picture import Picture


class RereadableSet(Protocol):
    """What is asked here of an image set (set/image_set.py)."""

    folder: Path

    @property
    def lock(self) -> AbstractContextManager[Any]: ...

    def pictures(self) -> list[Picture]: ...


@dataclass(frozen=True)
class SetReading:
    """Captions of a set that were read in one encoding: the first words, and those of the next-best reading. `ids` are the
    pictures whose caption still stands as it was read."""

    encoding: str
    ids: tuple[str, ...]
    excerpt: str
    other: str | None
    other_excerpt: str


@dataclass(frozen=True)
class _Original:
    picture: Picture
    data: bytes
    encoding: str
    settled: bool
    by_hand: bool
    """Whether the bytes still stand in the caption file itself."""

    def written(self, encoding: str) -> str:
        """What goes into the caption file: one line, or the lines of a file written by hand."""
        line = captions.shorten(self.text(encoding))[0]
        lines = [captions.clean(part) for part in encodings.decode(self.data, encoding).splitlines()] if self.by_hand else []
        whole = "\n".join(part for part in lines if part)
        text = whole if captions.clean(whole) == line else line
        return f"{text}\n" if text else ""

    def text(self, encoding: str) -> str:
        return captions.clean(encodings.decode(self.data, encoding))

    @property
    def untouched(self) -> bool:
        """Whether the caption still is what was read from the bytes."""
        return self.picture.caption == captions.shorten(self.text(self.encoding))[0]


def keep_original(image_set: RereadableSet, id_: str, data: bytes, encoding: str) -> None:
    """Keep what the caption of a picture was written as, and what it was read in."""
    with image_set.lock:
        _put(staging.written_file(image_set.folder, id_), data)
        content = staging.read_set(image_set.folder)
        staging.notes_of(content).setdefault(id_, {})["encoding"] = encoding
        staging.write_set(image_set.folder, content)


def sentences(image_set: RereadableSet, language: str | None = None) -> list[str]:
    """What the captions of a folder are read as, for a person at the command line."""
    lines = []
    for reading in readings(image_set):
        key = "read_other" if reading.other else "read"
        names = {"encoding": encodings.label(reading.encoding, language), "words": reading.excerpt, "count": len(reading.ids)}
        if reading.other:
            other = encodings.label(reading.other, language)
            names |= {"other": other, "other_words": reading.other_excerpt, "name": reading.other}
        lines.append(t(f"encodings.{key}", language=language, **names))
    return lines


def readings(image_set: RereadableSet, pictures: list[Picture] | None = None) -> list[SetReading]:
    """Every encoding captions of the set were read in without being certain, those with most captions first; not those a
    person has called right. `pictures` saves looking at the folder again."""
    groups: dict[str, list[_Original]] = {}
    for original in _originals(image_set, pictures):
        if original.untouched and not original.settled:
            groups.setdefault(original.encoding, []).append(original)
    result = []
    for encoding, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        other = encodings.next_best([original.data for original in group], encoding)
        ids = tuple(original.picture.id for original in group)
        excerpt = encodings.excerpt(group[0].text(encoding))
        result.append(SetReading(encoding, ids, excerpt, other, encodings.excerpt(group[0].text(other)) if other else ""))
    return result


def read_as(image_set: RereadableSet, encoding: str, ids: Iterable[str]) -> str | None:
    """Read the captions of these pictures in `encoding`, from the bytes they came as; a caption a person has changed since
    stays. Returns an undo token, None where nothing changed."""
    chosen_ids = set(ids)
    with image_set.lock:
        chosen = [o for o in _originals(image_set) if o.picture.id in chosen_ids and o.untouched]
        after = {o.picture.id: captions.shorten(o.text(encoding))[0] for o in chosen}
        if not chosen:
            return None
        content = staging.read_set(image_set.folder)
        notes = staging.notes_of(content)
        before = {id_: dict(notes.get(id_) or {}) for id_ in after}
        token = undo.record_reading(image_set.folder, {o.picture.id: o.picture.caption_file for o in chosen}, before, after)
        for original in chosen:
            _put(staging.written_file(image_set.folder, original.picture.id), original.data)
            note = notes.setdefault(original.picture.id, {})
            note["encoding"] = encoding
            note.pop("encoding_settled", None)
        staging.write_set(image_set.folder, content)
        for original in chosen:
            files.write_text(original.picture.caption_file, original.written(encoding))
        return token


def confirm(image_set: RereadableSet, encoding: str) -> int:
    """Call the reading of captions in `encoding` right: it is not asked about again. Returns for how many pictures."""
    with image_set.lock:
        ids = next((reading.ids for reading in readings(image_set) if reading.encoding == encoding), ())
        by_hand = [o.picture.id for o in _originals(image_set) if o.by_hand and o.picture.id in ids]
        read_as(image_set, encoding, by_hand)
        content = staging.read_set(image_set.folder)
        for id_ in ids:
            staging.notes_of(content).setdefault(id_, {})["encoding_settled"] = True
        staging.write_set(image_set.folder, content)
        return len(ids)


def undo_reading(image_set: RereadableSet, entry: UndoEntry) -> UndoEntry:
    """Put caption files back byte for byte, and what they were read as; not where a person changed the caption since."""
    place = image_set.folder / ".trash" / entry.token
    content = staging.read_set(image_set.folder)
    notes = staging.notes_of(content)
    for picture in image_set.pictures():
        kept = place / picture.caption_file.name
        before = data_of(kept)
        stopped = before is not None and before == data_of(picture.caption_file)  # a reading that was broken off
        if picture.id not in entry.after or (picture.caption != entry.after[picture.id] and not stopped):
            continue
        if kept.is_file():
            os.replace(kept, picture.caption_file)
        note = notes.setdefault(picture.id, {})
        note.pop("encoding", None)
        note.pop("encoding_settled", None)
        if earlier := (entry.entries.get(picture.id) or {}).get("encoding"):
            note["encoding"] = earlier
        else:
            staging.written_file(image_set.folder, picture.id).unlink(missing_ok=True)
    staging.write_set(image_set.folder, content)
    shutil.rmtree(place)
    return entry


def _originals(image_set: RereadableSet, pictures: list[Picture] | None = None) -> list[_Original]:
    """The pictures whose caption was, or is, in an encoding that its bytes do not say for certain."""
    notes = staging.notes_of(staging.read_set(image_set.folder))
    originals = []
    for picture in image_set.pictures() if pictures is None else pictures:
        note = notes.get(picture.id)
        noted = note.get("encoding") if isinstance(note, dict) else None
        settled = isinstance(note, dict) and note.get("encoding_settled") is True
        if isinstance(noted, str) and normal(noted) == noted:
            data = data_of(staging.written_file(image_set.folder, picture.id))
            if data:
                originals.append(_Original(picture, data, noted, settled, by_hand=False))
            continue
        if picture.encoding == "utf-8" and "\ufffd" not in picture.caption:
            continue
        data = data_of(picture.caption_file)
        sure = encodings.certain(data) if data else None
        if data and (sure is None or sure.encoding != picture.encoding):
            originals.append(_Original(picture, data, picture.encoding, settled, by_hand=True))
    return originals


def _put(file: Path, data: bytes) -> None:
    file.parent.mkdir(exist_ok=True)
    files.write_bytes(file, data)
