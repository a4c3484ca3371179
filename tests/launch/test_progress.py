"""What pip prints becomes a live line; how pip fails becomes a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.bootstrap.pip import Progress, why_it_failed
from app.bootstrap.say import cut, span
from trainer.core.texts import set_language

TRANSCRIPT = """\
Looking in indexes: http://127.0.0.1/simple
Collecting torch==2.13.0 (from -r requirements.txt (line 3))
  Downloading http://127.0.0.1/simple/torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (766.7 MB)
Collecting filelock (from torch)
  Using cached filelock-4.2.12-py3-none-any.whl (15 kB)
Collecting numpy<3
  Downloading numpy-2.4.6-cp311-cp311-win_amd64.whl.metadata (6.6 kB)
Processing /wheels/typing_extensions-4.16.0-py3-none-any.whl
Installing collected packages: filelock, typing-extensions, torch
""".splitlines(keepends=True)


def test_the_live_line_says_what_is_fetched_and_how_far_it_is() -> None:
    set_language("en")
    progress = Progress()
    progress.read(TRANSCRIPT[0])
    assert progress.sentence(0, 0, 2.0) == "Looking at the packages: 0 so far · 2 s"
    for text in TRANSCRIPT[1:3]:
        progress.read(text)
    assert progress.sentence(412_000_000, 0, 75.0) == "Fetching (1 packages found): torch 412/766.7 MB · 1 min 15 s"
    for text in TRANSCRIPT[3:7]:
        progress.read(text)
    assert progress.fetched == ["torch", "filelock"]  # the description of numpy is not numpy
    assert progress.sentence(15_000, 0, 80.0) == "Fetching (3 packages found): filelock 15 kB · 1 min 20 s"
    for text in TRANSCRIPT[7:]:
        progress.read(text)
    assert progress.installing == ["filelock", "typing_extensions", "torch"]
    assert progress.sentence(0, 2, 81.0) == "Unpacking 2 of 3 packages · 1 min 21 s"


def test_the_live_line_is_cut_to_the_window_and_japanese_counts_double() -> None:
    assert cut("abcdef", 4) == "abcd"
    assert cut("展開しています", 5) == "展開"
    assert cut("展開", 5, pad=True) == "展開 "
    set_language("ja")
    assert span(5) == "5 秒" and span(125) == "2 分 5 秒"
    set_language("en")


@pytest.mark.parametrize(
    ("said", "key"),
    [
        (
            "WARNING: Retrying … NewConnectionError('… [Errno 111] Connection refused')\nERROR: No matching",
            "no_registry",
        ),
        ("WARNING: Retrying … NameResolutionError('Temporary failure in name resolution')", "no_registry"),
        ("pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool: Read timed out.", "no_registry"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk_full"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]')): Max retries", "certificate"),
        ("ERROR: No matching distribution found for torch==2.13.0", "no_package"),
        (
            "ERROR: Could not install packages due to an OSError: [WinError 5] Access is denied: 'c10.dll'",
            "no_permission",
        ),
        ("ERROR: Failed building wheel for something", "pip_failed"),
        ("", "pip_failed"),
    ],
)
def test_each_way_pip_fails_has_its_sentence(said: str, key: str) -> None:
    set_language("en")
    stop = why_it_failed(said, Path("/home/me/.venv/install.log"))
    assert stop.key == key and stop.status == 1
    assert "{" not in str(stop) and str(stop) != f"launch.{key}"
