"""What this machine is: Python, system, NVIDIA card. Used by install.py and torch_build.py.

Facts come as plain values, so that every choice made from them is a pure function.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from app.bootstrap.say import Stop
from trainer.hardware.facts import nvidia_cards


@dataclass(frozen=True)
class GpuCard:
    """An NVIDIA card as its driver names it: the driver's version and the compute capability, such as (8, 9)."""

    name: str
    driver: tuple[int, ...]
    capability: tuple[int, int]


@dataclass(frozen=True)
class Machine:
    """The facts that decide what can be installed."""

    system: str  # Linux, Windows, Darwin
    processor: str  # x86_64, AMD64, arm64, aarch64
    bits: int
    card: GpuCard | None


def newest(cards: list[dict[str, str]]) -> GpuCard | None:
    """The card with the highest compute capability, from what the driver's tool says; None without one."""
    known = []
    for card in cards:
        driver, capability = (tuple(map(int, re.findall(r"\d+", card[key]))) for key in ("driver", "capability"))
        if driver and len(capability) == 2:
            known.append(GpuCard(card["name"], driver, (capability[0], capability[1])))
    return max(known, key=lambda card: card.capability, default=None)


def this_machine() -> Machine:
    """The facts of the machine this runs on."""
    bits = 64 if sys.maxsize > 2**32 else 32
    return Machine(platform.system(), platform.machine(), bits, newest(nvidia_cards()))


def refuse_unfit(machine: Machine) -> None:
    """Stop with a sentence where PyTorch has no build at all: 32 bits, a Mac with an Intel processor."""
    if machine.bits != 64:
        raise Stop("python_32bit", status=2)
    if machine.system == "Darwin" and machine.processor == "x86_64":
        raise Stop("mac_intel", status=2)


def refuse_without_venv() -> None:
    """Stop with a sentence where this Python comes without `venv` or `ensurepip` (Debian and Ubuntu split them off)."""
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        debian = Path("/etc/debian_version").exists()
        raise Stop("no_venv_debian" if debian else "no_venv", status=2, package=package)
