"""A home with one set of a person's own, and the Train and Images pages of it, asked without a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from app.pages.images import page as images_page
from app.pages.train import page as train_page
from app.ui.services import Services, Ui
from tests.helpers.events import Events
from trainer.core.home import PROJECT, Home


@pytest.fixture(scope="module")
def one_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """One home for a file's tests: pages are built once for it."""
    services = Services(Home(tmp_path_factory.mktemp("pages")))
    yield services
    services.close()


@pytest.fixture(scope="module")
def train_events(one_home: Services) -> Events:
    return Events(train_page, Ui.of(one_home, "en"))


@pytest.fixture(scope="module")
def images_events(one_home: Services) -> Events:
    return Events(images_page, Ui.of(one_home, "en"))


@pytest.fixture
def services(one_home: Services) -> Services:
    """That home, with the example pictures as a person's own set and nothing else."""
    for folder in (one_home.home.datasets / "mine", one_home.drafts.folder):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(PROJECT / "datasets" / "example-style", one_home.home.datasets / "mine")
    for row in one_home.jobs.rows():
        one_home.jobs.stop(row.id)
        one_home.jobs.delete(row.id)
    return one_home


@pytest.fixture
def train(train_events: Events, services: Services) -> Events:
    """The Train page of that home."""
    return train_events


@pytest.fixture
def images(images_events: Events, services: Services) -> Events:
    """The Images page of that home."""
    return images_events
