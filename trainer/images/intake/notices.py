"""What is told about files on their way in, each by its name. Made by gate.py and intake.py, shown by pages and commands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from trainer.core.texts import t
from trainer.images.captions import encodings


@dataclass(frozen=True)
class IntakeNotice:
    """One thing to tell about one file: `code` under `intake.refused` or `intake.notices`, with `params`."""

    name: str
    code: str
    params: dict[str, Any] = field(default_factory=dict)


def sentences(table: str, lines: Iterable[IntakeNotice], language: str | None = None, names: int = 3) -> list[str]:
    """The lines for a person, one sentence for each reason, with the first few names. `table` is refused or notices."""
    groups: dict[tuple[str, str], list[IntakeNotice]] = {}
    for line in lines:
        why = t(f"intake.{table}.{line.code}", language=language, **_spoken(line.params, language))
        groups.setdefault((line.code, why), []).append(line)
    texts = []
    for (_, why), group in groups.items():
        who = t("intake.comma", language=language).join(line.name for line in group[:names])
        if len(group) > names:
            who = t("intake.and_more", language=language, names=who, count=len(group) - names)
        texts.append(t("intake.line", language=language, names=who, why=why))
    return texts


def _spoken(params: dict[str, Any], language: str | None) -> dict[str, Any]:
    """Parameters for a person: encodings by their names in `language`."""
    return {key: encodings.label(value, language) if key in ("encoding", "other") else value for key, value in params.items()}
