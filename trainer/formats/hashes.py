"""The hashes other programs know a LoRA by. All but the whole-file ones skip the header, so metadata may change freely.

`sshs_model_hash` (A1111 shows its first 12 digits; Civitai calls it AutoV3) is the SHA-256 of the tensor region.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from trainer.formats.header import read_header

_LEGACY_AT, _LEGACY_SIZE = 0x100000, 0x10000


def model_hash(region: bytes) -> str:
    """`sshs_model_hash` of a tensor region, full hex."""
    return hashlib.sha256(region).hexdigest()


def legacy_hash(file_bytes: bytes) -> str:
    """`sshs_legacy_hash`: 8 digits from 64 KB at 1 MB into the file as it would be with its ss_* metadata alone.

    A file under 1 MB gives the hash of nothing, as everywhere else.
    """
    return hashlib.sha256(file_bytes[_LEGACY_AT : _LEGACY_AT + _LEGACY_SIZE]).hexdigest()[:8]


def legacy_file_hash(path: Path) -> str:
    """The old 8-digit A1111 hash of a checkpoint (`ss_sd_model_hash`)."""
    with open(path, "rb") as file:
        file.seek(_LEGACY_AT)
        return hashlib.sha256(file.read(_LEGACY_SIZE)).hexdigest()[:8]


def file_model_hash(path: Path) -> str:
    """`sshs_model_hash` of a file, read in pieces."""
    digest, header = hashlib.sha256(), read_header(path)
    with open(path, "rb") as file:
        file.seek(header.offset)
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()
