"""Sending a LoRA with its model card to a hub, against a small hub on loopback: what arrives, and what is told when not."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.helpers.studio import lora
from trainer.commands.card import main as card
from trainer.core.home import Home
from trainer.core.problem import Problem

SECRET = "hf_planted0secret"
COMMIT = "b" * 40


class Hub(ThreadingHTTPServer):
    """Takes repositories, large files and commits; `refuse` is the status it answers with instead."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.refuse = 0
        self.repositories: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _send(self, status: int, tree: Any = None) -> None:
        body = json.dumps({} if tree is None else tree).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._send(200, {"id": "owner/name", "sha": COMMIT, "siblings": []})

    def do_PUT(self) -> None:
        oid = urlsplit(self.path).path.rsplit("/", 1)[1]
        self.server.objects[oid] = self.rfile.read(int(self.headers["Content-Length"]))
        self._send(200)

    def do_POST(self) -> None:
        hub, path = self.server, urlsplit(self.path).path
        body = self._body()
        hub.tokens.add(self.headers.get("Authorization"))
        if hub.refuse:
            return self._send(hub.refuse, {"error": "no"})
        if path == "/api/repos/create":
            said = json.loads(body)
            name = f"{said.get('organization') or 'owner'}/{said['name'].rsplit('/')[-1]}"
            if name in hub.repositories:
                return self._send(409, {"error": "You already created this model repo", "url": f"{hub.address}/{name}"})
            hub.repositories[name] = said
            return self._send(200, {"url": f"{hub.address}/{name}", "name": name})
        if "/preupload/" in path:
            asked = [one["path"] for one in json.loads(body)["files"]]
            modes = [{"path": one, "uploadMode": "lfs" if one.endswith(".safetensors") else "regular", "shouldIgnore": False}
                     for one in asked]  # fmt: skip
            return self._send(200, {"files": modes})
        if path.endswith("/info/lfs/objects/batch"):
            objects = [one | {"actions": {"upload": {"href": f"{hub.address}/put/{one['oid']}"}}}
                       for one in json.loads(body)["objects"]]  # fmt: skip
            return self._send(200, {"transfer": "basic", "objects": objects})
        if "/commit/" in path:
            for line in body.splitlines():
                said = json.loads(line)
                if said["key"] == "file":
                    hub.files[said["value"]["path"]] = base64.b64decode(said["value"]["content"])
                elif said["key"] == "lfsFile":
                    hub.files[said["value"]["path"]] = hub.objects[said["value"]["oid"]]
            address = f"{hub.address}/owner/name/commit/{COMMIT}"
            return self._send(200, {"commitUrl": address, "commitOid": COMMIT, "success": True})
        return self._send(200)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    running = Hub()
    threading.Thread(target=running.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", running.address)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # its storage is a service of its own
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    made = Home.find().create()
    lora(made, "fox")
    return made


def test_a_lora_goes_out_privately_with_its_card_and_picture(server: Hub, home: Home, capsys) -> None:
    assert card(["fox", "--send", "owner/name"]) == 0
    assert capsys.readouterr().out.strip() == f"{server.address}/owner/name"
    assert server.repositories["owner/name"]["visibility"] == "private"
    assert set(server.files) >= {"README.md", "fox.safetensors", "fox.png"}
    assert server.files["fox.safetensors"] == (home.loras / "fox.safetensors").read_bytes()
    assert b"inkfox" in server.files["README.md"]
    assert server.tokens == {f"Bearer {SECRET}"}
    kept = [file for file in home.root.rglob("*") if file.is_file()]
    assert kept and not any(SECRET.encode() in file.read_bytes() for file in kept)


def test_a_name_that_is_taken_needs_update_and_public_is_asked_for(server: Hub, home: Home) -> None:
    assert card(["fox", "--send", "owner/name", "--public"]) == 0
    assert server.repositories["owner/name"]["visibility"] == "public"
    with pytest.raises(Problem) as told:
        card(["fox", "--send", "owner/name"])
    assert told.value.code == "hub_send_taken" and "--update" in str(told.value)
    server.files.clear()
    assert card(["fox", "--send", "owner/name", "--update"]) == 0
    assert "README.md" in server.files


@pytest.mark.parametrize(
    ("status", "code"), [(401, "hub_send_no_token"), (403, "hub_send_forbidden"), (500, "hub_send_answer")]
)
def test_what_the_hub_refuses_is_told_without_the_token(server: Hub, home: Home, status: int, code: str) -> None:
    server.refuse = status
    with pytest.raises(Problem) as told:
        card(["fox", "--send", "owner/name"])
    assert told.value.code == code and not server.files
    for language in ("en", "ja"):
        assert SECRET not in told.value.sentence(language) and told.value.sentence(language) != f"problems.{code}"


def test_without_a_network_or_a_proper_name_nothing_is_sent(server: Hub, home: Home) -> None:
    for name in ("fox", "owner/name@main", "../name", "owner/na me"):
        with pytest.raises(Problem) as told:
            card(["fox", "--send", name])
        assert told.value.code == "hub_send_name"
    server.shutdown()
    server.server_close()
    with pytest.raises(Problem) as told:
        card(["fox", "--send", "owner/name"])
    assert told.value.code == "hub_send_offline"
