"""The doctor: every finding is a sentence in both languages, and what is wrong comes with what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from trainer.core.home import PROJECT, Home
from trainer.core.texts import lookup, t
from trainer.hardware import facts as doctor_facts
from trainer.hardware.doctor import Check, as_text, diagnose

CARD = {"name": "NVIDIA GeForce RTX 4090", "driver": "580.65", "capability": "8.9"}
IDLE = {"state": "idle", "version": "0.0.35", "detail": "0.0.35"}
CPU = {"version": "2.13.0+cpu", "cuda": None, "cuda_works": False, "mps": False, "why": "", "attention": ["sdpa", "x"]}
GOOD: dict[str, Any] = {
    "environment": "ready",
    "python": "3.12.1",
    "bits": 64,
    "system": "Linux",
    "processor": "Some CPU",
    "architecture": "x86_64",
    "cores": 8,
    "memory": (32_000_000_000, 20_000_000_000),
    "disk": 200_000_000_000,
    "home": "/home/me/atelier",
    "writable": True,
    "cards": [],
    "torch": CPU | {"xformers": IDLE},
    "versions": [("torch", "2.13.0", "2.13.0")],
    "hub": True,
    "fonts": True,
}


def checks(language: str = "en", **changed: Any) -> dict[str, Check]:
    facts = deepcopy(GOOD) | changed
    return {check.name: check for check in diagnose(Home(Path("/nowhere")), language, facts=facts)}


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_good_machine_has_nothing_to_mend(language: str) -> None:
    found = checks(language)
    assert [name for name, check in found.items() if check.ok is False] == []
    assert set(found) == set(lookup("doctor", language)) - {"about", "json", "home", "lang", "ladder"}


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_card_is_told_what_fits_into_its_free_memory(language: str) -> None:
    small, large = (checks(language, cards=[CARD | {"free": size}])["ladder"].detail for size in (2_400_000_000, 24 * 10**9))
    assert "512" in small and "2.4" in small and "2.3 GB" in small and "2.6 GB" not in small
    assert lookup("memory.int8", language) in small and lookup("memory.none", language) in small
    assert t("memory.offload", language=language, percent="100") in small
    assert lookup("memory.int8", language) not in large and lookup("memory.none", language) not in large
    assert "ladder" not in checks(language, cards=[CARD]) and "ladder" not in checks(language)


def test_a_build_without_cuda_beside_a_good_card_is_named() -> None:
    check = checks(cards=[CARD])["torch"]
    assert check.ok is False
    assert "2.13.0+cpu" in check.detail and CARD["name"] in check.detail
    assert ".venv" in check.remedy


def test_a_driver_too_old_for_the_build_is_named() -> None:
    torch = CPU | {
        "version": "2.13.0",
        "cuda": "13.0",
        "why": "The NVIDIA driver on your system is too old",
        "xformers": IDLE,
    }
    check = checks(cards=[CARD | {"driver": "470.1"}], torch=torch)["torch"]
    assert check.ok is False and "470.1" in check.detail and "driver" in check.remedy


def test_cuda_that_works_is_said_with_the_attention_and_why() -> None:
    attention = ["xformers", "1.30 times sdpa's speed"]
    works = {"state": "works", "version": "0.0.35", "detail": ""}
    torch = CPU | {"version": "2.13.0", "cuda": "13.0", "cuda_works": True, "attention": attention, "xformers": works}
    found = checks(cards=[CARD], torch=torch)
    assert found["torch"].ok and found["attention"].detail == "xformers (1.30 times sdpa's speed)"
    assert found["xformers"].ok and "0.0.35" in found["xformers"].detail


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("environment", {"environment": "half", "torch": None, "versions": []}),
        ("python", {"python": "3.10.4"}),
        ("python", {"bits": 32}),
        ("torch", {"torch": {"failed": "hung"}}),
        ("torch", {"torch": {"failed": "crashed", "detail": "-11"}}),
        ("torch", {"torch": {"failed": "broken", "detail": "ImportError: libcudnn.so.9"}}),
        ("packages", {"versions": [("torch", "2.13.0", "2.12.0"), ("peft", "0.21.2", None)]}),
        ("disk", {"disk": 1_000_000_000}),
        ("disk", {"writable": False}),
    ],
)
@pytest.mark.parametrize("language", ["en", "ja"])
def test_what_is_wrong_comes_with_one_line_of_advice(name: str, changed: dict[str, Any], language: str) -> None:
    found = checks(language, **changed)
    assert found[name].ok is False
    assert found[name].remedy and "\n" not in found[name].remedy
    assert [other for other, check in found.items() if check.ok is False] == [name]
    for check in found.values():
        assert "{" not in check.detail + check.remedy and not check.detail.startswith("doctor.")


def test_what_is_only_worth_knowing_is_no_fault() -> None:
    mismatch = {"state": "mismatch", "version": "0.0.35", "detail": "built for torch 2.10"}
    found = checks(hub=False, fonts=False, memory=(4_000_000_000, 1), torch=CPU | {"xformers": mismatch})
    assert {name for name, check in found.items() if check.ok is None} == {"card", "xformers", "hub", "fonts", "memory"}
    assert all(found[name].remedy for name in ("card", "hub", "fonts", "memory"))


def test_the_lines_show_a_mark_each_and_the_advice_below() -> None:
    rows = as_text([Check("a", "Disk", False, "full", "Make room."), Check("b", "Hub", None, "silent")]).splitlines()
    assert rows == ["✗ Disk: full", "    → Make room.", "– Hub: silent"]


def test_a_child_that_hangs_or_crashes_does_not_take_the_doctor_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    probes = tmp_path / "trainer" / "engine" / "probes"
    probes.mkdir(parents=True)
    for folder in (tmp_path / "trainer", probes.parent, probes):
        (folder / "__init__.py").write_text("")
    monkeypatch.setattr(doctor_facts, "PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    child = probes / "doctor_probe.py"
    child.write_text("import time; time.sleep(60)")
    assert doctor_facts._probe(limit=0.5) == {"failed": "hung"}
    child.write_text("import os; os.abort()")
    assert doctor_facts._probe()["failed"] == "crashed"
    child.write_text("raise ImportError('no libcudnn')")
    assert doctor_facts._probe() == {"failed": "broken", "detail": "ImportError: no libcudnn"}
    child.write_text("print('noise'); print('{\"version\": \"2\"}')")
    assert doctor_facts._probe() == {"version": "2"}


def test_a_card_is_read_from_the_drivers_own_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("the tool of this test is a shell script")
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 570.86.15, 9.0, 81559, [N/A]'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor_facts.nvidia_cards() == [
        {"name": "NVIDIA H100 80GB HBM3", "driver": "570.86.15", "capability": "9.0", "total": 81559 * 2**20, "free": 0}
    ]
    tool.write_text('#!/bin/sh\necho "$3, 570.86.15, 9.0, 81559, 5"\n')
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [card["name"] for card in doctor_facts.nvidia_cards()] == ["--id=1"]  # the tool itself does not look there
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert doctor_facts.nvidia_cards() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    tool.write_text("#!/bin/sh\necho 'Failed to initialize NVML'\nexit 9\n")
    assert doctor_facts.nvidia_cards() == []
    tool.write_text("#!/bin/sh\nexec /bin/sleep 30\n")
    assert doctor_facts.nvidia_cards(limit=0.3) == []


def test_the_whole_diagnosis_as_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trainer", "doctor", "--json", "--home", str(tmp_path), "--lang", "ja"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, encoding="utf-8", check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert found["environment"]["ok"] is True and found["python"]["ok"] is True
    assert found["python"]["title"] == "Python" and found["disk"]["title"] == "ディスク"
    assert "2.13.0" in found["torch"]["detail"]
    assert str(tmp_path) in found["disk"]["detail"]
