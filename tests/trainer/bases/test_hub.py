"""Fetching a base from a hub, against a small hub on loopback: resumed, checked by hash, refused with a sentence."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from safetensors.numpy import save

from tests.trainer.bases.test_catalog import TEXT, UNET
from trainer.bases import catalog, hub
from trainer.core.home import Home
from trainer.core.problem import Problem

COMMIT = "a" * 40
SECRET = "hf_planted0secret"


class Hub(ThreadingHTTPServer):
    """One repository's files, and how it misbehaves."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files: dict[str, bytes] = {}
        self.corrupt: dict[str, int] = {}
        self.status = 200
        self.error = ""
        self.gated = False
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub_, path = self.server, unquote(urlsplit(self.path).path)
        hub_.asked.append(f"{self.command} {path}")
        hub_.tokens.add(self.headers.get("Authorization"))
        if hub_.gated:
            return self._send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
        if hub_.status != 200:
            return self._send(hub_.status, b"{}", {"X-Error-Code": hub_.error} if hub_.error else None)
        if path.startswith("/api/models/owner/name"):
            if "/revision/" in path and path.rsplit("/", 1)[1] not in ("main", "v1", COMMIT):
                return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            if "/tree/" in path:
                return self._send(
                    200,
                    json.dumps([self._entry(name) | {"type": "file", "path": name} for name in hub_.files]).encode(),
                )
            siblings = [self._entry(name) | {"rfilename": name} for name in hub_.files]
            return self._send(200, json.dumps({"id": "owner/name", "sha": COMMIT, "siblings": siblings}).encode())
        name = path.removeprefix(f"/owner/name/resolve/{COMMIT}/")
        if name not in hub_.files:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound" if path.startswith("/api") else "EntryNotFound"})
        data = hub_.files[name]
        etag = hashlib.sha256(data).hexdigest()
        if self.command == "GET" and hub_.corrupt.get(name, 0) > 0:
            hub_.corrupt[name] -= 1
            data = bytes(len(data))
        return self._send(200, data, {"ETag": f'"{etag}"'})

    def _entry(self, name: str) -> dict[str, Any]:
        data = self.server.files[name]
        found: dict[str, Any] = {
            "size": len(data),
            "oid": hashlib.sha1(data).hexdigest(),
            "blobId": hashlib.sha1(data).hexdigest(),
        }
        if name.endswith((".safetensors", ".bin")):
            digest = hashlib.sha256(data).hexdigest()
            found["lfs"] = {"size": len(data), "sha256": digest, "oid": digest, "pointerSize": 130}
        return found


def _repository(weights: str = ".safetensors") -> dict[str, bytes]:
    trees: dict[str, Any] = {
        "model_index.json": {"_class_name": "StableDiffusionPipeline"},
        "unet/config.json": UNET,
        "text_encoder/config.json": TEXT,
        "vae/config.json": {"block_out_channels": [128, 256, 512, 512]},
        "scheduler/scheduler_config.json": {},
        "tokenizer/tokenizer_config.json": {},
        "tokenizer/vocab.json": {},
    }
    found = {name: json.dumps(tree).encode() for name, tree in trees.items()}
    found["README.md"] = b"---\nlicense: openrail++\n---\n"
    found["tokenizer/merges.txt"] = b"#version"
    for part, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        found[f"{part}/{stem}{weights}"] = save({"w": np.full((64, 64), len(part), np.float16)})
    # what must stay where it is: pickles, code, other sizes, things nobody asked for
    found["unet/diffusion_pytorch_model.bin"] = b"\x80\x02hostile"
    found["pipeline.py"] = b"import os"
    found["safety_checker/model.safetensors"] = save({"w": np.zeros(8, np.float16)})
    found["v1-5.ckpt"] = b"\x80\x02hostile"
    return found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    running = Hub()
    running.files = _repository()
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", running.address)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.find(tmp_path / "home").create()


def _refusal(home: Home, given: str = "owner/name", token: str | None = None) -> Problem:
    with pytest.raises(Problem) as told:
        catalog.download(catalog.find(home, given), home, token=token)
    problem = told.value
    for language in ("en", "ja"):
        sentence = problem.sentence(language)
        assert sentence != f"problems.{problem.code}" and SECRET not in sentence and "Traceback" not in sentence
    assert problem.field == "model.base"
    return problem


def test_progress_is_told_where_bars_are_switched_off(server: Hub, home: Home) -> None:
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    seen: list[tuple[int, int]] = []
    disable_progress_bars()  # as transformers does when it is told to be quiet
    try:
        catalog.download(catalog.find(home, "owner/name"), home, progress=lambda done, of: seen.append((done, of)))
    finally:
        enable_progress_bars()
    assert seen[-1][0] == seen[-1][1] > 0


def test_a_base_is_fetched_checked_and_found_again(server: Hub, home: Home) -> None:
    seen: list[tuple[int, int]] = []
    path = catalog.download(catalog.find(home, "owner/name"), home, progress=lambda done, total: seen.append((done, total)))
    fetched = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    kept = {name for name in server.files if not name.endswith((".bin", ".ckpt", ".py")) and not name.startswith("safety")}
    assert fetched == kept | {hub.STAMP}
    assert all((path / name).read_bytes() == server.files[name] for name in kept)
    assert seen and seen[-1][0] == seen[-1][1] == sum(len(server.files[name]) for name in kept)
    facts = catalog.find(home, "owner/name")
    assert (facts.path, facts.layout, facts.revision, facts.family) == (path, "hub", COMMIT, "sd1")
    assert facts.licence_facts.key == "openrail_pp_m" and facts.id == "owner/name"
    assert [found.id for found in catalog.list_bases(home)] == ["mini", "owner/name"]
    before = len(server.asked)
    assert catalog.download(facts, home) == path and catalog.find(home, "owner/name", COMMIT[:8]).path == path
    assert len(server.asked) == before
    assert not any(name in asked for asked in server.asked for name in (".ckpt", ".bin", "pipeline.py", "safety_checker"))


def test_half_precision_is_taken_where_there_is_nothing_else(server: Hub, home: Home) -> None:
    server.files = _repository(".fp16.safetensors")
    path = catalog.download(catalog.find(home, "owner/name@v1"), home)
    assert (path / "unet" / "diffusion_pytorch_model.fp16.safetensors").exists()
    assert hub.stamp(path) == {"id": "owner/name", "revision": COMMIT, "asked": "v1"}
    assert catalog.find(home, "owner/name@v1").path == path


def test_a_broken_download_goes_on_where_it_stopped(server: Hub, home: Home) -> None:
    name = "unet/diffusion_pytorch_model.safetensors"
    whole, server.files[name] = server.files[name], b""
    good = dict(server.files)
    del server.files["vae/diffusion_pytorch_model.safetensors"]
    assert _refusal(home).code in ("base_pickle_only", "base_parts")
    server.files = good | {name: whole}
    path = catalog.download(catalog.find(home, "owner/name"), home)
    assert (path / name).read_bytes() == whole
    assert [item.name for item in home.models.iterdir()] == ["owner--name"]


def test_a_wrong_hash_is_fetched_again_once(server: Hub, home: Home) -> None:
    name = "unet/diffusion_pytorch_model.safetensors"
    server.corrupt[name] = 1
    path = catalog.download(catalog.find(home, "owner/name"), home)
    assert (path / name).read_bytes() == server.files[name]


def test_a_hash_that_stays_wrong_is_refused(server: Hub, home: Home) -> None:
    server.corrupt["unet/diffusion_pytorch_model.safetensors"] = 99
    assert _refusal(home).code == "hub_hash"
    assert [facts.id for facts in catalog.list_bases(home)] == ["mini"] and catalog.find(home, "owner/name").path is None


def test_a_hub_that_cannot_be_reached(server: Hub, home: Home) -> None:
    server.shutdown()
    server.server_close()
    assert _refusal(home).code == "hub_offline"


@pytest.mark.parametrize(
    ("status", "error", "token", "code"),
    [
        (401, "RepoNotFound", None, "hub_not_found_no_token"),
        (401, "RepoNotFound", "hf_x", "hub_not_found"),
        (404, "RepoNotFound", None, "hub_not_found_no_token"),
        (401, "", None, "hub_gated"),
        (500, "", None, "hub_answer"),
        (503, "", None, "hub_answer"),
    ],
)
def test_what_the_hub_answers_is_told_as_what_to_do(
    server: Hub, home: Home, status: int, error: str, token: str | None, code: str
) -> None:
    server.status, server.error = status, error
    assert _refusal(home, token=token).code == code


def test_a_gated_base_tells_about_the_token_and_never_shows_it(server: Hub, home: Home) -> None:
    server.gated = True
    problem = _refusal(home, token=SECRET)
    assert problem.code == "hub_gated" and "HF_TOKEN" in problem.sentence("en")
    assert f"Bearer {SECRET}" in server.tokens
    for file in home.root.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()


def test_a_commit_that_is_not_there(server: Hub, home: Home) -> None:
    assert _refusal(home, "owner/name@gone").code == "hub_revision"


def test_bases_of_pickles_alone_and_of_other_shapes_are_refused(server: Hub, home: Home) -> None:
    server.files = {name: data for name, data in _repository().items() if not name.endswith(".safetensors")}
    assert _refusal(home).code == "base_pickle_only"
    server.files = {"model.safetensors": b"x", "README.md": b""}
    assert _refusal(home).code == "hub_no_folder"
    assert not any("resolve" in asked for asked in server.asked)


@pytest.mark.parametrize(
    "given", ["owner/../name", "owner//name", "/owner/name", "owner/name@", "owner/na me", "ｏwner/name", "owner"]
)
def test_what_is_no_hub_id(given: str) -> None:
    assert hub.parse(given) is None
