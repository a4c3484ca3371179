"""A LoRA file from elsewhere: sent to app/uploads.py, checked here, moved into the library. Never overwrites.

Used by app/pages/library.py; the element that uploads is app/static/add.js.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from app.services import Ui
from app.words import esc
from trainer import library
from trainer.adapters.inspect import inspect
from trainer.files import free_name, safe_name
from trainer.home import Home
from trainer.problem import Problem

_BATCH = re.compile(r"[0-9a-f]{32}")
_WORDS = ("import", "import_help", "import_type", "import_going", "import_broken")


def element(ui: Ui) -> str:
    """The place to drop a file on, or to choose one."""
    words = {name: ui.t(f"page.library.{name}") for name in _WORDS}
    return (
        f'<atelier-add data-lang="{ui.lang}" data-words="{esc(json.dumps(words, ensure_ascii=False))}"></atelier-add>'
    )


def take_in(home: Home, batch: str | None) -> str:
    """Check the file of an upload, move it into the library; its name there. Problem where it is no LoRA."""
    if not batch or not _BATCH.fullmatch(batch):
        raise Problem("lora_unknown", name=str(batch)[:40])
    folder = home.cache / "uploads" / batch
    try:
        found = next((path for path in sorted(folder.rglob("*")) if path.is_file()), None)
        if found is None:
            raise Problem("lora_unknown", name=batch[:40])
        inspect(found)
        return _keep(home, found)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _keep(home: Home, found: Path) -> str:
    """Into the library, whole or not at all: the upload lies on the same disk, so this is one rename to a free name."""
    home.loras.mkdir(parents=True, exist_ok=True)
    stem = safe_name(re.sub(r"\.safetensors$", "", found.name, flags=re.IGNORECASE), "lora")
    while True:
        target = free_name(home.loras, stem, ".safetensors")
        try:
            os.link(found, target)  # refuses a name taken meanwhile, where a rename would overwrite it
        except FileExistsError:
            continue
        except OSError:  # a disk without hard links: the name was free a moment ago
            os.replace(found, target)
        library.register(target)
        return target.stem
