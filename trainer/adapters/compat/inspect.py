"""What any LoRA file says, and which programs can use it: `inspect FILE [--json]` and the library's details."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.adapters import embedding
from trainer.adapters.compat.layer_rules import lycoris_refuses
from trainer.adapters.compat.verdicts import PROGRAMS, TITLES, Verdict, layers_of, programs
from trainer.adapters.metadata import slider_of
from trainer.adapters.weights import alpha_stated, refuse_others, to_float32
from trainer.core.problem import Problem
from trainer.core.texts import t
from trainer.formats.detect import FileFormat, file_format, locate, rank
from trainer.formats.header import Header, read_header
from trainer.formats.names import split_key

SHOWN = 4096
_CARRIERS = ("down", "up", "diff", "diff_b", "ia3")
_STARTS = ("hada_", "lokr_", "oft_", "glora_")


@dataclass(frozen=True)
class Inspection:
    """Everything told from a file's header and its alphas."""

    file: Path
    format: FileFormat
    rank: int | None
    alpha: float | None
    modules: dict[str, int]
    """Layers by part: unet, text_encoder, text_encoder_2."""
    unknown: int
    """Keys that belong to no layer of any Stable Diffusion model."""
    metadata: dict[str, str]
    programs: dict[str, Verdict]
    header: Header
    notes: tuple[str, ...] = ()
    """What else to know, as texts under `library_texts`."""

    def _first(self, *keys: str) -> str:
        return next((self.metadata[key][:SHOWN] for key in keys if self.metadata.get(key)), "")

    @property
    def trigger(self) -> str:
        return self._first("modelspec.trigger_phrase", "trained_words")

    @property
    def embedding_names(self) -> list[str]:
        """Words the file brings token vectors of their own for."""
        return embedding.words_of(self.header)

    @property
    def slider(self) -> tuple[str, str, str] | None:
        """(target, positive, negative) of a slider; None for other LoRAs."""
        return slider_of(self.metadata)

    @property
    def base(self) -> str:
        return self._first("ss_sd_model_name", "ss_base_model_version")

    @property
    def licence(self) -> str:
        return self._first("modelspec.license")

    def as_json(self) -> dict[str, Any]:
        """The `inspect` command's JSON."""
        return {
            "family": self.format.family, "kind": self.format.kind, "layout": self.format.layout, "rank": self.rank,
            "alpha": self.alpha, "modules": self.modules, "unknown_keys": self.unknown, "trigger": self.trigger,
            "embeddings": self.embedding_names,
            "slider": dict(zip(("target", "positive", "negative"), self.slider, strict=True)) if self.slider else None,
            "base": self.base, "licence": self.licence,
            "hash": self.metadata.get("sshs_model_hash", "")[:64],
            "programs": {name: verdict.as_json() for name, verdict in self.programs.items()},
            "notes": [t(f"library_texts.{note}") for note in self.notes],
        }  # fmt: skip


def inspect(path: Path | str) -> Inspection:
    """Read a LoRA file's header and alphas. Problem where it is no LoRA or damaged."""
    path = Path(path)
    header = read_header(path)
    detected = file_format(header)
    refuse_others(detected.kind, path.name)
    common = rank(header)
    counts, unknown = _count(header)
    alpha = _alpha(path, header)
    if alpha is None:
        alpha = alpha_stated(header.metadata, common)
    lycoris_problem = lycoris_refuses(layers_of(header).values())
    notes = (lycoris_problem,) if lycoris_problem else ()
    return Inspection(path, detected, common, alpha, counts, unknown, header.metadata, programs(header, alpha), header, notes)


def _alpha(path: Path, header: Header) -> float | None:
    """The alpha most layers have; None where the file states none."""
    alphas: Counter[float] = Counter()
    with open(path, "rb") as file:
        for key, tensor in header.tensors.items():
            if key.endswith(".alpha") and tensor.end - tensor.start <= 8:
                file.seek(header.offset + tensor.start)
                value = to_float32(file.read(tensor.end - tensor.start), tensor.dtype)
                if value.size == 1 and np.isfinite(value).all():
                    alphas[float(value[0])] += 1
    return alphas.most_common(1)[0][0] if alphas else None


def _count(header: Header) -> tuple[dict[str, int], int]:
    parts: dict[str, set[str]] = {"unet": set(), "text_encoder": set(), "text_encoder_2": set()}
    unknown = 0
    for key in header.tensors:
        split, place = split_key(key), locate(key)
        if split and place and (split.what in _CARRIERS or split.what.startswith(_STARTS)):
            parts[place[0]].add(place[1])
        elif split and not place and split.module.startswith("lora_unet_"):
            parts["unet"].add(split.module)  # names of the original code, or of another family
        elif place is None:
            unknown += 1
    return {part: len(names) for part, names in parts.items()}, unknown


def main(argv: list[str]) -> int:
    """`python -m trainer inspect FILE [--json]`."""
    args = [word for word in argv if word != "--json"]
    if len(args) != 1 or args[0].startswith("-"):
        raise Problem("inspect_usage")
    inspection = inspect(args[0])
    if "--json" in argv:
        json.dump(inspection.as_json(), sys.stdout, ensure_ascii=False, indent=2)
        print()
    else:
        print("\n".join(_lines(inspection)))
    return 0


def _lines(inspection: Inspection) -> list[str]:
    none = t("library_texts.not_said")
    text = inspection.modules["text_encoder"] + inspection.modules["text_encoder_2"]
    rows = [
        ("file", inspection.file.name),
        ("family", inspection.format.family_name),
        ("kind", f"{inspection.format.kind} ({inspection.format.layout})"),
        ("rank", f"{inspection.rank or none} / {inspection.alpha if inspection.alpha is not None else none}"),
        ("modules", t("library_texts.layers_line", unet=inspection.modules["unet"], text=text)),
        ("trigger", inspection.trigger or none),
        *([("embedding", ", ".join(inspection.embedding_names))] if inspection.embedding_names else []),
        *([("slider", slider_line(inspection.slider))] if inspection.slider else []),
        ("base", inspection.base or none),
        ("licence", inspection.licence or none),
        ("hash", inspection.metadata.get("sshs_model_hash", "")[:12] or none),
    ]
    lines = [f"{t(f'library_texts.{key}')}: {_plain(value)}" for key, value in rows]
    if inspection.unknown:
        lines.append(t("library_texts.unknown_keys", count=inspection.unknown))
    lines += ["", t("library_texts.programs")]
    for program in PROGRAMS:
        verdict = inspection.programs[program]
        mark = t(f"library_texts.{verdict.answer if verdict.answer in ('yes', 'no') else 'nearly'}")
        lines.append(f"  {mark} {TITLES[program]} ({verdict.matched}/{verdict.total}): {_plain(verdict.why)}")
    lines += [t(f"library_texts.{note}") for note in inspection.notes]
    return lines


def slider_line(prompts: tuple[str, str, str], language: str | None = None) -> str:
    """What a slider moves, and where its ends lie."""
    target, positive, negative = prompts
    if not positive:
        return t("library_texts.slider_private", language=language)
    return t("library_texts.slider_line", language=language, target=target, positive=positive, negative=negative)


def _plain(text: str) -> str:
    """A file's own words on one line, without what a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text)[:400]
