"""A LoRA file from elsewhere: sent to app/server/uploads.py, checked here, taken into the library. Never overwrites.

Used by app/pages/library; the element that uploads is app/static/add.js.
"""

from __future__ import annotations

import json
import re
import shutil

from app.ui.format import esc
from app.ui.services import Ui
from trainer.adapters.compat.inspect import inspect
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.library.library import Library

_BATCH = re.compile(r"[0-9a-f]{32}")
_LABELS = ("import", "import_help", "import_type", "import_going", "import_broken")


def element(ui: Ui) -> str:
    """The place to drop a file on, or to choose one."""
    labels = {name: ui.t(f"page.library.{name}") for name in _LABELS}
    return f'<atelier-add data-lang="{ui.lang}" data-words="{esc(json.dumps(labels, ensure_ascii=False))}"></atelier-add>'


def take_in(home: Home, library: Library, batch: str | None) -> str:
    """Check the file of an upload, take it into the library; its name there. Problem where it is no LoRA."""
    if not batch or not _BATCH.fullmatch(batch):
        raise Problem("lora_unknown", name=str(batch)[:40])
    folder = home.cache / "uploads" / batch
    try:
        file = next((path for path in sorted(folder.glob("drop/**/*")) if path.is_file()), None)
        if file is None:
            raise Problem("lora_unknown", name=batch[:40])
        inspect(file)
        return library.add(file, re.sub(r"\.safetensors$", "", file.name, flags=re.IGNORECASE))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
