"""`bench`: measure cases, print a table or JSON. Called by `python -m trainer bench`."""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

from bench.cases import CASES, HERE, ON_GPU, Case, case
from bench.plots import plot
from trainer.core import files
from trainer.core.problem import Problem
from trainer.core.texts import t


def main(argv: list[str]) -> int:
    """Measure the cases named, or those that suit any machine."""
    words = argparse.ArgumentParser(prog="launch.py bench", description=t("commands.bench.about"))
    words.add_argument("--case", action="append", help=t("commands.bench.case", cases=", ".join(c.name for c in CASES)))
    words.add_argument("--profile", metavar="CASE", help=t("commands.bench.profile"))
    words.add_argument("--gpu", action="store_true", help=t("commands.bench.gpu"))
    words.add_argument("--json", action="store_true", help=t("commands.bench.json"))
    words.add_argument("--out", type=Path, help=t("commands.bench.out"))
    given = words.parse_args(argv)
    if given.profile:
        return _profile(case(given.profile), given.json, given.out)
    wanted = [case(name) for name in given.case or (ON_GPU if given.gpu else HERE)]
    results: list[dict[str, Any]] = []
    for each in wanted:  # each is kept as soon as it is there: a list of cases can take an hour
        results.append(_skipped(each) if given.gpu and not _there(each) else _measure(each))
        if given.out:
            _keep(results, given.out)
    if given.json:
        print(json.dumps(results[0] if len(results) == 1 else results))
    else:
        print(table(results))
    return 2 if any("skipped" in result for result in results) else 0


def _profile(wanted: Case, as_json: bool, folder: Path | None) -> int:
    """Where a step's time goes, of a case that trains; with a folder, as a table in it."""
    from bench import profile, training

    if wanted.kind != "train":
        raise Problem("bench_no_profile", case=wanted.name, cases=", ".join(c.name for c in CASES if c.kind == "train"))
    if not _there(wanted):
        raise Problem("bench_no_gpu", case=wanted.name)
    told = training.profiled(wanted)
    shown = profile.table(wanted, told)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_bytes(folder / f"{wanted.name}-profile.md", (shown + "\n").encode())
    print(json.dumps({"case": wanted.name, "machine": machine(wanted)} | told) if as_json else shown)
    return 0


def _keep(results: list[dict[str, Any]], folder: Path) -> None:
    """The newest result as JSON, with a plot where it has one; the table of all in the folder and all that was asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    if "skipped" not in results[-1]:
        files.write_json(folder / f"{results[-1]['case']}.json", results[-1])
        drawn = plot(results[-1])
        if drawn:
            files.write_bytes(folder / f"{results[-1]['case']}.svg", drawn.encode())
    known = {told["case"]: told for told in results}
    known |= {told["case"]: told for told in (json.loads(path.read_text()) for path in folder.glob("*.json"))}
    shown = [known[each.name] for each in CASES if each.name in known]
    files.write_bytes(folder / "table.md", (table(shown) + "\n").encode())


def _there(wanted: Case) -> bool:
    """Whether this machine has what the case measures."""
    import torch

    return wanted.device != "cuda" or torch.cuda.is_available()


def _skipped(wanted: Case) -> dict[str, Any]:
    """A case that was asked for and could not be measured, with no figure in it."""
    return {"case": wanted.name, "skipped": t("problems.bench_no_gpu", case=wanted.name)}


def _measure(wanted: Case) -> dict[str, Any]:
    from trainer.engine.speed import device

    device.silence_libraries()
    if not _there(wanted):
        raise Problem("bench_no_gpu", case=wanted.name)
    if wanted.kind in ("train", "rung", "startup"):
        from bench import training as kinds
    else:
        from bench import other as kinds
    return {"machine": machine(wanted)} | getattr(kinds, wanted.kind)(wanted)


def machine(wanted: Case) -> dict[str, Any]:
    """What kind of machine this is; nothing that names it."""
    import psutil
    import torch

    name = torch.cuda.get_device_name() if wanted.device == "cuda" else _processor()
    process = psutil.Process()
    usable = len(process.cpu_affinity() or ()) if hasattr(process, "cpu_affinity") else psutil.cpu_count()
    return {
        "device": name,
        "cores": psutil.cpu_count(),
        "cores_usable": usable,
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "load_at_end": round(psutil.getloadavg()[0], 1),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def table(results: list[dict[str, Any]]) -> str:
    """The figures as Markdown. `–` where a figure does not apply."""
    head = (
        "case",
        "ours",
        "reference",
        "unit",
        "ratio",
        "share of the limit",
        "peak MB",
        "process MB",
        "first step s",
        "same losses",
    )
    rows = [head, ("---",) * len(head)]
    for r in results:
        if "skipped" in r:
            rows.append((r["case"], f"**not measured**: {r['skipped']}", *[""] * (len(head) - 2)))
            continue
        rows.append(
            (
                r["case"],
                _figure(r["ours"]),
                _figure(r["reference"]),
                r["unit"],
                _or_dash(r["ratio"], "{:.2f}"),
                _or_dash(r["share_of_limit"], "{:.0%}"),
                f"{r['peak_bytes'] / 2**20:.0f}",
                _or_dash(r.get("peak_process_bytes") and r["peak_process_bytes"] / 2**20, "{:.0f}"),
                _or_dash(r.get("first_step_seconds"), "{:.1f}"),
                _or_dash(r.get("losses_equal"), "{}"),
            )
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _figure(value: float | None) -> str:
    return _or_dash(value, "{:.2f}" if value is None or value >= 0.1 else "{:.2g}")


def _or_dash(value: Any, form: str) -> str:
    shown = ("no", "yes")[value] if isinstance(value, bool) else value
    return "–" if value is None else form.format(shown)
