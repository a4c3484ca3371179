"""Every way in: each caption ends beside the picture it lay beside, or a sentence names it; rubbish is passed over unsaid."""

from __future__ import annotations

import shutil
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.pictures import saved, scene, write
from trainer.core.home import Home
from trainer.images.intake.entry import Sent
from trainer.images.intake.intake import Intake, new_set, take_in
from trainer.images.intake.names import composed, fold, shown, split
from trainer.images.intake.notices import IntakeNotice
from trainer.images.set.image_set import ImageSet
from trainer.images.set.picture import sort_folder

LONG = "the same beginning of a very long name, word after word, until a hundred and twenty bytes are behind us and more, "
File = tuple[str, str, str, bool]
Way = Callable[[Path, list[File]], list[Path | Sent]]
NFD = unicodedata.normalize("NFD", "がぎぐ")
POOL = [
    "cat 1", "cat_1", "cat__1", " cat 1", "1", "01", "_01", "001", "が", unicodedata.normalize("NFD", "が"), "ｶﾞ",
    "猫" * 40 + "一", "猫" * 40 + "二", "猫" * 40,
    "Cat", "cat", "CAT", "straße", "STRASSE", "strasse", "a", "a.b", "A.B", "x", "x ",
    LONG + "one", LONG + "two", "con", "aux", "50%", "<b>", "a:b", "file", "İ", "i",
]  # fmt: skip
LETTERS = st.characters(exclude_categories=("C", "Z"), exclude_characters="/\\.")
NAMES = st.sampled_from(POOL) | st.text(LETTERS, min_size=1, max_size=12)
FILES = st.lists(
    st.tuples(
        NAMES, st.sampled_from([".png", ".PNG", ".jpg"]), st.sampled_from(["", ".txt", ".TXT", ".caption"]), st.booleans()
    ),
    min_size=1, max_size=7, unique_by=lambda one: one[0],
)  # fmt: skip
"""(name, ending of the picture, ending of its caption or none, whether a Mac's twins lie beside)"""


def tiny(number: int) -> bytes:
    return saved(Image.new("RGB", (36, 36), (number * 30 % 256, number * 7, 90)))


def contents(files: list[File], folder: str = "") -> dict[str, bytes]:
    entries: dict[str, bytes] = {}
    for number, (name, picture, caption, twins) in enumerate(files):
        entries[f"{folder}{name}{picture}"] = tiny(number)
        if caption:
            entries[f"{folder}{name}{caption}"] = f"text {number}".encode()
        if twins:
            entries |= {f"{folder}._{name}{ending}": b"\0\5\x16\7" for ending in (picture, caption) if ending}
            entries[f"{folder}.DS_Store"] = b"\0\0\0\1Bud1"
    return entries


def sent(place: Path, files: dict[str, bytes]) -> list[Sent]:
    """As an upload keeps them: under names of ours, with the name each had."""
    paths = {name: place / f"{number}" for number, name in enumerate(files)}
    for name, path in paths.items():
        path.write_bytes(files[name])
    return [Sent(path, name) for name, path in paths.items()]


def loose(place: Path, files: list[File]) -> list[Path | Sent]:
    return list(sent(place, contents(files)))


def sent_folder(place: Path, files: list[File]) -> list[Path | Sent]:
    return list(sent(place, contents(files, "My Set/")))


def folder(place: Path, files: list[File]) -> list[Path | Sent]:
    return [write(place / "My Set", contents(files))]


def zipped(place: Path, files: list[File], mark: str = "/") -> list[Path | Sent]:
    with zipfile.ZipFile(place / "set.zip", "w") as archive:
        for name, data in contents(files, f"My Set{mark}").items():
            archive.writestr(name, data)
            if "._" in name:
                archive.writestr(f"__MACOSX{mark}{name}", data)
    return [place / "set.zip"]


def windows_zip(place: Path, files: list[File]) -> list[Path | Sent]:
    return zipped(place, files, "\\")


def check(files: list[File], texts: dict[str, str], lines: list[IntakeNotice]) -> None:
    """`texts` are the captions by the raw file name of the picture."""
    named = " ".join(line.name for line in lines)
    assert "._" not in named and "DS_Store" not in named
    assert len(texts) == len(files)
    for number, (name, picture, caption, _) in enumerate(files):
        if not caption:
            continue
        holders = [file for file, text in texts.items() if text == f"text {number}"]
        assert holders == [f"{name}{picture}"] or (not holders and shown(f"{name}{caption}") in named)
        assert holders or "." in name  # only `a.png.txt` beside an `a.png` may mean another picture


@pytest.mark.parametrize("way", [loose, sent_folder, folder, zipped, windows_zip])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(files=FILES)
@example(files=[(name, ".png", ".txt", True) for name in (LONG + "one", LONG + "two", "cat 1", "cat_1", "_01", "01", "1")])
@example(files=[(name, ".png", ".txt", False) for name in ("猫" * 40 + "一", "猫" * 40 + "二", "が", NFD[:2], "Cat", "cat")])
def test_each_caption_ends_beside_its_picture_or_is_named(home: Home, way: Way, files: list[File]) -> None:
    place = Path(tempfile.mkdtemp(dir=home.root))
    into = ImageSet.create(home, "Names")
    result = take_in(way(place, files), into)
    texts = {picture.file.stem: picture.caption for picture in into.pictures()}
    by_content = {(into.folder / f"{id_}.png").read_bytes(): text for id_, text in texts.items()}
    order = {saved_pixels(tiny(number)): f"{name}{ending}" for number, (name, ending, _, _) in enumerate(files)}
    check(files, {order[saved_pixels(data)]: text for data, text in by_content.items()}, result.refused + result.notices)
    assert result.refused == []
    shutil.rmtree(place)
    shutil.rmtree(into.folder)


def saved_pixels(data: bytes) -> bytes:
    import io

    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB").tobytes()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(files=FILES)
@example(files=[(name, ".png", ".txt", True) for name in (LONG + "one", LONG + "two", "cat 1", "cat_1", "_01", "01", "cat")])
def test_a_folder_used_in_place_keeps_each_caption_with_its_picture(tmp_path: Path, files: list[File]) -> None:
    place = write(Path(tempfile.mkdtemp(dir=tmp_path)), contents(files))
    texts = {picture.file.name: picture.caption for picture in ImageSet(place, read_only=True).pictures()}
    check(files, texts, sort_folder(place).notices)


def brought(home: Home, files: dict[str, bytes]) -> tuple[dict[str, str], Intake]:
    """Captions by original name, and what was told."""
    place = Path(tempfile.mkdtemp(dir=home.root))
    image_set, result = new_set(home, "Brought", list(sent(place, files)))
    return {picture.original: picture.caption for picture in image_set.pictures()} if image_set else {}, result


A, B, C = (saved(scene(seed, (64, 64))) for seed in (1, 2, 3))


def test_an_external_drive_of_a_mac_brings_its_pictures_captions_and_no_complaint(home: Home) -> None:
    twins = {f"._{name}": b"\0\5\x16\7\0\2\0\0Mac OS X" for name in ("a.png", "a.txt", "b.png")}
    rubbish = {".DS_Store": b"x", "Thumbs.db": b"x", "Desktop.ini": b"x", "Icon\r": b"", "__MACOSX/._a.png": b"x"}
    texts, result = brought(home, {f"MySet/{name}": data for name, data in {
        **twins, **rubbish, "a.png": A, "a.txt": b"caption of a", "b.png": B, "b.txt": b"caption of b"}.items()})  # fmt: skip
    assert texts == {"MySet/a.png": "caption of a", "MySet/b.png": "caption of b"}
    assert result.refused == [] and result.notices == []


def test_names_that_differ_in_form_and_case_pair_where_nothing_else_can_be_meant(home: Home) -> None:
    files = {f"{NFD}.PNG": A, f"{composed(NFD)}.txt": b"one", "Two.png": B, "TWO.TXT": b"two"}
    texts, result = brought(home, files)
    assert texts == {f"{composed(NFD)}.PNG": "one", "Two.png": "two"} and result.notices == []


def test_what_cannot_be_told_apart_is_given_to_none_and_named(home: Home) -> None:
    texts, result = brought(home, {"Cat.png": A, "cat.png": B, "CAT.txt": b"which?"})
    assert set(texts.values()) == {""}
    assert [(line.name, line.code) for line in result.notices] == [("CAT.txt", "caption_unclear")]
    texts, result = brought(home, {"Dog.png": C, "DOG.txt": b"one", "dog.txt": b"other"})
    assert texts == {"Dog.png": ""} and {line.name for line in result.notices} == {"DOG.txt", "dog.txt"}


def test_an_equal_name_comes_before_one_equal_but_for_case_and_the_other_is_named(home: Home) -> None:
    texts, result = brought(home, {"Cat.png": A, "Cat.txt": b"right", "cat.txt": b"left over"})
    assert texts == {"Cat.png": "right"}
    assert [(line.name, line.code) for line in result.notices] == [("cat.txt", "caption_spare")]


def test_the_name_with_its_ending_comes_before_the_stem(home: Home) -> None:
    texts, _ = brought(home, {"a.png": A, "a.jpg": B, "a.txt": b"stem", "a.jpg.txt": b"whole", "a.jpg.png": C})
    assert texts == {"a.png": "stem", "a.jpg": "stem", "a.jpg.png": "whole"}
    texts, _ = brought(home, {"a.png": A, "a.jpg": B, "a.txt": b"stem", "a.jpg.txt": b"whole"})
    assert texts == {"a.png": "stem", "a.jpg": "whole"}


def test_a_caption_file_that_was_not_used_is_named(home: Home) -> None:
    texts, result = brought(home, {
        "a.png": A, "a.txt": b"tags", "a.caption": b"a sentence", "b.png": B, "b.tags": b"1girl, solo",
    })  # fmt: skip
    assert texts == {"a.png": "tags", "b.png": "1girl, solo"}
    assert [(line.name, line.code) for line in result.notices] == [("a.caption", "caption_spare")]


def test_the_caption_of_a_refused_picture_is_named_with_it(home: Home) -> None:
    _, result = brought(home, {"a.png": A, "b.png": B[:300], "b.txt": b"half"})
    assert [line.name for line in result.refused] == ["b.png"]
    assert [(line.name, line.code) for line in result.notices] == [("b.txt", "caption_left")]


def test_the_caption_of_a_double_goes_to_the_picture_that_is_there_or_is_named(home: Home) -> None:
    texts, result = brought(home, {"a.png": A, "b.png": A, "b.txt": b"of the double"})
    assert texts == {"a.png": "of the double"}
    texts, result = brought(home, {"a.png": B, "a.txt": b"first", "b.png": B, "b.txt": b"second"})
    assert texts == {"a.png": "first"}
    assert ("b.txt", "caption_kept") in [(line.name, line.code) for line in result.notices]


def test_captions_that_come_later_go_by_raw_names_and_folders(home: Home, tmp_path: Path) -> None:
    names = [f"x/{LONG}{LONG}one.png", f"x/{LONG}{LONG}two.png", "x/1.png", "y/1.png"]
    place = tmp_path / "later"
    place.mkdir()
    pictures = {name: saved(scene(10 + number, (64, 64))) for number, name in enumerate(names)}
    image_set, _ = new_set(home, "Later", list(sent(place, pictures)))
    assert image_set is not None
    texts = {name.replace(".png", ".txt"): f"text {number}".encode() for number, name in enumerate(names)}
    result = take_in(list(sent(place, {**texts, "1.txt": b"of which folder?"})), image_set)
    assert [picture.caption for picture in image_set.pictures()] == ["text 2", "text 0", "text 1", "text 3"]
    assert ("1.txt", "caption_unclear") in [(line.name, line.code) for line in result.notices]


def test_a_later_caption_never_replaces_one_unsaid(home: Home, tmp_path: Path) -> None:
    image_set, _ = new_set(home, "Kept", list(sent(tmp_path, {"a.png": A, "a.txt": b"first"})))
    assert image_set is not None
    result = take_in(list(sent(tmp_path, {"a.txt": b"second"})), image_set)
    assert image_set.pictures()[0].caption == "first"
    assert [(line.name, line.code) for line in result.notices] == [("a.txt", "caption_kept")]


def test_a_folder_used_in_place_finds_a_picture_by_its_full_name(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": A, "a.jpg": B})
    pictures = ImageSet(tmp_path)
    assert [p.id for p in pictures.pictures()] == ["a", "a.png"]
    assert pictures.find("a.png").file.name == "a.png" and pictures.find("a").file.name == "a.jpg"


def test_names_are_split_and_compared_as_they_are() -> None:
    assert split("a.b.PNG") == ("a.b", ".png") and fold(NFD) == composed(NFD)
