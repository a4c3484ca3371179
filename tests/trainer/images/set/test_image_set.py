"""An image set on disk: it is the folder, survives hands and restarts, and everything can be taken back."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.pictures import saved, scene, write
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.images.captions import captions
from trainer.images.set import image_set
from trainer.images.set.image_set import ImageSet, list_sets
from trainer.images.set.thumbnail import thumbnail


@pytest.fixture
def three(empty: ImageSet) -> ImageSet:
    """A set of three captioned pictures."""
    for number in (1, 2, 3):
        write(
            empty.folder,
            {f"000{number}.png": saved(scene(number, (96, 64))), f"000{number}.txt": f"cat {number}, hat".encode()},
        )
    return empty


def code_of(image_set: ImageSet) -> list[tuple[str, str]]:
    return [(p.id, p.caption) for p in ImageSet(image_set.folder).pictures()]


FULL = [("0001", "cat 1, hat"), ("0002", "cat 2, hat"), ("0003", "cat 3, hat")]


def test_create_never_takes_an_existing_folder(home: Home) -> None:
    names = [ImageSet.create(home, "猫の絵").folder.name for _ in range(3)]
    assert names == ["猫の絵", "猫の絵_v2", "猫の絵_v3"]
    assert [s.meta.title for s in list_sets(home)] == ["猫の絵"] * 3


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(title=st.text(st.characters(), max_size=200))
def test_any_title_makes_a_folder_inside_datasets(home: Home, title: str) -> None:
    image_set = ImageSet.create(home, title)
    assert image_set.folder.parent == home.datasets and image_set.folder.is_dir() and len(image_set.folder.name.encode()) < 255
    assert not set(image_set.folder.name) & set('<>:"/\\|?*\0') and image_set.folder.name == image_set.folder.name.strip(" .")
    assert image_set.meta.title and "\n" not in image_set.meta.title


@pytest.mark.parametrize("title", ["../../x", "CON", "a/b", "", "...", "com1.txt"])
def test_dangerous_titles(home: Home, title: str) -> None:
    image_set = ImageSet.create(home, title)
    assert image_set.folder.resolve().parent == home.datasets.resolve()
    assert image_set.folder.name.lower().split(".")[0] not in ("con", "com1", "")


def test_a_caption_is_on_disk_as_soon_as_it_is_set(three: ImageSet) -> None:
    assert three.set_caption("0002", " a dog,\nred\0 hat ") == "a dog, red hat"
    assert (three.folder / "0002.txt").read_bytes() == b"a dog, red hat\n"
    assert code_of(three)[1] == ("0002", "a dog, red hat") and len(code_of(three)) == 3
    three.set_caption("0002", "")
    assert code_of(three)[1] == ("0002", "")


@pytest.mark.parametrize("id_", ["0009", "../0001", "0001.txt", ""])
def test_an_unknown_picture_is_a_problem(three: ImageSet, id_: str) -> None:
    for ask in (lambda: three.set_caption(id_, "x"), lambda: three.delete([id_]), lambda: three.find(id_)):
        with pytest.raises(Problem) as problem:
            ask()
        assert problem.value.code == "picture_missing"
    assert code_of(three) == FULL


def test_deleting_keeps_other_captions_and_undo_brings_back_everything(three: ImageSet) -> None:
    three.set_picture("0002", repeats=5, focus=(0.2, 1.7), weight=0.5)
    assert [p.weight for p in three.pictures()] == [1.0, 0.5, 1.0]
    before = (three.folder / "0002.png").read_bytes()
    token = three.delete(["0002"])
    assert code_of(three) == [FULL[0], FULL[2]] and not (three.folder / "0002.txt").exists()
    assert "0002" not in json.loads((three.folder / "set.json").read_text("utf-8"))["pictures"]
    assert three.next_number() == 4
    again = ImageSet(three.folder)
    entry = again.undoable()
    assert entry is not None and entry.token == token
    undone = again.undo()
    assert undone is not None and undone.count == 1
    assert code_of(three) == FULL and (three.folder / "0002.png").read_bytes() == before
    picture = three.find("0002")
    assert picture.repeats == 5 and picture.focus == (0.2, 1.0)
    assert three.undo() is None


def test_undo_goes_back_in_order_or_by_token(three: ImageSet) -> None:
    first = three.delete(["0001"])
    three.delete(["0003"])
    three.undo(first)
    assert [id_ for id_, _ in code_of(three)] == ["0001", "0002"]
    three.undo()
    assert code_of(three) == FULL


def test_a_name_taken_meanwhile_is_not_overwritten_by_undo(three: ImageSet) -> None:
    three.delete(["0001"])
    other = saved(scene(9, (96, 64)))
    write(three.folder, {"0001.png": other})
    three.undo()
    assert (three.folder / "0001.png").read_bytes() == other and (three.folder / "0001_v2.png").is_file()


def test_bulk_edits_show_first_and_can_be_taken_back(three: ImageSet) -> None:
    change = captions.replacing("hat", "scarf")
    assert three.preview(change, ["0001"]) == [("0001", "cat 1, hat", "cat 1, scarf")]
    assert code_of(three) == FULL
    three.edit(change)
    assert [c for _, c in code_of(three)] == ["cat 1, scarf", "cat 2, scarf", "cat 3, scarf"]
    three.edit(captions.adding("ohwx", front=True), ["0003"])
    assert code_of(three)[2] == ("0003", "ohwx, cat 3, scarf")
    assert three.edit(captions.removing("nothing")) is None
    three.undo()
    three.undo()
    assert code_of(three) == FULL


def test_what_a_person_does_by_hand_is_simply_seen(three: ImageSet) -> None:
    (three.folder / "0001.png").unlink()
    write(
        three.folder,
        {"fox.jpg": saved(scene(7), "JPEG"), "FOX.TXT": b"a fox", "0002.txt": "手で".encode("cp932"), "notes.md": b"x"},
    )
    write(three.folder, {"broken.png": b"no", "b.tif": saved(scene(), "TIFF")})
    assert code_of(three) == [("0002", "手で"), ("0003", "cat 3, hat"), ("fox", "a fox")]
    fox = three.find("fox")
    assert (fox.width, fox.height, fox.original, fox.repeats, fox.focus) == (256, 256, "fox.jpg", 1, None)
    assert {file.name: refusal.code for file, refusal in three.scan()[1]} == {
        "broken.png": "not_a_picture",
        "b.tif": "tiff",
    }
    three.set_caption("fox", "a red fox")
    assert (three.folder / "FOX.TXT").read_text() == "a red fox\n" and not (three.folder / "fox.txt").exists()
    three.delete(["broken.png", "fox"])
    assert not (three.folder / "broken.png").exists() and not (three.folder / "FOX.TXT").exists()


def test_twins_share_a_caption_and_deleting_one_leaves_it(three: ImageSet) -> None:
    write(three.folder, {"0001.jpg": saved(scene(8), "JPEG")})
    assert sorted(code_of(three))[:2] == [("0001", "cat 1, hat"), ("0001.png", "cat 1, hat")]
    three.delete(["0001"])
    assert code_of(three) == FULL


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '"x"', '{"pictures": 5, "title": {"en": 3}, "kind": 7}', '{"pictures": {"0001": [1]}}', "\xff"],
)
def test_a_broken_set_json_costs_no_picture_and_is_kept(three: ImageSet, text: str) -> None:
    (three.folder / "set.json").write_text(text, encoding="latin-1")
    assert code_of(three) == FULL and three.meta.title and three.meta.kind == "style"
    three.update(trigger="ohwx")
    assert three.meta.trigger == "ohwx" and code_of(three) == FULL
    kept = list(three.folder.glob("set.json*.broken"))
    assert bool(kept) == (text in ("{", "[]", '"x"', "\xff"))


def test_meta_is_changed_field_by_field(three: ImageSet) -> None:
    three.update(title="新しい名前", kind="character", licence="CC-BY-4.0")
    meta = three.meta
    assert (meta.title, meta.kind, meta.licence, meta.trigger) == ("新しい名前", "character", "CC-BY-4.0", "")
    for wrong in ({"kind": "x"}, {"pictures": "x"}):
        with pytest.raises(ValueError):
            three.update(**wrong)
    (three.folder / "set.json").write_text('{"title": {"en": "Ink", "ja": "インク"}}', "utf-8")
    assert (three.meta.title, three.meta_in("ja").title) == ("Ink", "インク")


def test_content_follows_the_pixels_not_the_file(three: ImageSet) -> None:
    picture_ = three.find("0001").content
    write(three.folder, {"copy.bmp": saved(scene(1, (96, 64)), "BMP")})
    assert three.find("copy").content == picture_ == ImageSet(three.folder).find("0001").content
    write(three.folder, {"0001.png": saved(scene(5, (96, 64)))})
    assert ImageSet(three.folder).find("0001").content != picture_


def test_thumbnails_are_made_once_and_anew_for_a_new_picture(three: ImageSet, home: Home) -> None:
    path = thumbnail(three.find("0001"), 48)
    assert path.is_relative_to(home.cache) and thumbnail(three.find("0001"), 48) == path
    with Image.open(path) as small:
        assert (small.format, small.size) == ("JPEG", (48, 32))
    write(three.folder, {"0001.png": saved(scene(1, (64, 128)))})
    other = thumbnail(three.find("0001"), 48)
    with Image.open(other) as small:
        assert other != path and small.size == (24, 48)


def test_many_hands_at_once_lose_no_caption(three: ImageSet) -> None:
    def work(number: int) -> None:
        mine = ImageSet(three.folder)
        for _ in range(10):
            mine.set_picture(f"000{number}", repeats=number + 1)
            mine.set_caption(f"000{number}", f"done {number}")

    threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert code_of(three) == [("0001", "done 1"), ("0002", "done 2"), ("0003", "done 3")]
    assert [p.repeats for p in three.pictures()] == [2, 3, 4]


def test_a_whole_set_can_be_discarded_and_brought_back(three: ImageSet, home: Home) -> None:
    place = three.discard(home)
    assert list_sets(home) == [] and place.is_relative_to(home.trash)
    ImageSet.create(home, "Test")
    assert image_set.restore_set(home, place).folder.name == "Test_v2"


def test_a_missing_folder_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(Problem) as problem:
        ImageSet(tmp_path / "nowhere")
    assert problem.value.code == "folder_missing"


def test_read_only_writes_nothing_anywhere(three: ImageSet, home: Home) -> None:
    before = sorted(str(p) for p in home.root.rglob("*"))
    looked = ImageSet(three.folder, read_only=True)
    assert [p.content for p in looked.pictures()] and looked.scan()[1] == []
    assert sorted(str(p) for p in home.root.rglob("*")) == before


def test_the_shipped_examples_open(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[4] / "datasets"
    for name, trigger in (("example-style", "inkstamp style"), ("example-character", None)):
        shipped = ImageSet(root / name, read_only=True)
        assert len(shipped.pictures()) == 16 and all(p.caption for p in shipped.pictures())
        assert trigger is None or shipped.meta.trigger == trigger
        assert os.listdir(root / name).count("set.json") == 1
