"""A home with one picture, a configuration that may run, and the trainer process with a tiny engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.jobs import QUICK, command
from trainer.config.train import TrainConfig
from trainer.core import process
from trainer.core.home import Home
from trainer.jobs.jobs import Jobs
from trainer.jobs.ledger.run_store import Store
from trainer.jobs.supervisor import Supervisor


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home_ = Home(tmp_path / "home").create()
    pictures = home_.datasets / "set"
    pictures.mkdir()
    Image.new("RGB", (64, 64), (200, 30, 40)).save(pictures / "0001.png")
    return home_


@pytest.fixture
def config(home: Home) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "images": {"folder": str(home.datasets / "set")},
            "save": {"name": "red"},
            "rights": {"pictures_ok": True},
        }
    )


@pytest.fixture
def plan(home: Home) -> Callable[..., None]:
    """Says what the tiny engine does."""

    def write(**values: object) -> None:
        (home.root / "fake.json").write_text(json.dumps(values))

    return write


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    store_ = Store(home.database)
    yield store_
    for row in store_.with_process():
        if row.pid and row.birth:
            process.end(row.pid, row.birth, 0.0)
    store_.close()


@pytest.fixture
def jobs(home: Home, store: Store) -> Iterator[Jobs]:
    jobs_ = Jobs(home, store)
    yield jobs_
    jobs_.close()


@pytest.fixture
def supervisor(home: Home, store: Store) -> Iterator[Supervisor]:
    supervisor_ = Supervisor(home, store, timeouts=QUICK, command=command)
    supervisor_.start()
    yield supervisor_
    supervisor_.stop()
