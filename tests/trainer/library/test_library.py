"""The library: cards from headers and sidecars, and nothing a person owns is ever lost or overwritten."""

from __future__ import annotations

import base64
import io
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.lora_files import factors, facts, raw
from trainer.adapters import file as lora_file
from trainer.adapters import metadata
from trainer.config.train import TrainConfig
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.library.library import Library, Strength, register


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.find(tmp_path).create()


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 30, 30)).save(buffer, "JPEG")
    return buffer.getvalue()


def _add(home: Home, name: str = "Ink fox", cover: bytes | None = None, **sections: Any) -> Path:
    tree = {
        "run": {"kind": "character"},
        "captions": {"trigger": "inkfox"},
        "lora": {"rank": 4, "alpha": 2.0},
        "rights": {
            "pictures_ok": True,
            "pictures_licence": "drawn by me",
            "licence": "CC-BY-4.0",
            "purpose": "Ink foxes",
        },
        "images": {"folder": "datasets/foxes"},
        "save": {"name": name},
    } | sections
    said = metadata.build(
        TrainConfig.model_validate(tree),
        facts(),
        steps=120,
        total_steps=200,
        items=[("inkfox, a fox", (512, 512), 1)] * 3,
        loss=0.1,
        started=1.7e9,
        finished=1.7e9 + 60,
        name=name,
        run_id="20261123-ink",
        cover=cover,
    )
    path = lora_file.write(home.loras / f"{said['ss_output_name']}.safetensors", factors(), said)
    register(path)
    return path


def test_a_card_says_what_it_is_for_and_where_it_comes_from(home: Home) -> None:
    path = _add(home)
    (card,) = Library(home).cards()
    assert (card.name, card.title, card.file) == ("Ink_fox", "Ink fox", path)
    assert (card.purpose, card.kind, card.trigger, card.rank, card.steps) == (
        "Ink foxes",
        "character",
        "inkfox",
        4,
        120,
    )
    assert (card.base, card.base_licence, card.rights, card.licence) == (
        "sd15",
        "CreativeML OpenRAIL-M",
        "drawn by me",
        "CC-BY-4.0",
    )
    assert card.recommended == Strength(0.7, 1.0, 1.1) and card.state == "trying" and card.run_id == "20261123-ink"
    assert card.date == 1.7e9 + 60 and card.size == path.stat().st_size and card.broken is None and card.ours
    assert card.pictures == 3 and card.hash == lora_file.read_header(path).metadata["sshs_model_hash"][:12]


def test_registering_writes_a_card_a1111_shows(home: Home, tmp_path: Path) -> None:
    path = _add(home)
    side = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert side["description"] == "Ink foxes" and side["sd version"] == "SD1" and side["activation text"] == "inkfox"
    assert side["preferred weight"] == 1.0 and side["atelier"]["state"] == "trying"
    picture = tmp_path / "sample.png"
    Image.new("RGB", (8, 8), (1, 2, 3)).save(picture)
    side["notes"] = "mine"
    path.with_suffix(".json").write_text(json.dumps(side), "utf-8")
    register(path, picture)
    assert json.loads(path.with_suffix(".json").read_text("utf-8"))["notes"] == "mine"
    assert path.with_suffix(".png").read_bytes() == picture.read_bytes()
    other = tmp_path / "other.png"
    Image.new("RGB", (8, 8), (9, 9, 9)).save(other)
    register(path, other)
    assert path.with_suffix(".png").read_bytes() == picture.read_bytes()
    assert Library(home).card("Ink_fox").picture == path.with_suffix(".png")


def test_a_file_from_elsewhere_is_registered_without_advice_it_does_not_give(home: Home) -> None:
    tensors = {key: np.asarray(value) for key, value in lora_file.kohya_tensors(factors()).items()}
    for index, said in enumerate(({}, {"atelier.strength": "{"}, {"atelier.strength": '{"best": "x"}'})):
        path = raw(home.loras / f"w{index}.safetensors", tensors, said)
        side = json.loads(register(path).read_text("utf-8"))
        assert side["preferred weight"] == 0.0 and side["atelier"] == {"state": "trying"}
        assert Library(home).card(f"w{index}").recommended == Strength(0.5, 1.0, 1.2)


def test_the_picture_inside_a_file_is_shown_when_none_stands_beside_it(home: Home) -> None:
    _add(home, cover=_jpeg())
    picture = Library(home).card("Ink_fox").picture
    assert picture is not None and picture.parent == home.cache / "covers"
    with Image.open(picture) as image:
        assert image.format == "PNG" and image.size == (64, 64)


@pytest.mark.parametrize("cover", ["not json", "[]", '["###"]', json.dumps([base64.b64encode(b"<svg/>").decode()])])
def test_a_bad_picture_inside_a_file_is_passed_over(home: Home, cover: str) -> None:
    tensors = {key: np.asarray(value) for key, value in lora_file.kohya_tensors(factors()).items()}
    raw(home.loras / "a.safetensors", tensors, {"ssmd_cover_images": cover})
    (card,) = Library(home).cards()
    assert card.picture is None and card.broken is None


def test_files_from_elsewhere_and_broken_ones_are_shown(home: Home) -> None:
    tensors = {key: np.asarray(value) for key, value in lora_file.kohya_tensors(factors()).items()}
    raw(
        home.loras / "wild.safetensors",
        tensors,
        {"ss_sd_model_name": "v1-5-pruned.safetensors", "ss_steps": "x", "ss_output_name": "Wild"},
    )
    (home.loras / "wild.json").write_text('{"activation text": "wild one", "preferred weight": 0.6, "notes": "n"}', "utf-8")
    (home.loras / "broken.safetensors").write_bytes(b"PK\x03\x04")
    raw(home.loras / "base.safetensors", {"model.diffusion_model.x": np.ones(3, np.float32)})
    (home.loras / "readme.md").write_text("x", "utf-8")
    (home.loras / ".hidden.safetensors").write_bytes(b"")
    found = {card.name: card for card in Library(home).cards()}
    assert set(found) == {"wild", "broken", "base"}
    wild = found["wild"]
    assert wild.title == "Wild" and wild.trigger == "wild one" and wild.recommended.best == 0.6 and wild.notes == "n"
    assert wild.base_licence == "CreativeML OpenRAIL-M" and wild.steps is None and not wild.ours
    assert found["broken"].broken is not None and found["broken"].broken.code == "lora_pickle"
    assert "broken.safetensors" in found["broken"].broken.sentence("ja")
    assert found["base"].broken is not None and found["base"].broken.code == "lora_is_base"


@pytest.mark.parametrize(
    "side",
    [
        "not json",
        "[]",
        '{"atelier": 3, "notes": 7, "preferred weight": "x"}',
        '{"atelier": {"recommended": ["a", null, 1]}}',
    ],
)
def test_a_damaged_sidecar_harms_nothing(home: Home, side: str) -> None:
    path = _add(home)
    path.with_suffix(".json").write_text(side, "utf-8")
    card = Library(home).card("Ink_fox")
    assert card.broken is None and card.trigger == "inkfox" and card.recommended == Strength(0.7, 1.0, 1.1)
    assert Library(home).set("Ink_fox", notes="again").notes == "again"


def test_what_a_person_sets_stays_and_reaches_a1111(home: Home) -> None:
    path = _add(home)
    library = Library(home)
    card = library.set("Ink_fox", notes="先に試す", state="in_use", recommended=0.6, purpose="for a book")
    assert (card.notes, card.state, card.recommended, card.purpose) == (
        "先に試す",
        "in_use",
        Strength(0.6, 0.6, 1.1),
        "for a book",
    )
    assert library.set("Ink_fox", recommended=(0.4, 0.9, 1.3)).recommended == Strength(0.4, 0.9, 1.3)
    assert Library(home).card("Ink_fox").notes == "先に試す"
    side = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert side["preferred weight"] == 0.9 and side["description"] == "for a book" and side["notes"] == "先に試す"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"state": "gone"}, "lora_value"),
        ({"recommended": "x"}, "lora_value"),
        ({"recommended": (1, 0, 2)}, "lora_value"),
        ({"recommended": float("nan")}, "lora_value"),
        ({"recommended": 99}, "lora_value"),
        ({"colour": 1}, "lora_field"),
    ],
)
def test_impossible_values_are_refused_with_a_sentence(home: Home, fields: dict, code: str) -> None:
    _add(home)
    with pytest.raises(Problem) as told:
        Library(home).set("Ink_fox", **fields)
    assert told.value.code == code and told.value.sentence("ja") != f"problems.{code}"


@pytest.mark.parametrize("name", ["gone", "", "../Ink_fox", "a/b", "C:x", "a\\b", "x\0"])
def test_only_names_of_the_library_are_touched(home: Home, name: str) -> None:
    _add(home)
    for act in (Library(home).card, Library(home).trash, Library(home).again, lambda n: Library(home).rename(n, "x")):
        with pytest.raises(Problem) as told:
            act(name)
        assert told.value.code == "lora_unknown"


def test_renaming_takes_everything_along_and_changes_no_tensor(home: Home) -> None:
    path = _add(home)
    path.with_suffix(".png").write_bytes(b"png")
    before = lora_file.read_header(path).metadata["sshs_model_hash"]
    library = Library(home)
    assert library.rename("Ink_fox", "夜の きつね") == "夜の_きつね"
    assert sorted(item.name for item in home.loras.iterdir()) == [
        "夜の_きつね.json",
        "夜の_きつね.png",
        "夜の_きつね.safetensors",
    ]
    said = lora_file.read_header(home.loras / "夜の_きつね.safetensors").metadata
    # A1111 lists a LoRA under this name and not the file's
    assert said["ss_output_name"] == "夜の_きつね" and said["modelspec.title"] == "夜の きつね"
    assert said["sshs_model_hash"] == before and library.verify("夜の_きつね")
    assert library.card("夜の_きつね").title == "夜の きつね"
    assert library.rename("夜の_きつね", "夜の_きつね") == "夜の_きつね"


def test_renaming_overwrites_nothing(home: Home) -> None:
    _add(home, "one")
    two = _add(home, "two")
    kept = two.read_bytes()
    with pytest.raises(Problem) as told:
        Library(home).rename("one", "two")
    assert told.value.code == "lora_name_taken" and two.read_bytes() == kept and (home.loras / "one.safetensors").exists()
    (home.loras / "three.png").write_bytes(b"mine")
    with pytest.raises(Problem):
        Library(home).rename("one", "three")
    assert (home.loras / "three.png").read_bytes() == b"mine"


def test_the_trash_gives_everything_back(home: Home) -> None:
    path = _add(home)
    path.with_suffix(".png").write_bytes(b"png")
    kept = {item.name: item.read_bytes() for item in home.loras.iterdir()}
    token = Library(home).trash("Ink_fox")
    assert not list(home.loras.iterdir()) and Library(home).cards() == []
    assert Library(home).undo(token) == "Ink_fox"
    assert {item.name: item.read_bytes() for item in home.loras.iterdir()} == kept
    with pytest.raises(Problem) as told:
        Library(home).undo()
    assert told.value.code == "lora_nothing_to_undo"


def test_what_comes_back_does_not_overwrite_what_took_its_name(home: Home) -> None:
    first = _add(home).read_bytes()
    library = Library(home)
    library.trash("Ink_fox")
    second = _add(home, rights={"purpose": "another"}).read_bytes()
    assert library.undo() == "Ink_fox_v2"
    assert (home.loras / "Ink_fox.safetensors").read_bytes() == second
    assert (home.loras / "Ink_fox_v2.safetensors").read_bytes() == first
    assert library.card("Ink_fox_v2").purpose == "Ink foxes"


@pytest.mark.parametrize("token", ["", "..", "../../x", "gone"])
def test_undo_takes_only_its_own_tokens(home: Home, token: str) -> None:
    _add(home)
    Library(home).trash("Ink_fox")
    with pytest.raises(Problem):
        Library(home).undo(token)


def test_train_again_fills_the_form_from_the_run_and_else_from_the_file(home: Home) -> None:
    _add(home)
    library = Library(home)
    tree = library.again("Ink_fox")
    config = TrainConfig.model_validate(tree)
    assert config.lora.rank == 4 and config.run.kind == "character" and config.captions.trigger == "inkfox"
    assert config.images.folder == "" and config.rights.pictures_ok is False  # a file ticks nothing for a person
    run = home.runs / "20261123-ink"
    run.mkdir(parents=True)
    own = TrainConfig.model_validate({"images": {"folder": "datasets/foxes"}, "lora": {"rank": 8}}).model_dump(mode="json")
    (run / "config.json").write_text(json.dumps(own | {"from_the_future": {}}), "utf-8")
    tree = library.again("Ink_fox")
    assert TrainConfig.model_validate(tree).images.folder == "datasets/foxes" and tree["lora"]["rank"] == 8


@pytest.mark.parametrize("said", [{}, {"atelier.config": "{"}, {"atelier.config": "{}", "atelier.run": "[]"}])
def test_a_file_without_a_recipe_says_so(home: Home, said: dict) -> None:
    tensors = {key: np.asarray(value) for key, value in lora_file.kohya_tensors(factors()).items()}
    raw(home.loras / "wild.safetensors", tensors, said)
    with pytest.raises(Problem) as told:
        Library(home).again("wild")
    assert told.value.code == "lora_no_recipe"


def test_a_recipe_that_names_a_strange_run_reads_no_other_file(home: Home, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"images": {"folder": "elsewhere"}}), "utf-8")
    tensors = {key: np.asarray(value) for key, value in lora_file.kohya_tensors(factors()).items()}
    for index, run in enumerate(("..", "../..", str(tmp_path), "")):
        said = {"atelier.config": "{}", "atelier.run": json.dumps({"id": run})}
        raw(home.loras / f"w{index}.safetensors", tensors, said)
        assert Library(home).again(f"w{index}") == {}


def test_five_hundred_files_stay_quick_and_changes_are_seen(home: Home) -> None:
    few = {"lora_unet_mid_block_attentions_0_proj_in": (1280, 1280)}
    tensors = {f"{name}.lora_down.weight": np.ones((1, size[1]), np.float16) for name, size in few.items()}
    tensors |= {f"{name}.lora_up.weight": np.ones((size[0], 1), np.float16) for name, size in few.items()}
    path = raw(home.loras / "first.safetensors", tensors)
    for index in range(499):
        shutil.copy(path, home.loras / f"copy{index:03d}.safetensors")
    library = Library(home)
    assert len(library.cards()) == 500
    for reader in (library, Library(home)):  # the same one, and a new process with the cache on disk
        start = time.perf_counter()
        assert len(reader.cards()) == 500
        assert time.perf_counter() - start < 10
    library.set("copy007", notes="seen")
    lora_file.rewrite(home.loras / "copy008.safetensors", home.loras / "copy008.safetensors", {"modelspec.title": "new"})
    (home.loras / "copy009.safetensors").unlink()
    (home.loras / "copy010.png").write_bytes(b"png")
    found = {card.name: card for card in library.cards()}
    assert len(found) == 499 and found["copy007"].notes == "seen" and found["copy008"].title == "new"
    assert found["copy010"].picture == home.loras / "copy010.png"


def test_a_damaged_cache_is_made_anew(home: Home) -> None:
    _add(home)
    for text in ("{", "[]", '{"Ink_fox.safetensors": 3}', '{"Ink_fox.safetensors": {"stamp": 1}}'):
        (home.cache / "library.json").write_text(text, "utf-8")
        assert [card.name for card in Library(home).cards()] == ["Ink_fox"]


def test_an_empty_library_is_no_fault(tmp_path: Path) -> None:
    assert Library(Home.find(tmp_path / "new")).cards() == []
