"""The disk is full while the studio is open: every page opens, says so above everything, and no press fails without a word."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio.state_holder import SessionState

from app.pages import PAGES
from app.server import storage
from tests.helpers import full_disk, studio
from tests.helpers.browser import LiveServer, serve
from trainer.core.texts import LANGUAGES, t
from trainer.images.set.image_set import ImageSet

pytestmark = pytest.mark.skipif(os.name == "nt", reason="limits of Unix")


@pytest.fixture(scope="module")
def full_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A studio of its own with a set and a LoRA; tests take its disk away for a while."""
    for live in serve(tmp_path_factory.mktemp("full")):
        one = ImageSet.create(live.services.home, "Foxes")
        studio.picture(one.folder / "0001.png", 90)
        studio.lora(live.services.home)
        live.services.jobs.rows()
        yield live


def blocks(live: LiveServer, language: str) -> Any:
    """The pages of one language as they are mounted."""
    mounts = {getattr(route, "path", ""): route for route in live.app.routes}
    return mounts[f"/{language}"].app.get_blocks()  # type: ignore[union-attr]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_opens_and_the_note_above_it_says_that_the_disk_is_full(
    full_server: LiveServer, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "EVERY", 0.0)
    with httpx.Client(base_url=full_server.url, timeout=60) as client:
        assert client.get(f"/storage/{language}").json() == {"sentence": ""}
        with full_disk.no_growth():
            for page in PAGES:
                answer = client.get(f"/{language}/{page}")
                assert answer.status_code == 200 and 'class="a-storage" role="alert"' in answer.text
            note = client.get(f"/storage/{language}").json()["sentence"]
            assert note == t("app.server.storage.full", language=language, folder=str(full_server.services.home.outputs))
            assert client.get("/thumbs/Foxes/0001").content[:2] == b"\xff\xd8"
            upload = client.post("/uploads/new", headers={"referer": f"{full_server.url}/{language}/train"})
            assert upload.status_code == 507
            assert upload.json()["error"] == t(
                "problems.storage_full", language=language, file=str(full_server.services.home.cache / "uploads")
            )
        assert client.get(f"/storage/{language}").json() == {"sentence": ""}


def test_what_every_page_asks_for_when_it_opens_is_answered(full_server: LiveServer) -> None:
    pages = blocks(full_server, "en")
    loads = [fn for fn in pages.fns.values() if any(name == "load" for _, name in fn.targets) and callable(fn.fn)]
    request = gr.Request(headers={"referer": f"{full_server.url}/en/images?set=Foxes"}, query_params={})

    async def every() -> list[str]:
        state, wrong = SessionState(pages), []
        for fn in loads:
            values = [getattr(block, "value", None) for block in fn.inputs]
            try:
                with full_disk.no_growth():
                    await pages.process_api(fn, [v if not callable(v) else None for v in values], state, request)
            except gr.Error as error:
                wrong.append(f"{fn.page} {fn.name}: {error.message}")
        return wrong

    assert len(loads) >= len(PAGES) - 1 and studio.run_async(every()) == []


def test_a_caption_that_could_not_be_kept_is_told_beside_it(full_server: LiveServer) -> None:
    pages = blocks(full_server, "ja")
    typed = next(fn for fn in pages.fns.values() if fn.name == "caption_typed" and fn.page == "images")

    async def type_it() -> dict[str, Any]:
        state = SessionState(pages)
        state[typed.inputs[1]._id] = "0001"
        with full_disk.no_growth():
            data = ["Foxes", None, "a fox", 0]
            return await pages.process_api(typed, data, state, gr.Request(headers={}, query_params={}))

    answer = studio.run_async(type_it())
    file: Path = full_server.services.home.datasets / "Foxes" / "0001.txt"
    assert t("problems.storage_full", language="ja", file=str(file)) in str(answer["data"][0]) and not file.exists()
