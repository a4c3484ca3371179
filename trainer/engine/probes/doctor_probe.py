"""The part of the doctor that loads torch: `python -m trainer.engine.probes.doctor_probe` prints one line of JSON.

It may hang or crash with a broken driver; trainer/hardware/facts.py waits a while and says so.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import types
import warnings
from typing import Any


def probe() -> dict[str, Any]:
    """torch's build, whether a sum on the card comes out right, which attention the engine takes here and why."""
    import torch

    from trainer.config.sections.memory import Memory
    from trainer.engine.speed.device import choose_attention, choose_device, choose_dtype

    found: dict[str, Any] = {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "cuda_works": False,
        "mps": torch.backends.mps.is_available(),
        "why": "",
    }
    try:
        if torch.cuda.is_available():
            found["cuda_works"] = float(torch.ones(8, device="cuda").sum()) == 8.0
        elif torch.version.cuda:
            torch.zeros(1, device="cuda")
    except (RuntimeError, AssertionError) as error:
        found["why"] = str(error).strip().splitlines()[0][:200]
    device = choose_device("auto") if found["cuda_works"] or not torch.cuda.is_available() else torch.device("cpu")
    unet = types.SimpleNamespace(enable_xformers_memory_efficient_attention=lambda: None)
    found["attention"] = choose_attention(unet, Memory(), device, choose_dtype("auto", device))
    found["xformers"] = _xformers(device.type)
    return found


def _xformers(device: str) -> dict[str, str]:
    """`works`, `idle` (it loads, but has nothing for this device), `mismatch` (built for another torch) or `absent`."""
    try:
        version = importlib.metadata.version("xformers")
    except importlib.metadata.PackageNotFoundError:
        return {"state": "absent", "version": "", "detail": ""}
    logging.getLogger("xformers").setLevel(logging.CRITICAL)
    try:
        from xformers import _cpp_lib
    except (ImportError, OSError, RuntimeError) as error:
        return {"state": "mismatch", "version": version, "detail": f"{type(error).__name__}: {error}"[:200]}
    wrong = getattr(_cpp_lib, "_cpp_library_load_exception", None)
    if device != "cuda":
        return {"state": "idle", "version": version, "detail": version}
    if wrong is not None:
        return {"state": "mismatch", "version": version, "detail": " ".join(str(wrong).split())[:200]}
    return {"state": "works", "version": version, "detail": ""}


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print(json.dumps(probe()))
