"""A folder somebody trains with in place, with the folders below it: which are learnt, which hold class pictures, what is left.

`train --images` and `check` are given a single folder; other programs keep folders in it: kohya's `10_name` and `reg/1_class`,
an imagefolder's `train/`. Called by both commands.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from trainer.images.intake import gate, sources
from trainer.images.intake.entry import Entry
from trainer.images.intake.names import fold, natural, repeats_of, shown
from trainer.images.intake.notices import IntakeNotice
from trainer.images.intake.roles import MASK_FOLDERS
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
    notices: list[IntakeNotice] = field(default_factory=list)

    @property
    def places(self) -> list[Path]:
        """Every folder whose pictures are learnt."""
        return [self.folder, *(self.folder / line.rpartition("=")[0].strip() for line in self.subsets)]

    @property
    def class_word(self) -> str:
        """The word in the name of the one class folder: `1_girl` is girl."""
        named = repeats_of(self.class_folders[0].name) if len(self.class_folders) == 1 else None
        return named[1] if named else ""


def scan(folder: Path) -> Tree:
    """Look at a folder and below it, by names alone."""
    top = folder.resolve()
    tree = Tree(folder)
    entries = sources.folder(top)
    sorted_ = gate.sort(entries, LIMITS, probe=False)
    counts = Counter(entry.folder for entry in sorted_.pictures)
    own = counts.pop(top.name, 0)
    if own:
        tree.notices += [IntakeNotice(shown(name), "folder_unread", {"count": count}) for name, count in counts.items()]
    else:
        tree.subsets = [f"{PurePosixPath(name).relative_to(top.name)} = 1" for name in sorted(counts, key=natural)]
    tree.class_folders = _class_folders(sorted_, top)
    used = [top.name] if own else list(counts)
    for name in used:
        tree.notices += _in_place(top.parent / name, name)
        if not own and (kohya := repeats_of(PurePosixPath(name).name)):
            tree.notices.append(IntakeNotice(shown(name), "kohya_folder", {"repeats": kohya[0], "word": kohya[1]}))
    tree.notices += [line for line in sorted_.notices if line.code in ("class_pictures", "project_rest", "condition_picture")]
    tree.notices += [IntakeNotice(shown(entry.name), "caption_alone") for entry in sorted_.alone if entry.folder not in used]
    tree.notices += _elsewhere(sorted_)
    return tree


def _class_folders(sorted_: gate.Sorted, top: Path) -> list[Path]:
    places = dict.fromkeys(entry.folder for entry, why in sorted_.left if why == "class_pictures")
    return [top.parent / place for place in places]


def _in_place(place: Path, name: str) -> list[IntakeNotice]:
    """What is to be told about one folder that is used."""
    sorted_ = sort_folder(place)
    for entry in sorted_.alone:
        sorted_.note(entry.name, "caption_alone")
    for table in dict.fromkeys(table for table, _, _ in sorted_.rows):
        paths = [path for owner, path, _ in sorted_.rows if owner is table]
        sorted_.note(table.name, "table_unknown", count=len(paths), names=gate.some_names(paths))
    notices = [line for line in sorted_.notices if line.code not in _SAID_IN_PLACE]
    return [IntakeNotice(shown(f"{name}/{line.name}"), line.code, line.params) for line in notices]


def _elsewhere(sorted_: gate.Sorted) -> list[IntakeNotice]:
    """Captions and masks that a drop would find and a folder used in place does not: they lie in another folder."""
    lines: dict[tuple[str, str], int] = Counter()
    for picture, source in sorted_.captions.items():
        if source.entry.folder != picture.folder:
            lines[source.entry.name, "table_elsewhere"] += 1
    for picture, mask in sorted_.masks.items():
        if mask.folder != picture.folder and not _inside(mask, picture):
            lines[mask.folder, "masks_elsewhere"] += 1
    return [IntakeNotice(shown(name), code, {"count": count}) for (name, code), count in lines.items()]


def _inside(mask: Entry, picture: Entry) -> bool:
    above, _, name = mask.folder.rpartition("/")
    return above == picture.folder and fold(name) in MASK_FOLDERS
