"""Which PyTorch build fits the machine, and whether PyTorch's own package index offers it. Used by install.py.

The package registry's plain torch is: Linux with CUDA 13.0 (gigabytes), Windows without CUDA, macOS. Where that is the
wrong one, the right one is in PyTorch's own index under a folder per build. PyTorch 2.13 comes for CUDA 13.0 (Turing
and newer, driver 580 or newer) and CUDA 12.6 (Maxwell to Hopper, driver 525 or newer): PyTorch's RELEASE.md.
"""

from __future__ import annotations

import os
import re
import urllib.request
from pathlib import Path

from app.bootstrap.machine import Machine

INDEX = "https://download.pytorch.org/whl"
CUDA_NEW, CUDA_OLD, CPU = "cu130", "cu126", "cpu"
NEW_DRIVER, NEW_CARD, OLD_CARD_LIMIT = (580,), (7, 5), (9, 0)
GIGABYTE = 1_000_000_000
SPACE = {CUDA_NEW: 6 * GIGABYTE, CUDA_OLD: 6 * GIGABYTE, CPU: 2.5 * GIGABYTE}


def plain_build(machine: Machine) -> str | None:
    """The build that the package registry's plain pin gives on this system; None where that has changed over time."""
    if machine.system == "Linux":
        return CUDA_NEW if machine.processor == "x86_64" else None
    return CPU


def right_build(machine: Machine) -> str:
    """The build this machine can use."""
    card = machine.card
    if card is None or machine.system == "Darwin":
        return CPU
    if card.capability < NEW_CARD:
        return CUDA_OLD
    if card.driver < NEW_DRIVER and card.capability <= OLD_CARD_LIMIT:
        return CUDA_OLD
    return CUDA_NEW


def index_for(machine: Machine) -> str | None:
    """The address of the index that has the right build, or None where the plain pin already is the right one."""
    build = right_build(machine)
    if build == plain_build(machine):
        return None
    return f"{os.environ.get('ATELIER_TORCH_INDEX', INDEX).rstrip('/')}/{build}"


def pinned_torch(requirements: Path) -> str | None:
    """The pin in requirements.txt, such as `torch==2.13.0`."""
    found = re.search(r"^torch==[^\s;#]+", requirements.read_text("utf-8"), re.MULTILINE)
    return found.group() if found else None


def answers(index: str, pin: str, timeout: float = 2.0) -> bool:
    """Whether the index lists that version of torch, asked once and briefly."""
    wanted = "torch-" + pin.partition("==")[2]
    try:
        with urllib.request.urlopen(f"{index}/torch/", timeout=timeout) as page:
            return wanted in page.read(4_000_000).decode("utf-8", "replace")
    except (OSError, ValueError):
        return False
