"""Pictures on their way from the browser into a set: one request a file, no form data, then one intake for all of them.

Called by app/static/drop.js; routes hang in app/server/main.py. A file is streamed to disk and counted on its way; what it
is, trainer/images/intake/intake.py decides from its bytes.
"""

from __future__ import annotations

import shutil
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from app.ui.services import Services
from trainer.core import workplace
from trainer.core.files import free_name, safe_name
from trainer.core.problem import Problem
from trainer.core.texts import LANGUAGES, t
from trainer.images.intake.entry import Sent
from trainer.images.set.limits import LIMITS, MB

DROP = "drop"
"""Where the files of a batch lie in its folder."""


@dataclass
class UploadBatch:
    """One drop. It lives in memory; its files lie in `folder` until the intake is through."""

    folder: Path
    sent: list[Sent] = field(default_factory=list)
    """What has arrived, each under a name of ours, with the name it had in the browser."""
    bytes: int = 0
    files: int = 0
    done: int = 0
    of: int = 0
    begun: float = field(default_factory=time.time)


class Finish(BaseModel):
    """What the browser says when every file is here."""

    set: str = ""
    title: str = ""
    kind: str = "style"
    lang: str = "en"
    from_names: bool = False


def router(services: Services) -> APIRouter:
    """Begin a drop, put its files, finish it."""
    routes = APIRouter(prefix="/uploads")
    batches: dict[str, UploadBatch] = {}
    place = services.home.cache / "uploads"

    def batch_of(name: str) -> UploadBatch:
        if name not in batches:
            raise HTTPException(404)
        return batches[name]

    @routes.post("/new")
    def begin() -> JSONResponse:
        sweep(place, batches)
        name = uuid.uuid4().hex
        batches[name] = UploadBatch(workplace.create(place, name))
        return JSONResponse({"id": name})

    @routes.put("/{name}/file")
    async def put(name: str, path: str, request: Request, lang: str = "en") -> JSONResponse:
        batch = batch_of(name)
        whole = path.lower().endswith((".zip", ".safetensors"))
        limit = LIMITS.set_bytes if whole else LIMITS.file_bytes
        batch.files += 1
        if batch.files > LIMITS.zip_entries * 2:
            return _too_large(lang, "page.train.drop.too_many", limit=LIMITS.zip_entries * 2)
        target = target_of(batch.folder / DROP / str(batch.files), path)  # a folder each: equal names never meet
        size = 0
        try:
            with open(target, "xb") as file:
                async for piece in request.stream():
                    size += len(piece)
                    batch.bytes += len(piece)
                    if size > limit:
                        raise _Over(limit)
                    if batch.bytes > LIMITS.set_bytes:
                        raise _Over(LIMITS.set_bytes)
                    await run_in_threadpool(file.write, piece)
        except (ClientDisconnect, _Over, OSError) as error:
            target.unlink(missing_ok=True)
            batch.bytes -= size
            if isinstance(error, _Over):
                return _too_large(
                    lang, "page.train.drop.too_large", name=PurePosixPath(path).name[:80], limit=error.limit // MB
                )
            if isinstance(error, ClientDisconnect):
                return JSONResponse({}, 400)
            return JSONResponse({"error": t("page.train.drop.disk", language=_known(lang))}, 507)
        batch.sent.append(Sent(target, raw_name(path)))
        return JSONResponse({"bytes": size})

    @routes.get("/{name}")
    def progress(name: str) -> JSONResponse:
        batch = batches.get(name)  # the last question may come when all is done
        return JSONResponse({"done": batch.done, "of": batch.of} if batch else {})

    @routes.post("/{name}/finish")
    def finish(name: str, said: Finish) -> JSONResponse:
        batch = batch_of(name)
        try:
            return JSONResponse(_take_in(services, batch, said, _known(said.lang)))
        except Problem as problem:
            return JSONResponse({"error": problem.sentence(_known(said.lang))}, 409)
        finally:
            batches.pop(name, None)
            shutil.rmtree(batch.folder, ignore_errors=True)

    return routes


class _Over(Exception):
    """More bytes than `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit


def _take_in(services: Services, batch: UploadBatch, said: Finish, lang: str) -> dict[str, Any]:
    """The intake of one drop, into a set that exists or a new one that takes its name from what was dropped."""
    from trainer.images.intake import intake

    def tell(done: int, of: int, _: str) -> None:
        batch.done, batch.of = done, of

    known = services.set(said.set)
    if known is not None:
        result = intake.take_in(batch.sent, known, tell, captions_from_names=said.from_names)
    else:
        title = said.title.strip() or _title(batch.sent) or t("page.train.drop.untitled", language=lang)
        known, result = intake.new_set(services.home, title, batch.sent, said.kind, tell, captions_from_names=said.from_names)
    return {
        "set": known.folder.name if known else "",
        "accepted": len(result.accepted),
        "refused": len(result.refused),
        "sentences": result.sentences(lang),
    }


def _title(sent: list[Sent]) -> str:
    """The name of the one folder or zip that was dropped."""
    names = {one.name.partition("/")[0] for one in sent if "/" in one.name}
    names |= {PurePosixPath(one.name).stem for one in sent if "/" not in one.name and one.name.lower().endswith(".zip")}
    return names.pop().replace("_", " ") if len(names) == 1 else ""


def raw_name(path: str) -> str:
    """The name a file had in the browser, folders with `/`: what it is and what it pairs with is decided by it alone."""
    return "/".join(part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")) or "file"


def target_of(folder: Path, path: str) -> Path:
    """Where a file called `path` in the browser is put: a free, harmless name, never outside `folder`. It is for the disk
    alone; two files of different names may well get the same one but for `_v2`."""
    name = safe_name(PurePosixPath(path.replace("\\", "/")).name, "file", 120)
    ending = PurePosixPath(path).suffix[:12]
    if PurePosixPath(name).suffix != ending and ending.isascii() and ending[1:].isalnum():
        name += ending
    folder.mkdir(parents=True, exist_ok=True)
    return free_name(folder, PurePosixPath(name).stem, PurePosixPath(name).suffix)


def sweep(place: Path, batches: dict[str, UploadBatch]) -> None:
    """Remove what broken-off uploads left behind, never those of another server on this home that is open."""
    for name, batch in list(batches.items()):
        if time.time() - batch.begun > workplace.AGE:
            del batches[name]
    workplace.sweep(place, batches)


def _known(lang: str) -> str:
    return lang if lang in LANGUAGES else "en"


def _too_large(lang: str, key: str, **params: Any) -> JSONResponse:
    return JSONResponse({"error": t(key, language=_known(lang), **params)}, 413)
