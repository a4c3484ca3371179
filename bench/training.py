"""A training case: two processes take turns, round by round; medians, ratio, share of the limit, equality of losses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from statistics import median
from typing import Any

from bench.cases import Case
from trainer.config.sections.lora import Lora
from trainer.core.home import PROJECT
from trainer.hardware import memory

TOLERANCE = {"fp32": 1e-3, "bf16": 3e-2}
"""How far two losses of the same step may be apart, relatively: rounding that grows over the steps."""

PEAKS = ("peak_bytes", "peak_allocated_bytes", "peak_process_bytes")
"""What torch took from the card, of that what its tensors held (both the process's own on a CPU), and the process's largest
resident set."""


class Side:
    """One of the two processes."""

    def __init__(self, which: str, case: Case) -> None:
        words = [sys.executable, "-m", "bench.side", which, case.name]
        quiet = os.environ | {"KINETO_LOG_LEVEL": "6"}  # the profiler tells when it starts
        self.child = subprocess.Popen(words, cwd=PROJECT, env=quiet, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first = self._answer()["first"]

    def ask(self, what: str) -> dict[str, Any]:
        assert self.child.stdin
        self.child.stdin.write(what + "\n")
        self.child.stdin.flush()
        return self._answer()

    def end(self) -> None:
        assert self.child.stdin and self.child.stdout
        self.child.stdin.close()
        self.child.wait()
        self.child.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self.child.stdout
        for line in self.child.stdout:
            if line.startswith("bench:"):
                return json.loads(line.removeprefix("bench:"))
        raise RuntimeError(f"the measuring process ended with status {self.child.wait()}")


def train(case: Case) -> dict[str, Any]:
    """The figures of a case that takes turns with the reference."""
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
    first = {"ours": ours.first, "reference": reference.first}
    return figures(case, times, told, first, matrix_rate(case.device, case.dtype))


def figures(
    case: Case, times: dict[str, list[float]], told: dict[str, dict[str, Any]], first: dict[str, float], rate: float
) -> dict[str, Any]:
    """What is told of seconds a step by round (`times`), losses, operations and peaks of both sides (`told`), and seconds to
    the first step (`first`), on a machine of `rate` operations a second.

    `ratio`: ours to the reference in steps a second, the median of the rounds. `share_of_limit`: the seconds a step's
    operations take at `rate`, of those the step took. `losses_apart`: the largest difference of two losses of one step.
    """
    each = {name: median(values) for name, values in times.items()}
    ratios = [r / o for o, r in zip(times["ours"], times["reference"], strict=True)]
    flops = told["reference"]["flops"]
    pairs = list(zip(told["ours"]["losses"], told["reference"]["losses"], strict=True))
    apart = max(abs(a - b) / abs(b) for a, b in pairs)
    peaks = {f"{name}{'_reference' if side == 'reference' else ''}": told[side][name] for side in told for name in PEAKS}
    return {
        "case": case.name,
        "ours": 1 / each["ours"],
        "reference": 1 / each["reference"],
        "unit": "steps/s",
        "ratio": median(ratios),
        "ratio_by_round": [round(ratio, 3) for ratio in ratios],
        "pictures_per_second": case.batch / each["ours"],
        "flops_per_step": flops,
        "matrix_rate": rate,
        "share_of_limit": flops / rate / each["ours"],
        "share_of_limit_reference": flops / rate / each["reference"],
        **peaks,
        "first_step_seconds": first["ours"],
        "first_step_seconds_reference": first["reference"],
        "losses_equal": apart <= TOLERANCE[case.dtype],
        "losses_apart": apart,
        "tolerance": TOLERANCE[case.dtype],
        "steps_compared": len(pairs),
        "dtype": case.dtype,
        "batch": case.batch,
        "resolution": case.resolution,
    }


def profiled(case: Case) -> dict[str, dict[str, Any]]:
    """What `bench.profile.take` tells of both sides, each alone on the machine."""
    told = {}
    for name in ("ours", "reference"):
        side = Side(name, case)
        told[name] = side.ask("profile")
        side.end()
    return told


def rung(case: Case) -> dict[str, Any]:
    """Ours alone on one rung of the memory ladder: speed, and real peaks beside what was computed for it. `ratio`: the bytes
    computed to those taken from the card; 1 and a little more is right."""
    ours = Side("ours", case)
    seconds = [ours.ask("round")["seconds"] for _ in range(2)][-1]
    told = ours.ask("most")
    ours.end()
    return beside_computed(case, seconds, ours.first, told)


def beside_computed(case: Case, seconds: float, first: float, told: dict[str, int]) -> dict[str, Any]:
    """What is told of a rung: seconds a step and to the first one, and the peaks `told` beside what the ladder computes."""
    lora = Lora(train_text_encoder=case.text_encoder)
    stands = memory.MemoryPlan(case.batch, 1, case.checkpointing, case.precision, case.offload, case.text_encoder)
    computed = memory.needed(case.base, case.resolution, stands, memory.trainable_parameters(case.base, lora))
    return {
        "case": case.name,
        "ours": 1 / seconds,
        "reference": None,
        "unit": "steps/s",
        "ratio": computed / told["card_bytes"],
        "share_of_limit": None,
        "first_step_seconds": first,
        "computed_bytes": computed,
        **told,
        "rung": {
            "precision": case.precision,
            "offload": case.offload,
            "checkpointing": case.checkpointing,
            "text_encoder": case.text_encoder,
        },
        "batch": case.batch,
        "resolution": case.resolution,
    }


def startup(case: Case) -> dict[str, Any]:
    """Seconds from starting Python to the end of the first step, loading and all, in turns with the reference."""
    times: dict[str, list[float]] = {"ours": [], "reference": []}
    told: dict[str, Any] = {}
    for _ in range(case.rounds):
        for name, seen in times.items():
            begun = time.perf_counter()
            side = Side(name, case)
            seen.append(time.perf_counter() - begun)
            if name == "ours":
                told = side.ask("most")
            side.end()
    each = {name: median(values) for name, values in times.items()}
    return {
        "case": case.name,
        "ours": 1 / each["ours"],
        "reference": 1 / each["reference"],
        "unit": "starts/s",
        "ratio": each["reference"] / each["ours"],
        "share_of_limit": None,
        "first_step_seconds": each["ours"],
        **told,
    }
