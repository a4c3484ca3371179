"""`queue [RUN first|up|down|out]`: the runs that wait, and their order. Called by `python -m trainer`."""

from __future__ import annotations

import argparse

from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.texts import t
from trainer.jobs.jobs import Jobs
from trainer.jobs.ledger.run_store import RunRow


def main(argv: list[str]) -> int:
    """Move a run if asked to, then print what trains and what waits, in order."""
    words = argparse.ArgumentParser(prog="launch.py queue", description=t("commands.queue.about"))
    words.add_argument("run", nargs="?", help=t("commands.queue.run"))
    words.add_argument("where", nargs="?", choices=("first", "up", "down", "out"), help=t("commands.queue.where"))
    words.add_argument("--home", help=t("commands.home"))
    given = words.parse_args(argv)
    if given.run is not None and given.where is None:
        words.error(t("commands.queue.where"))
    jobs = Jobs(Home.find(given.home))
    try:
        if given.run is not None:
            found = _find(jobs.store.queue(), given.run)
            if given.where == "out":
                jobs.stop(found.id)
            else:
                jobs.reorder(found.id, given.where)
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
