"""Putting a run's LoRA into the library: one act that can be broken off at any instant and taken up again.

The names are decided once and written into the run folder before anything appears under them; card, picture and the
trigger's own vectors follow from what is on disk. The engine publishes (engine/output/saving.py); where it was killed in
between, the supervisor finishes what needs no model (jobs/recovery.py), and going on does the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.adapters import embedding
from trainer.core import files
from trainer.core.problem import Problem
from trainer.core.run_dir import RunDir
from trainer.formats.header import read_header
from trainer.library.library import register

EMBEDDING_METADATA = ("ss_base_model_version", "ss_sd_model_name", "ss_output_name", "modelspec.license", "atelier.run")
"""The metadata an embedding file takes over from its LoRA."""


@dataclass(frozen=True)
class Publication:
    """The LoRAs of one run in `loras`, the library's folder."""

    run: RunDir
    loras: Path

    def publish(self, step: int, stem: str, write: Callable[[Path, str], object]) -> Path:
        """The LoRA of `step` in the library, with all that belongs to it; once, however often it is asked for.

        `write(path, stem)` writes the file to `path` as it is to be called, which is not where it lies yet: it gets its name
        `stem`, or `stem_v2` and so on, when it is whole. An existing file is never overwritten.
        """
        self.loras.mkdir(parents=True, exist_ok=True)
        temporary = self.loras / f".{self.run.id}.tmp"
        while not (target := self._target(step, stem)).exists():
            write(temporary, target.stem)
            if files.place_new(temporary, target):
                break
        temporary.unlink(missing_ok=True)
        self._complete(step)
        return target

    def complete(self) -> None:
        """Give what stands in the library without all that belongs to it the rest: the act was broken off."""
        for step, entry in self._entries().items():
            if not entry.get("whole"):
                self._complete(int(step))

    # --- names ------------------------------------------------------------------------------------------------

    def _target(self, step: int, stem: str) -> Path:
        """Where the LoRA of `step` lies or will lie: decided now, unless it was decided before."""
        decided = self._entries().get(str(step), {}).get("lora")
        target = self.loras / f"{decided}.safetensors"
        if decided and _is_of(target, self.run.id, step):
            return target
        if (elsewhere := self._elsewhere(step)) is not None:  # renamed since, or published before names were written down
            self._note(step, lora=elsewhere.stem)
            return elsewhere
        if decided and not target.exists():
            self._note(step, whole=False)
            return target
        target = files.free_name(self.loras, stem, ".safetensors")
        self._note(step, lora=target.stem, whole=False)
        return target

    def _elsewhere(self, step: int) -> Path | None:
        matches = (path for path in sorted(self.loras.glob("*.safetensors")) if _is_of(path, self.run.id, step))
        return next(matches, None)

    # --- what belongs to it -----------------------------------------------------------------------------------

    def _complete(self, step: int) -> None:
        entry = self._entries().get(str(step), {})
        lora = self.loras / f"{entry.get('lora')}.safetensors"
        if entry.get("whole") or not _is_of(lora, self.run.id, step):
            return
        self._publish_embeddings(step, lora)
        register(lora, picture=self.run.newest_sample(step))
        self._note(step, whole=True)

    def _publish_embeddings(self, step: int, lora: Path) -> None:
        """The trigger's own vectors in `outputs/loras/embeddings`, named as the word that calls them."""
        header, folder = read_header(lora), self.loras / "embeddings"
        for token in embedding.from_metadata(header):
            metadata = {key: value for key, value in header.metadata.items() if key in EMBEDDING_METADATA}
            folder.mkdir(parents=True, exist_ok=True)
            temporary = folder / f".{self.run.id}.tmp"
            while True:
                names = dict(self._entries()[str(step)].get("words") or {})
                target = folder / f"{names.get(token.name)}.safetensors"
                if token.name in names and _is_of(target, self.run.id):
                    break
                if token.name not in names or target.exists():
                    target = files.free_name(folder, files.safe_name(token.name, "word"), ".safetensors")
                    self._note(step, words=names | {token.name: target.stem})
                embedding.write(temporary, token, metadata)
                if files.place_new(temporary, target):
                    break
            temporary.unlink(missing_ok=True)

    # --- the record -------------------------------------------------------------------------------------------

    def _entries(self) -> dict[str, dict[str, Any]]:
        entries = files.read_json(self.run.published, {})
        if not isinstance(entries, dict):
            return {}
        return {step: entry for step, entry in entries.items() if step.isdigit() and isinstance(entry, dict)}

    def _note(self, step: int, **values: Any) -> None:
        entries = self._entries()
        files.write_json(self.run.published, entries | {str(step): entries.get(str(step), {}) | values})


def _is_of(lora: Path, run: str, step: int | None = None) -> bool:
    """Whether a file is there, whole, and this run's, of that step; what a tool made of it is another file."""
    try:
        metadata = read_header(lora).metadata
        own = json.loads(metadata.get("atelier.run", "{}"))
    except (Problem, OSError, ValueError):
        return False
    if "atelier.tool" in metadata or not isinstance(own, dict) or own.get("id") != run:
        return False
    return step is None or metadata.get("ss_steps") == str(step)
