"""A drop on its way into a set: names made harmless, bytes counted, nothing left behind."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from PIL import Image

from app.server import uploads
from tests.helpers.browser import visit

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.helpers.browser import LiveServer


def png(colour: str = "red", side: int = 300) -> bytes:
    buffer = io.BytesIO()
    image = Image.new("RGB", (side, side), colour)
    image.paste("white", (20, 20, 90, 150))
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def client(live_server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live_server.url, timeout=60) as made:
        yield made


def drop(live: LiveServer, client: httpx.Client, files: dict[str, bytes], **said: str | bool) -> dict:
    name = client.post("/uploads/new").json()["id"]
    for path, data in files.items():
        assert client.put(f"/uploads/{name}/file", params={"path": path}, content=data).status_code == 200
    answer = client.post(f"/uploads/{name}/finish", json=said)
    assert client.get(f"/uploads/{name}").json() == {}
    assert not (live.home / "outputs" / "cache" / "uploads" / name).exists()
    return answer.json()


def test_loose_pictures_become_a_set_with_their_captions(client: httpx.Client, live_server) -> None:
    said = drop(live_server, client, {"a.png": png(), "a.txt": b"a red field", "b.png": png("blue")}, title="Loose 赤")
    assert (said["accepted"], said["refused"]) == (2, 0)
    found = live_server.services.set(said["set"])
    assert found.meta.title == "Loose 赤"
    assert [p.caption for p in found.pictures()] == ["a red field", ""]


def test_a_folder_and_a_zip_give_the_set_their_name(client: httpx.Client, live_server) -> None:
    assert drop(live_server, client, {"10_my folder/a.png": png("green")})["set"].startswith("10_my_folder")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x/1.png", png("yellow"))
    assert drop(live_server, client, {"Yellow things.zip": buffer.getvalue()})["set"] == "Yellow_things"


def test_captions_and_pictures_meet_by_the_names_they_had_not_by_those_on_the_disk(client: httpx.Client, live_server) -> None:
    start = "a very long beginning of a name " * 5
    names = ["cat 1", "cat_1", "_01", "01", f"{start}one", f"{start}two", "猫" * 40 + "一", "猫" * 40 + "二"]
    files = {}
    for number, name in enumerate(names):
        files[f"My Set/{name}.png"] = png(f"rgb({number * 30}, 90, 60)", 64)
        files[f"My Set/._{name}.png"] = b"\0\5\x16\7"
        files[f"My Set/{name}.txt"] = f"text {number}".encode()
    said = drop(live_server, client, {**files, "My Set/.DS_Store": b"x"})
    assert (said["accepted"], said["refused"], said["sentences"]) == (8, 0, [])
    found = live_server.services.set(said["set"])
    assert found.meta.title == "My Set"
    for picture in found.pictures():
        number = picture.load().getpixel((0, 0))[0] // 30
        assert picture.caption == f"text {number}"


def test_file_names_become_captions_where_the_box_is_ticked(client: httpx.Client, live_server) -> None:
    said = drop(live_server, client, {"red_fox_03.png": png("brown")}, title="Names", from_names=True)
    assert [p.caption for p in live_server.services.set(said["set"]).pictures()] == ["red fox"]


def test_the_box_for_file_names_stands_at_the_drop_zone_of_the_images_page(page: Page, live_server, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    (tmp_path / "red_fox_03.png").write_bytes(png("maroon"))
    visit(page, f"{live_server.url}/en/images")
    page.get_by_label("Use file names as captions").check()
    page.locator("atelier-drop input.d-files").set_input_files(tmp_path / "red_fox_03.png")
    expect(page.locator("#images-caption textarea")).to_have_value("red fox", timeout=60_000)
    expect(page.locator("#images-note")).to_contain_text("the words of the file name became the caption")
    visit(page, f"{live_server.url}/en/train")
    expect(page.locator("atelier-drop .d-names")).to_be_hidden()


def test_a_file_and_a_folder_of_one_name_both_arrive(client: httpx.Client, live_server) -> None:
    said = drop(live_server, client, {"x.png": png("pink"), "x.png/y.png": png("tan")}, title="Both")
    assert (said["accepted"], said["refused"]) == (2, 0)


def test_a_second_drop_goes_into_the_same_set(client: httpx.Client, live_server) -> None:
    first = drop(live_server, client, {"one.png": png("navy")}, title="Twice")
    second = drop(live_server, client, {"two.png": png("olive")}, set=first["set"])
    assert second["set"] == first["set"]
    assert len(live_server.services.set(first["set"]).pictures()) == 2


def test_what_is_no_picture_is_named_and_no_set_is_made(client: httpx.Client, live_server) -> None:
    before = len(live_server.services.sets())
    said = drop(live_server, client, {"fake.png": b"hello", "empty.jpg": b""}, title="Nothing", lang="ja")
    assert (said["set"], said["accepted"], said["refused"]) == ("", 0, 2)
    assert any("fake.png" in sentence for sentence in said["sentences"])
    assert len(live_server.services.sets()) == before


NAMES = [
    "../../x.png",
    "a\0b.png",
    "x" * 400 + ".png",
    "CON.png",
    "😀.png",
    "<img src=x onerror=alert(1)>.png",
    "C:\\w\\x.png",
    "/abs.png",
    "...",
    "",
    "con/nul/aux.png",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_out_of_the_drop(tmp_path: Path, name: str) -> None:
    target = uploads.target_of(tmp_path / "drop", name)
    target.write_bytes(b"x")
    assert target.resolve().is_relative_to((tmp_path / "drop").resolve())
    assert not set(target.name) & set('<>:"/\\|?*\0')
    assert len(target.name.encode()) < 255


def test_the_same_name_twice_keeps_both(tmp_path: Path) -> None:
    first = uploads.target_of(tmp_path, "a.png")
    first.write_bytes(b"1")
    assert uploads.target_of(tmp_path, "a.png") != first


def test_a_file_over_the_limit_is_refused_while_it_arrives(client: httpx.Client, live_server, monkeypatch) -> None:
    monkeypatch.setattr(uploads, "LIMITS", uploads.LIMITS.__class__(file_bytes=1000))
    name = client.post("/uploads/new").json()["id"]
    answer = client.put(f"/uploads/{name}/file", params={"path": "big.png", "lang": "ja"}, content=b"x" * 5000)
    assert answer.status_code == 413 and "big.png" in answer.json()["error"]
    place = live_server.home / "outputs" / "cache" / "uploads" / name / uploads.DROP
    assert [f for f in place.rglob("*") if f.is_file()] == []


def test_an_unknown_drop_is_not_there(client: httpx.Client) -> None:
    assert client.put("/uploads/none/file", params={"path": "a.png"}, content=b"x").status_code == 404
    assert client.post("/uploads/none/finish", json={}).status_code == 404
