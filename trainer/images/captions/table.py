"""Captions of many pictures in one file, and JSON of one picture, as other trainers and hubs keep them.

Read are: Hugging Face's imagefolder (`metadata.jsonl`, `metadata.csv`: `file_name` and a text), kohya's fine-tuning `meta.json`
(`{"path": {"caption": …, "tags": …}}`), `{"path": "caption"}`, lists of such lines, CSV with and without a header, and
ai-toolkit's JSON beside a picture (`{"caption": …}`).
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from trainer.images.captions import encodings
from trainer.images.intake.entry import Entry
from trainer.images.intake.names import NAMED, composed, fold, parts, split

_FILE = ("file_name", "image_path", "image_file", "filename", "file_path", "file", "image", "img", "path", "name")
_TEXT = ("text", "caption", "captions", "prompt", "description", "tags")


@dataclass
class Table:
    """What a file says: of one picture (`own`), or of those its rows name."""

    own: str = ""
    rows: list[tuple[str, str]] = field(default_factory=list)
    """(path as it is written there, caption)"""


def read_table(data: bytes, ending: str, pictures: Iterable[Entry]) -> Table | None:
    """The captions in a file; None where it holds none. ValueError where it is not what its ending says.

    `pictures` tell a CSV without a header, and JSON of `{"path": "caption"}`, from any other.
    """
    text = encodings.read_all([data])[0].text.removeprefix("\ufeff")
    names = {form for entry in pictures for form in (fold(entry.file), fold(entry.stem))}
    if ending in (".csv", ".tsv"):
        rows = _csv(text, names)
    else:
        try:
            value = [json.loads(line) for line in text.splitlines() if line.strip()] if ending == ".jsonl" else json.loads(text)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if isinstance(value, dict) and (own := _caption(value)) and not _named(value):
            return Table(own)
        rows = _mapping(value, names) if isinstance(value, dict) else _lines(value)
    return Table(rows=rows) if rows else None


class Finder:
    """The picture a row of a table means: by its path from the table's folder, else by the end of its path."""

    def __init__(self, pictures: Iterable[Entry]) -> None:
        self.by: dict[tuple[str, str], list[Entry]] = defaultdict(list)
        for entry in pictures:
            for form in (str, composed, fold):
                for name in {form(entry.file), form(entry.stem)}:
                    if entry not in self.by[entry.source, name]:
                        self.by[entry.source, name].append(entry)

    def find(self, table: Entry, path: str) -> list[Entry]:
        """The pictures a row may mean: one where it is clear."""
        steps = [step for step in path.replace("\\", "/").split("/") if step not in ("", ".")]
        if not steps:
            return []
        full = [*parts(table.folder), *steps]
        names = [steps[-1]]
        if split(steps[-1])[1] in NAMED:
            names.append(split(steps[-1])[0])  # the picture may have been saved in another format since
        for name in names:
            for form in (str, composed, fold):
                pictures = self._called(table.source, name, form)
                if beside := [entry for entry in pictures if form(entry.folder) == form("/".join(full[:-1]))]:
                    return beside
                if pictures:
                    common = [_common([form(step) for step in full[:-1]], [form(p) for p in parts(e.folder)]) for e in pictures]
                    return [entry for entry, length in zip(pictures, common, strict=True) if length == max(common)]
        return []

    def _called(self, source: str, name: str, form: Callable[[str], str]) -> list[Entry]:
        """Pictures of that file name, else of that stem, in one way of comparing."""
        pictures = self.by.get((source, form(name)), [])
        whole = [entry for entry in pictures if form(entry.file) == form(name)]
        return whole or [entry for entry in pictures if form(entry.stem) == form(name)]


def _common(a: list[str], b: list[str]) -> int:
    """How many folders two paths share, counted from the file upwards."""
    count = 0
    for first, second in zip(reversed(a), reversed(b), strict=False):
        if first != second:
            break
        count += 1
    return count


def _caption(row: dict[str, Any]) -> str:
    """The caption of one row. kohya joins `caption` and `tags`; elsewhere the first column that holds text counts."""
    row = {str(key).strip().casefold(): value for key, value in row.items()}
    texts = {key: _text(row.get(key), key) for key in _TEXT}
    if texts["caption"] and texts["tags"]:
        return f"{texts['caption']}, {texts['tags']}"
    return next((text for text in texts.values() if text), "")


def _text(value: Any, key: str) -> str:
    """A cell as text: tags in a list are joined, of several captions the first counts (diffusers draws one by chance)."""
    if isinstance(value, list):
        texts = [text for text in value if isinstance(text, str) and text.strip()]
        return ", ".join(texts) if key == "tags" else next(iter(texts), "")
    return value if isinstance(value, str) else ""


def _named(row: dict[str, Any]) -> str:
    """The file a row is about."""
    row = {str(key).strip().casefold(): value for key, value in row.items()}
    for key in _FILE:
        if isinstance(value := row.get(key), str) and value.strip():
            return value.strip()
    return ""


def _lines(value: Any) -> list[tuple[str, str]]:
    """Rows of a list of objects."""
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    return [(name, text) for row in rows if (name := _named(row)) and (text := _caption(row))]


def _mapping(value: dict[str, Any], names: set[str]) -> list[tuple[str, str]]:
    """Rows of `{"path": {"caption": …}}` or `{"path": "caption"}`; one object that names its file is one row."""
    if _named(value) and _caption(value):
        return _lines([value])
    rows = [(key, _caption(row) if isinstance(row, dict) else _text(row, key)) for key, row in value.items()]
    plain = not any(isinstance(row, dict) for row in value.values())
    if plain and not any(_name(key) in names for key, _ in rows):
        return []
    return [(key, text) for key, text in rows if text]


def _csv(text: str, names: set[str]) -> list[tuple[str, str]]:
    """Rows of a CSV with a header that names its columns, or without one: file, caption. Unquoted commas of tags are kept."""
    for mark in (",", "\t", ";"):
        try:
            lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True) if line]
        except csv.Error as error:
            raise ValueError(str(error)) from error
        if not lines or len(lines[0]) < 2:
            continue
        header = [cell.strip().casefold() for cell in lines[0]]
        file = next((header.index(key) for key in _FILE if key in header), None)
        text_at = next((header.index(key) for key in _TEXT if key in header), None)
        if file is not None and text_at is not None:
            last = text_at == len(header) - 1
            full = [line for line in lines[1:] if len(line) > max(file, text_at)]
            body = [(line, line[text_at:] if last else line[text_at : text_at + 1]) for line in full]
            return [(line[file].strip(), text) for line, cells in body if (text := _joined(cells, mark))]
        if any(_name(line[0]) in names for line in lines):
            return [(line[0].strip(), text) for line in lines if len(line) > 1 and (text := _joined(line[1:], mark))]
    return []


def _joined(cells: list[str], mark: str) -> str:
    return f"{mark.strip() or ' '} ".join(cell.strip() for cell in cells).strip()


def _name(path: str) -> str:
    """The file name in a path of any system, for comparing; without ending where that is no picture's."""
    return fold(path.replace("\\", "/").rsplit("/", 1)[-1])
