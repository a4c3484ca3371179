"""Pictures and LoRA files a page may fetch, and nothing else. Mounted by app/server/main.py at `/files`.

Gradio's own file route could serve whole folders; here each address names one kind of thing, and what is no picture and
no `.safetensors` does not exist.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import FileResponse, PlainTextResponse, Response

from app.ui.services import SERVED, Services
from trainer.config import load
from trainer.core.files import safe_name
from trainer.core.problem import Problem

PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
TYPES = {**PICTURES, ".safetensors": "application/octet-stream"}
SIDES = (160, 320, 640, 1280)
"""Sizes a thumbnail is made in: few, so that the store of them stays small."""


def router(services: Services) -> APIRouter:
    """The routes: files below outputs, thumbnails of image sets and the films of their masks, settings."""
    routes = APIRouter()

    @routes.get("/files/{path:path}")
    def file(path: str, download: str | None = Query(None)) -> Response:
        found = inside(services.home.outputs, path)
        if found is None or Path(path).parts[0] not in SERVED or found.suffix.lower() not in TYPES:
            raise HTTPException(404)
        save = download is not None or found.suffix == ".safetensors"
        return FileResponse(
            found, media_type=TYPES[found.suffix.lower()], filename=found.name,
            content_disposition_type="attachment" if save else "inline",
            headers={"Cache-Control": "private, max-age=3600" if "v" in path else "private, no-cache"},
        )  # fmt: skip

    @routes.get("/thumbs/{name}/{picture}")
    def thumb(name: str, picture: str, side: int = 320) -> Response:
        made = services.thumbnail(name, picture, min(SIDES, key=lambda known: abs(known - side)))
        if made is None:
            raise HTTPException(404)
        headers = {"Cache-Control": "private, max-age=31536000, immutable"}
        if isinstance(made, bytes):
            return Response(made, media_type="image/jpeg", headers=headers)
        return FileResponse(made, headers=headers)

    @routes.get("/films/{name}/{picture}")
    def film(name: str, picture: str, side: int = 320) -> Response:
        made = services.film(name, picture, min(SIDES, key=lambda known: abs(known - side)))
        if made is None:
            raise HTTPException(404)
        return Response(made, media_type="image/png", headers={"Cache-Control": "private, max-age=31536000, immutable"})

    @routes.get("/settings.toml")
    def settings(set: str = "") -> Response:
        """The settings chosen for a set, as the file the command line reads (`train --run`)."""
        from app.forms import training

        found = services.set(set)
        try:
            text = load.write_toml(training.config_of(services, found, training.opened(services, found)))
        except Problem as problem:
            return PlainTextResponse(str(problem), 409)
        name = quote(f"{safe_name(set or 'lora-atelier')}.toml")
        return PlainTextResponse(text, headers={"Content-Disposition": f"attachment; filename*=UTF-8''{name}"})

    return routes


def inside(folder: Path, path: str) -> Path | None:
    """The existing plain file `path` names below `folder`, or None. Links out of it, `..` and drives do not count."""
    if "\0" in path or "\\" in path:
        return None
    try:
        found = (folder / path).resolve(strict=True)
        found.relative_to(folder.resolve())
    except (OSError, ValueError):
        return None
    return found if found.is_file() else None
