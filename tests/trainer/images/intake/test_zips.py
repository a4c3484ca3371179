"""Zips of any origin: nothing is extracted, nothing outside is touched, and bombs stop at once."""

from __future__ import annotations

import os
import stat
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from tests.helpers.pictures import claim_size, png, saved, scene, set_flag, zipped
from trainer.images.decoding.decode import Refused
from trainer.images.intake.intake import take_in
from trainer.images.intake.sources import entries
from trainer.images.set.image_set import ImageSet
from trainer.images.set.limits import Limits

A, B = (saved(scene(seed)) for seed in (1, 2))


def refused(path: Path, into: ImageSet, **options: Any) -> dict[str, str]:
    return {line.name: line.code for line in take_in([path], into, **options).refused}


def test_pictures_and_captions_come_in(empty: ImageSet, drop: Path) -> None:
    path = zipped(drop / "x.zip", {"set/a.png": A, "set/a.txt": b"first", "b.png": B, "set/": b""})
    result = take_in([path], empty)
    assert [(p.original, p.caption) for p in result.accepted] == [("b.png", ""), ("set/a.png", "first")]
    assert result.refused == result.notices == []


@pytest.mark.parametrize("name", ["../../evil.png", "/abs.png", "C:\\win.png", "a/../../b.png", "..\\up.png", "../.bashrc"])
def test_paths_that_lead_outside_are_refused_and_listed(empty: ImageSet, drop: Path, name: str) -> None:
    before = sorted(str(p) for p in drop.parent.rglob("*"))
    path = zipped(drop / "x.zip", {name: A, "good.png": B})
    result = take_in([path], empty)
    assert [line.code for line in result.refused] == ["zip_path"]
    assert [p.original for p in result.accepted] == ["good.png"]
    new = {str(p) for p in drop.parent.rglob("*")} - set(before) - {str(path)}
    assert all(p.startswith(str(drop.parent / "home")) for p in new)


def test_backslashes_are_folders(empty: ImageSet, drop: Path) -> None:
    path = zipped(drop / "x.zip", {"pics\\a.png": A, "pics\\a.txt": b"hello"})
    assert [(p.original, p.caption) for p in take_in([path], empty).accepted] == [("pics/a.png", "hello")]


def test_japanese_windows_names_are_shown_right(empty: ImageSet, drop: Path) -> None:
    path = zipped(drop / "x.zip", {"XXXXXX.png": A, "XXXXXX.txt": "黒猫".encode("cp932")})
    raw = path.read_bytes().replace(b"XXXXXX", "テスト".encode("cp932"))
    path.write_bytes(raw)
    (picture,) = take_in([path], empty).accepted
    assert (picture.original, picture.caption) == ("テスト.png", "黒猫")


def test_utf8_names_without_the_flag_are_shown_right(empty: ImageSet, drop: Path) -> None:
    path = zipped(drop / "x.zip", {"XXXXXXXXX.png": A})
    path.write_bytes(path.read_bytes().replace(b"XXXXXXXXX", "テスト".encode()))
    assert take_in([path], empty).accepted[0].original == "テスト.png"


def test_a_bomb_is_stopped_by_its_growth_at_once(empty: ImageSet, drop: Path) -> None:
    path = drop / "x.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("a.png", "w") as member,
    ):
        for _ in range(200):
            member.write(b"\0" * 1_000_000)
    assert path.stat().st_size < 400_000
    start = time.monotonic()
    assert refused(path, empty) == {"a.png": "zip_bomb"}
    claim_size(path, 100)  # the directory lies
    assert refused(path, empty) == {"a.png": "zip_damaged"}
    assert time.monotonic() - start < 20


def test_members_are_unpacked_only_as_far_as_they_must_be_recognised(empty: ImageSet, drop: Path, monkeypatch) -> None:
    unpacked = 0
    plain = zipfile.ZipExtFile.read

    def counting(self: zipfile.ZipExtFile, n: int | None = -1) -> bytes:
        nonlocal unpacked
        data = plain(self, n)
        unpacked += len(data)
        return data

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counting)
    zeros = {f"{number}.bin": bytes(1_000_000) for number in range(300)}
    path = zipped(drop / "x.zip", {**zeros, "n.png": bytes(900_000), "a.png": A})
    result = take_in([path], empty)
    assert [p.original for p in result.accepted] == ["a.png"] and len(result.notices) == 300
    assert {line.name: line.code for line in result.refused} == {"n.png": "not_a_picture"}
    assert unpacked < 302 * 512 + 2 * len(A)


def test_flat_drawings_that_shrink_three_hundred_times_are_taken(empty: ImageSet, drop: Path) -> None:
    page = Image.new("RGB", (1600, 1200), "white")
    ImageDraw.Draw(page).line((100, 100, 1500, 1100), fill="black", width=3)
    drawings = {"a.bmp": saved(page, "BMP"), "b.png": saved(page.rotate(180), "PNG", compress_level=0)}
    path = zipped(drop / "x.zip", drawings)
    with zipfile.ZipFile(path) as archive:
        assert all(info.file_size > 150 * info.compress_size for info in archive.infolist())
    result = take_in([path], empty)
    assert [p.original for p in result.accepted] == ["a.bmp", "b.png"] and result.refused == []


def test_hollow_pictures_stop_after_a_few_and_growth_counts_together(empty: ImageSet, drop: Path) -> None:
    hollow = png(1500, 1500, rows=bytes(6_000_000))
    path = zipped(drop / "x.zip", {f"{number:03d}.png": hollow for number in range(60)})
    entries = refused(path, empty)
    assert len(entries) == 60 and list(entries.values()).count("zip_bomb") >= 50
    page = {f"{number}.bmp": saved(Image.new("RGB", (1200, 1200), (number, 0, 0)), "BMP") for number in range(4)}
    entries = refused(zipped(drop / "y.zip", page), empty, limits=Limits(zip_grown_bytes=9_000_000))
    assert list(entries.values()) == ["zip_bomb", "zip_bomb"]


def test_captions_of_one_zip_are_read_up_to_a_sum(empty: ImageSet, drop: Path) -> None:
    members = {f"{number}{ending}": data for number in range(4) for ending, data in
               ((".png", saved(scene(number, (64, 64)))), (".txt", b"word " * 100))}  # fmt: skip
    result = take_in([zipped(drop / "x.zip", members)], empty, limits=Limits(text_bytes=1200))
    assert [bool(p.caption) for p in result.accepted] == [True, True, False, False]
    assert [(line.name, line.code) for line in result.notices] == [("2.txt", "caption_unread"), ("3.txt", "caption_unread")]


def test_members_that_share_their_bytes_are_a_bomb(empty: ImageSet, drop: Path) -> None:
    path = zipped(drop / "x.zip", {"a.png": A, "b.png": A}, zipfile.ZIP_STORED)
    data = path.read_bytes()
    at = data.rfind(b"PK\x01\x02")
    kernel = data[at : data.rfind(b"PK\x05\x06")]
    end = bytearray(data[data.rfind(b"PK\x05\x06") :])
    end[8:12] = (7).to_bytes(2, "little") * 2
    directory = data[data.find(b"PK\x01\x02") : at] + kernel * 6
    end[12:16] = len(directory).to_bytes(4, "little")
    path.write_bytes(data[: data.find(b"PK\x01\x02")] + directory + bytes(end))
    assert refused(path, empty) == {"x.zip": "zip_bomb"}


def test_nested_archives_are_not_opened(empty: ImageSet, drop: Path) -> None:
    inner = zipped(drop / "inner.zip", {"b.png": B}).read_bytes()
    path = zipped(drop / "x.zip", {"inner.zip": inner, "sneaky.png": inner, "a.png": A, "x.7z": b"7z\xbc\xaf"})
    result = take_in([path], empty)
    assert {line.name: line.code for line in result.refused} == dict.fromkeys(("inner.zip", "sneaky.png", "x.7z"), "archive")
    assert [p.original for p in result.accepted] == ["a.png"]


def test_links_are_refused(empty: ImageSet, drop: Path) -> None:
    path = drop / "x.zip"
    info = zipfile.ZipInfo("a.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert refused(path, empty) == {"a.png": "link"}


def test_encrypted_members_are_refused(empty: ImageSet, drop: Path) -> None:
    assert refused(set_flag(zipped(drop / "x.zip", {"a.png": A}), 1), empty) == {"a.png": "zip_encrypted"}


@pytest.mark.parametrize("size", [10, 50_000_000])
def test_a_forged_size_is_found(empty: ImageSet, drop: Path, size: int) -> None:
    code = refused(claim_size(zipped(drop / "x.zip", {"a.png": A}), size), empty)
    assert code in ({"a.png": "zip_damaged"}, {"a.png": "zip_bomb"})
    assert empty.pictures() == []


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_packing_is_refused(empty: ImageSet, drop: Path, method: int) -> None:
    assert refused(zipped(drop / "x.zip", {"a.png": A}, method), empty) == {"a.png": "zip_method"}


def test_too_many_entries_are_refused_before_the_directory_is_parsed(empty: ImageSet, drop: Path) -> None:
    path = drop / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(100_000):
            archive.writestr(f"{number}.png", b"")
    start = time.monotonic()
    assert refused(path, empty) == {"x.zip": "zip_entries"}
    assert time.monotonic() - start < 5
    small = zipped(drop / "y.zip", {f"{n}.png": b"" for n in range(6)})
    assert refused(small, empty, limits=Limits(zip_entries=5)) == {"y.zip": "zip_entries"}


@pytest.mark.parametrize("cut", [100, 1000, -30, -10])
def test_a_truncated_zip_is_refused(empty: ImageSet, drop: Path, cut: int) -> None:
    path = zipped(drop / "x.zip", {"a.png": A, "b.png": B})
    path.write_bytes(path.read_bytes()[:cut])
    assert refused(path, empty) == {"x.zip": "zip_damaged"}


def test_a_zip_that_unpacks_to_more_than_a_set_stops_at_the_quota(empty: ImageSet, drop: Path) -> None:
    path = zipped(drop / "x.zip", {f"{n:02d}.bmp": saved(scene(n), "BMP") for n in range(12)})
    result = take_in([path], empty, limits=Limits(set_bytes=700_000))
    assert len(result.accepted) + len(result.refused) == 12 and 1 <= len(result.accepted) <= 4
    assert {line.code for line in result.refused} == {"set_too_big"}
    assert sorted(os.listdir(empty.folder)) == sorted(["set.json", *(f"{n + 1:04d}.png" for n in range(len(result.accepted)))])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_zip_with_any_bytes_flipped_gives_entries_or_a_reason(tmp_path: Path, data: st.DataObject) -> None:
    path = zipped(tmp_path / "x.zip", {"a.png": b"abc" * 50, "dir/b.txt": b"caption", "c/../d.png": b"x"})
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    with entries([path]) as members_:
        for entry in members_:
            assert entry.kind in ("picture", "caption", "table", "other", "refused")
            try:
                assert len(entry.read(1000)) <= 1000
            except Refused as refusal:
                assert refusal.code in ("zip_damaged", "zip_bomb", "file_too_big", "unreadable_file")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(min_size=1, max_size=40).filter(lambda n: n.encode("utf-8", "ignore").decode() == n and "\0" not in n))
def test_a_member_of_any_name_is_harmless(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, b"data")
    with entries([tmp_path / "x.zip"]) as members_:
        for entry in members_:
            assert entry.kind == "refused" or entry.read(100) == b"data"
    assert sorted(os.listdir(tmp_path)) == ["home", "x.zip"]
