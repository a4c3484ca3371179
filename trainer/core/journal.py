"""Acts on several files that happen whole or not at all, also when the process is killed in the middle.

What an act writes lies ready under a hidden name before its steps are written down in `journal/<id>.json`. That note is
the moment it counts: before it a crash leaves nothing but hidden files that are swept, after it `recover` carries out
what is missing (write-ahead logging, as in databases). Used by library.py; image sets do the same in images/set/staging.py.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from trainer.core import files
from trainer.core.locks import lock

_STAGED = ".act-"
Step = list[str]
"""`["move", from, to]`, `["replace", from, to]` or `["rmdir", folder]`, with paths below the journal's root."""


class Act:
    """The steps of one act, in order. `move` never overwrites; `replace` does."""

    def __init__(self, root: Path, stages: Path) -> None:
        self.id, self.root, self.stages = uuid.uuid4().hex, root, stages
        self.steps: list[Step] = []

    def move(self, source: Path, target: Path) -> None:
        """Give a file another place or name."""
        self.steps.append(["move", self._named(source), self._named(target)])

    def write(self, data: bytes, target: Path) -> None:
        """Put `data` at `target`, in the place of what is there."""
        staged = self._stage()
        files.write_durably(staged, data)
        self.steps.append(["replace", self._named(staged), self._named(target)])

    def bring(self, source: Path, target: Path) -> None:
        """Put a copy of a file from anywhere at `target`, which is free; a second name for it where the disk can do that."""
        staged = self._stage()
        try:
            os.link(source, staged)
        except OSError:
            shutil.copyfile(source, staged)
        with open(staged, "rb+") as file:
            os.fsync(file.fileno())
        self.move(staged, target)

    def rmdir(self, folder: Path) -> None:
        """Remove a folder that the steps before leave empty."""
        self.steps.append(["rmdir", self._named(folder)])

    def _stage(self) -> Path:
        self.stages.mkdir(parents=True, exist_ok=True)
        return self.stages / f"{_STAGED}{self.id}-{len(self.steps)}"

    def _named(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


class Journal:
    """The acts below `root`. `stages` is where they lay things ready, on the disk the files end on."""

    def __init__(self, root: Path, stages: Path, name: str) -> None:
        self.root, self.stages, self.place = root, stages, root / "journal"
        self.lock = lock(root / "cache" / "locks" / f"{name}.lock")

    @contextlib.contextmanager
    def act(self) -> Iterator[Act]:
        """Collect steps in the block; they are carried out at its end. An exception in it, and nothing has happened.

        Raises StorageProblem where the disk does not allow the act. One act at a time, also among programs.
        """
        with files.writing(self.stages), self.lock:
            self._recover()
            act = Act(self.root, self.stages)
            try:
                yield act
            except BaseException:
                self._forget(act)
                raise
            self._commit(act)

    def recover(self) -> None:
        """Finish what was written down and sweep what was not; on a disk that cannot be written, later."""
        if self.pending() or self._left_behind():
            with self.lock:
                self._recover()

    def pending(self) -> list[Path]:
        """The notes of acts that are not finished."""
        try:
            return sorted(path for path in self.place.iterdir() if path.suffix == ".json")
        except OSError:
            return []

    def _commit(self, act: Act) -> None:
        if not act.steps:
            return
        note = self.place / f"{act.id}.json"
        if len(act.steps) == 1 and act.steps[0][0] == "replace":  # one rename is whole by itself
            try:
                _replace(*(self.root / path for path in act.steps[0][1:]))
            except BaseException:
                self._forget(act)
                raise
            return
        try:
            files.write_json(note, {"steps": act.steps})
        except BaseException:
            self._forget(act)
            raise
        before = self._to_do(act.steps)
        try:
            self._carry_out(note, act.steps)
        except OSError:
            if self._to_do(act.steps) == before:  # nothing has moved: it did not happen
                note.unlink(missing_ok=True)
                self._forget(act)
            raise

    def _recover(self) -> None:
        for note in self.pending():
            content = files.read_json(note)
            steps = content.get("steps") if isinstance(content, dict) else None
            try:
                if isinstance(steps, list):
                    self._carry_out(note, steps)
                else:
                    note.unlink(missing_ok=True)
            except OSError:  # it stays written down and is tried again
                return
        for left in self._left_behind():
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)
        files.sweep_temporaries(self.stages)

    def _left_behind(self) -> list[Path]:
        """What an act that never counted had laid ready, and notes half written."""
        paths: list[Path] = []
        for folder, is_left in ((self.stages, _is_staged), (self.place, files.TEMPORARY.fullmatch)):
            with contextlib.suppress(OSError):
                paths += [folder / name for name in os.listdir(folder) if is_left(name)]
        return paths

    def _to_do(self, steps: list[Step]) -> list[bool]:
        return [os.path.lexists(self.root / step[1]) for step in steps]

    def _carry_out(self, note: Path, steps: list[Step]) -> None:
        """Every step that is not done yet; doing it twice does no harm."""
        steps = self._dodge(note, steps)
        folders: set[Path] = set()
        for kind, *names in steps:
            paths = [self.root / name for name in names]
            if kind == "rmdir":
                with contextlib.suppress(OSError):  # a person put something into it meanwhile
                    paths[0].rmdir()
            elif os.path.lexists(paths[0]):
                paths[1].parent.mkdir(parents=True, exist_ok=True)
                (_replace if kind == "replace" else _move)(*paths)
                folders |= {paths[1].parent, paths[0].parent}
        for folder in folders:
            if folder.is_dir():
                files.sync_folder(folder)
        note.unlink(missing_ok=True)
        files.sync_folder(self.place)

    def _dodge(self, note: Path, steps: list[Step]) -> list[Step]:
        """The steps, to other names where somebody put a file of such a name there before the first of them was done."""
        moves = [(self.root / step[1], self.root / step[2]) for step in steps if step[0] == "move"]
        if not moves or not os.path.lexists(moves[0][0]) or not any(_taken(*move) for move in moves):
            return steps
        stem, version = moves[0][1].stem, 2

        def named(name: str) -> str:
            folder, _, name = name.rpartition("/")
            return f"{folder}/{stem}_v{version}{name.removeprefix(stem)}" if name.startswith(stem) else f"{folder}/{name}"

        while any((self.root / named(step[2])).exists() for step in steps if step[0] == "move"):
            version += 1
        first = next(index for index, step in enumerate(steps) if step[0] == "move")  # what goes before is not about new names
        steps = [[*step[:2], named(step[2])] if at >= first and len(step) == 3 else step for at, step in enumerate(steps)]
        files.write_json(note, {"steps": steps})
        return steps

    def _forget(self, act: Act) -> None:
        for staged in self.stages.glob(f"{_STAGED}{act.id}-*"):
            with contextlib.suppress(OSError):
                staged.unlink(missing_ok=True)


def _is_staged(name: str) -> bool:
    return name.startswith(_STAGED)


def _taken(source: Path, target: Path) -> bool:
    """Whether another file has the target's name. Where only upper and lower case change, both names are one file."""
    return target.exists() and not target.samefile(source) and not filecmp.cmp(source, target, shallow=False)


def _replace(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)
    files.sync_folder(target.parent)


def _move(source: Path, target: Path) -> None:
    """Rename, across disks by a copy; a file that has the target's name by now is left alone."""
    if _taken(source, target):
        target = files.free_name(target.parent, target.stem, target.suffix)
    try:
        os.rename(source, target)
    except FileExistsError:  # Windows: the same content is there already
        source.unlink()
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy = target.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            shutil.copy2(source, copy)
            with open(copy, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(copy, target)
        finally:
            copy.unlink(missing_ok=True)
        source.unlink()
