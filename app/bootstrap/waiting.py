"""The page that answers while the studio is being loaded, on the very socket that the studio takes over.

Called by ui.py. Nothing is ever refused: connections that come between this server's end and the studio's start wait in
the socket's queue, and one that was opened early and speaks late is sent on (307: same address, same method and body).
"""

from __future__ import annotations

import html
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from trainer.core.texts import LANGUAGES, lookup, t

SIGN = "X-LoRA-Atelier"  # every answer of ours carries it, with the mark of the home it serves
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
LARGEST_BODY = 1 << 20
PAGE = Path(__file__).with_name("waiting.html")


def language_for(path: str, accepted: str, chosen: str | None = None) -> str:
    """The language of a request: `/ja` or `/en` in its path, the one chosen at the start, or the browser's wish."""
    first = path.strip("/").split("/")[0]
    if first in LANGUAGES:
        return first
    if chosen in LANGUAGES:
        return chosen
    wishes = []
    for position, wish in enumerate(accepted.split(",")):
        name, _, weight = wish.strip().partition(";q=")
        try:
            wishes.append((-float(weight or 1), position, name[:2].lower()))
        except ValueError:
            continue
    return next((name for _, _, name in sorted(wishes) if name in LANGUAGES), "en")


def page(language: str) -> str:
    """The waiting page in one language."""
    words = {key: str(text) for key, text in (lookup("launch.page", language) or {}).items()}
    text = PAGE.read_text("utf-8").replace("{{language}}", language)
    text = text.replace("{{words}}", json.dumps(words, ensure_ascii=False).replace("<", "\\u003c"))
    for key, word in words.items():
        text = text.replace("{{" + key + "}}", html.escape(word))
    return text


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 30
    protocol_version = "HTTP/1.0"  # one request per connection: the next one may be the studio's
    server_version, sys_version = "LoRA-Atelier", ""

    def do_GET(self) -> None:
        path, query = urlsplit(self.path)[2:4]
        length = self.headers.get("Content-Length", "0")  # unread bytes would break the connection
        self.rfile.read(min(int(length), LARGEST_BODY) if length.isdigit() else 0)
        if self.server.over:
            self._send(307, "", "text/plain", {"Location": self.path})
        elif path == "/healthz":
            status = 202 if query == "page" else 503  # our page asks often: a 503 would fill the browser's console
            self._send(status, '{"ready": false}', "application/json", {"Retry-After": "1"})
        elif self.command == "GET" and not path.startswith("/gradio_api"):
            language = language_for(path, self.headers.get("Accept-Language", ""), self.server.language)
            headers = {"Content-Security-Policy": POLICY, "Content-Language": language}
            self._send(200, page(language), "text/html", headers)
        else:
            self._send(503, t("launch.page.title"), "text/plain", {"Retry-After": "2"})

    do_POST = do_HEAD = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = do_GET

    def _send(self, status: int, text: str, kind: str, headers: dict[str, str]) -> None:
        body = text.encode("utf-8")
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header(SIGN, self.server.mark)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal is for the person."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    over = False

    def __init__(self, sock: socket.socket, language: str | None, mark: str) -> None:
        super().__init__(sock.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.language, self.mark = sock, language, mark

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away while it was answered is nothing to tell."""


class SplashPage:
    """Answers on `sock` from a thread until `hand_over`."""

    def __init__(self, sock: socket.socket, language: str | None, mark: str) -> None:
        self._server = _Server(sock, language, mark)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def hand_over(self) -> None:
        """Stop taking connections; the socket stays open and listening for whoever takes them next."""
        self._server.shutdown()
        self._thread.join()
        self._server.over = True
