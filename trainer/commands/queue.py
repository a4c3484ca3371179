"""`queue [RUN first|up|down|out]`: the runs that wait, and their order. Called by `python -m trainer`."""

from __future__ import annotations

import argparse

from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.texts import t
from trainer.jobs.jobs import Jobs
from trainer.jobs.ledger.run_row import RunRow


def main(argv: list[str]) -> int:
    """Move a run if asked to, then print what trains and what waits, in order."""
    parser = argparse.ArgumentParser(prog="launch.py queue", description=t("commands.queue.about"))
    parser.add_argument("run", nargs="?", help=t("commands.queue.run"))
    parser.add_argument("where", nargs="?", choices=("first", "up", "down", "out"), help=t("commands.queue.where"))
    parser.add_argument("--home", help=t("commands.home"))
    args = parser.parse_args(argv)
    if args.run is not None and args.where is None:
        parser.error(t("commands.queue.where"))
    jobs = Jobs(Home.find(args.home))
    try:
        if args.run is not None:
            chosen = _find(jobs.store.queue(), args.run)
            if args.where == "out":
                jobs.stop(chosen.id)
            else:
                jobs.reorder(chosen.id, args.where)
        rows = jobs.store.active() + jobs.store.queue()
        for row in rows:
            print(t("commands.queue.line", place=row.position or t("commands.queue.now"), name=row.name, id=row.id))
        if not rows:
            print(t("commands.queue.empty"))
    finally:
        jobs.close()
    return 0


def _find(waiting: list[RunRow], word: str) -> RunRow:
    """The waiting run a person means; a name or a place that fits several is asked about."""
    fit = [row for row in waiting if row.id == word] or [row for row in waiting if word == str(row.position)]
    fit = fit or [row for row in waiting if row.name == word]
    if len(fit) != 1:
        raise Problem("queue_several" if fit else "queue_unknown", field="run", name=word)
    return fit[0]
