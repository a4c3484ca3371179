"""`resume [RUN]`: go on with a training that stopped, failed or was broken off. Called by `python -m trainer`."""

from __future__ import annotations

import argparse
import sys

from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.texts import t
from trainer.jobs import foreground
from trainer.jobs.jobs import Jobs
from trainer.jobs.ledger.run_row import RunRow
from trainer.jobs.ledger.states import RESUMABLE


def main(argv: list[str]) -> int:
    """Go on in the foreground, as `train` does; without a name, list what can go on. Ctrl-C stops and keeps."""
    parser = argparse.ArgumentParser(prog="launch.py resume", description=t("commands.resume.about"))
    parser.add_argument("run", nargs="?", help=t("commands.resume.run"))
    parser.add_argument("--set-as-it-is", action="store_true", help=t("commands.resume.set_as_it_is"))
    parser.add_argument("--home", help=t("commands.home"))
    args = parser.parse_args(argv)
    home = Home.find(args.home)
    jobs = Jobs(home)
    try:
        waiting = [row for row in jobs.rows() if row.state in RESUMABLE]
        if args.run is None:
            _list(waiting)
            return 0
        chosen = _find(waiting, args.run)
    finally:
        jobs.close()
    try:
        return foreground.resume(chosen.id, home, foreground.ProgressPrinter(), set_as_it_is=args.set_as_it_is)
    except Problem as problem:
        if problem.code != "resume_set_changed":
            raise
        print(f"{problem}\n{t('commands.resume.hint')}", file=sys.stderr)
        return 2


def _list(rows: list[RunRow]) -> None:
    print(t("commands.resume.list") if rows else t("commands.resume.empty"))
    for row in rows:
        state = t(f"states.{row.state}")
        print(t("commands.resume.line", name=row.name, state=state, step=row.step, total=row.total, id=row.id))


def _find(rows: list[RunRow], word: str) -> RunRow:
    """The run a person means, by id or by name; a name of several is asked about."""
    fit = [row for row in rows if row.id == word] or [row for row in rows if row.name == word]
    if len(fit) != 1:
        raise Problem("resume_several" if fit else "resume_unknown", field="run", name=word)
    return fit[0]
