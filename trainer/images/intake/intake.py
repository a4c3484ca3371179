"""Taking pictures in: from files, folders and zips of any origin to our own clean PNGs and captions in a set.

Called by the page's drop zone and by `train --images`. Nothing of the drop is believed: bytes decide what a file is
(decode.py), directories are only read (sources.py), and the set changes in one step at the end (staging.py).
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from trainer.core import files, process, workplace
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.images.captions import rereading
from trainer.images.decoding import decode
from trainer.images.decoding.decode import HEAD_BYTES, READERS, WHITE, Colour, Refused
from trainer.images.geometry.masks import alpha
from trainer.images.intake import gate, notices
from trainer.images.intake.caption_reader import Caption, CaptionReader, ExistingPicture, LateCaptions, caption_of_name
from trainer.images.intake.entry import Entry, Sent
from trainer.images.intake.names import shown
from trainer.images.intake.notices import IntakeNotice
from trainer.images.intake.sources import entries
from trainer.images.report.measures import Measures, as_dict, measure_image
from trainer.images.set import staging
from trainer.images.set.facts import cache_folder
from trainer.images.set.image_set import ImageSet
from trainer.images.set.limits import LIMITS, MB, Limits
from trainer.images.set.picture import Picture

Progress = Callable[[int, int, str], None]
WORKERS = max(1, min(4, os.cpu_count() or 1))
DECODING = threading.BoundedSemaphore(WORKERS)
"""Pictures decoded at once, however many drops are taken in, so that the page goes on answering."""


@dataclass
class Intake:
    """What became of everything dropped."""

    accepted: list[Picture] = field(default_factory=list)
    refused: list[IntakeNotice] = field(default_factory=list)
    notices: list[IntakeNotice] = field(default_factory=list)

    def sentences(self, language: str | None = None, names: int = 3) -> list[str]:
        """The lines for a person, one sentence for each reason, with the first few names."""
        refused = notices.sentences("refused", self.refused, language, names)
        return refused + notices.sentences("notices", self.notices, language, names)


@dataclass
class _Prepared:
    png: bytes
    content: str
    size: tuple[int, int]
    measures: Measures
    notices: list[str]
    mask: bytes | None = None
    """What of it counts, as PNG: the mask that came with it, or what was not transparent."""


Outcome = tuple[_Prepared | Refused, int]


def take_in(
    sources: Iterable[Path | Sent],
    into: ImageSet,
    progress: Progress | None = None,
    *,
    limits: Limits = LIMITS,
    background: Colour = WHITE,
    captions_from_names: bool = False,
) -> Intake:
    """Take in every picture found in `sources`; what is refused and why is in the result, the rest goes on.

    `background` is what transparent parts are laid on. With `captions_from_names`, a picture that comes without a caption
    gets the words of its file name. `progress(done, of, name)` is called after each file.
    """
    try:
        with into.taking, entries(sources, limits) as entries_, staging.Staging(into.folder) as batch:
            work = _Work(into, batch, limits, background, captions_from_names)
            work.run(entries_, progress)
            with into.lock:
                work.commit()
    except OSError as error:
        if error.errno in files.FULL:
            raise Problem("disk_full", needed=limits.file_bytes // MB, folder=str(into.folder)) from error
        raise
    return work.result


def new_set(
    home: Home,
    title: str,
    sources: Iterable[Path | Sent],
    kind: str = "style",
    progress: Progress | None = None,
    *,
    captions_from_names: bool = False,
) -> tuple[ImageSet | None, Intake]:
    """A new set from a drop: it appears when everything is in, and not at all where nothing could be taken."""
    home.create()
    for old in home.datasets.glob(".new-*"):
        staging.sweep(old)
    hidden = workplace.create(home.datasets, f".new-{uuid.uuid4().hex}")
    try:
        result = take_in(sources, ImageSet(hidden), progress, captions_from_names=captions_from_names)
        if not result.accepted:
            return None, result
        created = ImageSet.create(home, title, kind, contents=hidden)
        result.accepted = created.pictures()
        return created, result
    finally:
        for rest in (hidden, cache_folder(hidden)):
            shutil.rmtree(rest, ignore_errors=True)


class _Work:
    """One intake under way."""

    def __init__(self, into: ImageSet, batch: staging.Staging, limits: Limits, background: Colour, from_names: bool) -> None:
        self.into, self.batch, self.limits, self.background, self.from_names = into, batch, limits, background, from_names
        self.result = Intake()
        self.before = into.pictures()
        self.ids_by_content = dict(_contents(self.before))
        self.number = into.next_number()
        self.stored = sum(file.stat().st_size for file in into.folder.iterdir() if file.is_file())
        self.unpacked = 0
        self.learnt: dict[str, dict[str, Any]] = {}
        self.late: list[tuple[str, Caption, str]] = []
        """(id, caption, name of its file) for pictures that are in the set already."""
        self.sorted = gate.Sorted()
        self.reader = CaptionReader((), limits, self.notice)

    def run(self, entries_: list[Entry], progress: Progress | None) -> None:
        """Prepare every picture, a few at a time, and stage it in order."""
        self.refuse_all(entry for entry in entries_ if entry.kind == "refused")
        self.sorted = gate.sort(entries_, self.limits)
        self.result.notices += self.sorted.notices
        self.reader = CaptionReader((entry for entry in entries_ if entry.kind == "caption"), self.limits, self.notice)
        pictures = self.sorted.pictures
        for done, (entry, (outcome, taken)) in enumerate(_in_order(self.prepare, pictures), 1):
            self.unpacked += taken
            if isinstance(outcome, Refused):
                self.leave(entry, outcome)
            else:
                self.place(entry, outcome)
            if progress:
                progress(done, len(pictures), shown(entry.name))
        self.late += LateCaptions(self.earlier()).hand_out(self.sorted, self.reader, self.notice)
        self.reader.notify_encodings()

    def earlier(self) -> list[ExistingPicture]:
        """The pictures of the set before this intake, by their raw names."""
        notes = staging.notes_of(staging.read_set(self.into.folder))
        raw = {id_: note.get("raw") for id_, note in notes.items() if isinstance(note, dict)}
        return [ExistingPicture(p.id, name if isinstance(name := raw.get(p.id), str) else p.original) for p in self.before]

    def prepare(self, entry: Entry) -> Outcome:
        """One entry decoded and encoded again, and the bytes it took; runs in a worker thread."""
        taken = 0
        try:
            if len(self.before) + len(self.batch.entries) >= self.limits.pictures:
                raise Refused("set_full", limit=self.limits.pictures)
            if max(self.stored, self.unpacked) >= self.limits.set_bytes:
                raise Refused("set_too_big", limit=self.limits.set_bytes // MB)
            data = self.bytes_of(entry)
            taken = len(data)
            with DECODING:
                return self.decoded(entry, data), taken
        except Refused as refusal:
            entry.failed()
            return refusal, taken
        except MemoryError:
            return Refused("memory"), taken

    def decoded(self, entry: Entry, data: bytes) -> _Prepared:
        """What is staged of a picture of these bytes; Refused where it cannot be."""
        image, notices = decode.decode(io.BytesIO(data), self.limits, self.background)
        png, content = decode.as_png(image), decode.content_hash(image)
        mask = self.mask_of(entry, data, "transparent" in notices)
        return _Prepared(png, content, image.size, measure_image(image), notices, mask)

    def bytes_of(self, entry: Entry) -> bytes:
        """All of a picture, or its first bytes alone where they say that it is none: those are enough for the reason."""
        head = entry.head()
        recognised = len(head) < HEAD_BYTES or decode.kind_of(head) in (*READERS, "HEIC")
        return entry.read(self.limits.file_bytes) if recognised else head

    def mask_of(self, entry: Entry, data: bytes, transparent: bool) -> bytes | None:
        """The mask of a picture as PNG. A mask file that cannot be read refuses its picture, with the same reason."""
        mask = self.sorted.masks.get(entry)
        if mask is not None:
            grey = decode.decode(io.BytesIO(mask.read(self.limits.file_bytes)), self.limits, (0, 0, 0))[0]
            return decode.as_png(grey.convert("L"))
        seen = alpha(io.BytesIO(data)) if transparent else None
        return decode.as_png(seen) if seen is not None else None

    def caption_of(self, entry: Entry) -> Caption:
        """The caption beside a picture, else the words of its name where these are wanted."""
        caption = self.reader.of(self.sorted.captions.get(entry))
        if self.from_names and not caption.text:
            caption = Caption(caption_of_name(entry.stem))
            self.notice(entry.name, "caption_from_name" if caption.text else "name_without_words")
        return caption

    def place(self, entry: Entry, ready: _Prepared) -> None:
        """Stage a prepared picture, unless it is there already or no room is left."""
        caption = self.caption_of(entry)
        twin = self.ids_by_content.get(ready.content)
        if twin is not None:
            self.notice(entry.name, "duplicate", picture=twin)
            if caption.text:
                source = self.sorted.captions.get(entry)
                self.late.append((twin, caption, source.entry.name if source and source.text is None else entry.name))
            return
        if len(self.before) + len(self.batch.entries) >= self.limits.pictures:
            return self.leave(entry, Refused("set_full", limit=self.limits.pictures))
        if max(self.stored + len(ready.png), self.unpacked) > self.limits.set_bytes:
            return self.leave(entry, Refused("set_too_big", limit=self.limits.set_bytes // MB))
        for code in ready.notices:
            self.notice(entry.name, code)
        note: dict[str, Any] = {"original": shown(entry.name), "added": _now()}
        if note["original"] != entry.name:
            note["raw"] = entry.name.encode("utf-8", "replace").decode()  # captions that come later go by it
        if entry.repeats:
            note["repeats"], word = entry.repeats
            self.notice_once(f"{note['repeats']}_{word}", "kohya_folder", repeats=note["repeats"], word=shown(word))
        if caption.written:
            note["encoding"] = caption.encoding
        id_ = f"{self.number:04d}"
        self.number += 1
        self.batch.add(id_, ready.png, caption.text, note, ready.mask, caption.written)
        self.ids_by_content[ready.content] = id_
        measures = as_dict(ready.measures)
        self.learnt[id_] = {"content": ready.content, "size": list(ready.size), "measures": measures}
        self.stored += len(ready.png)

    def commit(self) -> None:
        """Make it real, remember what was measured, and give captions that came late to pictures that had none."""
        self.batch.commit()
        fresh = {picture.id: picture for picture in self.into.pictures()}
        for id_, learnt in self.learnt.items():
            self.into.facts.put(self.into.folder / f"{id_}.png", **learnt)
        self.into.facts.save()
        captions = {id_: picture.caption for id_, picture in fresh.items()}
        for id_, caption, name in self.late:
            if caption.text and not captions.get(id_, caption.text):
                captions[id_] = self.into.set_caption(id_, caption.text)
                if caption.written:
                    rereading.keep_original(self.into, id_, caption.written, caption.encoding)
                self.notice(fresh[id_].original, "caption_added", picture=id_)
            elif caption.text and captions.get(id_) != caption.text:
                self.notice(name, "caption_kept", picture=fresh[id_].original if id_ in fresh else id_)
        self.result.accepted = [picture for picture in self.into.pictures() if picture.id in self.learnt]

    def leave(self, entry: Entry, refusal: Refused) -> None:
        """A picture is refused; its caption is named too."""
        self.refuse(entry.name, refusal)
        if (source := self.sorted.captions.get(entry)) is not None:
            self.notice_once(source.entry.name if source.text is None else entry.name, "caption_left")

    def refuse(self, name: str, refusal: Refused) -> None:
        self.result.refused.append(IntakeNotice(shown(name), refusal.code, refusal.params))

    def refuse_all(self, entries_: Iterable[Entry]) -> None:
        for entry in entries_:
            self.refuse(entry.name, entry.refusal or Refused("damaged"))

    def notice(self, name: str, code: str, **params: Any) -> None:
        self.result.notices.append(IntakeNotice(shown(name), code, params))

    def notice_once(self, name: str, code: str, **params: Any) -> None:
        if IntakeNotice(shown(name), code, params) not in self.result.notices:
            self.notice(name, code, **params)


def _in_order(work: Callable[[Entry], Outcome], items: list[Entry]) -> Iterator[tuple[Entry, Outcome]]:
    """`work` on every item in a few threads, results in order, never more than a few finished ones waiting."""
    waiting: deque[tuple[Entry, Future[Outcome]]] = deque()
    with ThreadPoolExecutor(WORKERS, "intake", initializer=process.thread_gives_way) as pool:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > WORKERS:
                entry, future = waiting.popleft()
                yield entry, future.result()
        for entry, future in waiting:
            yield entry, future.result()


def _contents(pictures: list[Picture]) -> Iterator[tuple[str, str]]:
    """Content hash and id of every picture that can still be read."""
    for picture in pictures:
        with contextlib.suppress(Problem):
            yield picture.content, picture.id


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
