"""The one place where what goes wrong in a request or an event becomes an answer a person can read.

A Problem, a disk that cannot be written and a ledger that cannot be reached have sentences of their own. Everything else is
a request that does not fit (wrong types, lengths, names) or a fault of ours: the browser gets a sentence with a number, the
trace goes into `outputs/page.log` under that number. `Refusals` is for requests, app/server/events.py for Gradio's events.
"""

from __future__ import annotations

import errno
import json
import traceback
import uuid
from pathlib import Path
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trainer.core import files
from trainer.core.home import Home
from trainer.core.texts import LANGUAGES, t

LOG = "page.log"
LOG_BYTES = 2**20
"""The log begins anew at this size; the one before is kept beside it."""
MALFORMED = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, AssertionError
)  # fmt: skip
"""What our own code and Gradio's raise for data of the wrong kind."""
NO_SUCH_NAME = frozenset(
    {errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.EILSEQ}
)
"""A file that cannot be there under such a name."""


def refusal(error: BaseException, home: Home, language: str) -> tuple[int, str]:
    """(HTTP status, sentence) for an exception; the trace of one without a sentence of its own is kept."""
    if isinstance(error, OSError) and error.errno in NO_SUCH_NAME and not isinstance(error, files.StorageProblem):
        return 404, t("app.refused.file", language=language)
    problem = files.problem_of(error)
    if problem is not None:
        full = isinstance(problem, files.StorageProblem)
        return 507 if full else 409, problem.sentence(language)
    number = keep_trace(error, home)
    return 400 if isinstance(error, MALFORMED) else 503, t("app.refused.malformed", language=language, log=LOG, id=number)


def keep_trace(error: BaseException, home: Home) -> str:
    """Write the trace into `outputs/page.log`; the number it stands under."""
    number = uuid.uuid4().hex[:8]
    trace = "".join(traceback.format_exception(error))
    log = home.outputs / LOG
    try:
        if log.is_file() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_name(f"{LOG}.1"))
        with open(log, "a", encoding="utf-8", errors="replace") as file:
            file.write(f"\n[{number}] {trace}")
    except OSError:  # no room for a trace: where it happened, at least
        files.complain(f"[{number}] {type(error).__name__}: {str(error)[:200]} ({_place(error)})")
    return number


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


class Refusals:
    """ASGI middleware: no request ends in a bare 500. Comes right behind the guard (app/server/security.py)."""

    def __init__(self, app: ASGIApp, home: Home) -> None:
        self.app, self.home = app, home

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        broken: list[Message] = []
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            if not begun and message["type"] == "http.response.start" and message["status"] == 500:
                broken.append(message)  # Starlette answers so before it lets the exception out
            elif broken:
                broken.append(message)
            else:
                begun = True
                await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if begun:
                raise
            status, sentence = refusal(error, self.home, language_of(scope))
        else:
            if not broken:
                return
            status, sentence = 400, _sentence(broken) or t("app.refused.broken", language=language_of(scope))
        await _answer(scope, status, sentence)(scope, receive, send)


def _answer(scope: Scope, status: int, sentence: str) -> Response:
    """JSON where a script asks, plain text elsewhere."""
    path = scope.get("path", "")
    if path.startswith("/uploads/") or "/gradio_api/" in path:
        return JSONResponse({"error": sentence}, status)
    return PlainTextResponse(sentence, status)


def _sentence(broken: list[Message]) -> str | None:
    """The sentence in the JSON of an answer that was to be a 500 (an event outside the queue that was refused)."""
    try:
        content = json.loads(b"".join(message.get("body", b"") for message in broken))
    except ValueError:
        return None
    said = content.get("error") if isinstance(content, dict) else None
    return said if isinstance(said, str) else None


def language_of(scope: Scope) -> str:
    """The language of the page a request belongs to: by its address, by `lang`, by the page it came from."""
    headers = Headers(scope=scope)
    referer = headers.get("referer", "").partition("://")[2].partition("/")[2]
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    wishes = (scope.get("path", "").strip("/").split("/")[0], query.get("lang", [""])[0], referer.split("/")[0])
    return next((wish for wish in wishes if wish in LANGUAGES), "en")
