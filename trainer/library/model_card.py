"""A LoRA's README.md as model hubs show it: what it is, how to call it, on which base, made from what, on which conditions.

Called by `card` and the Library page. It says only what the file and its card say, so that words kept private stay so.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from trainer.adapters import embedding
from trainer.adapters.compat.inspect import slider_line
from trainer.bases import licences
from trainer.core import files
from trainer.core.problem import Problem
from trainer.core.texts import t
from trainer.formats.header import read_header
from trainer.library.cards import MAX_SHOWN, Card

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_LICENCES = {
    "openrail_m": "creativeml-openrail-m", "openrail_pp_m": "openrail++", "apache": "apache-2.0", "mit": "mit",
    "cc0": "cc0-1.0", "cc_by": "cc-by-4.0", "cc_by_sa": "cc-by-sa-4.0", "cc_by_nd": "cc-by-nd-4.0", "cc_by_nc": "cc-by-nc-4.0",
    "cc_by_nc_nd": "cc-by-nc-nd-4.0", "cc_by_nc_sa": "cc-by-nc-sa-4.0",
}  # fmt: skip
"""Our licences -> the names the Hugging Face hub knows; all others are `other` there."""
_COMMON = 10


def write(card: Card, folder: Path, language: str | None = None) -> Path:
    """A folder ready to be sent to a hub: README.md, the file, its picture, and the vectors of its own words
    as files for other programs. Returns README.md; Problem where a file is there already or the LoRA is broken."""
    if card.broken:
        raise card.broken
    readme = folder / "README.md"
    targets = [readme, folder / card.file.name]
    picture = folder / f"{card.name}{card.picture.suffix}" if card.picture else None
    embeddings = {folder / "embeddings" / f"{files.safe_name(one.name, 'word')}.safetensors": one
             for one in embedding.read_embeddings(card.file)}  # fmt: skip
    for path in (*targets, picture, *embeddings):
        if path is not None and path.exists():
            raise Problem("out_exists", field="out", file=path.name)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_bytes(targets[1], card.file.read_bytes())
    if card.picture and picture:
        files.write_bytes(picture, card.picture.read_bytes())
    for path, token in embeddings.items():
        embedding.write(path, token, {})
    files.write_text(readme, text(card, language, picture.name if picture else None))
    return readme


def text(card: Card, language: str | None = None, picture: str | None = None) -> str:
    """README.md: YAML facts for the hub, then the same in words. `picture` stands beside it."""

    def label(key: str, **params: object) -> str:
        return t(f"model_card.{key}", language=language, **params)

    best = card.recommended
    rows = [
        ("trigger", f"`{_line(card.trigger)}`" if card.trigger else ""),
        ("slider", _line(slider_line(card.slider, language)) if card.slider else ""),
        ("embedding", ", ".join(f"`{_line(name)}`" for name in embedding.words_of(read_header(card.file)))),
        ("strength", label("strength_range", best=f"{best.best:g}", low=f"{best.low:g}", high=f"{best.high:g}")),
        ("negative", _line(card.negative)), ("base", _line(card.base)), ("base_licence", _line(card.base_licence)),
        ("kind", f"{_line(card.adapter)}, {card.rank}" if card.rank else _line(card.adapter)),
        ("steps", f"{card.steps:,}" if card.steps else ""),
        ("date", datetime.fromtimestamp(card.date, UTC).strftime("%Y-%m-%d") if card.date else ""),
    ]  # fmt: skip
    sources = [
        ("pictures", f"{card.pictures:,}" if card.pictures else ""), ("rights", _line(card.rights)),
        ("words", _line(", ".join(common_tags(card)))),
    ]  # fmt: skip
    lines = [*_facts(card, picture), "", f"# {_line(card.title or card.name)}", ""]
    lines += [_line(card.purpose), ""] if card.purpose else []
    lines += [f"![{_line(card.name)}](<{picture}>)", ""] if picture else []
    for heading, entries in (("use", rows), ("made", sources)):
        items = [f"- {label(key)}: {value}" for key, value in entries if value]
        lines += [f"## {label(heading)}", "", *items, ""] if items else []
    lines += [f"## {label('conditions')}", "", _line(card.licence) or label("conditions_unsaid"), ""]
    return "\n".join(lines)


def common_tags(card: Card) -> list[str]:
    """The commonest tags of the captions (`ss_tag_frequency`), where the file shares them, without the trigger."""
    try:
        tree = json.loads(read_header(card.file).metadata.get("ss_tag_frequency", "{}"))
    except (ValueError, RecursionError):
        return []
    counts: Counter[str] = Counter()
    for folder in tree.values() if isinstance(tree, dict) else ():
        for word, count in folder.items() if isinstance(folder, dict) else ():
            if isinstance(count, int) and word != card.trigger:
                counts[word] += count
    return [word for word, _ in counts.most_common(_COMMON)]


def _facts(card: Card, picture: str | None) -> list[str]:
    """The YAML at the top. A JSON string is a YAML string, whatever a file says."""
    hub = _HUB_LICENCES.get(licences.find(card.licence).key, "other")
    lines = ["---", f"license: {hub}"]
    lines += [f"license_name: {json.dumps(_line(card.licence), ensure_ascii=False)}"] if hub == "other" and card.licence else []
    lines += [f"base_model: {json.dumps(card.base)}"] if _HUB_ID.fullmatch(card.base) else []
    lines += ["pipeline_tag: text-to-image", "library_name: diffusers"]
    lines += ["tags:", "- stable-diffusion", "- lora", "- text-to-image"]
    lines += [f"instance_prompt: {json.dumps(_line(card.trigger), ensure_ascii=False)}"] if card.trigger else []
    if picture:
        lines += ["widget:", f"- text: {json.dumps(_line(card.trigger) or ' ', ensure_ascii=False)}"]
        lines += ["  output:", f"    url: {json.dumps(picture, ensure_ascii=False)}"]
    return [*lines, "---"]


def _line(value: str) -> str:
    """A file's own words on one line, without what Markdown or a browser would obey."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in value[:MAX_SHOWN]).split())
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", plain) if re.search(r"[`\[\]<>]", plain) else plain
