"""What a base model is, read from its configs or its header alone. Called by catalog.py."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from trainer.bases import detect, licences
from trainer.bases import prediction as base_prediction
from trainer.bases.detect import PICKLE_SUFFIXES, SUPPORTED
from trainer.bases.licences import Licence
from trainer.core.files import read_json
from trainer.core.problem import Problem
from trainer.core.texts import LANGUAGES, t
from trainer.formats.detect import FAMILY_NAMES
from trainer.formats.hashes import legacy_file_hash
from trainer.formats.header import read_header

WEIGHT_SUFFIXES = {".safetensors", *PICKLE_SUFFIXES}
VAE_SUFFIX = ".vae.safetensors"
PROMPTS = (
    "a cat sitting on a windowsill", "a house by a lake", "a portrait of an old man", "a bowl of fruit on a table",
)  # fmt: skip
_FAMILY_DEFAULTS = {"sd1": (512, 7.0, 25), "sd2": (768, 7.0, 25), "sdxl": (1024, 6.0, 25)}


@dataclass(frozen=True)
class BaseFacts:
    """Everything the page shows and the engine needs to know of a base before loading it."""

    id: str
    """The name it is asked for by: `mini`, a name in the models folder, a path, or a hub id."""
    titles: dict[str, str]
    """The name a person reads, by language."""
    path: Path | None
    """The folder or file; None for a hub base that is not fetched yet."""
    layout: Literal["folder", "file", "hub"]
    family: str
    version: str
    """As other programs write it: `sd_v1`, `sd_v2`, `sd_v2_v`, `sdxl_base_v1-0`."""
    prediction: str
    """`epsilon` or `v_prediction`."""
    zero_snr: bool
    """Whether its noise schedule ends in pure noise (zero terminal SNR)."""
    resolution: int
    guidance: float
    steps: int
    licence: str
    licence_url: str
    sample_prompts: tuple[str, ...]
    size_bytes: int
    revision: str | None = None
    """The commit of a hub base."""
    vae: Path | None = None
    """The VAE that lies beside a single file as `<name>.vae.safetensors` and is used instead of the one inside."""
    has_vae: bool = True
    """Whether there is a VAE, inside or beside it."""
    stated: str = ""
    """`prediction` where the base itself states it; empty where it was guessed or set by hand."""
    doubt: str = ""
    """Two statements of the base about its prediction that contradict each other; empty where none do."""

    @property
    def title(self) -> str:
        """The title in the language set."""
        return self.title_in(t("bases.language"))

    def with_prediction(self, prediction: str) -> BaseFacts:
        """The same base with `epsilon` or `v_prediction` as a person set it; itself for `auto`."""
        if prediction == "auto" or (prediction == self.prediction and not self.doubt):
            return self
        return replace(self, prediction=prediction, version=detect.version(self.family, prediction), stated="", doubt="")

    def check(self, prediction: str, vae: str) -> None:
        """Problem, beside its field, where a training cannot begin on this base with `model.prediction_type` and `model.vae`
        set so: what it says of itself is at odds and nobody decided, or it has no VAE and none was chosen."""
        if self.doubt and prediction == "auto":
            raise Problem("base_doubt", field="model.prediction_type", base=self.title, said=self.doubt)
        if not self.has_vae and not vae:
            name = f"{self.path.stem}{VAE_SUFFIX}" if self.path and self.layout == "file" else "vae/"
            raise Problem("base_no_vae", field="model.vae", base=self.title, file=name)

    def title_in(self, language: str) -> str:
        """The title in `language`, else in English, else the id."""
        return self.titles.get(language) or self.titles.get("en") or self.id

    @property
    def family_name(self) -> str:
        """The family as a person reads it: "Stable Diffusion XL" for `sdxl`."""
        return FAMILY_NAMES.get(self.family, self.family)

    @property
    def licence_facts(self) -> Licence:
        """The licence in the table of licences.py; `unknown` where it is not there."""
        return licences.find(self.licence)

    def licence_summary(self, language: str | None = None) -> str:
        """The licence in one line."""
        return self.licence_facts.summary(language)


def read_folder(path: Path, name: str) -> BaseFacts:
    """The facts of a diffusers folder."""
    index = read_json(path / "model_index.json")
    if not isinstance(index, dict):
        raise Problem("base_not_a_model", field="model.base", base=path.name)
    own, from_hub = _dict(read_json(path / "atelier.json")), _dict(read_json(path / "atelier-hub.json"))
    unet = _dict(read_json(path / "unet" / "config.json"))
    scheduler = _dict(read_json(path / "scheduler" / "scheduler_config.json"))
    family = str(own.get("family") or detect.folder_family(path, index, unet))
    if family in SUPPORTED:
        detect.check_parts(path, family, unet)
    licence = licences.find(str(own.get("licence") or _card_licence(path)))
    if licence is licences.UNKNOWN:
        licence = licences.of_base(str(from_hub.get("id") or name))
    licence_title = str(own.get("licence") or licence.title)
    side, guidance, steps = _FAMILY_DEFAULTS.get(family, _FAMILY_DEFAULTS["sd1"])
    vae = _dict(read_json(path / "vae" / "config.json"))
    if isinstance(unet.get("sample_size"), int) and isinstance(vae.get("block_out_channels"), list):
        side = unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)
    predicts = base_prediction.of_folder(path, scheduler, index)
    titles = own.get("title")
    return BaseFacts(
        id=str(own.get("id") or from_hub.get("id") or name),
        titles={k: str(v) for k, v in titles.items()} if isinstance(titles, dict) else _titles(path.name, from_hub),
        path=path,
        layout="hub" if from_hub else "folder",
        family=family,
        version=detect.version(family, predicts.kind),
        prediction=predicts.kind,
        zero_snr=predicts.zero_snr,
        resolution=int(own.get("native_resolution") or side),
        guidance=float(own.get("guidance") or guidance),
        steps=int(own.get("steps") or steps),
        licence=licence_title,
        licence_url=str(own.get("licence_url") or licence.url),
        sample_prompts=tuple(str(prompt) for prompt in own.get("sample_prompts") or PROMPTS),
        size_bytes=sum(file.stat().st_size for file in path.rglob("*.safetensors")),
        revision=str(from_hub["revision"]) if from_hub.get("revision") else None,
        has_vae=(path / "vae").is_dir(),
        stated=predicts.stated,
        doubt=predicts.doubt,
    )


def read_file(path: Path, name: str) -> BaseFacts:
    """The facts of a single .safetensors checkpoint, from its header."""
    if path.suffix.lower() != ".safetensors":
        raise Problem("base_not_a_model", field="model.base", base=path.name)
    header = read_header(path)
    family = detect.file_family(header, path.name)
    meta, predicts = header.metadata, base_prediction.of_file(path, header, family)
    licence = licences.find(meta.get("modelspec.license"))
    if licence is licences.UNKNOWN:
        licence = licences.of_base(path.name)
    side, guidance, steps = _FAMILY_DEFAULTS.get(family, _FAMILY_DEFAULTS["sd1"])
    if family == "sd2" and predicts.kind == "epsilon":
        side = 512
    beside = path.with_suffix(VAE_SUFFIX)
    beside = beside if beside.is_file() else None
    stated = re.match(r"(\d{2,4})(?:x(\d{2,4}))?$", meta.get("modelspec.resolution", ""))
    return BaseFacts(
        id=name, titles=dict.fromkeys(LANGUAGES, meta.get("modelspec.title") or path.stem), path=path, layout="file",
        family=family, version=detect.version(family, predicts.kind), prediction=predicts.kind,
        zero_snr=predicts.zero_snr, stated=predicts.stated, doubt=predicts.doubt,
        resolution=int(stated[1]) if stated else side, guidance=guidance, steps=steps,
        licence=meta.get("modelspec.license") or licence.title, licence_url=licence.url, sample_prompts=PROMPTS,
        size_bytes=header.size, vae=beside,
        has_vae=beside is not None or any(key.startswith("first_stage_model.") for key in header.tensors),
    )  # fmt: skip


def file_hashes(facts: BaseFacts) -> tuple[str, str] | None:
    """(old 8-digit hash, SHA-256) of a single-file base, as other programs record it; None for a folder."""
    if facts.path is None or not facts.path.is_file():
        return None
    return hashes_of(facts.path)


def hashes_of(path: Path) -> tuple[str, str]:
    """(old 8-digit hash, SHA-256) of a file, read once until it changes."""
    stat = path.stat()
    return _hashes(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _hashes(path: Path, _size: int, _changed: int) -> tuple[str, str]:
    with open(path, "rb") as file:
        return legacy_file_hash(path), hashlib.file_digest(file, "sha256").hexdigest()


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _titles(name: str, from_hub: dict[str, Any]) -> dict[str, str]:
    return dict.fromkeys(LANGUAGES, str(from_hub.get("id") or name))


def _card_licence(path: Path) -> str:
    """`license:` in the front matter of a model card."""
    try:
        text = (path / "README.md").read_text("utf-8", "replace")[:20_000]
    except OSError:
        return ""
    if not text.startswith("---"):
        return ""
    front = text[3:].partition("\n---")[0]
    entries = {key: value for key, value in re.findall(r"^(license|license_name):\s*[\"']?([^\"'\n]+)", front, re.M)}
    return (entries.get("license_name") if entries.get("license") == "other" else entries.get("license") or "") or ""
