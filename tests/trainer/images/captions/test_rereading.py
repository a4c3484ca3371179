"""Captions read in another encoding at a click: from the bytes as they came, back to the byte, never over typed words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.pictures import saved, scene, write
from trainer.core.home import Home
from trainer.core.texts import lookup
from trainer.images.captions import rereading
from trainer.images.intake.intake import take_in
from trainer.images.report import check
from trainer.images.set import subsets
from trainer.images.set.image_set import ImageSet, restore_set

CHINESE = ("一位老人在公园里喂鸽子", "窗台上的一盆仙人掌", "穿着雨衣的小女孩")


def captioned(folder: Path, texts: tuple[str, ...], encoding: str) -> Path:
    """Pictures with captions in an encoding."""
    pairs = {f"{n}.png": saved(scene(n, (64, 64))) for n in range(len(texts))}
    return write(folder, pairs | {f"{n}.txt": text.encode(encoding) for n, text in enumerate(texts)})


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a set but what can be taken back."""
    return {file.relative_to(folder).as_posix(): file.read_bytes()
            for file in sorted(folder.rglob("*")) if file.is_file() and ".trash" not in file.parts}  # fmt: skip


def captions_of(image_set: ImageSet) -> list[str]:
    return [picture.caption for picture in image_set.pictures()]


def test_the_notice_says_what_was_read_and_how_it_would_be_otherwise(empty: ImageSet, drop: Path) -> None:
    result = take_in([captioned(drop, CHINESE, "gbk")], empty)
    assert captions_of(empty) == list(CHINESE)
    (sentence,) = result.sentences("en")
    assert "Chinese, simplified (GBK)" in sentence and CHINESE[0] in sentence and "Images page" in sentence
    (sentence,) = result.sentences("ja")
    assert "簡体字(GBK)" in sentence and CHINESE[0] in sentence
    other = result.notices[0].params["other"]
    assert result.notices[0].params["other_words"] == CHINESE[0].encode("gbk").decode(other, "replace")


def test_utf8_is_no_notice_and_keeps_no_second_copy(empty: ImageSet, drop: Path) -> None:
    result = take_in([captioned(drop, CHINESE, "utf-8")], empty)
    assert result.notices == [] and not (empty.folder / ".captions").exists() and rereading.readings(empty) == []


def test_a_set_is_read_otherwise_and_back_to_the_byte(empty: ImageSet, drop: Path) -> None:
    take_in([captioned(drop, CHINESE, "gbk")], empty)
    before = contents(empty.folder)
    (reading,) = rereading.readings(empty)
    assert (reading.encoding, reading.excerpt, len(reading.ids)) == ("gb18030", CHINESE[0], 3) and reading.other
    token = rereading.read_as(empty, reading.other, reading.ids)
    assert captions_of(empty) == [text.encode("gbk").decode(reading.other, "replace") for text in CHINESE]
    (now,) = rereading.readings(empty)
    assert (now.encoding, now.other, now.other_excerpt) == (reading.other, "gb18030", CHINESE[0])
    assert rereading.read_as(empty, "gb18030", now.ids) and captions_of(empty) == list(CHINESE)
    assert empty.undo() and captions_of(empty) != list(CHINESE)
    assert empty.undo(token) and contents(empty.folder) == before


def test_a_wrong_reading_loses_nothing(empty: ImageSet, drop: Path) -> None:
    """UTF-16 drops and joins bytes: the way back is from the bytes, not from the text."""
    take_in([captioned(drop, CHINESE, "gbk")], empty)
    for encoding in ("utf_16_le", "koi8_r", "cp932", "utf-8", "gb18030"):
        (reading,) = rereading.readings(empty)
        rereading.read_as(empty, encoding, reading.ids)
    assert captions_of(empty) == list(CHINESE)


def test_what_a_person_typed_stays(empty: ImageSet, drop: Path) -> None:
    take_in([captioned(drop, CHINESE, "gbk")], empty)
    empty.set_caption("0002", "my own words")
    (reading,) = rereading.readings(empty)
    assert reading.ids == ("0001", "0003")
    rereading.read_as(empty, "cp949", ["0001", "0002", "0003"])
    assert captions_of(empty)[1] == "my own words"
    empty.set_caption("0003", "typed afterwards")
    empty.undo()
    assert captions_of(empty) == [CHINESE[0], "my own words", "typed afterwards"]


def test_a_folder_filled_by_hand_is_read_together_and_changed_only_when_asked(home: Home) -> None:
    folder = captioned(home.datasets / "mine", CHINESE, "gbk")
    (folder / "2.txt").write_bytes("一\n\n二三".encode("gbk"))
    before = contents(folder)
    mine = ImageSet(folder)
    assert captions_of(mine) == [CHINESE[0], CHINESE[1], "一 二三"] and mine.find("1").caption == CHINESE[1]
    (reading,) = rereading.readings(mine)
    assert reading.ids == ("0", "1", "2") and contents(folder) == before
    rereading.read_as(mine, "gb18030", reading.ids)
    assert (folder / "2.txt").read_text("utf-8") == "一\n二三\n" and captions_of(mine)[2] == "一 二三"
    assert mine.undo() and {name: data for name, data in contents(folder).items() if name != "set.json"} == before


def test_a_reading_called_right_is_not_asked_about_again(home: Home, empty: ImageSet, drop: Path) -> None:
    take_in([captioned(drop, CHINESE, "gbk")], empty)
    assert rereading.confirm(empty, "gb18030") == 3 and rereading.readings(empty) == [] and captions_of(empty) == list(CHINESE)
    mine = ImageSet(captioned(home.datasets / "mine", CHINESE, "gbk"))
    assert rereading.confirm(mine, "gb18030") == 3 and rereading.readings(mine) == []
    assert (mine.folder / "0.txt").read_text("utf-8").strip() == CHINESE[0]


def test_the_bytes_as_they_came_go_to_the_trash_with_their_picture_and_come_back(
    home: Home, drop: Path, empty: ImageSet
) -> None:
    take_in([captioned(drop, CHINESE, "gbk")], empty)
    before = contents(empty.folder)
    token = empty.delete(["0002"])
    assert not (empty.folder / ".captions" / "0002.written").exists()
    assert [reading.ids for reading in rereading.readings(empty)] == [("0001", "0003")]
    empty.undo(token)
    before.pop("set.json")  # the order of its notes is another
    assert {name: data for name, data in contents(empty.folder).items() if name != "set.json"} == before
    again = restore_set(home, empty.discard(home))
    assert [reading.ids for reading in rereading.readings(again)] == [("0001", "0002", "0003")]


def test_captions_that_come_later_are_kept_as_they_came_too(empty: ImageSet, drop: Path) -> None:
    captioned(drop, CHINESE, "gbk")
    take_in([drop / f"{n}.png" for n in range(3)], empty)
    take_in([drop / f"{n}.txt" for n in range(3)], empty)
    assert captions_of(empty) == list(CHINESE)
    assert [reading.ids for reading in rereading.readings(empty)] == [("0001", "0002", "0003")]


def test_a_reading_broken_off_half_way_is_taken_back(empty: ImageSet, drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take_in([captioned(drop, CHINESE, "gbk")], empty)
    before, real, done = contents(empty.folder), rereading.files.write_text, []

    def one_then_none(path: Path, text: str) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(path)
        real(path, text)

    monkeypatch.setattr(rereading.files, "write_text", one_then_none)
    with pytest.raises(KeyboardInterrupt):
        rereading.read_as(empty, "cp949", ["0001", "0002", "0003"])
    monkeypatch.undo()
    assert captions_of(empty)[0] != CHINESE[0] and captions_of(empty)[1:] == list(CHINESE[1:])
    empty.undo()
    assert contents(empty.folder) == before


def test_check_says_what_it_read_and_reads_as_asked(drop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captioned(drop, CHINESE, "gbk")
    before = contents(drop)
    assert check.main([str(drop)]) == 0
    spoken = capsys.readouterr().err
    assert CHINESE[0] in spoken and "--encoding" in spoken
    assert check.main([str(drop), "--encoding", "euc_kr"]) == 0
    assert CHINESE[0].encode("gbk").decode("cp949") in capsys.readouterr().err
    assert check.main([str(drop), "--encoding", "klingon"]) == 2
    assert "klingon" in capsys.readouterr().err
    assert contents(drop) == before


def test_a_training_reads_its_folders_in_the_encoding_asked_for(drop: Path) -> None:
    from trainer.config import load
    from trainer.config.load import ConfigProblems

    captioned(drop / "a", CHINESE, "gbk")
    captioned(drop / "b", ("猫",), "gbk")
    texts = [f"images.folder={drop / 'a'}", "images.subsets=b = 1"]
    config = load.build({}, overrides=[*texts, "images.encoding=gbk"])
    assert [p.caption for p in subsets.pictures(config.images)] == [*CHINESE, "è"]  # those bytes are UTF-8 as well
    config = load.build({}, overrides=[*texts, "images.encoding=euc_kr"])
    assert subsets.pictures(config.images)[0].caption == CHINESE[0].encode("gbk").decode("cp949")
    assert load.build({}, overrides=["images.encoding="]).images.encoding == "auto"
    with pytest.raises(ConfigProblems) as problems:
        load.build({}, overrides=["images.encoding=klingon"])
    assert [(p.code, p.field) for p in problems.value.problems] == [("encoding_unknown", "images.encoding")]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_every_encoding_has_a_name_for_people(language: str) -> None:
    from trainer.images.captions.encodings import SPOKEN, label

    for name in SPOKEN:
        assert lookup(f"encodings.{name}", language), name
    assert label("cp1250", language) == "cp1250"
