"""A project to start from nothing, with a package index of its own."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


PARTS = ["__init__", "core", "hardware"]
"""What of `trainer` a start needs before anything is installed."""


SPEAK = "import sys; import alpha; print('ran', *sys.argv[1:], 'alpha', alpha.version, 'venv', sys.prefix)\n"


def wheel(name: str, version: str, requires: str = "") -> bytes:
    """A real wheel with one module that knows its version; `requires` is what it depends on."""
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text)}")
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    memory = BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return memory.getvalue()


@dataclass
class Index:
    """A package index (simple HTML pages) below `url`. Folders such as `simple` or `whl/cpu` are separate indexes."""

    url: str
    wheels: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    held: dict[str, threading.Event] = field(default_factory=dict)

    def add(self, folder: str, name: str, version: str, requires: str = "") -> None:
        self.wheels[f"/{folder}/{name}/{name}-{version}-py3-none-any.whl"] = wheel(name, version, requires)

    def sha256(self, name: str, version: str) -> str:
        """The digest of a wheel in `simple`, as a lock names it."""
        return hashlib.sha256(self.wheels[f"/simple/{name}/{name}-{version}-py3-none-any.whl"]).hexdigest()

    def fetched(self, name: str) -> int:
        """How often a wheel of that package was fetched."""
        return sum(path.endswith(".whl") and f"/{name}-" in path for path in self.asked)


class serving:
    """`with serving() as index:` runs an index with `alpha` 1.0 and `beta` 1.0 in `simple`."""

    def __enter__(self) -> Index:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.split("?")[0].replace("%2B", "+")
                it.asked.append(path)
                if path in it.held:
                    it.held[path].wait(30)
                links = [p for p in it.wheels if p.startswith(path) and path.endswith("/")]
                body = (
                    it.wheels.get(path)
                    or "".join(f'<a href="{p.replace("+", "%2B")}">{p.rsplit("/", 1)[1]}</a><br>' for p in links).encode()
                )
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", "application/octet-stream" if path in it.wheels else "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except ConnectionError:  # the test killed who asked
                    return

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        it = Index(f"http://127.0.0.1:{self.server.server_address[1]}")
        it.add("simple", "alpha", "1.0")
        it.add("simple", "beta", "1.0")
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        self.index = it
        return it

    def __exit__(self, *_: object) -> None:
        for event in self.index.held.values():
            event.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@dataclass
class Project:
    """A copy of what launch.py needs, in a folder of its own, with other requirements."""

    folder: Path
    tools: Path

    @property
    def stamp(self) -> Path:
        return self.folder / ".venv" / "atelier.json"

    def packages(self) -> Path:
        return next((self.folder / ".venv").glob("lib/python*/site-packages"))

    def environment(self, index: Index | None, **more: str) -> dict[str, str]:
        """Nothing of this machine's pip settings; torch's own index is the loopback's `whl` (or a closed port)."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "ATELIER_", "PYTHON", "GRADIO_", "LC_"))}
        here = index.url if index else f"http://127.0.0.1:{closed_port()}"
        return kept | {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"{here}/simple/",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_RETRIES": "1",
            "ATELIER_TORCH_INDEX": f"{here}/whl",
            "LANG": "C.UTF-8",
            "PATH": f"{self.tools}{os.pathsep}{os.environ['PATH']}",
            **more,
        }

    def start(self, *words: str, index: Index | None = None, **more: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(self.folder / "launch.py"), *words]
        out = subprocess.PIPE
        return subprocess.Popen(
            command, stdout=out, stderr=out, text=True, env=self.environment(index, **more), start_new_session=True
        )

    def launch(self, *words: str, index: Index | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, index=index, **more)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def closed_port() -> int:
    """A port of this machine where nothing answers."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def card(tools: Path, says: str | None) -> None:
    """A graphics driver's tool for the test: it answers with `says` (name, driver, capability) and 8 GB of memory, or finds
    no card as on a machine without one."""
    tool = tools / "nvidia-smi"
    tool.write_text("#!/bin/sh\n" + (f"echo '{says}, 8192, 8000'\n" if says else "exit 9\n"))
    tool.chmod(0o755)


def new_project(folder: Path) -> Project:
    """launch.py and what it imports, two small requirements, a `trainer` that says what it was asked."""
    for name in ("launch.py", "app/__init__.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name in ("app/bootstrap", "app/texts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "trainer").mkdir()
    for part in PARTS:
        place = ROOT / "trainer" / part
        if place.is_dir():
            shutil.copytree(place, folder / "trainer" / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(place.with_suffix(".py"), folder / "trainer" / f"{part}.py")
    (folder / "trainer" / "__main__.py").write_text(SPEAK)
    (folder / "requirements.txt").write_text("alpha==1.0\nbeta==1.0\n")
    (folder / "requirements-dev.txt").write_text("-r requirements.txt\n")
    tools = folder / "tools"
    tools.mkdir()
    card(tools, None)
    return Project(folder, tools)


@dataclass
class First:
    """A project after its first start, and what that start said and fetched."""

    project: Project
    done: subprocess.CompletedProcess[str]
    asked: list[str]
