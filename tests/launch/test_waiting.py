"""The waiting page: answers at once, in the reader's language, and gives the socket over without losing a request."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
import uvicorn

from app.bootstrap.ui import listen
from app.bootstrap.waiting import SplashPage, language_for, page


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_page_is_whole_and_in_one_language(language: str) -> None:
    text = page(language)
    assert "{{" not in text
    assert f'<html lang="{language}">' in text
    assert ("アトリエを開いています" in text) == (language == "ja")
    assert ("Opening the studio" in text) == (language == "en")
    assert "http://" not in text and "https://" not in text  # nothing from elsewhere


@pytest.mark.parametrize(
    ("path", "accepted", "chosen", "language"),
    [
        ("/", "ja-JP,ja;q=0.9,en;q=0.8", None, "ja"),
        ("/", "en-US,en;q=0.9,ja;q=0.8", None, "en"),
        ("/", "fr-FR,fr;q=0.9,ja;q=0.3,en;q=0.7", None, "en"),
        ("/", "fr, de;q=x", None, "en"),
        ("/", "", None, "en"),
        ("/", "en", "ja", "ja"),
        ("/en/train", "ja", "ja", "en"),
        ("/ja/", "en", None, "ja"),
    ],
)
def test_the_language_is_the_readers(path: str, accepted: str, chosen: str | None, language: str) -> None:
    assert language_for(path, accepted, chosen) == language


async def studio(scope, receive, send) -> None:
    """A stand-in for the real page: answers `studio METHOD body`."""
    if scope["type"] == "lifespan":
        await receive()
        await asyncio.sleep(0.3)  # connections that come now wait in the socket's queue
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = (await receive()).get("body", b"")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"studio " + scope["method"].encode() + b" " + body})


def test_no_request_is_lost_while_the_socket_changes_hands() -> None:
    sock = listen("127.0.0.1", 0)
    assert sock is not None
    port = sock.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    waiting = SplashPage(sock, None, "mark")
    waiting.start()
    answers: list[str] = []
    failed: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                with urllib.request.urlopen(url, timeout=20) as answer:
                    answers.append("studio" if answer.read().startswith(b"studio") else "waiting")
            except OSError as error:
                failed.append(repr(error))
            time.sleep(0.005)

    readers = [threading.Thread(target=ask) for _ in range(6)]
    for reader in readers:
        reader.start()
    early = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    early.connect()  # a browser opens connections before it needs them
    time.sleep(0.3)
    waiting.hand_over()
    server = uvicorn.Server(uvicorn.Config(studio, log_level="error", timeout_graceful_shutdown=2))
    serving = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    serving.start()
    deadline = time.monotonic() + 30
    while answers.count("studio") < 50 and time.monotonic() < deadline:
        time.sleep(0.02)
    early.request("POST", "/gradio_api/x?y=1", b"body")
    late = early.getresponse()
    stop.set()
    for reader in readers:
        reader.join()
    server.should_exit = True
    serving.join()
    assert failed == []
    assert answers.count("waiting") >= 10 and answers.count("studio") >= 50
    assert (late.status, late.headers["Location"]) == (307, "/gradio_api/x?y=1")


def test_programs_are_told_to_wait_and_people_get_a_page() -> None:
    sock = listen("127.0.0.1", 0)
    assert sock is not None
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    waiting = SplashPage(sock, "ja", "mark")
    waiting.start()
    with urllib.request.urlopen(f"{url}/library", timeout=5) as answer:
        assert "アトリエを開いています" in answer.read().decode()
        assert answer.headers["Cache-Control"] == "no-store" and answer.headers["X-LoRA-Atelier"] == "mark"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    with urllib.request.urlopen(f"{url}/healthz?page", timeout=5) as answer:
        assert answer.status == 202  # what the page itself asks: not there yet, and no error in the browser's console
    for path, body in (("/healthz", None), ("/gradio_api/queue/join", b"{}"), ("/upload", b"x" * 300_000)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{url}{path}", body, timeout=5)
        assert refused.value.code == 503 and refused.value.headers["Retry-After"]
        refused.value.close()
    with socket.create_connection(sock.getsockname(), timeout=5) as rude:
        rude.sendall(b"\x16\x03\x01 what\r\n\r\n")
        assert b"400" in rude.recv(200)
    waiting.hand_over()
    sock.close()
