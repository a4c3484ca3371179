"""What the report's looks share: the evidence they look at and the findings they give. Used by report and findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainer.core.texts import t
from trainer.images.report.measures import Measures
from trainer.images.set.picture import Picture, Unreadable

Severity = Literal["blocks", "hurts", "hint"]
Action = Literal["remove", "add_trigger", "set_trigger", "caption", "add", "crop"]
KINDS = (
    "unreadable", "tiny", "blurry", "exposure", "ratio", "duplicate", "sameness", "watermark", "count",
    "caption_missing", "caption_same", "caption_long", "trigger", "bucket",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing to say. Texts are `findings.<text>.why` and `.fix`, filled with `params`."""

    kind: str
    severity: Severity
    pictures: tuple[str, ...] = ()
    """File names, the most telling first; those of further folders as `folder/name`."""
    text: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    action: Action | None = None
    """What one click can do: remove, add_trigger and set_trigger do it, caption, add and crop lead there."""
    targets: tuple[str, ...] = ()
    """The ids the action is for (names, where a file is unreadable); of duplicates all but the one to keep."""
    share: float = 1.0
    """How much of the set it concerns, 0..1."""

    def why(self, language: str | None = None) -> str:
        """What is wrong and what it would do to the result."""
        return t(f"findings.{self.text or self.kind}.why", language=language, **self._filled(language))

    def fix(self, language: str | None = None) -> str:
        """What to do."""
        return t(f"findings.{self.text or self.kind}.fix", language=language, **self._filled(language))

    def as_json(self, language: str | None = None) -> dict[str, Any]:
        """The entry under `findings` of `check --json`."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "pictures": list(self.pictures),
            "why": self.why(language),
            "fix": self.fix(language),
        }

    def _filled(self, language: str | None) -> dict[str, Any]:
        """The parameters; a nested refusal reason (`reason`) becomes its sentence."""
        reason = self.params.get("reason")
        if reason is None:
            return self.params
        sentence = t(f"intake.refused.{reason}", language=language, **self.params.get("reason_params", {}))
        return self.params | {"reason": sentence}


@dataclass(frozen=True)
class Evidence:
    """Everything the findings look at. The pictures of further folders have `/` in their ids."""

    folder: Path
    """The set's own folder: what lies elsewhere is named with its folder, and no click changes it."""
    pictures: tuple[Picture, ...]
    measured: dict[str, Measures]
    """By picture id; every picture here has them."""
    unreadable: tuple[Unreadable, ...]
    resolution: int
    kind: str
    trigger: str
    step: int
    upscale: bool
    ratio: float = 2.0
    dense: bool = True

    def shown(self, file: Path) -> str:
        """The name of a file for a person."""
        return file.name if file.parent == self.folder else f"{file.parent.name}/{file.name}"
