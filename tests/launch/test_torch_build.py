"""Which torch build fits which machine; a pure function of a few facts."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from app.bootstrap import torch_build
from app.bootstrap.machine import GpuCard, Machine, newest
from tests.helpers.launching import ROOT, Index, closed_port

NEW = GpuCard("GeForce RTX 4090", (580, 65), (8, 9))
OLD_DRIVER = GpuCard("GeForce RTX 3060", (560, 94), (8, 6))
OLD_CARD = GpuCard("GeForce GTX 1080", (580, 65), (6, 1))
BLACKWELL_OLD_DRIVER = GpuCard("GeForce RTX 5090", (570, 1), (12, 0))


@pytest.mark.parametrize(
    ("system", "processor", "card", "build"),
    [
        ("Linux", "x86_64", NEW, None),  # the plain pin is CUDA 13.0
        ("Linux", "x86_64", None, "cpu"),  # it would be gigabytes of CUDA for nothing
        ("Linux", "x86_64", OLD_CARD, "cu126"),
        ("Linux", "x86_64", OLD_DRIVER, "cu126"),
        ("Linux", "x86_64", BLACKWELL_OLD_DRIVER, None),  # CUDA 12.6 does not know it: a new driver is the remedy
        ("Linux", "aarch64", None, "cpu"),
        ("Linux", "aarch64", NEW, "cu130"),
        ("Windows", "AMD64", NEW, "cu130"),  # the plain pin cannot use the card
        ("Windows", "AMD64", OLD_CARD, "cu126"),
        ("Windows", "AMD64", None, None),
        ("Darwin", "arm64", None, None),
    ],
)
def test_the_index_is_the_one_with_the_build_this_machine_can_use(
    system: str, processor: str, card: GpuCard | None, build: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATELIER_TORCH_INDEX", "http://127.0.0.1:9/whl/")
    index = torch_build.index_for(Machine(system, processor, 64, card))
    assert index == (f"http://127.0.0.1:9/whl/{build}" if build else None)


def test_the_newest_card_decides_and_a_driver_that_says_nothing_useful_counts_as_none() -> None:
    rows = [
        {"name": "NVIDIA GeForce GTX 1080", "driver": "550.54.14", "capability": "6.1"},
        {"name": "NVIDIA A100-SXM4", "driver": "550.54.14", "capability": "8.0"},
        {"name": "odd", "driver": "[N/A]", "capability": "[N/A]"},
    ]
    assert newest(rows) == GpuCard("NVIDIA A100-SXM4", (550, 54, 14), (8, 0))
    assert newest(rows[2:]) is None
    assert newest([]) is None


def test_the_pin_is_read_from_the_requirements(tmp_path: Path) -> None:
    assert torch_build.pinned_torch(ROOT / "requirements.txt") == "torch==2.13.0"
    (tmp_path / "none.txt").write_text("torchvision==1.0\n")
    assert torch_build.pinned_torch(tmp_path / "none.txt") is None


def test_an_index_is_used_only_if_it_answers_soon_and_has_that_version(index: Index) -> None:
    index.add("whl/cpu", "torch", "2.13.0+cpu")
    assert torch_build.answers(f"{index.url}/whl/cpu", "torch==2.13.0")
    assert not torch_build.answers(f"{index.url}/whl/cpu", "torch==2.14.0")
    assert not torch_build.answers(f"{index.url}/whl/cu126", "torch==2.13.0")
    assert not torch_build.answers(f"http://127.0.0.1:{closed_port()}/whl/cpu", "torch==2.13.0")
    index.held["/whl/cpu/torch/"] = threading.Event()  # connects, then says nothing
    assert not torch_build.answers(f"{index.url}/whl/cpu", "torch==2.13.0", timeout=0.3)
