"""Says on every page when nothing can be kept because the disk is full or may not be written to (app/static/storage.js)."""

from __future__ import annotations

import threading
import time

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from app.ui.services import Services
from trainer.core import storage
from trainer.core.texts import LANGUAGES, t

EVERY = 5.0
"""Seconds between two looks at the disk, however many pages ask."""


class Watch:
    """Looks at the disk when asked, at most every few seconds."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._lock = threading.Lock()
        self._key, self._looked = "", float("-inf")

    def key(self) -> str:
        """`full`, `read_only` or `failed`; empty where all is well."""
        with self._lock:
            if time.monotonic() - self._looked > EVERY:
                problem = storage.trouble(self.services.home)
                self._key = problem.code.removeprefix("storage_") if problem else ""
                self._looked = time.monotonic()
            return self._key


def router(services: Services) -> APIRouter:
    """The one route, in the language asked for."""
    routes, watch = APIRouter(), Watch(services)

    @routes.get("/storage/{lang}")
    def state(lang: str) -> JSONResponse:
        language, key = lang if lang in LANGUAGES else "en", watch.key()
        folder = str(services.home.outputs)
        sentence = t(f"app.server.storage.{key}", language=language, folder=folder) if key else ""
        return JSONResponse({"sentence": sentence}, headers={"Cache-Control": "no-store"})

    return routes
