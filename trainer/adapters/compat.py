"""Which program can use a LoRA file: each one's key map, shape and version rules, written out. For inspect and page.

Facts read from the sources of A1111 (extensions-builtin/Lora), Forge (sd_forge_lora), ComfyUI (comfy/lora.py,
comfy/weight_adapter), InvokeAI (model_manager/configs/lora.py, util/model_util.py) and diffusers (loaders/lora_*.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from trainer.adapters import multiplied
from trainer.adapters.families import FAMILIES, family_modules
from trainer.adapters.header import Header
from trainer.adapters.kinds import FAMILY_NAMES, Seen, locate, look
from trainer.adapters.layers import size
from trainer.adapters.names import bare, norm_names, split_key, to_diffusers, to_kohya, to_sgm
from trainer.texts import t

PROGRAMS = ("a1111", "forge", "comfyui", "invokeai", "diffusers")
TITLES = dict(zip(PROGRAMS, ("AUTOMATIC1111", "Forge", "ComfyUI", "InvokeAI", "diffusers"), strict=True))
_SIZED = ("down", "up", "diff")
_EXOTIC = ("dora", "loha", "lokr", "tucker", "full", "oft", "boft", "ia3", "glora")
KINDS = {
    "a1111": {"lora", "locon", *_EXOTIC},
    "forge": {"lora", "locon", *_EXOTIC} - {"oft", "boft", "ia3"},
    "comfyui": {"lora", "locon", *_EXOTIC} - {"ia3"},
    "invokeai": {"lora", "locon", *_EXOTIC} - {"oft", "boft", "glora"},
    "diffusers": {"lora", "locon"},
}
"""The adapter kinds each program has code for. DoRA has rules of its own (`_dora`)."""
ORIGINAL = ("lora_unet_input_blocks_", "lora_unet_middle_block_", "lora_unet_output_blocks_")
NEW = ("lora_unet_down_blocks_", "lora_unet_mid_block_", "lora_unet_up_blocks_")
FORGE_LIMIT = 12
"""Forge leaves a file alone when more keys than this match nothing."""
_INVOKE = {768: "sd1", 1024: "sd2", 1280: "sdxl", 2048: "sdxl"}
_KOHYA = ("lora_te_", "lora_unet_", "lora_te1_", "lora_te2_")


@dataclass(frozen=True)
class Verdict:
    """`matched` of `total` layers are read with the right size. `reason` is a text under `programs.*`."""

    loads: bool
    matched: int
    total: int
    reason: str = "ok"
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def why(self) -> str:
        """The reason as a sentence."""
        return t(f"programs.{self.reason}", **self.params)

    def as_json(self) -> dict[str, Any]:
        return {"loads": self.loads, "matched": self.matched, "total": self.total, "why": self.why}


def programs(header: Header) -> dict[str, Verdict]:
    """What each program makes of a file, from its header alone."""
    seen = look(header)
    if seen.family not in FAMILIES or seen.kind not in KINDS["a1111"]:
        total = len(_modules(header))
        reason, params = "family", {"family": FAMILY_NAMES.get(seen.family, seen.family)}
        if seen.family in FAMILIES or seen.family == "unknown":
            reason, params = "none", {}
        return {program: Verdict(False, 0, total, reason, params) for program in PROGRAMS}
    return {program: _judge(program, header, seen) for program in PROGRAMS}


def _judge(program: str, header: Header, seen: Seen) -> Verdict:
    layers = _modules(header)
    known = _key_map(program, seen.family)
    sizes = family_modules(seen.family)
    named = {name: known[name] for name in layers if name in known}
    fitting = {name for name, place in named.items() if _fits(layers[name], sizes.get(place))}
    if program != "diffusers":
        norms = {name for name, tensors in layers.items() if name in norm_names() and _norm(program, tensors)}
        named, fitting = named | {name: norm_names()[name] for name in norms}, fitting | norms
    total, matched = len(layers), len(fitting)
    if seen.kind == "dora":
        trouble = _dora(program, header, seen)
        if trouble:
            return Verdict(False, 0, total, trouble)
    elif seen.kind not in KINDS[program]:
        return Verdict(False, 0, total, "kind", {"kind": seen.kind})
    if program in ("diffusers", "invokeai") and _mixed(header):
        return Verdict(False, 0, total, "mixed_names")
    if program == "diffusers":
        return _diffusers(header, seen, layers, named, matched)
    if program == "invokeai":
        refusal = _invoke_base(header, seen, total)
        if refusal:
            return refusal
    if program == "forge" and len(header.tensors) - _keys_of(header, named) > FORGE_LIMIT:
        return Verdict(False, 0, total, "none" if not named else "too_many", {"limit": FORGE_LIMIT})
    if not named:
        return Verdict(False, 0, total, "none")
    if not fitting:
        return Verdict(False, 0, total, "small", {})
    if len(fitting) < len(named):
        wrong = {"count": len(named) - len(fitting), "family": seen.family_name}
        return Verdict(False, matched, total, "shapes", wrong)
    if matched < total:
        reason = "silent" if program in ("comfyui", "invokeai") else "partial"
        return Verdict(True, matched, total, reason, {"matched": matched, "total": total})
    factor = _alpha_factor(header) if seen.layout == "diffusers" else 1.0
    if not math.isclose(factor, 1.0):
        return Verdict(False, matched, total, "alpha_lost", {"factor": f"{factor:g}"})
    return Verdict(True, matched, total, *_version(program, header.metadata, seen.family))


# --- names: what each program's own table knows a layer by -----------------------------------------------------------


@cache
def _key_map(program: str, family: str) -> dict[str, tuple[str, str]]:
    """The module names (keys without `.lora_down.weight` and the like) a program knows, at the family's real size."""
    found: dict[str, tuple[str, str]] = {}
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
            names += _comfy(part, module)
        if program == "diffusers":
            names += _diffusers_names(part, module)
        if program == "diffusers" and family != "sdxl":
            names = [name for name in names if "lora_unet_" not in name or name == kohya]
        found.update(dict.fromkeys(names, place))
    return found


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


def _modules(header: Header) -> dict[str, dict[str, tuple[int, ...]]]:
    """The file's layers by their own names: {what the tensor is: shape}. Old attention keys are marked `@processor`."""
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, tensor in header.tensors.items():
        split = split_key(key)
        if split is None:
            found.setdefault(key, {})
            continue
        name = f"{split.module}@processor" if ".processor." in key and ".to_" in split.module else split.module
        found.setdefault(name, {})[split.what] = tensor.shape
    return found


def _keys_of(header: Header, named: Iterable[str]) -> int:
    """How many of the file's tensors belong to the named layers."""
    names, count = set(named), 0
    for key in header.tensors:
        split = split_key(key)
        if split and (split.module in names or f"{split.module}@processor" in names):
            count += 1
    return count


def _fits(shapes: dict[str, tuple[int, ...]], module: Any) -> bool:
    """Whether a layer's tensors make a change of the weight's size. GLoRA and BOFT are not judged; (IA)³ of a convolution is
    multiplied along the wrong axes by the programs that know it."""
    if module is None:
        return False
    if "ia3" in shapes or len(shapes.get("oft_blocks", ())) == 3:
        fits = multiplied.whole(shapes) and multiplied.fits(shapes, module.shape)
        return fits and not ("ia3" in shapes and len(module.shape) == 4)
    if not any(what in _SIZED or what.startswith(("hada_", "lokr_")) for what in shapes):
        return True
    return size(shapes) == (module.shape[0], math.prod(module.shape[1:]))


def _norm(program: str, tensors: dict[str, tuple[int, ...]]) -> bool:
    """Full differences of a norm: A1111 asks for weight and bias, the others take either."""
    return set(tensors) == {"diff", "diff_b"} if program == "a1111" else set(tensors) <= {"diff", "diff_b"}


# --- rules of single programs -----------------------------------------------------------------------------------------


def _version(program: str, said: dict[str, str], family: str) -> tuple[str, dict[str, Any]]:
    """How A1111 and Forge file it; a wrong class is hidden from their lists."""
    if program not in ("a1111", "forge"):
        return "ok", {}
    architecture = said.get("modelspec.architecture", "")
    xl = program == "forge" and architecture == "stable-diffusion-xl-v1-base/lora"
    if xl or said.get("ss_base_model_version", "").startswith("sdxl_"):
        filed = "sdxl"
    elif said.get("ss_v2") == "True":
        filed = "sd2"
    elif program == "a1111":
        filed = "sd1" if said else "unknown"
    else:
        filed = "sd1" if architecture == "stable-diffusion-v1/lora" else "unknown"
    if filed == "unknown":
        return "unclassed", {}
    return ("ok", {}) if filed == family else ("hidden", {"version": FAMILY_NAMES[filed]})


def _dora(program: str, header: Header, seen: Seen) -> str | None:
    """diffusers drops `dora_scale` and reads PEFT's magnitude; the others know `dora_scale` alone.

    By input column ([1, in]) all of them do the same. By output row ([out, 1]) A1111 and InvokeAI divide by the columns'
    norm all the same, and ComfyUI and Forge by the untouched base's.
    """
    if (program == "diffusers") != (seen.layout == "diffusers"):
        return "magnitude_lost"
    rows = any(key.endswith(".dora_scale") and tensor.shape[:1] != (1,) for key, tensor in header.tensors.items())
    return "magnitude_rows" if rows and program != "diffusers" else None


def _mixed(header: Header) -> bool:
    """SDXL blocks under the original code's names beside diffusers' own: diffusers drops the first, InvokeAI raises."""
    keys = [key for key in header.tensors if key.startswith("lora_unet_")]
    return any(key.startswith(ORIGINAL) for key in keys) and any(key.startswith(NEW) for key in keys)


def _invoke_base(header: Header, seen: Seen, total: int) -> Verdict | None:
    """InvokeAI finds the base from the first decisive tensor in file order, and refuses widths it does not know."""
    if not any(key.startswith((*_KOHYA, "lora_transformer_")) for key in header.tensors):
        return Verdict(False, 0, total, "none")
    first = second = width = None
    for key, tensor in header.tensors.items():
        end = key.partition(".")[2]
        tells = end in ("lora_down.weight", "hada_w1_b", "hada_w2_b", "diff")
        shape = list(tensor.shape)[1] if tells and len(tensor.shape) > 1 else _lokr_width(header, key, end)
        if key.startswith("lora_unet_") and (
            "_attn2_to_k." in key or "_attn2_to_v." in key or "time_emb_proj.lora_down" in key
        ):
            width = shape
        elif key.startswith("lora_te") and "_self_attn_" in key:
            width = shape if key.startswith("lora_te_") else width
            first = shape if key.startswith("lora_te1_") else first
            second = shape if key.startswith("lora_te2_") else second
        if first is not None and second is not None:
            width = first + second
        if width is not None:
            break
    base = _INVOKE.get(width or 0)
    if base is None:
        return Verdict(False, 0, total, "width", {"width": width if width is not None else "–"})
    if base != seen.family:
        return Verdict(False, 0, total, "mistaken", {"version": FAMILY_NAMES[base]})
    known = ("lora_unet_", "lora_te1_", "lora_te2_") if base == "sdxl" else ("",)
    strange = next((k for k in header.tensors if split_key(k) is None or "." not in k or not k.startswith(known)), None)
    return Verdict(False, 0, total, "strange_keys", {"layer": strange[:60]}) if strange else None


def _lokr_width(header: Header, key: str, end: str) -> int | None:
    """InvokeAI tells a LoKr's width from two whole factors only: it looks for split ones under names that do not exist."""
    one, two = (header.tensors.get(f"{key.partition('.')[0]}.lokr_w{i}") for i in (1, 2))
    if not end.startswith("lokr_") or one is None or two is None or len(one.shape) < 2 or len(two.shape) < 2:
        return None
    return one.shape[1] * two.shape[1]


def _diffusers(
    header: Header, seen: Seen, layers: dict[str, Any], named: dict[str, Any], matched: int
) -> Verdict:
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
        return Verdict(False, matched, total, "shapes", {"count": total - matched, "family": seen.family_name})
    return Verdict(matched > 0, matched, total, "partial", {"matched": matched, "total": total})


def _alpha_factor(header: Header) -> float:
    """How much too strong a file in diffusers' layout gets where its alpha, kept in the metadata, is not read."""
    try:
        tree = json.loads(header.metadata.get("lora_adapter_metadata", "{}"))
    except ValueError:
        return 1.0
    for part in ("unet", "text_encoder"):
        alpha, rank = tree.get(f"{part}.lora_alpha"), tree.get(f"{part}.r")
        if isinstance(alpha, int | float) and isinstance(rank, int | float) and alpha > 0:
            return rank / alpha
    return 1.0

