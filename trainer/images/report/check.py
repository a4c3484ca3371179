"""`python launch.py check DIR [--json]`: the image-set report on any folder of pictures, which is not changed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.texts import t
from trainer.images.captions.encodings import requested
from trainer.images.captions.rereading import sentences
from trainer.images.intake import folder_tree, notices
from trainer.images.report.report import Report, report
from trainer.images.set.image_set import KINDS, ImageSet


def main(argv: Sequence[str]) -> int:
    """Print the report; 0 when it was made, 2 when there is no such folder."""
    parser = argparse.ArgumentParser(prog="check", description=t("findings.cli.about"))
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("--json", action="store_true", help=t("findings.cli.json"))
    parser.add_argument("--resolution", type=int, default=512, help=t("findings.cli.resolution"))
    parser.add_argument("--kind", choices=KINDS, help=t("findings.cli.kind"))
    parser.add_argument("--trigger", help=t("findings.cli.trigger"))
    parser.add_argument("--further", metavar="DIR", type=Path, action="append", default=[], help=t("findings.cli.further"))
    parser.add_argument("--encoding", metavar="NAME", help=t("findings.cli.encoding"))
    parser.add_argument("--home", help=t("commands.home"))
    args = parser.parse_args(argv)
    folder = _in_home(args.folder, args.home)
    try:
        if not 64 <= args.resolution <= 2048:
            raise Problem("resolution_range", field="resolution", given=args.resolution, low=64, high=2048)
        encoding = requested(args.encoding)
        seen = ImageSet(folder, read_only=True, encoding=encoding)
        tree = folder_tree.scan(folder)
        places = [*tree.places[1:], *args.further]
        further = [ImageSet(place, read_only=True, encoding=encoding) for place in places]
        result = report(seen, args.resolution, args.kind, args.trigger, further=further)
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    readings = [sentence for set_ in (seen, *further) for sentence in sentences(set_)]
    for sentence in [*notices.sentences("notices", tree.notices), *readings]:
        print(sentence, file=sys.stderr)
    print(json.dumps(result.as_json(), ensure_ascii=False, indent=2) if args.json else as_text(result))
    return 0


def _in_home(folder: Path, home: str | None) -> Path:
    """The folder itself, or the image set of that name in the home, where there is no such folder here."""
    kept = Home.find(home).datasets / folder
    return kept if not folder.is_dir() and kept.is_dir() else folder


def as_text(report_: Report, names: int = 5) -> str:
    """The report for reading in a terminal."""
    lines = [t("findings.cli.summary", pictures=report_.pictures, score=report_.score)]
    for finding in report_.findings:
        lines += ["", f"{t(f'findings.severity.{finding.severity}')} {finding.why()}", f"  {finding.fix()}"]
        if finding.pictures:
            more = "" if len(finding.pictures) <= names else f" … ({len(finding.pictures)})"
            lines.append(f"  {', '.join(finding.pictures[:names])}{more}")
    if not report_.findings:
        lines.append(t("findings.cli.nothing"))
    return "\n".join(lines)
