"""What the raw name of a file says: rubbish or not, picture, caption or table, and how names are compared and shown.

Everything here works on the name as it came. A name made safe for a disk is never asked: two different files may share it.
"""

from __future__ import annotations

import re
import unicodedata

from trainer.images.set.limits import LIMITS

CAPTIONS = (".txt", ".caption", ".captions", ".cap", ".tags", ".tag", ".booru", ".prompt")
"""Endings of caption files, the first before the others. kohya's `caption_extension` and the taggers' own."""
TABLES = (".json", ".jsonl", ".csv", ".tsv")
"""Endings of files that may hold the captions of many pictures, or of one (captions/table.py)."""
_PICTURE_ENDINGS = ".png .jpg .jpeg .jpe .jfif .webp .gif .bmp .avif .heic .heif"
_OTHER_ENDINGS = ".tif .tiff .svg .psd .pdf .eps .ai .fits .jxl .jp2 .ico .tga .dng .cr2 .nef .arw .zip .rar .7z .gz"
NAMED = frozenset(f"{_PICTURE_ENDINGS} {_OTHER_ENDINGS}".split())
"""Endings a person means as a picture or an archive: those are answered, other files are passed over."""
_JUNK = frozenset(
    ["__macosx", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin",
     "system volume information", "icon\r", "set.json"]
)  # fmt: skip
_REPEATS = re.compile(r"^(\d{1,3})_(.+)$", re.DOTALL)


def ignored(name: str) -> bool:
    """Whether systems left this file there unasked: `._a.png` twins, `.DS_Store`, `__MACOSX/`, `Thumbs.db`, anything hidden."""
    return any(part.casefold() in _JUNK or part.startswith(".") for part in parts(name) if part not in (".", ".."))


def parts(name: str) -> tuple[str, ...]:
    """The folders of a name and the file itself."""
    return tuple(part for part in name.split("/") if part not in ("", "."))


def split(name: str) -> tuple[str, str]:
    """The stem and the ending of a file name; the ending in small letters, with its dot."""
    file = name.rpartition("/")[2]
    at = file.rfind(".")
    return (file[:at], file[at:].lower()) if 0 < at < len(file) - 1 else (file, "")


def repeats_of(folder: str) -> tuple[int, str] | None:
    """(10, "name") for a folder called `10_name`, as kohya's trainer wants it, else None."""
    match = _REPEATS.match(folder)
    return (int(match[1]), match[2]) if match and 1 <= int(match[1]) <= 200 else None


def composed(name: str) -> str:
    """A name in NFC: Macs write `が` as two characters, other systems as one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def fold(name: str) -> str:
    """A name for comparing, blind to case and to NFC/NFD. Different names may share it: see pairing.py."""
    return name.lower().strip() if name.isascii() else composed(composed(name).casefold()).strip()


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key under which `2.png` comes before `10.png`."""
    pieces = (piece for piece in re.split(r"(\d{1,15})", fold(name)) if piece)
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces]


def shown(name: str, limit: int = LIMITS.name_chars) -> str:
    """An original name as harmless text: no control or direction marks, not endless. Escaping is the page's work."""
    text = name.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = "".join(c for c in text if c == "\u200d" or unicodedata.category(c) not in ("Cc", "Cf"))
    text = unicodedata.normalize("NFC", text).strip()
    return text if len(text) <= limit else text[: limit - 21] + "…" + text[-20:]
