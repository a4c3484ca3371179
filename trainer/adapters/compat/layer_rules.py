"""What each program makes of one layer's tensors: the kinds it has code for, and whether the sizes make a change of the base's
weight. Called by verdicts.py.

Facts read from the sources of A1111 (extensions-builtin/Lora/network_*.py), Forge (backend/patcher/lora.py), ComfyUI
(comfy/weight_adapter), InvokeAI (backend/patches/layers) and LyCORIS 4.1.3 (modules/*.make_module_from_state_dict).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from trainer.formats import layers, multiplied

Shapes = Mapping[str, tuple[int, ...]]
_ALL = {"lora", "tucker", "loha", "lokr", "full", "bias", "oft", "boft", "ia3", "glora"}
READS = {
    "a1111": _ALL - {"bias"},
    "forge": _ALL - {"oft", "boft", "ia3"},
    "comfyui": _ALL - {"ia3"},
    "invokeai": _ALL - {"oft", "boft", "glora", "bias"},
    "diffusers": {"lora"},
}
"""The kinds of layers each program has code for. DoRA, on top of one of them, has rules of its own (`decomposes`)."""
REFUSES_WHOLE = ("a1111", "invokeai")
"""Programs in which one layer of a kind they have no code for, under a name they know, refuses the whole file."""
_CARRIERS = {"up": "lora", "down": "lora", "hada_w1_a": "loha", "lokr_w1": "lokr", "lokr_w1_a": "lokr", "diff": "full"}


def kind(shapes: Shapes) -> str:
    """lora, tucker, loha, lokr, full, bias (alone), oft, boft, ia3 or glora; "" where no adapter is known by the names. A DoRA
    has the kind of what it decomposes."""
    adapter = multiplied.kind(shapes)
    if adapter == "oft" and len(shapes["oft_blocks"]) == 4:
        return "boft"
    if adapter:
        return adapter
    if set(shapes) - {"alpha"} == {"diff_b"}:
        return "bias"
    adapter = next((kind for name, kind in _CARRIERS.items() if name in shapes), "")
    return "tucker" if adapter == "lora" and "mid" in shapes else adapter


def reads(program: str, shapes: Shapes) -> bool:
    """Whether a program has code for a layer."""
    inside = kind(shapes)
    if program == "invokeai" and "dora" in shapes:  # its DoRA asks for lora_up
        return inside == "lora"
    return inside in READS[program]


def fits(program: str, shapes: Shapes, weight: tuple[int, ...]) -> bool:
    """Whether a program can compute a change of a weight [out, in, …] from a layer's tensors."""
    adapter, size = kind(shapes), (weight[0], math.prod(weight[1:]))
    if not reads(program, shapes):
        return False
    if adapter == "bias":
        return math.prod(shapes["diff_b"]) == size[0]
    if adapter == "glora":
        old = multiplied.old_order(shapes)
        if program == "a1111" and (not old or len(weight) > 2 or "alpha" not in shapes):
            return False  # it multiplies as the older files have it, as matrices
        shapes = multiplied.in_new_order(shapes)
    if multiplied.kind(shapes):
        if adapter == "ia3" and len(weight) == 4:  # multiplied along the wrong axes by the programs that know it
            return False
        return multiplied.is_complete(shapes) and multiplied.fits(shapes, weight)
    tensors = {name: shape for name, shape in shapes.items() if name != "alpha"}
    return layers.size(tensors) == size


def decomposes(program: str, layer_shapes: Iterable[Shapes], layout: str) -> tuple[str, str]:
    """(why a program draws a DoRA wrongly or "", how it falls short where it loads or "").

    diffusers drops `dora_scale` and reads PEFT's magnitude; the others know `dora_scale` alone. By input column ([1, in])
    all of them do the same. By output row ([out, 1]) A1111 and InvokeAI divide by the columns' norm all the same, ComfyUI
    and Forge by the rows' norm of the untouched base: a little off.
    """
    if (program == "diffusers") != (layout == "diffusers"):
        return "magnitude_lost", ""
    rows = any(shapes["dora"][:1] != (1,) for shapes in layer_shapes if "dora" in shapes)
    if not rows or program == "diffusers":
        return "", ""
    return ("", "a_little_off") if program in ("comfyui", "forge") else ("magnitude_rows", "")


def turns(program: str, layer_shapes: Iterable[Shapes], constraint: float) -> tuple[str, str]:
    """The same for OFT and BOFT, which ComfyUI multiplies by the strength twice. It takes a constraint for the bound itself,
    many times too tight, and leaves out OFT's rescaling."""
    rotated = [shapes for shapes in layer_shapes if "oft_blocks" in shapes]
    if program != "comfyui" or not rotated:
        return "", ""
    if any("rescale" in shapes and kind(shapes) == "oft" for shapes in rotated):
        return "rescale_lost", ""
    return ("bound_tight", "") if constraint > 0 else ("", "not_linear")


def lycoris_refuses(layer_shapes: Iterable[Shapes]) -> str:
    """Why LyCORIS's own loader cannot read a file, as a text under `library_texts`; "" where nothing speaks against it."""
    for shapes in layer_shapes:
        blocks = shapes.get("oft_blocks", ())
        if shapes.get("dora", ())[:1] == (1,):
            return "lycoris_dora"
        if "ia3" in shapes:
            return "lycoris_ia3"
        if len(blocks) == 3 and blocks[1] > blocks[0]:
            return "lycoris_oft"
    return ""
