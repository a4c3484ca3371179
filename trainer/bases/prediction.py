"""What the UNet of a base predicts, from what the base itself says; only where it says nothing, from what suggests it.

Called by facts.py. A rectified-flow model is refused here: neither ε- nor v-prediction describes it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainer.core.problem import Problem
from trainer.formats.header import Header

_SD2_BIAS = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
_VALUES = {
    **dict.fromkeys(("epsilon", "eps", "noise"), "epsilon"),
    **dict.fromkeys(("v", "v_prediction", "vpred", "v_pred", "velocity"), "v_prediction"),
}
"""How files write what is predicted; spelt with a hyphen or a blank they mean the same."""
_EMPTY_VALUES = {"", "none", "null", "unknown", "auto", "n/a"}
_FLOW = re.compile(r"flow|rectif|^rf$")
_FLOW_NAME = re.compile(r"rectified[-_ ]?flow|flow[-_ ]?match")
_FLOW_KEY = re.compile(r"(?<!work)flow|rectif")
_ZERO_YAML = re.compile(r"(zsnr|rescale_betas_zero_snr|zero_terminal_snr):\s*true")
_ZERO_NAME = re.compile(r"z(ero)?[-_ ]?t?(erminal)?[-_ ]?snr")
_STATING_KEYS = ("prediction_type", "noise_process")
"""How the metadata keys end that say what is predicted or how noise is mixed in."""


class Prediction(NamedTuple):
    """What a base predicts, and how sure that is."""

    kind: str
    """`epsilon` or `v_prediction`."""
    zero_snr: bool
    """Whether the noise schedule ends in pure noise."""
    stated: str = ""
    """`kind` where the base itself states it, empty where it was guessed."""
    doubt: str = ""
    """Two of its statements that contradict each other, empty where none do."""


def of_folder(path: Path, scheduler: dict[str, Any], index: dict[str, Any]) -> Prediction:
    """What a diffusers folder predicts, by the config of its scheduler and the scheduler model_index.json names."""
    named = index.get("scheduler")
    names = [str(scheduler.get("_class_name", "")), str(named[1]) if isinstance(named, list) and len(named) == 2 else ""]
    prediction_type = str(scheduler.get("prediction_type") or "").lower()
    if any("flow" in name.lower() for name in names) or scheduler.get("use_flow_sigmas") or _FLOW.search(prediction_type):
        raise _flow(
            path.name, next((name for name in names if "flow" in name.lower()), "") or prediction_type or "use_flow_sigmas"
        )
    if any(name.startswith("EDM") for name in names):
        raise _other(path.name, "EDM")
    stated = _value(prediction_type, path.name) if prediction_type else ""
    if not stated and _FLOW_NAME.search(path.name.lower()):
        raise _flow(path.name, path.name)
    kind, zero = stated or "epsilon", bool(scheduler.get("rescale_betas_zero_snr", False))
    doubt = "rescale_betas_zero_snr ≠ prediction_type: epsilon" if zero and kind == "epsilon" else ""
    return Prediction(kind, zero, stated, doubt)


def of_file(path: Path, header: Header, family: str) -> Prediction:
    """What a single file predicts: by its marker tensors, its metadata and the .yaml beside it; else by what suggests it, for
    SD 2.x one bias that spreads wide where v is predicted (as ComfyUI tells them apart), and its name."""
    if any(key.startswith("edm_") for key in header.tensors):
        raise _other(path.name, "EDM")
    if marker := next((key for key in header.tensors if "." not in key and _FLOW.search(key.lower())), None):
        raise _flow(path.name, marker)
    yaml, name = _yaml_beside(path), path.stem.lower()
    statements = list(_statements(path, header, yaml))
    if not statements and (_FLOW_NAME.search(name) or _FLOW_NAME.search(yaml.lower())):
        raise _flow(path.name, path.name)
    stated = statements[0][1] if statements else ""
    kind = stated or _guess(path, header, family)
    marked = "ztsnr" in header.tensors or bool(_ZERO_YAML.search(yaml.lower()))
    zero = marked or (kind == "v_prediction" and bool(_ZERO_NAME.search(name)))
    other = next((statement for statement, value in statements if value != stated), "")
    doubt = f"{statements[0][0]} ≠ {other}" if other else "ztsnr ≠ epsilon" if marked and kind == "epsilon" else ""
    return Prediction(kind, zero, stated, doubt)


def _statements(path: Path, header: Header, yaml: str) -> list[tuple[str, str]]:
    """(as it is written, what it means) of everything that says outright what is predicted, the weightiest first."""
    statements = [("v_pred", "v_prediction")] if "v_pred" in header.tensors else []
    for key, text in header.metadata.items():
        value = text.strip().lower()
        if key.rpartition(".")[2].endswith(_STATING_KEYS) and _FLOW.search(value):
            raise _flow(path.name, f"{key}: {text[:40]}")
        if _FLOW_KEY.search(key) and value in ("true", "yes", "1"):
            raise _flow(path.name, key)
        if key.rpartition(".")[2].endswith("prediction_type") and value not in _EMPTY_VALUES:
            statements.append((f"{key}: {text[:40]}", _value(value, path.name)))
    if header.metadata.get("modelspec.architecture", "").endswith("-v"):
        statements.append((f"modelspec.architecture: {header.metadata['modelspec.architecture'][:60]}", "v_prediction"))
    if re.search(r"parameterization:\s*[\"']?v\b", yaml):
        statements.append((f"{path.stem}.yaml: v", "v_prediction"))
    return statements


def _guess(path: Path, header: Header, family: str) -> str:
    if family == "sd2" and _SD2_BIAS in header.tensors:
        return "v_prediction" if _numbers(path, header, _SD2_BIAS).std() > 0.09 else "epsilon"
    return "v_prediction" if re.search(r"v[-_ ]?pred|\bv-?param", path.stem.lower()) else "epsilon"


def _value(text: str, base: str) -> str:
    prediction = _VALUES.get(re.sub(r"[- ]", "_", text))
    if prediction is None:
        raise _other(base, text[:40])
    return prediction


def _flow(base: str, statement: str) -> Problem:
    return Problem("base_flow", field="model.base", base=base, said=statement)


def _other(base: str, statement: str) -> Problem:
    return Problem("base_prediction", field="model.base", base=base, prediction=statement)


def _yaml_beside(path: Path) -> str:
    """The .yaml of the same name, which other programs read too."""
    try:
        return path.with_suffix(".yaml").read_text("utf-8", "replace")[:100_000]
    except OSError:
        return ""


def _numbers(path: Path, header: Header, key: str) -> np.ndarray:
    """One small tensor's numbers in float32, flat."""
    tensor = header.tensors[key]
    with open(path, "rb") as file:
        file.seek(header.offset + tensor.start)
        data = file.read(min(tensor.end - tensor.start, 2**16))
    if tensor.dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    kind = {"F16": "<f2", "F64": "<f8"}.get(tensor.dtype, "<f4")
    return np.frombuffer(data, kind).astype(np.float32)
