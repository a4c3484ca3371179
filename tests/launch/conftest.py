"""A small project with the real launch.py, and a package index on loopback, so that installing is tested for real."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.launching import First, Index, Project, new_project, serving


@pytest.fixture
def index() -> Iterator[Index]:
    with serving() as it:
        yield it


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Nothing installed yet."""
    return new_project(tmp_path / "project")


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> First:
    """The first start of all, once for all tests: it makes a real environment."""
    project = new_project(tmp_path_factory.mktemp("first") / "project")
    with serving() as index:
        done = project.launch("demo", "--out", "x", index=index)
        return First(project, done, list(index.asked))


@pytest.fixture
def installed(first: First, tmp_path: Path) -> Project:
    """A copy of the project after its first start, to break and mend."""
    folder = tmp_path / "project"
    shutil.copytree(first.project.folder, folder, symlinks=True)
    return Project(folder, folder / "tools")
