"""A training case: two processes take turns, round by round; medians, ratio, share of the limit, equality of losses."""

from __future__ import annotations

import json
import subprocess
import sys
from statistics import median
from typing import Any

from bench.cases import Case
from trainer.home import PROJECT

TOLERANCE = {"fp32": 1e-3, "bf16": 3e-2}
"""How far two losses of the same step may be apart, relatively: rounding that grows over the steps."""


class Side:
    """One of the two processes."""

    def __init__(self, which: str, case: Case) -> None:
        words = [sys.executable, "-m", "bench.side", which, case.name]
        self.child = subprocess.Popen(words, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first = self._answer()["first"]

    def ask(self, what: str) -> dict[str, Any]:
        assert self.child.stdin
        self.child.stdin.write(what + "\n")
        self.child.stdin.flush()
        return self._answer()

    def end(self) -> None:
        assert self.child.stdin
        self.child.stdin.close()
        self.child.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.child.stdout
        for line in self.child.stdout:
            if line.startswith("bench:"):
                return json.loads(line.removeprefix("bench:"))
        raise RuntimeError(f"the measuring process ended with status {self.child.wait()}")


def measure(case: Case) -> dict[str, Any]:
    """The figures of one case. `ratio`: ours to the reference in steps a second, the median of the rounds."""
    from bench.limit import matrix_rate

    ours, reference = Side("ours", case), Side("reference", case)
    times: dict[str, list[float]] = {"ours": [], "reference": []}
    for number in range(case.rounds):
        turn = (("ours", ours), ("reference", reference))
        for name, side in turn if number % 2 == 0 else reversed(turn):
            times[name].append(side.ask("round")["seconds"])
    told = {"ours": ours.ask("facts"), "reference": reference.ask("facts")}
    ours.end()
    reference.end()
    rate = matrix_rate(case.device, case.dtype)
    each = {name: median(values) for name, values in times.items()}
    ratios = [r / o for o, r in zip(times["ours"], times["reference"], strict=True)]
    flops = told["reference"]["flops"]
    pairs = list(zip(told["ours"]["losses"], told["reference"]["losses"], strict=True))
    apart = max(abs(a - b) / abs(b) for a, b in pairs)
    return {
        "case": case.name, "ours": 1 / each["ours"], "reference": 1 / each["reference"],
        "unit": "steps/s", "ratio": median(ratios), "ratio_by_round": [round(ratio, 3) for ratio in ratios],
        "pictures_per_second": case.batch / each["ours"], "flops_per_step": flops, "matrix_rate": rate,
        "share_of_limit": flops / rate / each["ours"], "share_of_limit_reference": flops / rate / each["reference"],
        "peak_bytes": told["ours"]["peak_bytes"], "peak_bytes_reference": told["reference"]["peak_bytes"],
        "first_step_seconds": ours.first, "first_step_seconds_reference": reference.first,
        "losses_equal": apart <= TOLERANCE[case.dtype], "losses_apart": apart, "tolerance": TOLERANCE[case.dtype],
        "steps_compared": len(pairs), "dtype": case.dtype, "batch": case.batch, "resolution": case.resolution,
    }
