"""Which program can use a LoRA file: each one's key map, shape and version rules, written out. For inspect and page.

Facts read from the sources of A1111 (extensions-builtin/Lora), Forge (sd_forge_lora), ComfyUI (comfy/lora.py,
comfy/weight_adapter), InvokeAI (model_manager/configs/lora.py, util/model_util.py) and diffusers (loaders/lora_*.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from trainer.adapters.compat.layer_rules import REFUSES_WHOLE, decomposes, fits, kind, reads, turns
from trainer.core.texts import t
from trainer.formats.architectures import ARCHITECTURES, family_modules
from trainer.formats.detect import FAMILY_NAMES, FileFormat, file_format, locate
from trainer.formats.header import Header
from trainer.formats.invoke_base import base_of
from trainer.formats.layouts import comfy_names
from trainer.formats.multiplied import old_order
from trainer.formats.names import bare, norm_names, split_key, to_diffusers, to_kohya, to_sgm

PROGRAMS = ("a1111", "forge", "comfyui", "invokeai", "diffusers")
TITLES = dict(zip(PROGRAMS, ("AUTOMATIC1111", "Forge", "ComfyUI", "InvokeAI", "diffusers"), strict=True))
SUPPORTED_TYPES = {"lora", "locon", "tucker", "dora", "loha", "lokr", "full", "oft", "boft", "ia3", "glora"}
"""The kinds of files (`detect.file_format`) that some program has code for."""
ORIGINAL = ("lora_unet_input_blocks_", "lora_unet_middle_block_", "lora_unet_output_blocks_")
NEW = ("lora_unet_down_blocks_", "lora_unet_mid_block_", "lora_unet_up_blocks_")
FORGE_LIMIT = 12
"""Forge leaves a file alone when more keys than this match nothing."""
_KOHYA = ("lora_te_", "lora_unet_", "lora_te1_", "lora_te2_")


@dataclass(frozen=True)
class Verdict:
    """`matched` of `total` layers are read with the right size. `reason` is a text under `programs`, and so is `limit`, how a
    file that loads falls short (`not_linear`, `a_little_off`), or "" where it does not."""

    loads: bool
    matched: int
    total: int
    reason: str = "ok"
    params: dict[str, Any] = field(default_factory=dict)
    limit: str = ""

    @property
    def answer(self) -> str:
        """yes, no, not_linear or a_little_off."""
        return (self.limit or "yes") if self.loads else "no"

    @property
    def why(self) -> str:
        """The reason in sentences."""
        return self.sentence(t)

    def sentence(self, translate: Callable[..., str]) -> str:
        """The reason in the language of `translate`."""
        limit = " " + translate(f"programs.{self.limit}") if self.loads and self.limit else ""
        return translate(f"programs.{self.reason}", **self.params) + limit

    def as_json(self) -> dict[str, Any]:
        """One program's entry under `programs` of `inspect --json`."""
        return {"loads": self.loads, "matched": self.matched, "total": self.total, "why": self.why, "answer": self.answer}


def programs(header: Header, alpha: float | None = None) -> dict[str, Verdict]:
    """What each program makes of a file, from its header and `alpha`, the one most of its layers have, if any is known."""
    detected = file_format(header)
    if detected.family not in ARCHITECTURES or detected.kind not in SUPPORTED_TYPES:
        total = len(layers_of(header))
        reason, params = "family", {"family": FAMILY_NAMES.get(detected.family, detected.family)}
        if detected.family in ARCHITECTURES or detected.family == "unknown":
            reason, params = "none", {}
        return {program: Verdict(False, 0, total, reason, params) for program in PROGRAMS}
    return {program: _verdict(program, header, detected, alpha) for program in PROGRAMS}


def _verdict(program: str, header: Header, detected: FileFormat, alpha: float | None) -> Verdict:
    layers = layers_of(header)
    places = _key_map(program, detected.family)
    sizes = family_modules(detected.family)
    named = {name: places[name] for name, tensors in layers.items() if name in places and kind(tensors)}
    fitting = {name for name, place in named.items() if place in sizes and fits(program, layers[name], sizes[place].shape)}
    unread = [name for name, tensors in layers.items() if name in places and not reads(program, tensors)]
    if program != "diffusers":
        norms = {name for name, tensors in layers.items() if name in norm_names() and _norm(program, tensors)}
        named, fitting = named | {name: norm_names()[name] for name in norms}, fitting | norms
    total, matched = len(layers), len(fitting)
    reason, limit = turns(program, layers.values(), alpha or 0.0)
    if detected.kind == "dora":
        reason, limit = decomposes(program, layers.values(), detected.layout)
    if reason:
        return Verdict(False, 0, total, reason)
    if layers and not any(reads(program, tensors) for tensors in layers.values()):
        return Verdict(False, 0, total, "kind", {"kind": _kind_name(detected, layers)})
    if program in ("diffusers", "invokeai") and _mixed(header):
        return Verdict(False, 0, total, "mixed_names")
    if program == "diffusers":
        return _diffusers(header, detected, layers, named, matched)
    if program == "invokeai":
        refusal = _invoke_refuses(header, detected, total)
        if refusal:
            return refusal
    if unread and program in REFUSES_WHOLE:
        return Verdict(False, 0, total, "strange_keys", {"layer": unread[0][:60]})
    if program == "forge" and len(header.tensors) - _keys_of(header, named) > FORGE_LIMIT:
        return Verdict(False, 0, total, "none" if not named else "too_many", {"limit": FORGE_LIMIT})
    if not named:
        return Verdict(False, 0, total, "none")
    if program == "a1111" and detected.kind == "glora":
        refusal = _old_glora(layers, matched, total, alpha)
        if refusal:
            return refusal
    if not fitting:
        return Verdict(False, 0, total, "small", {})
    if len(fitting) < len(named):
        mismatch = {"count": len(named) - len(fitting), "family": detected.family_name}
        return Verdict(False, matched, total, "shapes", mismatch)
    if matched < total:
        reason = "silent" if program in ("comfyui", "invokeai") else "partial"
        return Verdict(True, matched, total, reason, {"matched": matched, "total": total}, limit)
    factor = _alpha_factor(header) if detected.layout == "diffusers" else 1.0
    if not math.isclose(factor, 1.0):
        return Verdict(False, matched, total, "alpha_lost", {"factor": f"{factor:g}"})
    return Verdict(True, matched, total, *_version(program, header.metadata, detected.family), limit)


def _kind_name(detected: FileFormat, layers: dict[str, Any]) -> str:
    """The file's kind, with what a DoRA decomposes where it is no LoRA."""
    inside = next((kind(shapes) for shapes in layers.values() if "dora" in shapes), "")
    return f"dora + {inside}" if detected.kind == "dora" and inside not in ("", "lora") else detected.kind


def _old_glora(layers: dict[str, Any], matched: int, total: int, alpha: float | None) -> Verdict | None:
    """A1111 multiplies GLoRA's factors in the order of older files, and without alpha / r."""
    shapes = next(shapes for shapes in layers.values() if kind(shapes) == "glora")
    if not old_order(shapes):
        return Verdict(False, 0, total, "glora_order")
    rank = shapes["glora_a1"][0]
    if alpha and not math.isclose(alpha, rank):
        return Verdict(False, matched, total, "alpha_ignored", {"factor": f"{rank / alpha:g}"})
    return None


# --- names: what each program's own table knows a layer by -----------------------------------------------------------


@cache
def _key_map(program: str, family: str) -> dict[str, tuple[str, str]]:
    """The module names (keys without `.lora_down.weight` and the like) a program knows, at the family's real size."""
    places: dict[str, tuple[str, str]] = {}
    for part, module in family_modules(family):
        place = (part, module)
        kohya = to_kohya(part, module, family)
        names = [kohya]
        if part == "unet":
            names.append("lora_unet_" + to_sgm(module, family).replace(".", "_"))
        elif part == "text_encoder" and program != "invokeai":  # InvokeAI reads lora_te_ for SD 1.x and 2.x, no other
            names += [kohya.replace("lora_te1_", "lora_te_", 1), kohya.replace("lora_te_", "lora_te1_", 1)]
            if program == "a1111" and family == "sd2":  # its fallback knows the names of SD 1.x alone
                names = [kohya]
        if program in ("comfyui", "forge"):
            names += _comfy(part, module) + comfy_names(part, module, family)[: 2 if program == "comfyui" else part == "unet"]
        if program == "diffusers":
            names += _diffusers_names(part, module)
        if program == "diffusers" and family != "sdxl":
            names = [name for name in names if "lora_unet_" not in name or name == kohya]
        places.update(dict.fromkeys(names, place))
    return places


def _comfy(part: str, module: str) -> list[str]:
    """ComfyUI takes diffusers names, but attention layers of the UNet only in the old spelling with `processor`.

    That spelling ends in `to_q_lora.up.weight`; split_key has taken it apart the way it takes `to_q.lora.up.weight`,
    so the two are told apart by the mark `processor` that `_modules` keeps.
    """
    if part != "unet":
        return [to_diffusers(part, module)]
    if ".to_" in module:
        return [f"{prefix}{module}@processor" for prefix in ("", "unet.")]
    return [module, f"unet.{module}"]


def _diffusers_names(part: str, module: str) -> list[str]:
    both = [to_diffusers(part, module), f"{part}.{bare(module)}"] if part != "unet" else [to_diffusers(part, module)]
    return both + [f"{name}@processor" for name in both if part == "unet" and ".to_" in name]


def layers_of(header: Header) -> dict[str, dict[str, tuple[int, ...]]]:
    """The file's layers by their own names: {what the tensor is: shape}. Old attention keys are marked `@processor`."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, tensor in header.tensors.items():
        split = split_key(key)
        if split is None:
            shapes.setdefault(key, {})
            continue
        name = f"{split.module}@processor" if ".processor." in key and ".to_" in split.module else split.module
        shapes.setdefault(name, {})[split.what] = tensor.shape
    return shapes


def _keys_of(header: Header, named: Iterable[str]) -> int:
    """How many of the file's tensors belong to the named layers."""
    names, count = set(named), 0
    for key in header.tensors:
        split = split_key(key)
        if split and (split.module in names or f"{split.module}@processor" in names):
            count += 1
    return count


def _norm(program: str, tensors: dict[str, tuple[int, ...]]) -> bool:
    """Full differences of a norm: A1111 asks for weight and bias, the others take either."""
    return set(tensors) == {"diff", "diff_b"} if program == "a1111" else set(tensors) <= {"diff", "diff_b"}


# --- rules of single programs -----------------------------------------------------------------------------------------


def _version(program: str, metadata: dict[str, str], family: str) -> tuple[str, dict[str, Any]]:
    """How A1111 and Forge file it; a wrong class is hidden from their lists."""
    if program not in ("a1111", "forge"):
        return "ok", {}
    architecture = metadata.get("modelspec.architecture", "")
    xl = program == "forge" and architecture == "stable-diffusion-xl-v1-base/lora"
    if xl or metadata.get("ss_base_model_version", "").startswith("sdxl_"):
        filed = "sdxl"
    elif metadata.get("ss_v2") == "True":
        filed = "sd2"
    elif program == "a1111":
        filed = "sd1" if metadata else "unknown"
    else:
        filed = "sd1" if architecture == "stable-diffusion-v1/lora" else "unknown"
    if filed == "unknown":
        return "unclassed", {}
    return ("ok", {}) if filed == family else ("hidden", {"version": FAMILY_NAMES[filed]})


def _mixed(header: Header) -> bool:
    """SDXL blocks under the original code's names beside diffusers' own: diffusers drops the first, InvokeAI raises."""
    keys = [key for key in header.tensors if key.startswith("lora_unet_")]
    return any(key.startswith(ORIGINAL) for key in keys) and any(key.startswith(NEW) for key in keys)


def _invoke_refuses(header: Header, detected: FileFormat, total: int) -> Verdict | None:
    """InvokeAI refuses widths it does not know, and keys beside those of its own table."""
    if not any(key.startswith((*_KOHYA, "lora_transformer_")) for key in header.tensors):
        return Verdict(False, 0, total, "none")
    base, width = base_of(header)
    if base is None:
        return Verdict(False, 0, total, "width", {"width": width if width is not None else "–"})
    if base != detected.family:
        return Verdict(False, 0, total, "mistaken", {"version": FAMILY_NAMES[base]})
    prefixes = ("lora_unet_", "lora_te1_", "lora_te2_") if base == "sdxl" else ("",)
    strange = next((k for k in header.tensors if split_key(k) is None or "." not in k or not k.startswith(prefixes)), None)
    return Verdict(False, 0, total, "strange_keys", {"layer": strange[:60]}) if strange else None


def _diffusers(header: Header, detected: FileFormat, layers: dict[str, Any], named: dict[str, Any], matched: int) -> Verdict:
    """diffusers takes a base of any size; in kohya's layout one strange key defeats the whole file."""
    total = len(layers)
    strange = next((key for key in header.tensors if not key.startswith(_KOHYA)), None)
    kohya = any(key.startswith(_KOHYA) for key in header.tensors)
    other = next((key for key in header.tensors if split_key(key) is None), None)
    if (kohya and strange) or other:
        return Verdict(False, 0, total, "strange_keys", {"layer": str(strange or other)[:60]})
    if not named:
        return Verdict(False, 0, total, "none")
    if matched == total:
        return Verdict(True, matched, total)
    placed = sum(1 for name in layers if locate(f"{name.removesuffix('@processor')}.lora_down.weight"))
    if placed == total and matched == 0:
        return Verdict(True, placed, total, "own_base")
    if len(named) == total:
        return Verdict(False, matched, total, "shapes", {"count": total - matched, "family": detected.family_name})
    return Verdict(matched > 0, matched, total, "partial", {"matched": matched, "total": total})


def _alpha_factor(header: Header) -> float:
    """How much too strong a file in diffusers' layout gets where its alpha, kept in the metadata, is not read."""
    try:
        tree = json.loads(header.metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        return 1.0
    for part in ("unet", "text_encoder"):
        alpha, rank = tree.get(f"{part}.lora_alpha"), tree.get(f"{part}.r")
        if isinstance(alpha, int | float) and isinstance(rank, int | float) and alpha > 0:
            return rank / alpha
    return 1.0
