"""Small pictures of a set's pictures, made once and kept in the cache."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image

from trainer.core import files
from trainer.images.set.facts import stamp
from trainer.images.set.picture import Picture


def thumbnail(p: Picture, side: int = 320) -> Path:
    """A JPEG of at most `side` pixels, made once; another file under the same name gets another thumbnail."""
    name = f"{p.file.name}:{stamp(p.file)}:{side}"
    path = p.facts.place / "thumbs" / f"{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:20]}.jpg"
    if not path.is_file():
        files.write_bytes(path, small(p, side))
    return path


def small(p: Picture, side: int) -> bytes:
    """What `thumbnail` keeps, for when it cannot be kept."""
    image = p.load()
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
