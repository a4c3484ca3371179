"""`launch.py ui` as a process: answers at once, becomes the real page, ends cleanly. The studio is a stand-in."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.launching import Project, closed_port, new_project

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.skipif(os.name == "nt", reason="ends processes with POSIX signals")

STUDIO = """
import os, time
from fastapi import FastAPI
time.sleep(float(os.environ.get("SLOW_START", "1")))
def create_app(home, lang):
    app = FastAPI()
    @app.get("/healthz")
    def healthz():
        return {"ready": True}
    @app.get("/favicon.ico")
    def icon():
        return {}
    @app.get("/")
    def root():
        hub = os.environ["HF_HUB_DISABLE_TELEMETRY"] in ("1", "True")
        return {"home": str(home), "lang": lang,
                "analytics": os.environ["GRADIO_ANALYTICS_ENABLED"], "hub": hub}
    return app
"""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that counts as installed: its environment borrows the packages of this one."""
    project = new_project(tmp_path_factory.mktemp("ui") / "project")
    (project.folder / "app" / "server").mkdir(exist_ok=True)
    (project.folder / "app" / "server" / "__init__.py").touch()
    (project.folder / "app" / "server" / "main.py").write_text(STUDIO)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(project.folder / ".venv")], check=True)
    (project.packages() / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    code = "import app.bootstrap.install as i; v = i.Venv.find(); print(v.digest(i.RUN))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.folder,
        env=project.environment(None),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    project.stamp.write_text(json.dumps({"requirements.txt": done.stdout.strip()}))
    return project


@pytest.fixture
def start(studio: Project) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes and leaves none behind."""
    running: list[subprocess.Popen[str]] = []

    def begin(*words: str, **more: Any) -> subprocess.Popen[str]:
        running.append(studio.start(*words, **more))
        return running[-1]

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
            process.communicate()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def get(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.read().decode()


def first_answer(url: str, process: subprocess.Popen[str], **headers: str) -> tuple[float, int, str]:
    """Seconds until something answered, and what."""
    begin = time.monotonic()
    while time.monotonic() - begin < 20 and process.poll() is None:
        try:
            status, text = get(url, **headers)
        except OSError:
            time.sleep(0.02)
            continue
        return time.monotonic() - begin, status, text
    raise AssertionError(f"nothing answered: {process.communicate()}")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_page_answers_at_once_becomes_the_studio_and_ends_cleanly(
    studio: Project, start: Callable[..., subprocess.Popen[str]], tmp_path: Path, how: signal.Signals
) -> None:
    port = closed_port()
    url = f"http://127.0.0.1:{port}/"
    home = tmp_path / "a home"
    process = start("--no-browser", "--port", str(port), "--home", str(home))
    seconds, status, text = first_answer(url, process, **{"Accept-Language": "ja"})
    assert status == 200 and "アトリエを開いています" in text
    assert seconds < 3.0  # the promise is one second; the machine may be busy
    assert get(url + "healthz")[0] == 503
    assert process.stdout is not None
    assert process.stdout.readline() == url + "\n"  # on one line, once the real page answers
    assert get(url + "healthz") == (200, '{"ready":true}')
    real = json.loads(get(url)[1])
    assert real == {
        "home": str(home),
        "lang": None,
        "analytics": "False",
        "hub": True,
    }
    os.killpg(process.pid, how)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out == ""
    assert err == "Opening the studio …\nThe page is closed. Trainings go on by themselves; start again to see them.\n"


@pytest.mark.browser
def test_the_waiting_page_turns_into_the_studio_by_itself(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, chromium: Browser
) -> None:
    from playwright.sync_api import expect

    context = chromium.new_context(locale="ja-JP", viewport={"width": 390, "height": 700})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    port = closed_port()
    process = start("--no-browser", "--port", str(port), "--home", str(tmp_path), SLOW_START="3")
    first_answer(f"http://127.0.0.1:{port}/", process)
    page.goto(f"http://127.0.0.1:{port}/")
    expect(page.get_by_role("heading")).to_have_text("LoRA Atelier")
    expect(page.get_by_role("status")).to_have_text("アトリエを開いています …")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator("body")).to_contain_text('"analytics":"False"', timeout=20_000)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(20)
    context.close()
    assert said == []


def test_a_second_start_shows_the_studio_that_is_open_already(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    port = closed_port()
    url = f"http://127.0.0.1:{port}/"
    words = ("ui", "--no-browser", "--port", str(port), "--home")
    one = start(*words, str(tmp_path / "one"))
    first_answer(url, one)
    same = start(*words, str(tmp_path / "one"))  # while the first is still opening
    _, err = same.communicate(timeout=20)
    assert (same.returncode, err) == (0, f"The studio is open already: {url}\n")
    assert one.stdout is not None and one.stdout.readline() == url + "\n"
    same = start(*words, str(tmp_path / "one"))
    _, err = same.communicate(timeout=20)
    assert (same.returncode, err) == (0, f"The studio is open already: {url}\n")
    other = start(*words, str(tmp_path / "other"))
    assert other.stdout is not None and other.stderr is not None
    assert other.stderr.readline().startswith(f"Port {port} is used by another program; using ")
    assert json.loads(get(other.stdout.readline().strip())[1])["home"] == str(tmp_path / "other")


def test_a_port_that_another_program_uses_is_left_to_it(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    server.RequestHandlerClass = type("Quiet", (http.server.BaseHTTPRequestHandler,), {"log_message": lambda *_: None})
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    port = server.server_address[1]
    process = start("--no-browser", "--port", str(port), "--home", str(tmp_path), "--lang", "ja")
    assert process.stdout is not None and process.stderr is not None
    said = process.stderr.readline()
    address = process.stdout.readline().strip()
    server.shutdown()
    thread.join()
    server.server_close()
    assert said.startswith(f"ポート {port} はほかのプログラムが使っているので、")
    other = int(address.rstrip("/").rsplit(":", 1)[1])
    assert port < other <= port + 20
    assert json.loads(get(address)[1])["lang"] == "ja"


def test_a_studio_that_cannot_be_loaded_is_told_with_its_reason(studio: Project, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(studio.folder, folder, symlinks=True)
    (folder / "app" / "server" / "main.py").write_text("raise RuntimeError('a broken part')\n")
    done = Project(folder, folder / "tools").launch("--no-browser", "--port", "0")
    assert done.returncode == 1 and done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("The page could not be opened: RuntimeError: a broken part.") and "doctor" in last


def test_vibe_mode_is_refused(studio: Project) -> None:
    done = studio.launch("--no-browser", GRADIO_VIBE_MODE="1")
    assert done.returncode == 2 and done.stderr.startswith("GRADIO_VIBE_MODE is set")


def test_a_home_that_cannot_be_written_to_is_refused(studio: Project, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = studio.launch("--no-browser", "--port", "0", "--home", str(tmp_path / "file"))
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "cannot be written to" in done.stderr
