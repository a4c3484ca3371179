"""One side of a training case in a process of its own, so that memory and threads are its own too: `python -m bench.side`.

Reads lines (`round`, `facts`) and answers each with one line of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import torch


def main(side: str, name: str) -> None:
    """Load, then answer until the input ends."""
    from bench.cases import case as find
    from trainer.engine import device

    case = find(name)
    device.quiet()
    begun = time.perf_counter()
    if side == "ours":
        from bench.ours import Ours as Side
    else:
        from bench.reference import Reference as Side
    trainer = Side(case)
    trainer.step()
    _wait(case.device)
    first = time.perf_counter() - begun
    _say({"first": first})
    for line in sys.stdin:
        if line.strip() == "round":
            begun = time.perf_counter()
            for _ in range(case.steps):
                trainer.step()
            _wait(case.device)
            _say({"seconds": (time.perf_counter() - begun) / case.steps})
        else:
            peak = torch.cuda.max_memory_reserved() if case.device == "cuda" else _peak()
            facts = {"losses": trainer.losses(), "peak_bytes": peak}
            _say(facts | ({"flops": trainer.flops()} if side == "reference" else {}))  # pyright: ignore


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _peak() -> int:
    """The process's largest resident set in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _say(facts: dict[str, object]) -> None:
    print("bench:" + json.dumps(facts), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
