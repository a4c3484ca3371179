"""A home of its own for every test of image sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.core.home import Home
from trainer.images.set.image_set import ImageSet


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home that also catches what would go to the default one."""
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    return Home.find().create()


@pytest.fixture
def empty(home: Home) -> ImageSet:
    """A new set."""
    return ImageSet.create(home, "Test")


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    """A folder to drop from."""
    folder = tmp_path / "drop"
    folder.mkdir()
    return folder
