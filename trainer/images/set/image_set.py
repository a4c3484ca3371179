"""An image set: a folder of pictures, captions of the same name beside them, and `set.json`. The folder is the truth.

Used by the page, the report, the trainer and the command line. A person may edit the folder by hand at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from trainer.config import lines
from trainer.core import files, workplace
from trainer.core.home import Home
from trainer.core.locks import Lock, lock
from trainer.core.problem import Problem
from trainer.images.captions import captions, rereading
from trainer.images.geometry import masks
from trainer.images.intake.names import NAMED, ignored, shown, split
from trainer.images.set import picture, staging, undo
from trainer.images.set.facts import PictureCache, locks_of
from trainer.images.set.picture import Picture, Unreadable
from trainer.images.set.undo import Intent, UndoEntry

KINDS = ("style", "character", "concept")
FIELDS = ("title", "kind", "trigger", "licence", "origin", "rights")
_taking: dict[str, threading.Lock] = {}


@dataclass(frozen=True)
class Meta:
    """What a set says about itself."""

    name: str
    title: str
    kind: str
    trigger: str
    licence: str
    origin: str
    rights: str
    created: str


class ImageSet:
    """A set in `folder`. Opening it finishes or sweeps what a broken-off upload left and changes nothing else; with
    `read_only` nothing is written anywhere. `encoding` is what caption files are read in that are not UTF-8; left out, it is
    found out from all of them together."""

    def __init__(self, folder: Path | str, *, read_only: bool = False, encoding: str | None = None) -> None:
        self.folder, self.encoding = Path(folder), encoding
        if not self.folder.is_dir():
            raise Problem("folder_missing", folder=str(self.folder))
        self.facts = PictureCache(self.folder, keep=not read_only)
        # One writer of set.json at a time among all programs, and one intake at a time in this one.
        name, hidden = self.facts.place.name, self.folder.name.startswith(".")  # one being made is nobody else's yet
        self.lock = threading.RLock() if hidden else lock(locks_of(self.folder) / f"{name}.lock")
        self.taking = _taking.setdefault(str(self.folder.resolve()), threading.Lock())
        if not read_only:
            with self.lock, contextlib.suppress(OSError):  # a full disk: what was decided is done at a later opening
                staging.recover(self.folder)
                undo.finish(self.folder)

    @classmethod
    def create(cls, home: Home, title: str, kind: str = "style", contents: Path | None = None) -> ImageSet:
        """A new set under `home.datasets`, empty or made from the prepared folder `contents`, which becomes the set.

        Where the folder's name is taken it gets `_v2`.
        """
        title = captions.clean(title)[:120] or "untitled"
        home.create()
        place = contents or home.datasets / f".new-{uuid.uuid4().hex}"
        with files.writing(home.datasets), naming(home):
            folder = files.free_name(home.datasets, files.safe_name(title, fallback="set", limit=60))
            meta = {"name": folder.name, "title": title, "kind": kind if kind in KINDS else "style", "created": _now()}
            try:
                place.mkdir(exist_ok=True)
                staging.write_set(place, meta | {"pictures": staging.notes_of(staging.read_set(place))})
                (place / workplace.OWNER).unlink(missing_ok=True)
                os.replace(place, folder)
            finally:
                if contents is None:
                    shutil.rmtree(place, ignore_errors=True)
            PictureCache(place).move(folder)
        return cls(folder)

    @property
    def meta(self) -> Meta:
        """Title, kind, trigger, licence, origin, rights, created; a title in several languages in English."""
        return self.meta_in("en")

    def meta_in(self, language: str) -> Meta:
        """`meta` with the title in `language` where the set has it."""
        content = staging.read_set(self.folder)
        title = content.get("title")
        if isinstance(title, dict):
            title = title.get(language) or title.get("en")
        rest = ("trigger", "licence", "origin", "rights", "created")
        return Meta(
            name=self.folder.name,
            title=title if isinstance(title, str) and title else self.folder.name,
            kind=content["kind"] if content.get("kind") in KINDS else "style",
            **{key: content[key] if isinstance(content.get(key), str) else "" for key in rest},
        )

    def update(self, **meta: str) -> Meta:
        """Change title, kind, trigger, licence, origin or rights. The folder keeps its name."""
        if not set(meta) <= set(FIELDS) or meta.get("kind", "style") not in KINDS:
            raise ValueError(f"not something a set can say: {meta}")
        with self.lock:
            new = {key: captions.clean(str(value)) for key, value in meta.items()}
            staging.write_set(self.folder, staging.read_set(self.folder) | new)
        return self.meta

    def pictures(self) -> list[Picture]:
        """Every readable picture in the folder, in natural order; notes without a file are passed over."""
        return self.scan()[0]

    def scan(self, only: str | None = None) -> tuple[list[Picture], list[Unreadable]]:
        """The pictures, and the files meant as pictures that cannot be one, with the reason (from headers alone)."""
        return picture.scan(self.folder, staging.notes_of(staging.read_set(self.folder)), self.facts, only, self.encoding)

    def find(self, id_: str) -> Picture:
        """The picture called `id_`."""
        picture_ = next((p for p in self.scan(only=id_)[0] if p.id == id_), None)
        if picture_ is None:
            raise Problem("picture_missing", picture=shown(id_))
        return picture_

    def set_caption(self, id_: str, text: str) -> str:
        """Write a caption at once; returns it as it was written (one clean line within the limit)."""
        with self.lock:
            return _write_caption(self.find(id_), text)

    def set_picture(
        self, id_: str, *, repeats: int | None = None, focus: tuple[float, float] | None = None, weight: float | None = None
    ) -> Picture:
        """How often a picture is shown per round (1..200), the middle of its crop (0..1 from left and top), and how much
        an error on it counts (more than 0, to 10)."""
        with self.lock:
            self.find(id_)
            content = staging.read_set(self.folder)
            note = staging.notes_of(content).setdefault(id_, {})
            if repeats is not None:
                note["repeats"] = min(max(int(repeats), 1), lines.MAX_REPEATS)
            if weight is not None:
                note["weight"] = min(max(float(weight), 0.01), lines.MAX_WEIGHT)
            if focus is not None:
                note["focus"] = [min(max(float(part), 0.0), 1.0) for part in focus]
            staging.write_set(self.folder, content)
            return self.find(id_)

    def preview(self, change: Callable[[str], str], ids: Iterable[str] | None = None) -> list[tuple[str, str, str]]:
        """(id, before, after) of every caption `change` would change (`captions.adding`, `removing`, `replacing`)."""
        chosen_ids = None if ids is None else set(ids)
        chosen = [p for p in self.pictures() if chosen_ids is None or p.id in chosen_ids]
        edited = [(p.id, p.caption, _fit(change(p.caption))) for p in chosen]
        return [line for line in edited if line[1] != line[2]]

    def edit(self, change: Callable[[str], str], ids: Iterable[str] | None = None) -> str | None:
        """Change many captions at once; returns an undo token, None where nothing changed."""
        with self.lock:
            lines = self.preview(change, ids)
            if not lines:
                return None
            entry = undo.captions_entry(self.folder, {id_: before for id_, before, _ in lines})
            self._change(entry.token, entry, {id_: after for id_, _, after in lines})
            return entry.token

    def fill(self, texts: Mapping[str, str], seen: Mapping[str, str], token: str | None = None) -> tuple[str | None, list[str]]:
        """Write a captioner's texts, each only where the caption still is the one it was `seen` with: what a person types
        meanwhile stays. Returns an undo token (the given one, for more of the same act) and the ids written."""
        with self.lock:
            now = {p.id: p.caption for p in self.pictures() if p.id in texts and p.caption == seen.get(p.id)}
            new = {id_: text for id_ in now if (text := _fit(texts[id_])) not in ("", now[id_])}
            if new:
                entry = undo.captions_entry(self.folder, {id_: now[id_] for id_ in new}, new, token)
                token = entry.token
                self._change(token, entry, new)
            return token, list(new)

    def put_mask(self, id_: str, mask: bytes, token: str | None = None) -> str | None:
        """Put a mask made by machine (a PNG) beside a picture, in place of an earlier one made so: never over one a person
        brought, drew on, or left in the picture's transparency. Returns an undo token, None where it was not put."""
        with self.lock:
            p, content = self.find(id_), staging.read_set(self.folder)
            note = staging.notes_of(content).setdefault(id_, {})
            if masks.is_manual(p, str(note.get("masked", ""))):
                return None
            sha256 = hashlib.sha256(mask).hexdigest()
            token = undo.record_mask(self.folder, id_, masks.mask_file(p), dict(note), sha256, token)
            note["masked"] = sha256
            staging.write_set(self.folder, content)
            files.write_bytes(masks.mask_file(p), mask)
            return token

    def take_mask(self, id_: str) -> str | None:
        """Take a picture's mask file away, whoever made it; returns an undo token, None where there is none."""
        with self.lock:
            p, content = self.find(id_), staging.read_set(self.folder)
            note = staging.notes_of(content).setdefault(id_, {})
            if not masks.mask_file(p).is_file():
                return None
            token = undo.record_mask(self.folder, id_, masks.mask_file(p), dict(note), "", None)
            note.pop("masked", None)
            staging.write_set(self.folder, content)
            return token

    def unmasked(self, again: bool = False) -> list[Picture]:
        """The pictures that may get a mask by machine: those without any, and with `again` those that have one made so."""
        notes = staging.notes_of(staging.read_set(self.folder))
        result = []
        for p in self.pictures():
            sha256 = str((notes.get(p.id) or {}).get("masked", ""))
            if not masks.is_manual(p, sha256) and (again or not masks.mask_file(p).is_file()):
                result.append(p)
        return result

    def delete(self, ids: Iterable[str]) -> str:
        """Move pictures (by id or file name) and their captions to the set's `.trash`; returns an undo token."""
        chosen = set(ids)
        with self.lock:
            pictures, bad = self.scan()
            gone = [p for p in pictures if p.id in chosen or p.file.name in chosen]
            broken = [file for file, _ in bad if file.name in chosen]
            missing = chosen - {name for p in gone for name in (p.id, p.file.name)} - {file.name for file in broken}
            if missing:
                raise Problem("picture_missing", picture=shown(min(missing)))
            shared = {p.caption_file for p in pictures if p not in gone}
            beside = [(p.file, p.caption_file, masks.mask_file(p), *filter(None, [p.mask]),
                       staging.written_file(self.folder, p.id)) for p in gone]  # fmt: skip
            moved = [f for files_of in beside for f in files_of if f not in shared] + broken
            notes = staging.notes_of(staging.read_set(self.folder))
            entries = {id_: notes.get(id_, {}) for id_ in [*(p.id for p in gone), *(file.name for file in broken)]}
            entry = undo.deletion_entry(self.folder, entries)
            names = dict.fromkeys(f.relative_to(self.folder).as_posix() for f in moved if f.exists())
            moves = [[name, f".trash/{entry.token}/{name}"] for name in names]
            intent = Intent(entry.token, asdict(entry), moves=moves, notes=dict.fromkeys(entries))
            undo.carry_out(self.folder, intent)
            return entry.token

    def undo(self, token: str | None = None) -> UndoEntry | None:
        """Take back one bulk edit or deletion (default: the newest); None where there is nothing to take back."""
        with self.lock:
            entries = [entry for entry in undo.all_entries(self.folder) if token in (None, entry.token)]
            if not entries:
                return None
            entry = entries[-1]
            if entry.what == "reading":
                return rereading.undo_reading(self, entry)
            if entry.what == "captions":
                typed = {p.id for p in self.pictures() if p.id in entry.after and p.caption != entry.after[p.id]}
                entry.captions = {id_: text for id_, text in entry.captions.items() if id_ not in typed}
                self._change(entry.token, None, entry.captions)
                return entry
            kept: dict[str, dict[str, Any] | None] = {id_: note for id_, note in entry.entries.items() if note}
            notes = self._undo_masks(entry) if entry.what == "masks" else kept
            undo.carry_out(self.folder, Intent(entry.token, moves=undo.moves_back(self.folder, entry), notes=notes))
            return entry

    def undoable(self) -> UndoEntry | None:
        """What `undo()` would take back."""
        return undo.newest(self.folder)

    def next_number(self) -> int:
        """The first number no picture has, or had as far as the trash remembers."""
        files_ = [*self.folder.iterdir(), *(self.folder / ".trash").glob("*/*")]
        return max((int(f.stem) for f in files_ if f.stem.isdecimal() and len(f.stem) <= 9), default=0) + 1

    def discard(self, home: Home) -> Path:
        """Move the whole set to `outputs/trash/sets`; returns where it lies, for `restore_set`."""
        with files.writing(home.trash), naming(home), self.lock:
            (home.trash / "sets").mkdir(parents=True, exist_ok=True)
            place = files.free_name(home.trash / "sets", self.folder.name)
            os.replace(self.folder, place)
        return place

    def _undo_masks(self, entry: UndoEntry) -> dict[str, dict[str, Any] | None]:
        """Take the masks an act made away, except where a person changed them; the notes of their pictures from before."""
        place = self.folder / ".trash" / entry.token
        notes = staging.notes_of(staging.read_set(self.folder))
        before: dict[str, dict[str, Any] | None] = {}
        for p in self.pictures():
            if p.id not in entry.after:
                continue
            file = masks.mask_file(p)
            if file.is_file() and files.sha256(file) != entry.after[p.id]:
                (place / file.name).unlink(missing_ok=True)
                continue
            file.unlink(missing_ok=True)
            note = {key: value for key, value in (notes.get(p.id) or {}).items() if key != "masked"}
            sha256 = (entry.entries.get(p.id) or {}).get("masked")
            before[p.id] = note | ({"masked": sha256} if sha256 else {})
        return before

    def _change(self, token: str, entry: UndoEntry | None, texts: dict[str, str]) -> None:
        """Change captions as one act to keep; None while the act `token` is taken back."""
        chosen = [(p.caption_file.relative_to(self.folder).as_posix(), p.id) for p in self.pictures() if p.id in texts]
        captions_ = {name: _fit(texts[id_]) for name, id_ in chosen}
        undo.carry_out(self.folder, Intent(token, asdict(entry) if entry else None, captions_))


def list_sets(home: Home) -> list[ImageSet]:
    """Every set under `home.datasets`, by name: folders with a set.json or with pictures that someone put there."""
    if not home.datasets.is_dir():
        return []
    folders = sorted(f for f in home.datasets.iterdir() if f.is_dir() and not f.name.startswith("."))
    return [ImageSet(f) for f in folders if any(_of_set(p.name) for p in f.iterdir())]


def _of_set(name: str) -> bool:
    return name == "set.json" or (split(name)[1] in NAMED and not ignored(name))


def restore_set(home: Home, place: Path) -> ImageSet:
    """Bring a discarded set back; a name taken in the meantime gets `_v2`."""
    with files.writing(home.datasets), naming(home):
        target = files.free_name(home.datasets, place.name)
        os.replace(place, target)
    return ImageSet(target)


def naming(home: Home) -> Lock:
    """Held while a set gets a name or gives it up: two programs never choose the same one."""
    return lock(home.cache / "locks" / "sets.lock")


def _fit(text: str) -> str:
    return captions.shorten(captions.clean(text))[0]


def _write_caption(p: Picture, text: str) -> str:
    text = _fit(text)
    files.write_text(p.caption_file, f"{text}\n" if text else "")
    return text


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
