"""Every route and every event with data no page of ours sends: refused with a sentence, never a 500, never a raw exception."""

from __future__ import annotations

import json
import random
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio.state_holder import SessionState
from starlette.routing import BaseRoute, Mount, Route

from app.server import main, uploads
from app.server.refusals import LOG, language_of
from app.ui.services import Services
from tests.helpers import studio
from trainer.core import process
from trainer.core.home import PROJECT, Home
from trainer.core.texts import LANGUAGES
from trainer.images.set.image_set import ImageSet

LONG = "長" * 200
RAW = re.compile(r"Traceback|[A-Za-z]+(?:Error|Exception)\b|object has no attribute|\.py\b|NoneType|not in the list of choices")
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**70, 0.5, float("nan"), float("inf"), "", "x", LONG, "\0", "\ud800", "../../etc/passwd", "~nouser/x",
    "[" * 3000, "{", "[]", "null", '{"value": {}}', '{"id": [1], "page": "x"}', '{"id": "0001", "x": "a", "y": NaN}',
    '{"action": "remove", "targets": 5}', '{"action": "restore", "place": "' + LONG + '"}', '{"text": 1, "name": []}',
    '{"text": "' + "[" * 3000 + '"}', '{"set": "' + LONG + '"}', '{"options": []}', [], [None], [[["x"]]], ["x"] * 50, {},
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, {"__type__": "update"}, {"value": 1},
)  # fmt: skip


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A home with a set, a LoRA and a run in it."""
    home = Home(tmp_path_factory.mktemp("doors"))
    made = Services(home)
    shutil.copytree(PROJECT / "datasets" / "example-style", home.datasets / "mine")
    studio.lora(home)
    yield made
    made.close()


@pytest.fixture(scope="module")
def blocks(services: Services) -> dict[str, Any]:
    """The pages in both languages, as the server has them."""
    main._gradio(services.home)
    return {language: main.with_loop(lambda language=language: main.build(services, language)) for language in LANGUAGES}


async def ask(pages: Any, state: SessionState, fn: Any, data: list[Any]) -> str | None:
    """One event as the queue carries it out; the sentence of a refusal, None where it was answered."""
    request = gr.Request(headers={"referer": "http://127.0.0.1/en/train?set=%FF&run[]=1"}, query_params={"set": LONG})
    try:
        answer = await pages.process_api(fn, data, state, request, session_hash="s", event_id="e")
    except gr.Error as error:
        assert error.print_exception is False
        return str(error.message)
    if (left := answer.get("iterator")) is not None and hasattr(left, "aclose"):
        await left.aclose()
    return None


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_event_answers_hostile_data_with_an_exception(
    services: Services,
    blocks: dict[str, Any],
    language: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(process, "python", lambda *_: [sys.executable, "-c", "pass"])
    chance, pages = random.Random(language), blocks[language]

    async def every(rounds: int) -> int:
        asked, state = 0, SessionState(pages)
        for fn in [fn for fn in pages.fns.values() if callable(fn.fn)]:
            count = len(fn.inputs)
            tries = [["x"] * (count + 1), [None] * count, []][: 1 + rounds]
            tries += [[chance.choice(VALUES) for _ in range(count)] for _ in range(rounds if count else 0)]
            for data in tries:
                sentence = await ask(pages, state, fn, data)
                asked += 1
                assert sentence is None or (sentence and not RAW.search(sentence)), f"{fn.name} {data!r}: {sentence}"
        return asked

    assert studio.run_async(every(2 if language == "en" else 1)) > 150 and "Traceback" not in capfd.readouterr().err
    assert not list((services.home.cache / "gradio").rglob("passwd")), "a file of the machine was copied"
    assert [card.name for card in services.library.cards()]  # and nothing it did harmed what is there


def test_what_broke_is_in_the_log_under_the_number_that_was_shown(services: Services, blocks: dict[str, Any]) -> None:
    pages = blocks["en"]
    fn = next(fn for fn in pages.fns.values() if len(fn.inputs) > 1)
    sentence = studio.run_async(ask(pages, SessionState(pages), fn, [])) or ""
    number = re.search(r"[0-9a-f]{8}", sentence)
    assert number and LOG in sentence
    log = (services.home.outputs / LOG).read_text("utf-8")
    assert f"[{number[0]}] Traceback" in log


def test_an_event_cannot_name_a_file_of_the_machine(services: Services, blocks: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    pages, state = blocks["en"], SessionState(blocks["en"])
    named = {"path": str(tmp_path / "secret.txt"), "meta": {"_type": "gradio.FileData"}}
    for fn in [fn for fn in pages.fns.values() if fn.inputs and callable(fn.fn)][:10]:
        studio.run_async(ask(pages, state, fn, [named] * len(fn.inputs)))
    assert not list(services.home.root.rglob("secret.txt"))


# --- requests ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(live_server: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live_server.url, timeout=30) as made:
        yield made


def addresses(routes: list[BaseRoute], above: str = "") -> Iterator[tuple[str, str]]:
    """(method, address pattern) of every route there is, Gradio's included."""
    for route in routes:
        if isinstance(route, Mount):
            yield from addresses(list(route.routes), above + route.path)
        elif isinstance(route, Route):
            for method in sorted(route.methods or {"GET"}):
                yield method, above + route.path


WORDS = ("x", LONG, "%00", "%ff", "..%2f..%2fetc%2fpasswd", "a%0d%0ab", "-1", "{}", "CON", "~nouser")
BODIES = (
    b"", b"{}", b"[" * 3000, json.dumps({"data": [None] * 3, "fn_index": 10**9, "session_hash": LONG}).encode(),
)  # fmt: skip
STREAMS = ("heartbeat", "queue/data", "upload_progress", "startup-events")
"""Addresses that answer for as long as somebody listens."""


def test_no_route_answers_hostile_requests_with_a_500(live_server: Any, client: httpx.Client) -> None:
    found = sorted(set(addresses(live_server.app.routes)))
    assert len(found) > 60
    chance, asked = random.Random(7), 0
    for method, pattern in found:
        if any(word in pattern for word in STREAMS):
            continue
        for body in chance.sample(BODIES, 2):
            address = re.sub(r"\{[^}]*\}", lambda _: chance.choice(WORDS), pattern)
            query = {chance.choice(("set", "lang", "path", "side", "x")): chance.choice(WORDS)}
            headers = {"content-type": chance.choice(("application/json", "text/plain", "multipart/form-data; boundary=x"))}
            answer = client.request(method, address, params=query, content=body, headers=headers)
            asked += 1
            assert answer.status_code < 500, f"{method} {address} {body[:40]!r}: {answer.status_code} {answer.text[:200]}"
            assert not RAW.search(answer.text if len(answer.text) < 2000 and method != "GET" else ""), answer.text
    assert asked > 120


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "null", "://", "http://127.0.0.1:99999999", "\\"])
def test_an_origin_that_is_no_address_is_refused(client: httpx.Client, origin: str) -> None:
    assert client.post("/uploads/new", headers={"origin": origin}).status_code == 403
    assert client.get("/en/train", headers={"origin": origin}).status_code == 403


HOSTS = ("127.0.0.1:evil", "localhost:80:90", "[::1]evil", "[::1]:x", "127.0.0.1:", "local host", "127.0.0.1:999999")


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_whose_port_is_no_number_is_refused(client: httpx.Client, host: str) -> None:
    assert client.get("/healthz", headers={"host": host}).status_code == 400


OFFERED = ("openapi.json", "mcp/", "call/x", "api/predict", "runs", "vibe-code/", "deep_link", "OpenAPI.json")


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("address", OFFERED)
def test_what_gradio_offers_to_programs_is_closed(client: httpx.Client, lang: str, address: str) -> None:
    for method in ("GET", "POST"):
        assert client.request(method, f"/{lang}/gradio_api/{address}").status_code in (404, 405)
        assert client.request(method, f"/{lang}/gradio_api//{address}").status_code in (404, 405)


@pytest.mark.parametrize("page", ["train", "images", "runs", "preview", "library", "settings", "help"])
def test_a_name_far_too_long_in_an_address_opens_the_page(client: httpx.Client, page: str) -> None:
    for name in (LONG, "\0", "..", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")):
        answer = client.get(f"/en/{page}", params={"set": name, "run": name, "lora": name, "again": name, "picture": name})
        assert answer.status_code == 200 and "</html>" in answer.text


NAMED = ("/thumbs/{name}/0001", "/films/{name}/0001", "/settings.toml?set={name}", "/files/loras/{name}.png")


@pytest.mark.parametrize("address", NAMED)
def test_a_name_far_too_long_is_nothing_that_is_there(client: httpx.Client, address: str) -> None:
    assert client.get(address.format(name=LONG)).status_code in (200, 404)


PATHS = (("x.png", "x.png/y.png"), ("a/b.png", "a/b.png/c.png"), ("x.png/y.png", "x.png"), ("a", "a/a", "a/a/a"))


@pytest.mark.parametrize("paths", PATHS)
def test_a_file_and_a_folder_of_one_name_both_arrive(tmp_path: Path, paths: tuple[str, ...]) -> None:
    for number, path in enumerate(paths):
        uploads.target_of(tmp_path, path).write_bytes(bytes([number]))
    assert sorted(f.read_bytes()[0] for f in tmp_path.rglob("*") if f.is_file()) == list(range(len(paths)))


def test_a_deeply_nested_settings_file_is_a_sentence(tmp_path: Path) -> None:
    from trainer.config import load
    from trainer.core.problem import Problem

    for text in ("a = " + "[" * 100_000, "a" + ".a" * 100_000 + " = 1", "a = " + "9" * 5000, "a = " + "{a=" * 50_000):
        (tmp_path / "run.toml").write_text(text)
        with pytest.raises(Problem) as caught:
            load.build(load.read_toml(tmp_path / "run.toml"))
        assert "run.toml" in caught.value.sentence("ja") or caught.value.code != "toml_broken"


def test_an_account_that_does_not_exist_is_a_base_that_is_not_there(tmp_path: Path) -> None:
    from trainer.bases import catalog
    from trainer.core.problem import Problem

    home = Home(tmp_path).create()
    for name in ("~nouser/x", LONG * 3, "x\0y", "~nouser"):
        with pytest.raises(Problem):
            catalog.find(home, name)
    assert ImageSet.create(home, "~nouser/x").folder.parent == home.datasets


@pytest.mark.parametrize(
    ("path", "query", "referer", "language"),
    [
        ("/ja/train", b"", "", "ja"), ("/uploads/new", b"lang=ja", "", "ja"),
        ("/thumbs/x/y", b"", "http://127.0.0.1/ja/train", "ja"),
        ("/uploads/new", b"lang=%ff", "http://[", "en"), ("/", b"", "", "en"),
    ],
)  # fmt: skip
def test_a_refusal_is_in_the_language_of_the_page_it_is_for(path: str, query: bytes, referer: str, language: str) -> None:
    scope = {"type": "http", "path": path, "query_string": query, "headers": [(b"referer", referer.encode())]}
    assert language_of(scope) == language
