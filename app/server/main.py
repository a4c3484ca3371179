"""The web page as one FastAPI application: Gradio once per language, files, guards. Started by `launch.py ui`.

Nothing here or below imports torch: everything heavy happens in processes of its own (trainer/jobs).
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from app.pages import PAGES
from app.server import document, downloads, news, storage, uploads
from app.server.queue_order import QueueOrderMiddleware
from app.server.refusals import Refusals
from app.server.security import SMALL_BODY, RequestGuardMiddleware
from app.ui.services import Services, Ui
from app.ui.theme import STATIC
from trainer.core import workplace
from trainer.core.home import Home
from trainer.core.texts import LANGUAGES, set_language, t

T = TypeVar("T")


def create_app(home: Path, lang: str | None = None) -> FastAPI:
    """The whole page for the things in `home`. `lang` is where `/` leads; None asks the browser."""
    return with_loop(lambda: _create(home, lang))


def with_loop(make: Callable[[], T]) -> T:
    """`make()` while an event loop is running. Gradio opens one (and two sockets) for each lock it makes where none is,
    and never closes it. In a thread of its own, because the caller's may have a loop running."""

    async def made() -> T:
        return make()

    with ThreadPoolExecutor(1, thread_name_prefix="build") as pool:
        return pool.submit(asyncio.run, made()).result()


def _create(home: Path, lang: str | None) -> FastAPI:
    services = Services(Home.find(home))
    _ = services.jobs  # a ledger that cannot be opened is refused with its sentence before anything is served
    gradio = _gradio(services.home)
    set_language(lang)

    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        services.open()
        yield
        services.close()

    app = FastAPI(lifespan=living, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.services = services

    @app.get("/healthz")
    def ready() -> JSONResponse:
        return JSONResponse({"ready": True})

    @app.get("/")
    def choose(request: Request) -> Response:
        return RedirectResponse(f"/{lang or _preferred(request.headers.get('accept-language', ''))}/train", 307)

    for language in LANGUAGES:
        for bare in (f"/{language}", f"/{language}/"):
            app.add_api_route(bare, _to(f"/{language}/{PAGES[0]}"), methods=["GET"])

    app.include_router(downloads.router(services))
    app.include_router(uploads.router(services))
    app.include_router(news.router(services))
    app.include_router(storage.router(services))
    app.mount("/static", Static(directory=STATIC), name="static")
    for language in LANGUAGES:
        blocks = build(services, language)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "SSR mode is not supported")  # it is off anyway
            gradio.mount_gradio_app(
                app,
                blocks,
                path=f"/{language}",
                theme=_theme(),
                footer_links=[],
                run_history=False,
                allowed_paths=[],
                blocked_paths=[str(services.home.database), str(services.home.models)],
                show_error=False,
                max_file_size=SMALL_BODY,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
            )
    app.add_middleware(document.DocumentMiddleware)
    app.add_middleware(QueueOrderMiddleware)
    app.add_middleware(Refusals, home=services.home)
    app.add_middleware(RequestGuardMiddleware)
    return app


class Static(StaticFiles):
    """Our own scripts and styles; the browser asks each time whether they are still the same, so none is ever old."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def build(services: Services, lang: str):
    """All pages in one language: one Blocks, an address each."""
    from app.server.events import Pages

    ui = Ui.of(services, lang)
    blocks = Pages.of(services.home, lang, title=t("app.name", language=lang), analytics_enabled=False, fill_width=True,
                      delete_cache=(3600, 86400))  # fmt: skip
    with blocks:
        pass  # `/en` leads to the first page; Gradio wants a root all the same
    for name in PAGES:
        with blocks.route(t(f"nav.{name}", language=lang), f"/{name}"):
            import_module(f"app.pages.{name}.page").build(ui)
    for event in blocks.fns.values():
        event.api_visibility = "private"  # those Gradio adds by itself too, such as values made at loading
    blocks.queue(default_concurrency_limit=4, max_size=200, api_open=False)
    return blocks


def _gradio(home: Home):
    """Gradio, imported with its habits switched off: no statistics, no node server, temporary files in our cache."""
    if os.environ.get("GRADIO_VIBE_MODE"):
        raise SystemExit(t("app.refused.vibe"))
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False", GRADIO_SSR_MODE="False", GRADIO_SHARE="False", GRADIO_MCP_SERVER="False",
        GRADIO_RUN_HISTORY="False", HF_HUB_DISABLE_TELEMETRY="1",
    )  # fmt: skip
    if not os.environ.get("GRADIO_TEMP_DIR"):
        os.environ["GRADIO_TEMP_DIR"] = str(_own_folder(home.cache / "gradio"))
    import gradio

    return gradio


def _own_folder(place: Path) -> Path:
    """A folder of this server alone below `place`: Gradio deletes in it by age. `place` itself where none can be made."""
    workplace.sweep(place)
    try:
        return workplace.create(place)
    except OSError:
        return place


def _theme():
    from app.ui.theme import LightTable

    return LightTable()


def _to(address: str):
    def redirect() -> RedirectResponse:
        return RedirectResponse(address, 307)

    return redirect


def _preferred(accepted: str) -> str:
    """The first of our languages in an Accept-Language header, by its weights; English where none is named."""
    wishes: list[tuple[float, int, str]] = []
    for place, part in enumerate(accepted[:500].split(",")):
        tag, _, weight = part.strip().partition(";q=")
        try:
            wishes.append((-float(weight or 1), place, tag.strip()[:2].lower()))
        except ValueError:
            continue
    return next((tag for _, _, tag in sorted(wishes) if tag in LANGUAGES), "en")
