"""`train`: a training without a browser, in the same ledger as those of the page. Called by `python -m trainer`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from trainer.bases import catalog
from trainer.config import load
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.texts import t
from trainer.images.intake import folder_tree, notices
from trainer.images.set import subsets


def parser() -> argparse.ArgumentParser:
    """The arguments of `train`."""
    parser = argparse.ArgumentParser(prog="launch.py train", description=t("commands.train.about"))
    parser.add_argument("--images", metavar="DIR", help=t("commands.train.images"))
    parser.add_argument("--name", help=t("commands.train.name"))
    parser.add_argument("--preset", default=None, help=t("commands.train.preset"))
    parser.add_argument("--base", help=t("commands.train.base"))
    parser.add_argument("--trigger", help=t("commands.train.trigger"))
    parser.add_argument("--encoding", metavar="NAME", help=t("commands.train.encoding"))
    parser.add_argument("--run", metavar="RUN.toml", help=t("commands.train.run"))
    parser.add_argument("--sweep", action="append", default=[], metavar="section.name=A,B", help=t("commands.train.sweep"))
    parser.add_argument("--rights", action="store_true", help=t("commands.train.rights"))
    parser.add_argument("--home", help=t("commands.home"))
    parser.add_argument("overrides", nargs="*", metavar="section.name=value", help=t("commands.train.overrides"))
    return parser


def main(argv: list[str]) -> int:
    """Train in the foreground, with `--sweep` once for each value; Ctrl-C stops and keeps. What cannot be begun is refused
    before anything is. Returns the exit status of the first training that did not finish, else 0."""
    from trainer.jobs import foreground

    args = parser().parse_intermixed_args(argv)
    home = Home.find(args.home).create()
    for name in ("images", "base", "preset", "run"):
        if getattr(args, name) == "":
            raise Problem("option_empty", field=name)
    file = load.read_toml(Path(args.run)) if args.run else {}
    requested: load.Tree = {}
    for name, value in (
        ("images.folder", str(Path(args.images).resolve()) if args.images else None),
        ("save.name", args.name),
        ("model.base", args.base),
        ("captions.trigger", args.trigger),
        ("images.encoding", args.encoding),
        ("rights.pictures_ok", args.rights or None),
    ):
        if value is not None:
            load.put(requested, name, value)
    named = [load.get(tree, "model.base") for tree in (requested, file)]
    base = catalog.find(home, str(next((name for name in named if name is not None), "mini")))
    kind = args.preset or load.get(file, "run.kind") or "style"
    stated = from_set(Path(args.images)) if args.images else {}
    if args.images:
        stated = load.merge(stated, from_tree(Path(args.images), slider=kind == "slider"))
    if kind == "slider" and args.images:  # its pictures in place of drawn ones; its words are the slider's own
        stated["captions"] = {}
        load.put(stated, "slider.generated_images", 0)
    tree = load.merge(load.preset(kind, base), load.merge(stated, file))
    plain = load.build(tree, requested, overrides=args.overrides)
    if not plain.save.name:
        raise Problem("name_missing", field="save.name")
    configs = [
        load.build(tree, requested, overrides=[*args.overrides, *settings, f"save.name={plain.save.name}{ending}"])
        for ending, settings in trials(args.sweep)
    ]
    for place in [plain.images.folder, *subsets.folders(plain.images)]:
        _print_encodings(str(place), plain.images.encoding)
    for number, config in enumerate(configs, 1):
        if len(configs) > 1:
            print(t("commands.train.trial", number=number, of=len(configs), name=config.save.name), flush=True)
        status = foreground.run(config, home, foreground.ProgressPrinter())
        if status:
            return status
    return 0


def trials(sweeps: Sequence[str]) -> list[tuple[str, list[str]]]:
    """What is added to the name, and the settings, of each training of a sweep like `optimizer.lr=1e-4,3e-4`: every value of
    one with every value of the others. Without a sweep there is one training, as it is."""
    choices = []
    for word in sweeps:
        name, sign, text = word.partition("=")
        values = [value.strip() for value in text.split(",") if value.strip()]
        if not sign or len(values) < 2:
            raise Problem("sweep_form", field=name, word=word)
        choices.append([(f"{name.rpartition('.')[2]} {value}", f"{name}={value}") for value in values])
    return [("".join(f" {ending}" for ending, _ in trial), [word for _, word in trial]) for trial in product(*choices)]


def from_set(folder: Path) -> load.Tree:
    """What the image set itself says: its trigger, and whose the pictures are."""
    from trainer.images.set.image_set import ImageSet

    if not folder.is_dir():
        raise Problem("folder_missing", field="images.folder", folder=str(folder))
    meta = ImageSet(folder).meta
    tree: load.Tree = {}
    if meta.trigger:
        load.put(tree, "captions.trigger", meta.trigger)
    if meta.licence:
        load.put(tree, "rights.pictures_licence", meta.licence)
    return tree


def _print_encodings(folder: str, encoding: str) -> None:
    """Say what captions are read as where their bytes leave it open."""
    from trainer.images.captions.encodings import requested
    from trainer.images.captions.rereading import sentences
    from trainer.images.set.image_set import ImageSet

    if folder and Path(folder).is_dir():
        for sentence in sentences(ImageSet(folder, read_only=True, encoding=requested(encoding))):
            print(sentence, file=sys.stderr)


def from_tree(folder: Path, slider: bool = False) -> load.Tree:
    """The folders below a folder of pictures as other trainers lay them: those to learn from, and class pictures. What is
    recognised and what is left is printed."""
    tree_ = folder_tree.scan(folder)
    tree: load.Tree = {}
    if tree_.subsets:
        load.put(tree, "images.subsets", tree_.subsets)
    lines = tree_.notices
    if len(tree_.class_folders) == 1 and not slider:
        load.put(tree, "preservation.regularization_folder", str(tree_.class_folders[0]))
        if tree_.class_word:
            load.put(tree, "preservation.caption", tree_.class_word)
        lines = [
            notices.IntakeNotice(line.name, "class_used", line.params) if line.code == "class_pictures" else line
            for line in lines
        ]
    for sentence in notices.sentences("notices", lines):
        print(sentence, file=sys.stderr)
    return tree
