"""Two programs on one home: what one has under way is never swept by the other; what a dead one left is, once old."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.server import uploads
from trainer.core import workplace
from trainer.core.home import PROJECT

OTHER = "import sys; from trainer.core import workplace; from pathlib import Path\n" \
    "folder = workplace.create(Path(sys.argv[1])); (folder / 'half.png').write_bytes(b'1'); print(folder, flush=True)\n" \
    "sys.stdin.read()"  # fmt: skip


def age(folder: Path) -> None:
    """Make it look as if nobody had written to it for two days."""
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (1e9, 1e9))


def test_an_upload_to_another_open_server_is_never_swept_and_that_of_a_dead_one_only_when_old(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT
    )
    assert other.stdin and other.stdout
    with other.stdin, other.stdout:
        folder = Path(other.stdout.readline().strip())
        age(folder)
        uploads.sweep(tmp_path, {})
        assert (folder / "half.png").exists()
        other.kill()
        other.wait()
        (folder / "half.png").touch()
        uploads.sweep(tmp_path, {})
        assert (folder / "half.png").exists()  # young: the person may want to know what became of it
        age(folder)
        uploads.sweep(tmp_path, {})
        assert not folder.exists()


def test_what_this_server_gave_up_is_swept_when_old_and_what_is_under_way_is_not(tmp_path: Path) -> None:
    given_up, on = workplace.create(tmp_path), workplace.create(tmp_path)
    for folder in (given_up, on):
        age(folder)
    uploads.sweep(tmp_path, {on.name: uploads.UploadBatch(on)})
    assert [path.name for path in tmp_path.iterdir()] == [on.name]


OWNERS = ("", "{", "[]", '{"pid": "x", "born": 1, "boot": ""}', '{"pid": 1, "born": 1.5, "boot": "x"}')


@pytest.mark.parametrize("owner", OWNERS)
def test_a_folder_whose_owner_cannot_be_told_is_kept_while_it_is_young(tmp_path: Path, owner: str) -> None:
    folder = tmp_path / "from an earlier version"
    folder.mkdir()
    (folder / workplace.OWNER).write_text(owner)
    workplace.sweep(tmp_path)
    assert folder.exists()
    age(folder)
    workplace.sweep(tmp_path)
    assert not folder.exists()
