"""Every limit on pictures and captions, in one table. Read by the intake, the report, the page and its help."""

from __future__ import annotations

from dataclasses import dataclass

MB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """What an image set may hold; the defaults are the studio's own."""

    pictures: int = 2000
    """Pictures in one set."""
    file_bytes: int = 50 * MB
    """One picture as it arrives."""
    set_bytes: int = 4096 * MB
    """One set on disk, and what one upload may unpack to."""
    zip_entries: int = 5000
    zip_ratio: int = 100
    """An entry above one megabyte that grows by more when unpacked must be a picture, and counts against the next two."""
    zip_grown_bytes: int = 1024 * MB
    """What all entries of one zip that grow so much may unpack to together."""
    zip_grown_broken: int = 4
    """So many of them that turn out to be no whole picture, and the rest is not opened."""
    text_bytes: int = 64 * MB
    """All caption files and tables of one drop together."""
    table_bytes: int = 32 * MB
    """One file with the captions of many pictures (`metadata.jsonl`, `meta.json`, CSV)."""
    pixels: int = 64_000_000
    side: int = 16_384
    smallest_side: int = 32
    """Below this nothing can be learnt from a picture."""
    ratio_finding: float = 4.0
    """Longer side / shorter side: above this the report speaks up …"""
    ratio_refused: float = 20.0
    """… and above this the picture is not taken."""
    jpeg_scans: int = 100
    """A progressive JPEG has about ten; thousands of them are an attack on the clock."""
    caption_chars: int = 4000
    caption_bytes: int = 4 * MB
    """A caption file larger than this is not read at all."""
    caption_tokens: int = 75
    """What a CLIP text encoder reads of one caption."""
    name_chars: int = 200
    """An original file name is kept as text up to this length."""
    acts: int = 50
    """How many bulk edits of captions can be undone."""


LIMITS = Limits()
