"""Strangers and broken requests are turned away, each with its own answer (a real server on loopback)."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from app.server.security import SMALL_BODY, policy


@pytest.fixture
def client(live_server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live_server.url, timeout=30) as made:
        yield made


def test_it_says_when_it_is_ready(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"ready": True}


@pytest.mark.parametrize(
    ("accepted", "page"),
    [
        ("ja,en;q=0.8", "/ja/train"),
        ("en-GB", "/en/train"),
        ("fr, ja;q=0.3, en;q=0.2", "/ja/train"),
        ("", "/en/train"),
        ("de", "/en/train"),
    ],
)
def test_the_browser_chooses_the_language(client: httpx.Client, accepted: str, page: str) -> None:
    answer = client.get("/", headers={"accept-language": accepted})
    assert (answer.status_code, answer.headers["location"]) == (307, page)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.168.1.4:7860", ""])
def test_another_name_for_this_machine_is_refused(client: httpx.Client, host: str) -> None:
    assert client.get("/en/train", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]:7860", "LOCALHOST:1"])
def test_names_of_this_machine_are_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("address", ["/uploads/new", "/en/gradio_api/queue/join", "/ja/gradio_api/upload"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
    ],
)
def test_another_website_cannot_post(client: httpx.Client, address: str, headers: dict[str, str]) -> None:
    assert client.post(address, headers=headers, content=b"{}").status_code == 403


def test_our_own_page_can_post(client: httpx.Client, live_server) -> None:
    answer = client.post("/uploads/new", headers={"origin": live_server.url, "sec-fetch-site": "same-origin"})
    assert answer.status_code == 200


@pytest.mark.parametrize("name", ['filename=""', "filename*=UTF-8''"])
def test_a_part_without_a_name_is_refused_before_gradio_sees_it(client: httpx.Client, name: str) -> None:
    body = f'--x\r\nContent-Disposition: form-data; name="files"; {name}\r\n\r\nabc\r\n--x--\r\n'
    answer = client.post(
        "/en/gradio_api/upload", content=body.encode(), headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert answer.status_code == 400


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_refused_where_no_upload_is(client: httpx.Client, chunked: bool) -> None:
    large = b"x" * (SMALL_BODY + 1)
    body = (large[i : i + 65536] for i in range(0, len(large), 65536)) if chunked else large
    assert client.post("/en/gradio_api/queue/join", content=body).status_code == 413


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "{home}/outputs/atelier.db", "{project}/app/server/main.py", "{project}/pyproject.toml", ".env",
        "launch.py",
        "http://169.254.169.254/latest/meta-data", "https://example.com/x.png", "//example.com/x.png",
        "{home}/models/x.safetensors", "{home}/../../../../etc/passwd",
    ],
)  # fmt: skip
def test_no_file_of_the_machine_is_given_away(client: httpx.Client, live_server, lang: str, path: str) -> None:
    from trainer.core.home import PROJECT

    (live_server.home / "models" / "x.safetensors").write_bytes(b"secret")
    path = path.format(home=live_server.home, project=PROJECT)
    assert client.get(f"/{lang}/gradio_api/file={path}").status_code == 403


@pytest.mark.parametrize(
    "path",
    ["atelier.db", "cache/x.png", "runs/../atelier.db", "runs/%2e%2e/atelier.db", "..%2f..%2fetc/passwd",
        "runs/r/config.json", "runs/r/log.txt", "drafts/_new.json"],
)  # fmt: skip
def test_only_pictures_and_loras_are_served(client: httpx.Client, live_server, path: str) -> None:
    run = live_server.home / "outputs" / "runs" / "r"
    run.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "log.txt", "a.png"):
        (run / name).write_bytes(b"x")
    (live_server.home / "outputs" / "cache" / "x.png").write_bytes(b"x")
    assert client.get("/files/runs/r/a.png").status_code == 200
    assert client.get(f"/files/{path}").status_code == 404


def test_a_page_may_run_only_its_own_scripts(client: httpx.Client) -> None:
    answer = client.get("/ja/train")
    said = answer.headers["content-security-policy"]
    nonce = said.partition("'nonce-")[2].partition("'")[0]
    assert said == policy(nonce) and "unsafe-eval" not in said and "https:" not in said
    assert answer.text.count("<script") == answer.text.count(f'<script nonce="{nonce}"') > 3
    assert nonce != client.get("/ja/train").text.partition("nonce-")[2][: len(nonce)]
    for name, value in (("x-content-type-options", "nosniff"), ("referrer-policy", "same-origin")):
        assert answer.headers[name] == value
    assert '<html lang="ja"' in answer.text and "og:" not in answer.text and "githubusercontent" not in answer.text


def test_gradio_shows_no_doors_of_its_own(client: httpx.Client) -> None:
    for address in ("/en/docs", "/en/openapi.json", "/docs", "/openapi.json", "/en/monitoring"):
        assert client.get(address).status_code in (403, 404), address
    known = client.get("/en/gradio_api/info").json()
    assert known["named_endpoints"] == {}
