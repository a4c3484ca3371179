"""How other trainers and hubs lay out pictures: masks, class pictures and captions are read for what they are, and said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.pictures import saved, scene, write, zipped
from trainer.core.home import Home
from trainer.images.captions.table import read_table
from trainer.images.geometry import masks
from trainer.images.intake import folder_tree
from trainer.images.intake.intake import Intake, new_set
from trainer.images.intake.notices import IntakeNotice
from trainer.images.set.image_set import ImageSet

PICTURES = [saved(scene(seed, (64, 64))) for seed in range(8)]
A, B, C, D = PICTURES[:4]
HALF = Image.new("L", (64, 64))
HALF.paste(255, (0, 0, 32, 64))
MASK = saved(HALF)


def brought(tmp_path: Path, files: dict[str, bytes]) -> tuple[ImageSet, Intake]:
    """A drop as a zip; the set it becomes."""
    image_set, result = new_set(Home(tmp_path / "home"), "Brought", [zipped(tmp_path / "x.zip", files)])
    assert image_set is not None and result.refused == []
    return image_set, result


def captions_of(image_set: ImageSet) -> dict[str, str]:
    return {picture.original: picture.caption for picture in image_set.pictures()}


def codes(lines: list[IntakeNotice]) -> dict[str, str]:
    return {line.name: line.code for line in lines}


def masked(image_set: ImageSet) -> set[str]:
    """The pictures whose mask is the half one."""
    names = {p.original: masks.mask_of(p) for p in image_set.pictures()}
    return {name for name, mask in names.items() if mask and mask.tobytes() == HALF.tobytes()}


@pytest.mark.parametrize(
    "name",
    ["a-masklabel.png", "A-MaskLabel.PNG", "a.mask.png", "mask/a.png", "masks/a.jpg", "Masks/a.png", "_masks/a.png"],
)
def test_masks_of_other_trainers_become_masks_and_this_is_said(tmp_path: Path, name: str) -> None:
    image_set, result = brought(tmp_path, {"a.png": A, "a.txt": b"cat", "b.png": B, name: MASK})
    assert captions_of(image_set) == {"a.png": "cat", "b.png": ""} and masked(image_set) == {"a.png"}
    assert codes(result.notices) == {name: "mask_taken"}


@pytest.mark.parametrize("folder", ["masks", "10_cat_masks", "set/img_masks"])
def test_a_folder_of_masks_beside_that_of_the_pictures_is_one(tmp_path: Path, folder: str) -> None:
    pictures = {"masks": "images", "10_cat_masks": "10_cat", "set/img_masks": "set/img"}[folder]
    image_set, result = brought(tmp_path, {f"{pictures}/a.png": A, f"{folder}/a.png": MASK})
    assert masked(image_set) == {f"{pictures}/a.png"} and codes(result.notices)[f"{folder}/a.png"] == "mask_taken"


def test_pictures_of_masks_are_pictures_where_nothing_else_is_there(tmp_path: Path) -> None:
    image_set, result = brought(tmp_path, {"masks/carnival.png": A, "masks/gas.png": B})
    assert len(image_set.pictures()) == 2 and result.notices == []


def test_a_mask_nobody_can_place_is_named_and_not_learnt(tmp_path: Path) -> None:
    files = {"x/a.png": A, "y/a.png": B, "masks/a.png": MASK, "x/b-masklabel.png": MASK, "x/a-condlabel.png": C}
    image_set, result = brought(tmp_path, files)
    assert set(captions_of(image_set)) == {"x/a.png", "y/a.png"} and masked(image_set) == set()
    assert codes(result.notices) == {"masks/a.png": "mask_alone", "x/b-masklabel.png": "mask_alone", "x": "condition_picture"}


def test_a_kohya_project_brings_its_pictures_with_repeats_and_names_the_rest(tmp_path: Path) -> None:
    image_set, result = brought(tmp_path, {
        "proj/img/10_sks girl/1.png": A, "proj/img/10_sks girl/1.txt": b"sks girl", "proj/reg/1_girl/0.png": B,
        "proj/reg/1_girl/0.txt": b"girl", "proj/model/sample/s.png": C, "proj/log/x/plot.png": D,
    })  # fmt: skip
    assert [(p.original, p.caption, p.repeats) for p in image_set.pictures()] == [
        ("proj/img/10_sks girl/1.png", "sks girl", 10)
    ]
    assert codes(result.notices) == {
        "proj/reg/1_girl": "class_pictures", "proj/model/sample": "project_rest", "proj/log/x": "project_rest",
        "10_sks girl": "kohya_folder",
    }  # fmt: skip


def test_class_pictures_brought_alone_are_pictures(tmp_path: Path) -> None:
    image_set, _ = brought(tmp_path, {"reg/1_girl/0.png": A, "reg/1_girl/1.png": B})
    assert len(image_set.pictures()) == 2


IMAGEFOLDER = b'{"file_name": "0.png", "text": "zero"}\n{"file_name": "sub/1.png", "text": "one"}\n'
TABLES = {
    "metadata.jsonl": IMAGEFOLDER,
    "captions.jsonl": IMAGEFOLDER.replace(b"file_name", b"image_path").replace(b"text", b"caption"),
    "metadata.csv": b"file_name,text\n0.png,zero\nsub/1.png,one\n",
    "captions.csv": b"0.png,zero\r\nsub\\1.png,one\r\n",
    "semicolons.csv": "\ufefffile;caption\n0.png;zero\nsub/1.png;one\n".encode(),
    "tabs.tsv": b"0.png\tzero\n1.png\tone\n",
    "meta.json": json.dumps({"C:\\train\\0.png": {"caption": "zero"}, "/mnt/data/sub/1": {"tags": "one"}}).encode(),
    "plain.json": json.dumps({"0.png": "zero", "sub/1.png": "one"}).encode(),
    "list.json": json.dumps([{"image": "0.png", "prompt": "zero"}, {"image": "sub/1.png", "caption": ["one", "uno"]}]).encode(),
    "utf16.jsonl": IMAGEFOLDER.decode().encode("utf-16"),
}


@pytest.mark.parametrize("name", TABLES)
def test_captions_in_one_list_go_to_the_pictures_it_names(tmp_path: Path, name: str) -> None:
    image_set, result = brought(tmp_path, {"train/0.png": A, "train/sub/1.png": B, f"train/{name}": TABLES[name]})
    assert captions_of(image_set) == {"train/0.png": "zero", "train/sub/1.png": "one"}
    assert result.notices == [IntakeNotice(f"train/{name}", "table_read", {"count": 2})]


def test_kohyas_caption_and_tags_are_joined(tmp_path: Path) -> None:
    table = json.dumps({"a": {"caption": "a girl", "tags": "1girl, solo", "train_resolution": [512, 512]}})
    image_set, _ = brought(tmp_path, {"a.png": A, "meta_lat.json": table.encode()})
    assert captions_of(image_set) == {"a.png": "a girl, 1girl, solo"}


def test_tags_without_quotes_in_a_csv_are_kept_whole(tmp_path: Path) -> None:
    image_set, _ = brought(tmp_path, {"a.png": A, "b.png": B, "tags.csv": b'a.png,1girl, solo, smile\nb.png,"cat, sitting"\n'})
    assert captions_of(image_set) == {"a.png": "1girl, solo, smile", "b.png": "cat, sitting"}


def test_rows_that_fit_no_picture_or_several_are_named(tmp_path: Path) -> None:
    rows = b"".join(b'{"file_name": "%s.png", "text": "of it"}\n' % name for name in (b"gone", b"1", b"2"))
    files = {"x/1.png": A, "y/1.png": B, "y/2.png": C, "y/2.txt": b"own", "metadata.jsonl": rows}
    image_set, result = brought(tmp_path, files)
    assert captions_of(image_set) == {"x/1.png": "", "y/1.png": "", "y/2.png": "own"}
    assert result.notices == [
        IntakeNotice("metadata.jsonl", "table_spare", {"count": 1}),
        IntakeNotice("metadata.jsonl", "table_unclear", {"count": 1, "names": "1.png"}),
        IntakeNotice("metadata.jsonl", "table_unknown", {"count": 1, "names": "gone.png"}),
    ]


def test_a_list_that_comes_later_finds_its_pictures(tmp_path: Path) -> None:
    image_set, _ = brought(tmp_path, {"a.png": A, "b.png": B})
    from trainer.images.intake.intake import take_in

    (tmp_path / "metadata.jsonl").write_bytes(b'{"file_name": "b.png", "text": "late"}')
    result = take_in([tmp_path / "metadata.jsonl"], image_set)
    assert captions_of(image_set) == {"a.png": "", "b.png": "late"} and [line.code for line in result.notices] == [
        "caption_added"
    ]


@pytest.mark.parametrize(("name", "data", "code"), [
    ("a.json", {"caption": "of a", "caption_short": "a"}, "caption_json"),
    ("a.png.json", {"tags": ["cat", "sitting"]}, "caption_json"),
    ("workflow.json", {"nodes": [], "version": 1}, "other_file"),
    ("z.json", {"caption": "of nobody"}, "caption_alone"),
])  # fmt: skip
def test_json_beside_a_picture_is_its_caption_and_other_json_is_left(tmp_path: Path, name: str, data: dict, code: str) -> None:
    image_set, result = brought(tmp_path, {"a.png": A, name: json.dumps(data).encode()})
    expected = {"a.json": "of a", "a.png.json": "cat, sitting"}.get(name, "")
    assert captions_of(image_set) == {"a.png": expected} and codes(result.notices) == {name: code}


@pytest.mark.parametrize("data", [b'{"a": ', b"[" * 100_000, b'"\xff\xfe'])
def test_a_broken_list_says_that_captions_may_be_in_it(tmp_path: Path, data: bytes) -> None:
    _, result = brought(tmp_path, {"a.png": A, "metadata.json": data})
    assert codes(result.notices) == {"metadata.json": "table_unread"}
    assert "captions" in result.sentences("en")[0]


def test_a_csv_of_something_else_is_no_list_of_captions() -> None:
    assert read_table(b"date,price\n2024,3\n", ".csv", []) is None
    assert read_table(b"", ".csv", []) is None and read_table(b"[]", ".json", []) is None


def test_file_names_become_captions_where_this_is_chosen(tmp_path: Path) -> None:
    files = {"red_fox in snow (3).png": A, "IMG_0012.png": B, "own.png": C, "own.txt": b"its own"}
    image_set, result = new_set(Home(tmp_path / "home"), "Names", [zipped(tmp_path / "x.zip", files)], captions_from_names=True)
    assert image_set is not None and captions_of(image_set) == {
        "red_fox in snow (3).png": "red fox in snow", "IMG_0012.png": "", "own.png": "its own",
    }  # fmt: skip
    assert codes(result.notices) == {"red_fox in snow (3).png": "caption_from_name", "IMG_0012.png": "name_without_words"}


# --- folders used in place ---


def test_a_folder_used_in_place_reads_other_trainers_masks_and_lists(tmp_path: Path) -> None:
    write(tmp_path, {
        "a.png": A, "a-masklabel.png": MASK, "b.png": B, "masks/b.png": MASK, "c.png": C, "c.json": b'{"caption": "of c"}',
        "._a.png": b"\0\5\x16\7", "metadata.jsonl": b'{"file_name": "a.png", "text": "of a"}',
    })  # fmt: skip
    image_set = ImageSet(tmp_path)
    assert captions_of(image_set) == {"a.png": "of a", "b.png": "", "c.png": "of c"} and masked(image_set) == {"a.png", "b.png"}
    assert [p.id for p in image_set.unmasked()] == ["c"]
    image_set.set_caption("a", "typed")
    assert captions_of(ImageSet(tmp_path))["a.png"] == "typed"
    image_set.set_caption("a", "")
    assert captions_of(ImageSet(tmp_path))["a.png"] == ""  # what a person empties stays empty
    image_set.delete(["a"])
    assert not (tmp_path / "a-masklabel.png").exists() and set(captions_of(image_set)) == {"b.png", "c.png"}
    image_set.undo()
    assert masked(ImageSet(tmp_path)) == {"a.png", "b.png"}


def test_a_project_folder_is_seen_with_its_folders(tmp_path: Path) -> None:
    write(tmp_path / "proj", {
        "img/10_sks girl/1.png": A, "img/2_sks hat/1.png": B, "reg/1_girl/0.png": C, "model/sample/s.png": D,
    })  # fmt: skip
    tree = folder_tree.scan(tmp_path / "proj")
    assert tree.subsets == ["img/2_sks hat = 1", "img/10_sks girl = 1"]
    assert tree.class_folders == [tmp_path / "proj/reg/1_girl"] and tree.class_word == "girl"
    assert codes(tree.notices) == {
        "proj/img/10_sks girl": "kohya_folder", "proj/img/2_sks hat": "kohya_folder", "proj/reg/1_girl": "class_pictures",
        "proj/model/sample": "project_rest",
    }  # fmt: skip


def test_what_a_folder_used_in_place_does_not_read_is_named(tmp_path: Path) -> None:
    write(tmp_path / "own", {"a.png": A, "more/b.png": B, "masks/a.png": MASK, "more/lost.txt": b"x", "alone.txt": b"y"})
    assert codes(folder_tree.scan(tmp_path / "own").notices) == {
        "own/more": "folder_unread", "own/masks/a.png": "mask_taken", "own/alone.txt": "caption_alone",
        "own/more/lost.txt": "caption_alone",
    }  # fmt: skip
    write(tmp_path / "hub", {"train/0.png": A, "metadata.jsonl": b'{"file_name": "train/0.png", "text": "zero"}'})
    assert codes(folder_tree.scan(tmp_path / "hub").notices) == {"hub/metadata.jsonl": "table_elsewhere"}
