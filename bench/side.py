"""One side of a training case in a process of its own, so that memory and threads are its own too: `python -m bench.side`.

Reads lines (`round`, `facts`, `most`, `profile`) and answers each with one line of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping

import torch

from bench.limit import wait


def main(side: str, name: str) -> None:
    """Load, then answer until the input ends."""
    from bench.cases import case as find
    from trainer.engine.speed import device

    case = find(name)
    device.silence_libraries()
    begun = time.perf_counter()
    if side == "ours":
        from bench.ours import Ours as Side
    else:
        from bench.reference import Reference as Side
    trainer = Side(case)
    trainer.step()
    wait(case.device)
    first = time.perf_counter() - begun
    _say({"first": first})
    for line in sys.stdin:
        if line.strip() == "round":
            begun = time.perf_counter()
            for _ in range(case.steps):
                trainer.step()
            wait(case.device)
            _say({"seconds": (time.perf_counter() - begun) / case.steps})
        elif line.strip() == "most":
            trainer.draw()  # pyright: ignore
            _say(_peaks(case.device) | {"card_bytes": _card(case.device)})
        elif line.strip() == "profile":
            from bench.profile import take

            _say(take(trainer, case))
        else:
            facts = {"losses": trainer.losses(), **_peaks(case.device)}
            _say(facts | ({"flops": trainer.flops()} if side == "reference" else {}))  # pyright: ignore


def _peaks(device: str) -> dict[str, int]:
    """bench/training.py says what they are."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    process = most if sys.platform == "darwin" else most * 1024
    torchs = (torch.cuda.max_memory_reserved(), torch.cuda.max_memory_allocated()) if device == "cuda" else (process, process)
    return {"peak_bytes": torchs[0], "peak_allocated_bytes": torchs[1], "peak_process_bytes": process}


def _card(device: str) -> int:
    """Bytes of the whole card that are taken: with the CUDA context and the libraries, and with whatever else uses it."""
    if device != "cuda":
        return _peaks(device)["peak_bytes"]
    free, total = torch.cuda.mem_get_info()
    return total - free


def _say(facts: Mapping[str, object]) -> None:
    print("bench:" + json.dumps(dict(facts)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
