"""Who may talk to the page and what a browser may do with it. One ASGI middleware in front of everything (app/server/main.py).

This studio has no login, so it answers only by a name of this very machine and only to its own pages: another site open
in the same browser can neither post to it nor read from it (ASVS 5.0: 3.4, 3.5, 5.2).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trainer.core.texts import t

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
SMALL_BODY = 4 * 1024 * 1024
"""What any request may carry; only the upload of a picture or a zip may be larger and counts its bytes itself."""
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9.-]+|::1)(?::[0-9]{1,5})?")
CLOSED = re.compile(
    r"/(?:en|ja)?/*(?:gradio_api/+(?:openapi\.json|mcp|api|call|deep_link|runs|run-history|vibe-[a-z-]+|process_recording|dev"
    r"|profiling|stream|custom_component)|monitoring)(?:/|$)",
    re.IGNORECASE,
)
"""What Gradio offers to programs and to its own makers. This studio's pages use none of it."""
EMPTY_NAME = re.compile(rb'filename\*?=(?:""|UTF-8\'\'\s*[;\r\n])', re.IGNORECASE)
_MODULES = ("accelerometer", "camera", "geolocation", "gyroscope", "microphone", "payment", "usb")


def policy(nonce: str) -> str:
    """The content security policy of a page. Measured in Chromium with Gradio 6.31: no eval, no foreign address; styles
    must stay inline because Gradio writes them so."""
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' 'nonce-{nonce}'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self'",
            "connect-src 'self'",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


class RequestGuardMiddleware:
    """Checks each request before anything else sees it and puts the security headers on each answer."""

    def __init__(self, app: ASGIApp, names: Iterable[str] = (), large: str = "/uploads/") -> None:
        self.app, self.large = app, large
        self.names = LOOPBACK | {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        nonce = secrets.token_urlsafe(16)
        scope.setdefault("state", {})["nonce"] = nonce

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                _dress(MutableHeaders(raw=message["headers"]), nonce)
            await send(message)

        refusal = self.refusal(scope)
        if refusal is None and scope["type"] == "http":
            receive, refusal = await self._body(scope, receive)
        if refusal is not None:
            status, key = refusal
            lang = "ja" if scope["path"].startswith("/ja") else "en"
            await PlainTextResponse(t(f"app.refused.{key}", language=lang), status)(scope, receive, dressed)
            return
        await self.app(scope, receive, dressed)

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Why a request is not answered, as status and text key, from its head alone."""
        headers = Headers(scope=scope)
        if _host(headers.get("host", "")) not in self.names:
            return 400, "host"
        origin = headers.get("origin")
        if scope.get("method", "GET") not in ("GET", "HEAD", "OPTIONS") or scope["type"] == "websocket":
            if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return 403, "origin"
            if origin is not None and not _own(origin, headers):
                return 403, "origin"
        elif _for_another_page(headers) or (origin is not None and not _own(origin, headers)):
            return 403, "origin"
        path = unquote(scope["path"])
        if CLOSED.match(path):
            return 404, "file"
        if re.search(r"/gradio_api/(?:file[=/]|proxy=|stream/).*(?:https?:|//)", path.replace("/gradio_api//", "/gradio_api/")):
            return 403, "file"
        return None

    async def _body(self, scope: Scope, receive: Receive) -> tuple[Receive, tuple[int, str] | None]:
        """Bodies are small except uploads, and a part without a file name is refused instead of breaking Gradio."""
        headers = Headers(scope=scope)
        arrives = scope["method"] == "PUT" and scope["path"].startswith(self.large)
        if arrives or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return receive, None
        said = headers.get("content-length", "")
        if said.isdigit() and int(said) > SMALL_BODY:
            return receive, (413, "large")
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return receive, (400, "broken")
            body += message.get("body", b"")
            if len(body) > SMALL_BODY:
                return receive, (413, "large")
            if not message.get("more_body"):
                break
        if headers.get("content-type", "").startswith("multipart/") and EMPTY_NAME.search(body):
            return receive, (400, "filename")
        return _again(bytes(body), receive), None


def _own(origin: str, headers: Headers) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    except ValueError:  # no address at all, such as `http://[`
        return False


def _for_another_page(headers: Headers) -> bool:
    """Whether another site's page fetches a part of ours; a link from there may still open a whole page."""
    foreign = headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
    return foreign and headers.get("sec-fetch-mode", "navigate") != "navigate"


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body already read once more, then what comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _host(value: str) -> str:
    """The name in a Host header, without its port; empty where what follows is no port."""
    match = _HOST.fullmatch(value.strip().lower())
    return match[1] if match else ""


def _dress(headers: MutableHeaders, nonce: str) -> None:
    if headers.get("content-type", "").startswith("text/html"):
        headers["Content-Security-Policy"] = policy(nonce)
        headers["Cache-Control"] = "no-store"
    else:
        headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Permissions-Policy"] = ", ".join(f"{name}=()" for name in _MODULES)
    for name in ("access-control-allow-origin", "access-control-allow-credentials"):
        if name in headers:
            del headers[name]
