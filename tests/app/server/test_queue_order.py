"""No answer gets lost when an event arrives just as the stream before it ends: a real page behind an unlucky network."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.helpers.browser import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Unlucky:
    """Brings the second event to the server as the first one's stream ends, and that end to the page 20 ms late. No third
    event comes through: it would bring the lost answer along."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.events, self.met = app, 0, False
        self.ended = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.endswith("/queue/join"):
            self.events += 1
            if self.events == 2:
                await self.ended.wait()
                self.met = True
            elif self.events > 2:
                while (await receive())["type"] != "http.disconnect":
                    pass
                return

        async def late(message: Message) -> None:
            if path.endswith("/queue/data") and b"close_stream" in message.get("body", b""):
                self.ended.set()
                await asyncio.sleep(0.02)
            await send(message)

        await self.app(scope, receive, late)


@pytest.fixture
def unlucky(tmp_path: Path) -> Iterator[tuple[str, Unlucky]]:
    between: list[Unlucky] = []

    def network(app: ASGIApp) -> ASGIApp:
        between.append(Unlucky(app))
        return between[0]

    for studio in serve(tmp_path, network=network):
        yield studio.url, between[0]


@pytest.mark.browser
def test_a_page_gets_both_opening_answers_when_one_meets_the_end_of_the_others_stream(
    chromium: Browser, unlucky: tuple[str, Unlucky]
) -> None:
    url, network = unlucky
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{url}/en/settings")
    page.locator(".a-page[aria-busy=false]").wait_for(timeout=10_000)
    assert network.met
    context.close()
