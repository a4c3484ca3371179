"""The HTML document around Gradio: language, styles, navigation, empty frame. Used by app/server/main.py for every page.

Gradio sends one English template with its own name in it. Here the template gets our language (before Gradio's scripts
choose theirs), our head and the navigation as plain HTML, so that it stands before any script has run.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from html import escape

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.pages import PAGES
from app.ui.theme import STATIC
from trainer.core.texts import LANGUAGES, t

PAGE = re.compile(rf"/(?P<lang>{'|'.join(LANGUAGES)})/(?P<page>{'|'.join(PAGES)})")


@cache
def version(name: str) -> str:
    """A short hash of a static file, so that a browser keeps it until it changes."""
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:10]


@cache
def _head() -> str:
    """Our own scripts: every one in app/static, `before.js` first and at once."""
    lines = [f'<script src="/static/before.js?{version("before.js")}"></script>']
    for file in sorted(STATIC.glob("*.js")):
        if file.name != "before.js":
            lines.append(f'<script type="module" src="/static/{file.name}"></script>')
    lines.append('<link rel="icon" href="/static/icon.svg" type="image/svg+xml">')
    lines.append('<meta name="color-scheme" content="light dark">')
    return "\n".join(lines)


@cache
def _styles() -> str:
    """Our own styles. They stand in the body: Gradio adds its own to the head later, and ours have the last word."""
    found = sorted(STATIC.glob("*.css"), key=lambda path: (path.name != "atelier.css", path.name))
    return "".join(f'<link rel="stylesheet" href="/static/{file.name}?{version(file.name)}">' for file in found)


def navigation(lang: str, page: str) -> str:
    """The bar on top: name, pages, the other language."""
    here = {page: " aria-current=page"}
    words = {name: escape(t(f"nav.{name}", language=lang)) for name in PAGES}
    links = "".join(f'<a href="/{lang}/{name}"{here.get(name, "")}>{words[name]}</a>' for name in PAGES)
    others = "".join(
        f'<a class="a-language" data-keep-query href="/{other}/{page}" hreflang="{other}" lang="{other}">'
        f"{escape(t('nav.own_name', language=other))}</a>"
        for other in LANGUAGES
        if other != lang
    )
    return (
        f'<a class="a-skip" href="#a-main">{escape(t("nav.skip", language=lang))}</a>'
        f'<header class="a-top"><a class="a-name" href="/{lang}/train">{escape(t("app.name", language=lang))}</a>'
        f'<nav aria-label="{escape(t("nav.label", language=lang))}">{links}</nav>{others}</header>'
        f'<p class="a-storage" role="alert" hidden></p>'
        f'<div class="a-waiting" role="status">{escape(t("app.opening", language=lang))}</div>'
        f'<p class="a-late" role="alert" hidden>{escape(t("app.late", language=lang))} '
        f'<a data-keep-query href="/{lang}/{page}">{escape(t("app.again", language=lang))}</a></p>'
        f"<noscript><p>{escape(t('app.noscript', language=lang))}</p></noscript>"
    )


def dress(html: str, lang: str, page: str, nonce: str) -> str:
    """Gradio's document as ours. Every script in it gets the nonce of the content security policy."""
    title = f"{t(f'nav.{page}', language=lang)} · {t('app.name', language=lang)}"
    html = re.sub(r'<html\s+lang="[^"]*"', f'<html lang="{lang}" data-title="{escape(title)}"', html, count=1)
    html = re.sub(r'\s*<meta\s+(?:property="og:|name="twitter:)[^>]*?>', "", html)
    html = re.sub(r'\s*<link rel="manifest"[^>]*>', "", html)
    start = '<meta charset="utf-8" />'
    html = html.replace(start, f"{start}<title>{escape(title)}</title>\n{_head()}", 1)
    above = _styles() + navigation(lang, page) + '<div id="a-main" tabindex="-1"></div>'
    html = re.sub(r"(?=<gradio-app[\s>])", lambda _: above, html, count=1)
    return re.sub(r"<script(?=[\s>])", f'<script nonce="{nonce}"', html)


class DocumentMiddleware:
    """ASGI middleware: rewrites the documents of our pages and leaves everything else alone."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = PAGE.fullmatch(scope.get("path", "")) if scope["type"] == "http" and scope["method"] == "GET" else None
        if match is None:
            await self.app(scope, receive, send)
            return
        start: Message = {}
        body = bytearray()

        async def gather(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            whole = bytes(body)
            headers = MutableHeaders(raw=start["headers"])
            if headers.get("content-type", "").startswith("text/html"):
                document = dress(whole.decode("utf-8"), match["lang"], match["page"], scope["state"]["nonce"])
                whole = document.encode("utf-8")
                headers["content-length"] = str(len(whole))
            await send(start)
            await send({"type": "http.response.body", "body": whole})

        # A page is small and sent once: without compression its text can be rewritten.
        scope = {**scope, "headers": [(k, v) for k, v in scope["headers"] if k.lower() != b"accept-encoding"]}
        await self.app(scope, receive, gather)
