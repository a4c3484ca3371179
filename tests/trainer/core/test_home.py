"""A home is its owner's alone: other accounts of the machine read nothing of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from trainer.core.files import expanded
from trainer.core.home import Home

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows keeps a person's folders to that person")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def usual() -> object:
    """What most systems give new folders: everybody may read."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_a_new_home_is_for_its_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "new" / "home").create()
    assert {mode(path) for path in (home.root, home.datasets, home.models, home.outputs)} == {0o700}


def test_a_home_in_a_folder_that_is_shared_keeps_its_pictures_and_results_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    home = Home(tmp_path).create()
    assert mode(tmp_path) == 0o777  # not ours
    assert {mode(home.datasets), mode(home.models), mode(home.outputs)} == {0o700}


def test_a_home_of_an_earlier_version_is_closed_once_and_what_a_person_opens_again_stays_open(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for folder in (home.datasets / "mine", home.models, home.outputs / "loras"):
        folder.mkdir(parents=True)
    (home.datasets / "mine" / "0001.png").write_bytes(b"x")
    home.create()
    assert (mode(home.datasets), mode(home.outputs), mode(home.models)) == (0o700, 0o700, 0o755)  # bases may be shared
    home.datasets.chmod(0o750)
    home.create()
    assert mode(home.datasets) == 0o750


def test_a_folder_that_is_a_link_is_left_as_its_owner_wants_it(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.datasets.symlink_to(shared)
    home.create()
    assert mode(shared) == 0o755 and mode(home.outputs) == 0o700


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="another account needs root")
def test_another_account_cannot_read_a_picture(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(mode(folder) | 0o055)
    home = Home(tmp_path).create()
    picture = home.datasets / "0001.png"
    picture.write_bytes(b"x")
    picture.chmod(0o644)
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            picture.read_bytes()
        except PermissionError:
            os._exit(7)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_home_of_an_account_that_does_not_exist_is_a_path_as_it_stands() -> None:
    assert expanded("~nouser/x") == Path("~nouser/x") and expanded("~") == Path.home()
