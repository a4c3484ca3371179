"""What the machine can do at best, the rate of one large matrix product by the quickest of torch's ways; and waiting for it."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def matrix_rate(device: str, dtype: str) -> float:
    """Floating point operations a second of a large product, the best of several and of the libraries there are."""
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    size = 8192 if device == "cuda" else 1536
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    ways: list[Callable[[], object]] = [lambda: a @ b]
    if device == "cpu" and torch.backends.mkldnn.is_available():
        ways.append(lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""))
    return max(2 * size**3 / _best(way, device) for way in ways)


def wait(device: str) -> None:
    """Until the device has done what it was asked."""
    if device == "cuda":
        torch.cuda.synchronize()


def _best(work: Callable[[], object], device: str) -> float:
    best = float("inf")
    for _ in range(8):
        begun = time.perf_counter()
        work()
        wait(device)
        best = min(best, time.perf_counter() - begun)
    return best
