"""Taking pictures in: what is accepted, under which name, with which caption, and what is told about the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.pictures import film, png, saved, scene, write, zipped
from trainer.core import files
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.images.geometry import masks
from trainer.images.intake import intake
from trainer.images.intake.intake import new_set, take_in
from trainer.images.intake.notices import IntakeNotice
from trainer.images.set import image_set, staging
from trainer.images.set.image_set import ImageSet
from trainer.images.set.limits import Limits

A, B, C = (saved(scene(seed)) for seed in (1, 2, 3))


def codes(lines: list[IntakeNotice]) -> dict[str, str]:
    return {line.name: line.code for line in lines}


def test_good_ones_go_on_while_bad_ones_are_named(empty: ImageSet, drop: Path) -> None:
    write(
        drop,
        {
            "a.png": A,
            "empty.png": b"",
            "text.png": b"no picture",
            "b.png": saved(scene(2), "JPEG")[:2000],
            "huge.png": png(20_000, 20_000),
        },
    )
    result = take_in(sorted(drop.iterdir()), empty)
    assert [p.id for p in result.accepted] == ["0001"]
    assert codes(result.refused) == {
        "empty.png": "empty", "text.png": "not_a_picture", "b.png": "damaged", "huge.png": "too_many_pixels",
    }  # fmt: skip


def test_stored_as_plain_png_under_our_own_name(empty: ImageSet, drop: Path) -> None:
    write(drop, {"photo.png": saved(scene(1), "JPEG", quality=95)})
    (picture,) = take_in([drop / "photo.png"], empty).accepted
    assert picture.file.name == "0001.png" and picture.original == "photo.png"
    with Image.open(picture.file) as stored:
        assert (stored.format, stored.mode, stored.size, stored.info) == ("PNG", "RGB", (256, 256), {})


@pytest.mark.parametrize(
    "name",
    [
        "x" * 240 + ".png",
        "CON.png",
        "🐈‍⬛.png",
        "<img src=x onerror=alert(1)>.png",
        "a\nb.png",
        "\u202egnp.exe.png",
        "%2e%2e%2fx.png",
        "-rf.png",
    ],
)
def test_hostile_names_are_only_text(empty: ImageSet, drop: Path, name: str) -> None:
    write(drop, {name: A})
    (picture,) = take_in([drop / name], empty).accepted
    assert sorted(os.listdir(empty.folder)) == ["0001.png", "set.json"]
    assert len(picture.original) <= 200 and not set(picture.original) & set("\n\u202e\0")
    assert json.loads((empty.folder / "set.json").read_text("utf-8"))["pictures"]["0001"]["original"] == picture.original


def test_files_the_systems_leave_behind_are_ignored_silently(empty: ImageSet, drop: Path) -> None:
    junk = {
        "__MACOSX/._a.png": A,
        ".DS_Store": b"x",
        "Thumbs.db": b"x",
        "desktop.ini": b"x",
        ".hidden/b.png": B,
        "._a.png": b"x",
    }
    write(drop, {"a.png": A, **junk})
    result = take_in([drop, zipped(drop.parent / "x.zip", {"b.png": B, **junk})], empty)
    assert [p.original for p in result.accepted] == ["drop/a.png", "b.png"]
    assert result.refused == [] and result.notices == []


def test_captions_pair_by_stem_blind_to_case_and_unicode_form(empty: ImageSet, drop: Path) -> None:
    nfd = unicodedata.normalize("NFD", "がぞう")
    write(
        drop,
        {
            f"{nfd}.PNG": A,
            "がぞう.txt": "一枚目".encode(),
            "Two.Jpg": saved(scene(2), "JPEG"),
            "two.CAPTION": b"second",
        },
    )
    write(drop, {"c.webp": saved(scene(3), "WEBP"), "c.webp.txt": b"third", "d.png": saved(scene(4))})
    result = take_in([drop], empty)
    assert sorted(p.caption for p in result.accepted) == ["", "second", "third", "一枚目"]
    assert result.notices == [] and result.refused == []


def test_txt_comes_before_caption(empty: ImageSet, drop: Path) -> None:
    write(drop, {"a.png": A, "a.caption": b"old", "a.txt": b"new"})
    assert take_in([drop], empty).accepted[0].caption == "new"


def test_one_caption_for_two_pictures_of_a_name_goes_to_both_and_is_told(empty: ImageSet, drop: Path) -> None:
    write(drop, {"a.png": A, "a.jpg": saved(scene(2), "JPEG"), "a.txt": b"both"})
    result = take_in([drop], empty)
    assert [p.caption for p in result.accepted] == ["both", "both"]
    assert result.notices == [IntakeNotice("drop/a.txt", "caption_shared", {"count": 2})]


def test_equal_names_in_other_folders_do_not_share_captions(empty: ImageSet, drop: Path) -> None:
    write(drop, {"x/1.png": A, "x/1.txt": b"cat", "y/1.png": B, "y/1.txt": b"dog"})
    assert [p.caption for p in take_in([drop], empty).accepted] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("data", "caption", "code"),
    [
        (b"\xef\xbb\xbfa cat", "a cat", None),
        ("猫、座っている".encode("cp932"), "猫、座っている", "caption_encoding_other"),
        ("1girl, solo, 猫, tail".encode("cp932"), "1girl, solo, 猫, tail", "caption_encoding_other"),
        ("a café, naïve".encode("latin-1"), "a café, naïve", "caption_encoding_other"),
        (b"a\xa0cat\xe9", "a caté", "caption_encoding_other"),
        ("猫".encode("utf-16"), "猫", "caption_encoding"),
        (b"a \xed\xa0\x80 cat", "a � cat", "caption_mended"),
        (b"one\r\ntwo\0\x07 three\t four", "one two three four", None),
        (b"", "", None),
        (b" \n ", "", None),
        (b"<script>alert(1)</script> ${x} {{y}} \xe2\x80\xae", "<script>alert(1)</script> ${x} {{y}} \u202e", None),
    ],
)
def test_captions_of_any_encoding(empty: ImageSet, drop: Path, data: bytes, caption: str, code: str | None) -> None:
    write(drop, {"a.png": A, "a.txt": data})
    result = take_in([drop], empty)
    assert result.accepted[0].caption == caption
    assert [line.code for line in result.notices] == ([code] if code else [])
    assert not caption or (empty.folder / "0001.txt").read_text("utf-8").strip() == caption


def test_an_endless_caption_is_cut_and_an_enormous_one_left_aside(empty: ImageSet, drop: Path) -> None:
    write(drop, {"a.png": A, "a.txt": b"word " * 200_000, "b.png": B, "b.txt": b"x" * 5_000_000})
    result = take_in([drop], empty)
    assert len(result.accepted[0].caption) <= 4000 and result.accepted[0].caption.endswith("word")
    assert result.accepted[1].caption == ""
    assert codes(result.notices) == {"drop/a.txt": "caption_cut", "drop/b.txt": "caption_unread"}


def test_captions_dropped_later_find_their_pictures(empty: ImageSet, drop: Path) -> None:
    write(drop, {"a.png": A, "b.png": B, "c.txt": b"nobody"})
    first = take_in([drop], empty)
    assert codes(first.notices) == {"drop/c.txt": "caption_alone"}
    write(drop, {"a.txt": b"late"})
    later = take_in([drop / "a.txt"], empty)
    assert [p.caption for p in empty.pictures()] == ["late", ""]
    assert [line.code for line in later.notices] == ["caption_added"]


def test_the_same_pixels_are_not_added_twice(empty: ImageSet, drop: Path) -> None:
    write(drop, {"a.png": A, "again.bmp": saved(scene(1), "BMP"), "b.png": B})
    result = take_in([drop], empty)
    assert [p.original for p in result.accepted] == ["drop/a.png", "drop/b.png"]
    assert result.notices == [IntakeNotice("drop/again.bmp", "duplicate", {"picture": "0001"})]
    assert take_in([drop], ImageSet(empty.folder)).accepted == [] and len(empty.pictures()) == 2


def test_a_motion_photo_is_taken_without_its_film(empty: ImageSet, drop: Path) -> None:
    write(drop, {"phone.jpg": saved(scene(1), "JPEG") + film(7_000_000)})
    result = take_in([drop], empty)
    assert result.refused == [] and result.notices == [IntakeNotice("drop/phone.jpg", "film", {})]
    assert (empty.folder / "0001.png").stat().st_size < 1_000_000
    assert "motion photo" in result.sentences("en")[0]


def test_kohya_folders_become_repeats_but_years_do_not(empty: ImageSet, drop: Path) -> None:
    write(drop, {"10_sks dog/a.png": A, "2024_holiday/b.png": B, "300_x/c.png": C})
    result = take_in([drop], empty)
    assert {p.original: p.repeats for p in result.accepted} == {
        "drop/10_sks dog/a.png": 10, "drop/2024_holiday/b.png": 1, "drop/300_x/c.png": 1,
    }  # fmt: skip
    assert result.notices == [IntakeNotice("10_sks dog", "kohya_folder", {"repeats": 10, "word": "sks dog"})]


def test_natural_order_and_numbers_that_go_on(empty: ImageSet, drop: Path) -> None:
    write(drop, {f"p{n}.png": saved(scene(n, (64, 64))) for n in (10, 2, 1)})
    assert [p.original for p in take_in([drop], empty).accepted] == ["drop/p1.png", "drop/p2.png", "drop/p10.png"]
    empty.delete(["0003"])
    write(drop, {"new.png": saved(scene(99, (64, 64)))})
    assert [p.id for p in take_in([drop / "new.png"], empty).accepted] == ["0004"]


def test_a_picture_without_ending_is_found_and_other_files_are_left(empty: ImageSet, drop: Path) -> None:
    write(drop, {"photo": A, "notes.md": b"# hi", "model.safetensors": b"\0" * 99})
    result = take_in([drop], empty)
    assert [p.original for p in result.accepted] == ["drop/photo"]
    assert codes(result.notices) == {"drop/notes.md": "other_file", "drop/model.safetensors": "other_file"}


def test_links_are_not_followed(empty: ImageSet, drop: Path) -> None:
    write(drop.parent, {"outside/secret.png": A})
    (drop / "a.png").symlink_to(drop.parent / "outside/secret.png")
    (drop / "folder").symlink_to(drop.parent / "outside")
    result = take_in([drop], empty)
    assert result.accepted == [] and codes(result.refused) == {"drop/a.png": "link"}


def test_a_full_set_says_so_and_loses_nothing(empty: ImageSet, drop: Path) -> None:
    write(drop, {f"{n}.png": saved(scene(n, (64, 64))) for n in range(5)})
    result = take_in([drop], empty, limits=Limits(pictures=3))
    assert len(result.accepted) == 3 and codes(result.refused) == {"drop/3.png": "set_full", "drop/4.png": "set_full"}
    assert len(empty.pictures()) == 3


def test_a_file_or_set_that_is_too_large_is_refused(empty: ImageSet, drop: Path) -> None:
    write(drop, {"a.png": A, "b.png": B, "c.png": C})
    big = take_in([drop], empty, limits=Limits(file_bytes=100))
    assert set(codes(big.refused).values()) == {"file_too_big"} and big.accepted == []
    quota = take_in([drop], empty, limits=Limits(set_bytes=len(A) + 2000))
    assert len(quota.accepted) == 1 and set(codes(quota.refused).values()) == {"set_too_big"}
    assert not list(empty.folder.glob(".incoming*"))


def test_progress_counts_every_picture(empty: ImageSet, drop: Path) -> None:
    write(drop, {"a.png": A, "b.png": b"", "c.png": C})
    seen: list[tuple[int, int, str]] = []
    take_in([drop], empty, lambda *args: seen.append(args))
    assert seen == [(1, 3, "drop/a.png"), (2, 3, "drop/b.png"), (3, 3, "drop/c.png")]


def test_a_broken_off_upload_leaves_nothing(home: Home, empty: ImageSet, drop: Path) -> None:
    write(drop, {"a.png": A, "b.png": B})

    def stop(done: int, of: int, name: str) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        take_in([drop], empty, stop)
    assert sorted(os.listdir(empty.folder)) == ["set.json"]
    with pytest.raises(ConnectionResetError):
        new_set(home, "Other", [drop], progress=stop)
    assert os.listdir(home.datasets) == ["Test"]


KILL = """
import os, signal, sys
from pathlib import Path
from trainer.images.set import staging
from trainer.images.set.image_set import ImageSet
from trainer.images.intake.intake import take_in
if sys.argv[3] == "early":
    take_in([Path(sys.argv[2])], ImageSet(sys.argv[1]), lambda *a: os.kill(os.getpid(), signal.SIGKILL))
moves = []
def replace(a, b, real=os.replace):
    real(a, b)
    moves.append(b)
    if str(b).endswith("0001.png"):
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
take_in([Path(sys.argv[2])], ImageSet(sys.argv[1]))
"""


@pytest.mark.parametrize("moment", ["early", "late"])
def test_killed_in_the_middle_all_or_nothing(empty: ImageSet, drop: Path, moment: str) -> None:
    write(drop, {"a.png": A, "a.txt": b"one", "b.png": B, "b.txt": b"two"})
    run = subprocess.run([sys.executable, "-c", KILL, str(empty.folder), str(drop), moment], timeout=60, check=False)
    assert run.returncode == -9
    assert len(list(empty.folder.glob(".incoming-*"))) == 1
    again = ImageSet(empty.folder)
    if moment == "late":  # it had been decided: opening the set finishes it
        assert [(p.id, p.caption, p.original) for p in again.pictures()] == [
            ("0001", "one", "drop/a.png"),
            ("0002", "two", "drop/b.png"),
        ]
        assert not list(empty.folder.glob(".incoming-*"))
    else:
        assert again.pictures() == []
        (left,) = empty.folder.glob(".incoming-*")
        long_ago = time.time() - 2 * staging.STALE_SECONDS
        os.utime(left, (long_ago, long_ago))
        ImageSet(empty.folder)
        assert sorted(os.listdir(empty.folder)) == ["set.json"]


def test_a_new_set_appears_whole_or_not_at_all(home: Home, drop: Path) -> None:
    write(drop, {"a.png": b"no", "b.png": b""})
    created, result = new_set(home, "Nothing", [drop])
    assert created is None and len(result.refused) == 2 and os.listdir(home.datasets) == []
    write(drop, {"a.png": A})
    created, result = new_set(home, "My: Set?", [drop], kind="character")
    assert created is not None and created.folder.name == "My_Set"
    assert created.meta.title == "My: Set?" and created.meta.kind == "character"
    assert [p.file.parent for p in result.accepted] == [created.folder]
    assert os.listdir(home.datasets) == ["My_Set"] and [s.folder for s in image_set.list_sets(home)] == [created.folder]
    assert created.facts.get(created.folder / "0001.png", "measures") is not None


def test_a_file_someone_puts_in_place_meanwhile_is_not_overwritten(empty: ImageSet, drop: Path) -> None:
    write(drop, {"a.png": A})

    def someone(*_: object) -> None:
        (empty.folder / "0001.png").write_bytes(B)

    take_in([drop], empty, someone)
    assert (empty.folder / "0001.png").read_bytes() == B
    assert {p.id: p.original for p in empty.pictures()} == {"0001": "0001.png", "0001_v2": "drop/a.png"}


def test_a_full_disk_is_told_and_leaves_nothing(empty: ImageSet, drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(drop, {"a.png": A})

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_durably", full)
    with pytest.raises(Problem) as problem:
        take_in([drop], empty)
    assert problem.value.code == "disk_full" and sorted(os.listdir(empty.folder)) == ["set.json"]


def test_sentences_group_equal_reasons(empty: ImageSet, drop: Path) -> None:
    write(drop, {f"{n}.png": b"" for n in range(5)})
    (sentence,) = take_in([drop], empty).sentences("en")
    assert sentence.startswith("drop/0.png, drop/1.png, drop/2.png and 2 more: the file is empty")
    small = IntakeNotice("犬.png", "too_small", {"width": 9, "height": 9, "limit": 32})
    (sentence,) = intake.Intake(refused=[small]).sentences("ja")
    assert sentence == "犬.png：9×9は小さすぎて学習できません。縦横とも32ピクセル以上が必要です。"


def test_masks_come_in_with_their_pictures_and_go_with_them(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    half = Image.new("L", (64, 48))
    half.paste(255, (0, 0, 32, 48))
    rng = np.random.default_rng(0)
    for name in ("a.png", "see.png", "alone.mask.png"):
        image = Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
        if name == "see.png":
            image.putalpha(half)
        image.save(drop / name)
    half.save(drop / "a.mask.png")
    image_set, result = intake.new_set(Home(tmp_path / "home"), "masked", [drop])
    assert image_set is not None and sorted(Path(p.original).name for p in result.accepted) == [
        "a.png",
        "alone.mask.png",
        "see.png",
    ]
    assert result.refused == []
    by_name = {Path(p.original).name: p for p in image_set.pictures()}
    assert masks.mask_of(by_name["a.png"]).tobytes() == half.tobytes()  # type: ignore[union-attr]
    assert masks.mask_of(by_name["see.png"]).tobytes() == half.tobytes()  # type: ignore[union-attr]
    assert masks.mask_of(by_name["alone.mask.png"]) is None
    file = by_name["a.png"].file
    image_set.delete([by_name["a.png"].id])
    assert not file.with_suffix(".mask.png").exists() and len(image_set.pictures()) == 2
    image_set.undo()
    assert file.with_suffix(".mask.png").exists() and len(image_set.pictures()) == 3
