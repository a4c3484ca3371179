"""The one gate for everything that comes in: which files are pictures to be learnt, and what lies beside each of them.

Used for dropped files, folders and zips (intake.py), and for folders that are used in place (picture.py, folder_tree.py).
It goes by raw names: rubbish is gone already (names.ignored), then roles are given (roles.py), then captions and masks are
paired (pairing.py). Each caption ends with the picture it lay beside, or a line names it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from trainer.images.captions.table import Finder, Table, read_table
from trainer.images.decoding.decode import READERS, Refused, kind_of
from trainer.images.intake import roles
from trainer.images.intake.entry import Entry
from trainer.images.intake.names import CAPTIONS, shown
from trainer.images.intake.notices import IntakeNotice
from trainer.images.intake.pairing import NameKey, pair
from trainer.images.set.limits import Limits


@dataclass
class CaptionSource:
    """The caption of a picture: in a file of its own (`entry`), or as `text` from a table of captions."""

    entry: Entry
    text: str | None = None


@dataclass
class Sorted:
    """What came through the gate."""

    pictures: list[Entry] = field(default_factory=list)
    captions: dict[Entry, CaptionSource] = field(default_factory=dict)
    masks: dict[Entry, Entry] = field(default_factory=dict)
    left: list[tuple[Entry, str]] = field(default_factory=list)
    """Pictures not to be learnt, with why."""
    notices: list[IntakeNotice] = field(default_factory=list)
    alone: list[Entry] = field(default_factory=list)
    """Caption files without a picture here: it may have been taken in earlier."""
    rows: list[tuple[Entry, str, str]] = field(default_factory=list)
    """(table, path, caption) for rows without a picture here."""

    def note(self, name: str, code: str, **params: Any) -> None:
        """Add a line, once."""
        line = IntakeNotice(shown(name), code, params)
        if line not in self.notices[-50:]:
            self.notices.append(line)


def sort(entries: list[Entry], limits: Limits, *, probe: bool = True) -> Sorted:
    """Sort what was found. With `probe`, files of unknown endings are looked into: they may hold pictures."""
    result = Sorted()
    candidates = []
    for entry in entries:
        if entry.kind == "picture" or (probe and entry.kind == "other" and _is_picture(entry)):
            candidates.append(entry)
        elif entry.kind == "other":
            result.note(entry.name, "other_file")
    assigned = roles.sort_out(candidates, entries)
    result.pictures, result.left = assigned.pictures, assigned.left
    _note_left(result)
    _masks(result, assigned.masks)
    _captions(result, [entry for entry in entries if entry.kind == "caption"])
    _tables(result, [entry for entry in entries if entry.kind == "table"], limits)
    return result


def _is_picture(entry: Entry) -> bool:
    """Whether a file with an unknown ending holds a picture after all."""
    try:
        return kind_of(entry.head()) in READERS
    except Refused:
        return False


def _note_left(result: Sorted) -> None:
    """One line for each folder whose pictures are not learnt."""
    counts = Counter((entry.folder or entry.name, why) for entry, why in result.left)
    for (name, why), count in counts.items():
        result.note(name, why, count=count)


def _masks(result: Sorted, masks: list[tuple[Entry, NameKey]]) -> None:
    keys = dict(masks)
    pairs = pair(result.pictures, list(keys), keys.__getitem__)
    used = set()
    for picture, files in pairs.of.items():
        result.masks[picture] = files[0]
        used.add(files[0])
    for mask in keys:
        code = "mask_taken" if mask in used else "mask_alone" if mask in {*pairs.alone, *pairs.unclear} else "mask_spare"
        result.note(mask.name, code)


def _captions(result: Sorted, files: list[Entry]) -> None:
    """Pair caption files with pictures, those not to be learnt included: their captions stay with them."""
    aside = {entry for entry, _ in result.left}
    pairs = pair(
        [*result.pictures, *aside], files, lambda file: (file.group, file.stem), lambda file: CAPTIONS.index(file.ending)
    )
    users: Counter[Entry] = Counter()
    for picture, texts in pairs.of.items():
        if picture not in aside:
            result.captions[picture] = CaptionSource(texts[0])
        users[texts[0]] += 1
    for texts in pairs.of.values():
        for file in texts[1:]:
            if file not in users:
                result.note(file.name, "caption_spare")
    for file, count in users.items():
        if count > 1:
            result.note(file.name, "caption_shared", count=count)
    for file in pairs.unclear:
        result.note(file.name, "caption_unclear")
    result.alone = pairs.alone


def _tables(result: Sorted, files: list[Entry], limits: Limits) -> None:
    """Captions out of JSON and CSV, for pictures that have no caption file."""
    if not files:
        return
    finder, room = Finder(result.pictures), limits.text_bytes
    beside = pair(result.pictures, [file for file in files if file.ending == ".json"], lambda file: (file.group, file.stem))
    owners: dict[Entry, list[Entry]] = defaultdict(list)
    for picture, own in beside.of.items():
        for file in own:
            owners[file].append(picture)
    for file in files:
        try:
            data = file.read(min(limits.table_bytes, max(room, 0)))
            room -= len(data)
            table = read_table(data, file.ending, result.pictures)
        except (Refused, ValueError):
            result.note(file.name, "table_unread")
            continue
        if table is None:
            result.note(file.name, "other_file")
        elif table.own:
            _own(result, file, table.own, owners.get(file, []), file in beside.unclear)
        else:
            _rows(result, file, table, finder)


def _own(result: Sorted, file: Entry, text: str, pictures: list[Entry], unclear: bool) -> None:
    """The caption in the JSON beside a picture."""
    bare = [picture for picture in pictures if picture not in result.captions]
    for picture in bare:
        result.captions[picture] = CaptionSource(file, text)
    if not pictures:
        result.note(file.name, "caption_unclear" if unclear else "caption_alone")
    else:
        result.note(file.name, "caption_json" if bare else "caption_spare")


def _rows(result: Sorted, file: Entry, table: Table, finder: Finder) -> None:
    """The captions of a table, each to the picture its row names; the first row of a picture counts."""
    taken: dict[Entry, str] = {}
    used = spare = 0
    lost: list[str] = []
    for path, text in table.rows:
        pictures = finder.find(file, path)
        if len(pictures) > 1:
            lost.append(path)
        elif not pictures:
            result.rows.append((file, path, text))
        elif pictures[0] in result.captions:
            spare += taken.get(pictures[0]) != text
        else:
            result.captions[pictures[0]] = CaptionSource(file, text)
            taken[pictures[0]] = text
            used += 1
    if used:
        result.note(file.name, "table_read", count=used)
    if spare:
        result.note(file.name, "table_spare", count=spare)
    if lost:
        result.note(file.name, "table_unclear", count=len(lost), names=some_names(lost))


def some_names(names: Iterable[str], limit: int = 3) -> str:
    """A few names as text."""
    every = list(names)
    return ", ".join(shown(name) for name in every[:limit]) + (" …" if len(every) > limit else "")
