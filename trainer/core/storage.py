"""Whether a home can be written to just now. The page says it on every page (app/server/storage.py)."""

from __future__ import annotations

import contextlib
import uuid

from trainer.core import files
from trainer.core.home import Home

PROBE = 64 * 1024
"""Bytes that must find room: a caption, a note or a setting needs less."""


def trouble(home: Home) -> files.StorageProblem | None:
    """Why nothing can be kept in `home`, found by writing a small file and taking it away; None where all is well."""
    probe = home.outputs / f".{uuid.uuid4().hex}.tmp"
    try:
        with files.writing(home.outputs):
            probe.write_bytes(b"\0" * PROBE)
    except FileNotFoundError:  # the home itself is gone
        return files.StorageProblem(FileNotFoundError(2, "No such file or directory"), home.outputs)
    except files.StorageProblem as problem:
        return problem
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return None
