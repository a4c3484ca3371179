"""`launch.py test`: what the tests need besides Python packages, that is a browser. Called by cli.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from app.bootstrap.say import Stop, say
from trainer.hardware.facts import japanese_fonts

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge", "msedge")
PLACES = {
    "win32": (
        r"%ProgramFiles%\Google\Chrome\Application\chrome.exe",
        r"%ProgramFiles(x86)%\Google\Chrome\Application\chrome.exe",
        r"%LocalAppData%\Google\Chrome\Application\chrome.exe",
        r"%ProgramFiles(x86)%\Microsoft\Edge\Application\msedge.exe",
        r"%ProgramFiles%\Microsoft\Edge\Application\msedge.exe",
    ),
    "darwin": (
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
        "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    ),
}
DEBIAN = ("chromium", "fonts-noto-cjk")


def find_browser() -> str | None:
    """A Chromium to drive: the one CHROMIUM names, one on the PATH, or one where its installer puts it."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named if os.access(named, os.X_OK) else None
    on_path = next(filter(None, map(shutil.which, NAMES)), None)
    usual = (os.path.expandvars(place) for place in PLACES.get(sys.platform, ()))
    return on_path or next((place for place in usual if os.path.exists(place)), None)


def can_install() -> bool:
    """Whether Debian's package manager is here and may be used: root only, nothing is asked."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return is_root and Path("/etc/debian_version").exists() and shutil.which("apt-get") is not None


def pytest_arguments(given: list[str]) -> list[str]:
    """What pytest is started with: everything, slow tests too, in as many processes as there are cores, at most four, where
    nothing is chosen. Finds or installs a browser; without one the browser tests are left out and that is said, except in a
    CI run, where it is a failure."""
    given = given or ["-n", str(min(os.cpu_count() or 1, 4)), "--dist", "loadfile"]
    browser = find_browser()
    lacking = japanese_fonts() is False or (browser is None and not os.environ.get("CHROMIUM"))
    if lacking and can_install():
        say("installing_browser")
        quiet = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        for words in (["update"], ["install", "-y", "--no-install-recommends", *DEBIAN]):
            subprocess.run(["apt-get", "-q", *words], env=quiet, stdout=subprocess.DEVNULL, check=False)
        browser = find_browser()
    if browser:
        os.environ["CHROMIUM"] = browser
        return given
    if os.environ.get("CI", "").lower() == "true":
        raise Stop("no_browser_ci")
    say("no_browser")
    return given if "-m" in given else [*given, "-m", "not browser"]
