"""No answer is lost between two streams of Gradio's queue. One ASGI middleware, put in front by app/server/main.py.

A page of Gradio posts each event to `queue/join` and reads the answers from one stream, `queue/data`, which the server
closes when nothing of that page is left to answer. An event that arrives just then is not among what that stream waits
for; but if the page hears of its event's number before it hears that the stream is over, it opens no new one and the
answer stays on the server until something else is clicked. So the number waits a moment after a stream has ended.
"""

from __future__ import annotations

import asyncio
import math

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAUSE = 0.05
"""Seconds between the end of a stream and the next event's number. The event itself is worked on meanwhile."""
_END = b'"close_stream"'


class QueueOrderMiddleware:
    """Sends the end of a stream first, then the number of an event which that stream will not answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.ended = -math.inf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")

        async def watched(message: Message) -> None:
            if _END in message.get("body", b""):
                self.ended = asyncio.get_running_loop().time()
            await send(message)

        async def later(message: Message) -> None:
            if message["type"] == "http.response.start":
                await asyncio.sleep(self.ended + PAUSE - asyncio.get_running_loop().time())
            await send(message)

        if path.endswith("/queue/data"):
            await self.app(scope, receive, watched)
        elif path.endswith("/queue/join"):
            await self.app(scope, receive, later)
        else:
            await self.app(scope, receive, send)
