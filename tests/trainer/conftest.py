"""What the trainer's tests share: a tiny base of the real classes, a folder of pictures, a home to train in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from trainer.core.home import Home

if TYPE_CHECKING:
    from tests.helpers.training_home import Bench


@pytest.fixture(scope="session")
def torch_threads() -> None:
    """As many threads as the tests may take; the libraries say nothing of themselves."""
    import torch

    from trainer.engine.speed import device

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    device.silence_libraries()


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory, torch_threads: None) -> Path:
    """A Stable Diffusion 1.x folder of the real classes with random weights: 0.5 M parameters, 32 px native."""
    from tests.helpers.training_home import make_tiny

    return make_tiny(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small drawings of two shapes with captions."""
    folder = tmp_path_factory.mktemp("sets") / "blobs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(6):
        size = (64, 64) if index < 4 else (96, 64)
        noise = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(folder / f"{index:04d}.png")
        (folder / f"{index:04d}.txt").write_text(f"blob {index}, red, round")
    return folder


@pytest.fixture
def bench(tmp_path: Path, tiny_base: Path, picture_folder: Path) -> Bench:
    """A home with a set of its own and the tiny base."""
    from tests.helpers.training_home import Bench

    folder = tmp_path / "set"
    shutil.copytree(picture_folder, folder)
    return Bench(Home(tmp_path / "home").create(), tiny_base, folder)
