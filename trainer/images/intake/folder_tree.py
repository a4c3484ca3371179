"""A folder somebody trains with in place, with the folders below it: which are learnt, which hold class pictures, what is left.

`train --images` and `check` are given a single folder; other programs keep folders in it: kohya's `10_name` and `reg/1_class`,
an imagefolder's `train/`. Called by both commands.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from trainer.images.intake import gate
from trainer.images.intake.entry import Entry
from trainer.images.intake.names import fold, natural, repeats_of, shown
from trainer.images.intake.notices import IntakeNotice
from trainer.images.intake.roles import MASK_FOLDERS
from trainer.images.intake.sources import folder as below
from trainer.images.set.limits import LIMITS
from trainer.images.set.picture import sort_folder

_SAID_IN_PLACE = ("other_file",)
"""Not told about a folder that stays where it is: nothing is taken from it, and nothing is lost."""


@dataclass
class Tree:
    """What a folder holds for a training."""

    folder: Path
    subsets: list[str] = field(default_factory=list)
    """Folders below it to learn from, where it has no pictures of its own, as lines of `images.subsets`."""
    class_folders: list[Path] = field(default_factory=list)
    """Folders with class pictures (kohya's regularisation)."""
    lines: list[IntakeNotice] = field(default_factory=list)

    @property
    def places(self) -> list[Path]:
        """Every folder whose pictures are learnt."""
        return [self.folder, *(self.folder / line.rpartition("=")[0].strip() for line in self.subsets)]

    @property
    def class_word(self) -> str:
        """The word in the name of the one class folder: `1_girl` is girl."""
        named = repeats_of(self.class_folders[0].name) if len(self.class_folders) == 1 else None
        return named[1] if named else ""


def look(folder: Path) -> Tree:
    """Look at a folder and below it, by names alone."""
    top = folder.resolve()
    tree = Tree(folder)
    found = below(top)
    came = gate.sort(found, LIMITS, probe=False)
    counts = Counter(entry.folder for entry in came.pictures)
    own = counts.pop(top.name, 0)
    if own:
        tree.lines += [IntakeNotice(shown(name), "folder_unread", {"count": count}) for name, count in counts.items()]
    else:
        tree.subsets = [f"{PurePosixPath(name).relative_to(top.name)} = 1" for name in sorted(counts, key=natural)]
    tree.class_folders = _class_folders(came, top)
    used = [top.name] if own else list(counts)
    for name in used:
        tree.lines += _in_place(top.parent / name, name)
        if not own and (found_ := repeats_of(PurePosixPath(name).name)):
            tree.lines.append(IntakeNotice(shown(name), "kohya_folder", {"repeats": found_[0], "word": found_[1]}))
    tree.lines += [line for line in came.lines if line.code in ("class_pictures", "project_rest", "condition_picture")]
    tree.lines += [IntakeNotice(shown(entry.name), "caption_alone") for entry in came.alone if entry.folder not in used]
    tree.lines += _elsewhere(came)
    return tree


def _class_folders(came: gate.Sorted, top: Path) -> list[Path]:
    places = dict.fromkeys(entry.folder for entry, why in came.left if why == "class_pictures")
    return [top.parent / place for place in places]


def _in_place(place: Path, name: str) -> list[IntakeNotice]:
    """What is to be told about one folder that is used."""
    came = sort_folder(place)
    for entry in came.alone:
        came.tell(entry.name, "caption_alone")
    for table in dict.fromkeys(table for table, _, _ in came.rows):
        paths = [path for one, path, _ in came.rows if one is table]
        came.tell(table.name, "table_unknown", count=len(paths), names=gate.some(paths))
    told = [line for line in came.lines if line.code not in _SAID_IN_PLACE]
    return [IntakeNotice(shown(f"{name}/{line.name}"), line.code, line.params) for line in told]


def _elsewhere(came: gate.Sorted) -> list[IntakeNotice]:
    """Captions and masks that a drop would find and a folder used in place does not: they lie in another folder."""
    lines: dict[tuple[str, str], int] = Counter()
    for picture, words in came.words.items():
        if words.entry.folder != picture.folder:
            lines[words.entry.name, "table_elsewhere"] += 1
    for picture, mask in came.masks.items():
        if mask.folder != picture.folder and not _inside(mask, picture):
            lines[mask.folder, "masks_elsewhere"] += 1
    return [IntakeNotice(shown(name), code, {"count": count}) for (name, code), count in lines.items()]


def _inside(mask: Entry, picture: Entry) -> bool:
    above, _, name = mask.folder.rpartition("/")
    return above == picture.folder and fold(name) in MASK_FOLDERS
