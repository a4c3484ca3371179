"""Where the time of a training step goes, by kind of work, on both sides: `launch.py bench --profile CASE`."""

from __future__ import annotations

import re
import time
from typing import Any

from torch.profiler import ProfilerActivity, profile

from bench.cases import Case
from bench.limit import wait

KINDS = (
    ("optimiser", r"adam|_foreach|multi_tensor|Optimizer"),
    ("convolutions", r"conv|cudnn|implicit_gemm"),
    ("attention", r"scaled_dot|flash|fmha|attention|softmax"),
    ("matrix products", r"mm\b|mm_|matmul|linear|gemm|cutlass|xmma|nvjet|einsum|bmm"),
    ("norms", r"norm"),
    ("copies", r"copy|memcpy|memset|contiguous|clone|_to_|to_copy|cat\b|fill_|zero_"),
    ("autograd", r"^autograd::|Backward\d*$|AccumulateGrad"),
)
"""Kinds of work and the names torch's profiler gives it, on a processor and on a card; the first that fits counts."""

OTHER, REST = "other arithmetic", "nothing of torch's"
"""What fits no kind; and what of a step no operation accounts for: Python, and on a card waiting for it."""


def kind_of(name: str) -> str:
    """The kind an operation or a kernel belongs to."""
    for kind, names in KINDS:
        if re.search(names, name, re.IGNORECASE):
            return kind
    return OTHER


def take(trainer: Any, case: Case) -> dict[str, Any]:
    """Milliseconds a step of each kind and how many operations it is, over `case.steps` steps after one untimed. On a card its
    kernels' time counts, and `REST` is the time it does nothing; steps replayed as one graph are told by kernel, too."""
    on_card = case.device == "cuda"
    watched = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_card else [])]
    trainer.step()
    wait(case.device)
    begun = time.perf_counter()
    with profile(activities=watched) as seen:
        for _ in range(case.steps):
            trainer.step()
        wait(case.device)
        whole = time.perf_counter() - begun
    spent = {kind: [0.0, 0.0] for kind, _ in KINDS} | {OTHER: [0.0, 0.0]}
    for event in seen.key_averages():
        microseconds = event.self_device_time_total if on_card else event.self_cpu_time_total
        if on_card and event.device_type.name == "CPU":
            continue  # its kernels are events of their own
        row = spent[kind_of(event.key)]
        row[0] += microseconds / 1e3 / case.steps
        row[1] += event.count / case.steps
    step = 1e3 * whole / case.steps
    rest = max(0.0, step - sum(row[0] for row in spent.values()))
    return {"step_ms": step, "kinds": spent | {REST: [rest, 0.0]}}


def table(case: Case, told: dict[str, dict[str, Any]]) -> str:
    """Both sides as Markdown: milliseconds a step, and operations a step."""
    rows = [f"| `{case.name}` | ours ms | operations | reference ms | operations |", "|---|---|---|---|---|"]
    ours, reference = told["ours"], told["reference"]
    for kind, (spent, count) in ours["kinds"].items():
        other, others = reference["kinds"][kind]
        rows.append(f"| {kind} | {spent:.1f} | {count:.0f} | {other:.1f} | {others:.0f} |")
    rows.append(f"| **a step, watched** | {ours['step_ms']:.1f} | | {reference['step_ms']:.1f} | |")
    return "\n".join(rows)
