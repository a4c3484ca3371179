"""What a picture is there for, by its place and name: to be learnt, as a mask, as a class picture, or not at all.

Layouts of other trainers: OneTrainer's `name-masklabel.png`, mask folders (ai-toolkit's `mask_path`, kohya's
`conditioning_data_dir`), kohya's project folder with `img/10_name`, `reg/1_class`, `log` and `model`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from trainer.images.intake.entry import Entry
from trainer.images.intake.names import fold, parts, repeats_of
from trainer.images.intake.pairing import NameKey, Pictures

MASK_ENDINGS = (".mask", "-masklabel")
"""What follows a picture's stem in the name of its mask: ours, OneTrainer's."""
_CONDITION = "-condlabel"
"""OneTrainer's conditioning pictures, which no LoRA of these families is taught with."""
MASK_FOLDERS = ("mask", "masks", "_mask", "_masks", "masklabel", "masklabels", "alpha_mask", "alpha_masks")
_MASK_BESIDE = ("_mask", "_masks", "-mask", "-masks")
"""What follows a folder's name in that of the folder with its masks."""
_CONDITION_FOLDERS = ("conditioning", "conditioning_images", "condition", "control", "controls")
REG_FOLDERS = (
    "reg", "regs", "reg_images", "regularization", "regularisation", "regularization_images", "regularisation_images",
    "class_images", "class_data",
)  # fmt: skip
_PROJECT = ("img", "image", "images")
_PROJECT_REST = ("log", "logs", "model", "models", "sample", "samples")


@dataclass
class Roles:
    """The pictures of a drop by what they are for."""

    pictures: list[Entry] = field(default_factory=list)
    masks: list[tuple[Entry, NameKey]] = field(default_factory=list)
    """Masks, each with where its picture is looked for."""
    left: list[tuple[Entry, str]] = field(default_factory=list)
    """Those not to be learnt, with why: a code under `intake.notices`."""


def sort_out(pictures: list[Entry], entries: list[Entry]) -> Roles:
    """Every picture's role. A folder's name decides only where other pictures lie elsewhere: somebody may learn masks.

    `entries` is everything beside them: `a.mask.png` is a mask where there is an `a`, be it a picture or its caption.
    """
    roles = Roles()
    rest = _by_folder(pictures, roles)
    stems = {(entry.group, fold(entry.stem)) for entry in entries}
    plain = []
    for entry in rest:
        stem = fold(entry.stem)
        if stem.endswith(_CONDITION):
            roles.left.append((entry, "condition_picture"))
        elif stem.endswith("-masklabel") or (stem.endswith(".mask") and (entry.group, stem.removesuffix(".mask")) in stems):
            ending = next(ending for ending in MASK_ENDINGS if stem.endswith(ending))
            roles.masks.append((entry, (entry.group, entry.stem[: -len(ending)])))
        else:
            plain.append(entry)
    _beside(plain, roles)
    return roles


def _by_folder(pictures: list[Entry], roles: Roles) -> list[Entry]:
    """Set class pictures and what a kohya project keeps beside its pictures aside; the others."""
    projects = {(entry.source, place) for entry in pictures if (place := _project(entry)) is not None}
    aside: dict[Entry, str] = {}
    for entry in pictures:
        folders = parts(entry.folder)
        for depth, name in enumerate(folders):
            place = "/".join(folders[:depth])
            if fold(name) in REG_FOLDERS:
                aside[entry] = "class_pictures"
            elif fold(name) in _PROJECT_REST and (entry.source, place) in projects:
                aside[entry] = "project_rest"
    if len(aside) == len(pictures):
        return pictures
    roles.left += list(aside.items())
    return [entry for entry in pictures if entry not in aside]


def _project(entry: Entry) -> str | None:
    """The folder of a kohya project a picture belongs to: above `img/10_name`."""
    folders = parts(entry.folder)
    if len(folders) >= 2 and repeats_of(folders[-1]) and fold(folders[-2]) in _PROJECT:
        return "/".join(folders[:-2])
    return None


def _beside(plain: list[Entry], roles: Roles) -> None:
    """Folders of masks, and of conditioning pictures: those in which at least one name is that of a picture elsewhere."""
    every = {entry.group for entry in plain}
    kinds = {group: kind for group in every if (kind := _kind(group, every)) is not None}
    index = Pictures(entry for entry in plain if entry.group not in kinds)
    owned: dict[Entry, NameKey] = {}
    for entry in plain:
        for places in kinds[entry.group].owners if entry.group in kinds else ():
            hits = [place for place in places if index.find((place, entry.stem))[1]]
            if hits:  # more than one: nobody can tell, and the mask is named as one without a picture
                owned[entry] = (hits[0] if len(hits) == 1 else entry.group, entry.stem)
                break
    used = {entry.group for entry in owned}
    for entry in plain:
        if entry.group not in used:
            roles.pictures.append(entry)
        elif kinds[entry.group].masks:
            roles.masks.append((entry, owned.get(entry, (entry.group, entry.stem))))
        else:
            roles.left.append((entry, "condition_picture"))


@dataclass(frozen=True)
class _Kind:
    """A folder whose pictures belong to those of other folders: `owners`, the likeliest first."""

    masks: bool
    owners: tuple[list[tuple[str, str]], ...]


def _kind(group: tuple[str, str], every: set[tuple[str, str]]) -> _Kind | None:
    """What a folder's name says of it: masks, conditioning pictures, or nothing.

    `x/masks/1.png` belongs to `x/1.png`, else to `x/any/1.png`, else to a `1.png` anywhere below `x`.
    """
    source, folder = group
    folders = parts(folder)
    for depth, name in reversed(list(enumerate(folders))):
        above, below, name = folders[:depth], folders[depth + 1 :], fold(name)
        if name in MASK_FOLDERS or name in _CONDITION_FOLDERS:
            near = [other for other in every - {group} if other[0] == source and parts(other[1])[:depth] == above]
            like = [other for other in near if parts(other[1])[depth + 1 :] == below and len(parts(other[1])) == len(folders)]
            return _Kind(name in MASK_FOLDERS, ([(source, "/".join((*above, *below)))], like, near))
        for ending in _MASK_BESIDE:
            owner = (source, "/".join((*above, folders[depth][: -len(ending)], *below)))
            if name.endswith(ending) and owner in every:
                return _Kind(True, ([owner],))
    return None
