"""`score RUN_OR_PICTURES --set SET`: how like the set pictures are, how well they fit their prompts, which are copies."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from trainer import scoring
from trainer.bases import catalog
from trainer.config.load import build
from trainer.config.train import TrainConfig
from trainer.core import events, files
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.run_dir import RunDir
from trainer.core.texts import t
from trainer.images.intake.names import NAMED, natural
from trainer.images.set import subsets
from trainer.images.set.image_set import ImageSet
from trainer.images.set.picture import Picture
from trainer.jobs.recovery import last_end


def main(argv: list[str]) -> int:
    """Print a line a picture and one for all; of a run that has ended, the scores are kept for its page too."""
    parser = argparse.ArgumentParser(prog="launch.py score", description=t("commands.score.about"))
    parser.add_argument("what", nargs="+", metavar="RUN_OR_PICTURES", help=t("commands.score.what"))
    parser.add_argument("--set", dest="set", metavar="SET", help=t("commands.score.set"))
    parser.add_argument("--with", dest="clip", metavar="CLIP", default=scoring.AUTO, help=t("commands.score.given"))
    parser.add_argument("--trigger", help=t("commands.score.trigger"))
    parser.add_argument("--prompt", help=t("commands.score.prompt"))
    parser.add_argument("--json", action="store_true", help=t("commands.score.json"))
    parser.add_argument("--home", help=t("commands.home"))
    args = parser.parse_args(argv)
    home = Home.find(args.home)
    run = _run(home, args.what[0]) if len(args.what) == 1 else None
    config = build(files.read_json(run.config, {})) if run else None
    references, trigger = _references(home, args.set, config)
    if args.trigger is not None:
        trigger = args.trigger
    folder = _clip(home, args.clip, config.model.base if config else "mini")

    from trainer.scoring.measure import SampleImage, SimilarityScorer

    measure = SimilarityScorer(folder, references, trigger, home.cache, _progress, device="auto",
                      weights=bool(config and config.captions.weighted))  # fmt: skip
    if run:
        images = [(f"{step}/p{index}", SampleImage.read(file, args.prompt), step) for step, index, file in _samples(run)]
    else:
        images = [(file.name, SampleImage.read(file, args.prompt), 0) for file in _files(args.what)]
    if not images:
        raise Problem("score_nothing", given=args.what[0])
    steps = dict.fromkeys(step for _, _, step in images)
    scores = {step: measure.score([drawn for _, drawn, at in images if at == step], step) for step in steps}
    names = {step: [name for name, _, at in images if at == step] for step in steps}
    if run and last_end(run) is not None:
        log = events.EventLog(run.events)
        for scored in scores.values():
            log.write(scored)
    if args.json:
        print(json.dumps([_plain(scored, names[step]) for step, scored in scores.items()], indent=2))
        return 0
    for step, scored in scores.items():
        for name, image in zip(names[step], scored.pictures, strict=True):
            print(t("commands.score.line", name=name, strength=_number(image.strength), likeness=f"{image.likeness:.3f}",
                    prompt=_number(image.prompt), nearest=image.nearest, closeness=f"{image.closeness:.3f}")
                  + (t("commands.score.copied") if image.copied else ""))  # fmt: skip
        print(t("commands.score.all", likeness=f"{scored.likeness:.3f}", prompt=_number(scored.prompt),
                among=_number(scored.among), model=scored.model))  # fmt: skip
    print(t("commands.score.cannot"), file=sys.stderr)
    return 0


def _run(home: Home, name: str) -> RunDir | None:
    """A run by its id or its folder; None where it is none."""
    for folder in (home.runs / name, files.expanded(name)):
        if name and (folder / "config.json").is_file() and (folder / "events.jsonl").is_file():
            return RunDir(folder.resolve())
    return None


def _references(home: Home, name: str | None, config: TrainConfig | None) -> tuple[list[Picture], str]:
    """The pictures to compare with, and the trigger: of the set named, else of the run's own folders."""
    if name:
        folder = home.datasets / name if (home.datasets / name).is_dir() else files.expanded(name)
        image_set = ImageSet(folder, read_only=True)
        return image_set.pictures(), config.captions.trigger if config else image_set.meta.trigger
    if config is None:
        raise Problem("score_no_set", field="set")
    return subsets.pictures(config.images), config.captions.trigger


def _clip(home: Home, name: str, base: str) -> Path:
    """The folder of the CLIP, fetched if need be."""
    folder = scoring.find(home, name, catalog.find(home, base))
    if folder is None and name in (scoring.AUTO, scoring.OFF):
        raise Problem("clip_none", folder=f"models/{scoring.CLIPS.name}")
    return folder or scoring.CLIPS.fetch(home, scoring.KNOWN.get(name, name), _progress)


def _samples(run: RunDir) -> list[tuple[int, int, Path]]:
    """(step, index, file) of a run's test pictures, in order."""
    samples = []
    for file in run.samples.glob("*_p*.png"):
        step, _, index = file.stem.partition("_p")
        if step.isdecimal() and index.isdecimal():
            samples.append((int(step), int(index), file))
    return sorted(samples)


def _files(names: list[str]) -> list[Path]:
    """Pictures named, and those in folders named."""
    paths: list[Path] = []
    for word in names:
        path = files.expanded(word)
        if path.is_dir():
            inside = [file for file in path.iterdir() if file.suffix.lower() in NAMED and not file.name.startswith(".")]
            paths += sorted(inside, key=lambda file: natural(file.name))
        elif path.is_file():
            paths.append(path)
        else:
            raise Problem("score_nothing", given=word)
    return paths


def _plain(scored: events.Scored, names: list[str]) -> dict[str, Any]:
    data = scored.model_dump(mode="json", exclude={"time", "kind"})
    for name, picture in zip(names, data["pictures"], strict=True):
        picture["name"] = name
    return data


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} / {of}", end="", file=sys.stderr, flush=True)
