"""What stands behind the Train page: the draft of a set as a config tree, what is missing, and the start itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.forms.seen import Seen, differing, flat, merge
from app.ui.services import Services, Ui
from trainer.bases import catalog
from trainer.config import load, plan
from trainer.config.drafts import difference_from, with_defaults
from trainer.config.lines import read_subset
from trainer.config.load import ConfigProblems, Tree
from trainer.config.plan import draws, is_slider
from trainer.config.ready import lacks
from trainer.core.problem import Problem
from trainer.images.captions import captions, encodings, rereading
from trainer.images.set import subsets

if TYPE_CHECKING:
    from trainer.bases.catalog import BaseFacts
    from trainer.config.train import TrainConfig
    from trainer.images.report.report import Report
    from trainer.images.set.image_set import ImageSet


def base_of(services: Services, tree: Tree) -> BaseFacts | None:
    """The base a tree names, or None where it is not here."""
    try:
        return catalog.find(services.home, load.get(tree, "model.base") or "mini")
    except Problem:
        return None


def below(services: Services, tree: Tree) -> Tree:
    """The preset for the kind and the base of `tree`: what stands in the form before a person changes anything."""
    return load.preset(load.get(tree, "run.kind") or "style", base_of(services, tree))


def opened(services: Services, image_set: ImageSet | None) -> Tree:
    """The whole tree the form shows for a set: preset, what the set says, and the draft a person left."""
    name = image_set.folder.name if image_set else None
    draft = services.drafts.load(name)
    said: Tree = {}
    if image_set:
        meta = image_set.meta
        load.put(said, "run.kind", meta.kind)
        for option, value in (("captions.trigger", meta.trigger), ("rights.pictures_licence", meta.licence)):
            if value:
                load.put(said, option, value)
    asked = load.merge(said, draft)
    return load.merge(below(services, asked), asked)


def changed(services: Services, before: Tree, now: Tree) -> Tree:
    """The form after another kind, base, optimiser or schedule was chosen: the new preset, under a person's own."""
    mine = difference_from(with_defaults(now), with_defaults(below(services, before)))
    for section in load.UNIONS:
        name = load.get(now, f"{section}.name")
        if name != load.get(with_defaults(before), f"{section}.name"):
            mine[section] = {"name": name}
        elif mine.get(section):
            mine[section]["name"] = name
    return load.merge(below(services, mine), mine)


def complete(services: Services, values: Tree) -> Tree:
    """The whole tree of what differs from the preset."""
    return load.merge(below(services, values), values)


def own_values(services: Services, tree: Tree) -> Tree:
    """What differs from the preset in a whole tree: what a draft keeps."""
    return difference_from(with_defaults(tree), with_defaults(below(services, tree)))


def seen_now(services: Services, image_set: ImageSet | None, tree: Tree, tab: str) -> Seen:
    """What a tab that is filled with `tree` has seen."""
    version, _ = services.drafts.version(image_set.folder.name if image_set else None)
    return Seen(tab, version, own_values(services, tree))


def keep(
    services: Services, image_set: ImageSet | None, tree: Tree, seen: Seen | None = None, *, whole: bool = False
) -> tuple[Tree, Seen, list[str]]:
    """Write the draft: what differs from the preset; and tell the set what it now is.

    Where another tab has written since this one saw the draft, only what this tab changed is added to that. With `whole` the
    tree is one a person chose as a whole. Returns the tree as it is now, what the tab has seen with it, and the options it
    takes over from the other tab.
    """
    drafts, name, seen = services.drafts, image_set.folder.name if image_set else None, seen or Seen()
    with drafts.lock:
        mine, taken = own_values(services, tree), []
        version, writer = drafts.version(name)
        if seen.tab and not whole and version and version != seen.version:
            mine, taken = merge(seen.tree, mine, drafts.load(name), last_was_mine=writer == seen.tab)
            tree = complete(services, mine) if taken else tree
        version = drafts.save(name, mine, seen.tab)
    if image_set and not is_slider(tree) and not services.is_example(image_set):
        meta = image_set.meta
        kind, trigger = load.get(tree, "run.kind") or meta.kind, load.get(tree, "captions.trigger") or ""
        if (kind, trigger) != (meta.kind, meta.trigger):
            image_set.update(kind=kind, trigger=trigger)
    return tree, Seen(seen.tab, version, mine), taken


def newer(services: Services, image_set: ImageSet | None, seen: Seen) -> tuple[Tree, Seen, list[str]] | None:
    """The tree, what is seen with it and the options that changed, where another tab has written since; else None."""
    version, writer = services.drafts.version(image_set.folder.name if image_set else None)
    if not seen.tab or not version or version == seen.version or writer == seen.tab:
        return None
    tree = opened(services, image_set)
    now = seen_now(services, image_set, tree, seen.tab)
    return tree, now, differing(flat(seen.tree), flat(now.tree))


def config_of(services: Services, image_set: ImageSet | None, tree: Tree) -> TrainConfig:
    """The valid config of a tree for a set, or ConfigProblems."""
    folder: Tree = {"images": {"folder": str(image_set.folder)}} if image_set and not draws(tree) else {}
    if is_slider(tree):  # a set's trigger stays with the set
        load.put(folder, "captions.trigger", "")
    return load.build(below(services, tree), tree, folder)


def problems(services: Services, image_set: ImageSet | None, tree: Tree) -> list[Problem]:
    """What is wrong with the values themselves, a field each; nothing about what is merely not filled in yet."""
    try:
        config = config_of(services, image_set, tree)
    except ConfigProblems as error:
        return error.problems
    return services.jobs.problems(config)


def missing(image_set: ImageSet | None, tree: Tree) -> list[Problem]:
    """What a start still needs, field by field."""
    return lacks(tree, len(image_set.pictures()) if image_set else 0)


def start(services: Services, image_set: ImageSet | None, tree: Tree, key: str, seen: Seen | None = None) -> str:
    """Hand the training over to the ledger; the same key twice is one run. Returns the run's id."""
    config = config_of(services, image_set, tree)
    keep(services, image_set, tree, seen)
    return services.jobs.submit(config, key)


def length(config: TrainConfig) -> tuple[int, float]:
    """The optimizer steps of a training, as the engine will count them, and its epochs."""
    pictures = [] if draws(config) else subsets.pictures(config.images)
    images = plan.epoch_images(config, [picture.repeats for picture in pictures])
    return plan.total_steps(config, images), plan.epochs(config, images)


def side(services: Services, tree: Tree) -> int:
    """The size a tree trains at: its own, else the base's."""
    said = load.get(tree, "images.resolution")
    base = base_of(services, tree)
    return said if isinstance(said, int) and said >= 64 else base.resolution if base else 512


def formats(tree: Tree) -> tuple[float, bool]:
    """The widest shape of the formats a tree trains in, and whether they are all of them, as buckets.buckets takes both."""
    ratio, dense = load.get(tree, "images.bucket_ratio"), load.get(tree, "images.bucket_dense")
    fits = isinstance(ratio, int | float) and 1 <= ratio <= 8
    return float(ratio) if fits else 2.0, bool(dense)


def report(services: Services, image_set: ImageSet) -> Report:
    """What in a set will hurt a training with the settings of its draft."""
    from trainer.images.report.report import report as look
    from trainer.images.set.image_set import ImageSet

    tree = opened(services, image_set)
    encoding = encodings.requested(str(load.get(tree, "images.encoding") or ""))
    image_set = ImageSet(image_set.folder, encoding=encoding) if encoding else image_set
    further = [ImageSet(place, encoding=encoding) for place in _further(image_set, tree)]
    kind, trigger = load.get(tree, "run.kind"), load.get(tree, "captions.trigger")
    ratio, dense = formats(tree)
    return look(image_set, side(services, tree), kind, trigger, further=further, ratio=ratio, dense=dense)


def _further(image_set: ImageSet, tree: Tree) -> Iterator[Path]:
    """The further folders of a draft that are there; what is wrong with a line is said beside its field."""
    for line in load.get(tree, "images.subsets") or ():
        try:
            yield subsets.find(str(image_set.folder), read_subset(str(line)).folder)
        except (Problem, ValueError):
            continue


def mend(ui: Ui, image_set: ImageSet, said: dict[str, Any]) -> str:
    """Carry out what the button of a finding asks for; returns what was done as a sentence."""
    targets, action = [str(one) for one in said.get("targets", [])], said.get("action")
    if ui.services.is_example(image_set):
        return ui.t("page.images.example")
    try:
        if action == "remove":
            ui.services.refuse_if_used(image_set.folder)
            image_set.delete(targets)
            return ui.t("page.train.removed", count=len(targets))
        if action == "add_trigger" and said.get("word"):
            image_set.edit(captions.adding(str(said["word"]), front=True), targets)
            return ui.t("page.train.edited", count=len(targets))
        if action == "read_as":
            return _read_as(ui, image_set, str(said.get("was", "")), str(said.get("encoding", "")))
        if action == "reading_right":
            return ui.t("page.images.reading.settled", count=rereading.confirm(image_set, str(said.get("was", ""))))
        if action == "undo":
            act = image_set.undo()
            return ui.t("page.train.undone", count=act.count) if act else ""
    except Problem as problem:
        return problem.sentence(ui.lang)
    return ""


def _read_as(ui: Ui, image_set: ImageSet, was: str, encoding: str) -> str:
    """Read the captions that were read in `was` in another encoding."""
    name = encodings.requested(encoding)
    ids = next((one.ids for one in rereading.readings(image_set) if one.encoding == was), ())
    if not ids or name is None or rereading.read_as(image_set, name, ids) is None:
        return ui.t("page.images.reading.changed")
    return ui.t("page.images.reading.done", count=len(ids), encoding=encodings.label(name, ui.lang))


def again(services: Services, name: str) -> tuple[ImageSet | None, Tree]:
    """The set and the tree of a LoRA in the library, to train it once more."""
    tree: Tree = services.library.again(name)
    folder: Any = load.get(tree, "images.folder")
    image_set = services.set(str(folder).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]) if folder else None
    return image_set, tree
