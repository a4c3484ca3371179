"""`python launch.py test --chaos [--kills N] [--seed S]`: a campaign against the real programs, and its table.

Everything follows from the seed but the machine's own timing. Ends with 0 only where every column is 0.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.chaos import kinds
from tests.chaos.library_acts import library
from tests.chaos.scene import COLUMNS, Scene, Stage, clear
from trainer.jobs.jobs import MIN_FREE_BYTES

EPISODES = {
    "trainer, before an operation": (kinds.operation, 5, 4),
    "trainer, at an instant": (kinds.moment, 5, 4),
    "trainer, while publishing": (kinds.publishing, 3, 3),
    "supervisor": (kinds.supervisor, 4, 4),
    "web server": (kinds.web, 1, 3),
    "preview worker": (kinds.preview, 2, 4),
    "held by SIGSTOP": (kinds.held, 1, 2),
    "no room for the trainer": (kinds.disk, 2, 3),
    "no room for anybody": (kinds.full, 2, 3),
    "ledger spoilt or locked": (kinds.ledger, 3, 3),
}
"""Kind: (attack, how often among the others, kills an episode)."""
LIBRARY, ACTS = "library acts", 10


class Campaign:
    """Runs episodes until enough was killed; keeps one line a kind."""

    def __init__(self, seed: int, folder: Path, web: bool = True) -> None:
        self.seed, self.folder = seed, folder
        self.rng, self.lines, self.said = random.Random(seed), {}, []
        self.began = time.monotonic()
        self.stage = Stage(folder, web)
        self.known = kinds.straight(self.stage, folder / "straight")

    @property
    def kills(self) -> int:
        return sum(line["kills"] for line in self.lines.values())

    @property
    def broken(self) -> int:
        return sum(line[column] for line in self.lines.values() for column in COLUMNS)

    def run(self, kills: int, minutes: float | None = None, only: str | None = None) -> None:
        """Episodes in turn: every kind comes before one comes again more often than its share."""
        order: list[str] = []
        while self.kills < kills and (minutes is None or time.monotonic() - self.began < minutes * 60):
            if not order:
                order = [name for name, (_, often, _) in EPISODES.items() for _ in range(often)] + [LIBRARY] * 4
                self.rng.shuffle(order)
                order.sort(key=lambda name: name in self.lines)  # those not seen yet first
            name = order.pop(0)
            if only and only not in name:
                continue
            self.episode(name, kills - self.kills)

    def episode(self, name: str, left: int, most: int | None = None) -> None:
        """One home, attacked and judged; at most `left` kills, or `most` at once where that is given."""
        rng = random.Random(self.rng.random())
        number = sum(line["episodes"] for line in self.lines.values())
        with _place(self.folder / f"e{number}", small=name == "no room for anybody") as (folder, small):
            if name == "no room for anybody" and not small:
                return  # nothing may be mounted here: `no room for the trainer` stands for it
            scene = Scene(self.stage, folder)
            try:
                if name == LIBRARY:
                    library(scene, rng, max(1, min(most or ACTS, left)))
                else:
                    attack, _, kills = EPISODES[name]
                    attack(scene, rng, self.known, max(1, min(most or kills, left)))
            finally:
                scene.close()
            line = self.lines.setdefault(name, Counter())
            line.update({"episodes": 1, "kills": scene.kills, "faults": scene.faults, **scene.broken})
            if scene.broken:
                self.said += [f"{name} (episode {number}): {text}" for text in scene.said]
                kept = self.folder / "kept" / f"e{number}"
                shutil.copytree(folder, kept, ignore=shutil.ignore_patterns(".ballast", "zygote"), dirs_exist_ok=True)

    def result(self) -> dict[str, Any]:
        """The table as data."""
        return {
            "seed": self.seed,
            "seconds": round(time.monotonic() - self.began),
            "machine": machine(),
            "straight": round(self.known.seconds, 1),
            "kills": self.kills,
            "lines": {
                name: {key: line[key] for key in ("episodes", "kills", "faults", *COLUMNS)} for name, line in self.lines.items()
            },
            "said": self.said,
        }

    def close(self) -> None:
        """End everything that was started."""
        self.stage.close()


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    head = ("kind", "episodes", "kills", "other faults", *COLUMNS)
    total: Counter[str] = Counter()
    rows = []
    for name, line in result["lines"].items():
        total.update(line)
        rows.append((name, *line.values()))
    rows.append(("all", *(total[key] for key in ("episodes", "kills", "faults", *COLUMNS))))
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (head, ("---",) * len(head), *rows)]
    where = f"{result['machine']}; seed {result['seed']}; {result['seconds']} s, an undisturbed run {result['straight']} s"
    return "\n".join([*lines, "", where, *(f"- {text}" for text in result["said"])])


def machine() -> str:
    """The processor, its cores and the system, for the figures."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"


@contextlib.contextmanager
def _place(folder: Path, small: bool) -> Iterator[tuple[Path, bool]]:
    """A folder for one scene; with `small` on a disk of its own with little more than a start asks for, where one may be
    mounted."""
    folder.mkdir(parents=True)
    mounted = False
    if small and sys.platform == "linux":
        words = ["mount", "-t", "tmpfs", "-o", f"size={(MIN_FREE_BYTES >> 20) + 60}m", "tmpfs", str(folder)]
        mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    try:
        yield folder, mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)
        clear(folder)


def main(argv: list[str]) -> int:
    """Run a campaign and print its table."""
    words = argparse.ArgumentParser(prog="launch.py test --chaos", description=(__doc__ or "").splitlines()[0])
    words.add_argument("--kills", type=int, default=200, help="how often something is killed with SIGKILL")
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--minutes", type=float, help="end after about so long, however many it were")
    words.add_argument("--only", help="only kinds whose name holds this")
    words.add_argument("--json", type=Path, help="write the table as JSON")
    words.add_argument("--markdown", type=Path, help="write the table as Markdown")
    words.add_argument("--keep", type=Path, help="keep the homes in which something did not hold")
    given = words.parse_args(argv)
    if not hasattr(os, "fork"):
        print("The campaign forks its processes: it runs on Linux and macOS.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as place:
        campaign = Campaign(given.seed, Path(place))
        try:
            campaign.run(given.kills, given.minutes, given.only)
        finally:
            campaign.close()
            if given.keep and (Path(place) / "kept").is_dir():
                shutil.copytree(Path(place) / "kept", given.keep, dirs_exist_ok=True)
        result = campaign.result()
    print(table(result))
    if given.json:
        given.json.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n")
    if given.markdown:
        given.markdown.write_text(table(result) + "\n")
    return 0 if campaign.broken == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
