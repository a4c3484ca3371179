"""What became of runs since a page last looked, for the tab's title and the browser's notifications (app/static/news.js).

Every page asks every few seconds, whichever it is; mounted by app/server/main.py at `/news`.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from app.ui.format import Translate
from app.ui.services import Services
from trainer.core.texts import LANGUAGES, t
from trainer.jobs.ledger.run_row import RunRow

LATEST = 20


def router(services: Services) -> APIRouter:
    """The one route, in the language asked for."""
    routes = APIRouter()

    @routes.get("/news/{lang}")
    def news(lang: str) -> JSONResponse:
        language = lang if lang in LANGUAGES else "en"

        def say(key: str, **params: Any) -> str:
            return t(key, language=language, **params)

        told = [one for row in services.shared.get("rows", services.jobs.rows)[:LATEST] if (one := of(row, say, language))]
        return JSONResponse(told, headers={"Cache-Control": "no-store"})

    return routes


def of(row: RunRow, say: Translate, lang: str) -> dict[str, str] | None:
    """What a person who is elsewhere would want to know of a run; None while it just goes on, and for what that person did.

    `mark` is another one whenever it is news again: a run that fails, is resumed and fails again is told twice.
    """
    state = "disk" if row.state == "paused" and row.reason == "disk" else "silent" if row.unresponsive else row.state
    if state not in ("succeeded", "failed", "interrupted", "disk", "silent"):
        return None
    return {
        "mark": f"{row.id}:{state}:{row.attempt}:{row.step}",
        "title": say(f"page.runs.news.{state}", name=row.name or row.id),
        "body": row.reason_text(lang) or "",
        "url": f"/{lang}/runs?run={row.id}",
    }
