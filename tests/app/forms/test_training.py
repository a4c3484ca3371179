"""From a set to a queued run without a browser: what is missing, one run for two clicks, hostile words as text."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

from app.forms import options as form
from app.forms import training
from app.ui.services import Services, Ui
from app.views import images, sets
from app.views import train as view
from trainer.bases import catalog
from trainer.config import load
from trainer.core.home import PROJECT, Home
from trainer.core.problem import Problem
from trainer.images.intake.intake import take_in
from trainer.images.report.report import report
from trainer.images.set.image_set import ImageSet
from trainer.jobs.workers.forecaster import NoForecast

EVIL = '"><img src=x onerror=alert(1)><script>window.__x=1</script> ${1+1} {{x}} \u202eabc'


@pytest.fixture
def services(tmp_path: Path) -> Services:
    home = tmp_path / "home"
    shutil.copytree(PROJECT / "datasets" / "example-style", home / "datasets" / "mine")
    return Services(Home(home))


def filled(services: Services, found: ImageSet) -> load.Tree:
    tree = training.opened(services, found)
    for name, value in (("save.name", "Ink stamp"), ("rights.pictures_ok", True), ("run.steps", 3)):
        load.put(tree, name, value)
    return tree


def test_what_is_missing_is_named_field_by_field(services: Services) -> None:
    assert [problem.field for problem in training.missing(None, {})] == ["images.folder", "save.name", "rights.pictures_ok"]
    found = services.set("mine")
    assert found is not None
    assert training.missing(found, filled(services, found)) == []


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("preservation.regularization_folder", "/no/such/folder", "folder_missing"),
        ("preservation.regularization_folder", str(Path(__file__).parent), "no_pictures"),
        ("samples.prompts", ["a cat --ar 16"], "prompt_switch"),
        ("samples.prompts", ["<lora:ink:1> a cat"], "prompt_lora_here"),
        ("model.base", "~no-such-account/x", "base_missing"),
        ("model.vae", "gone", "vae_not_here"),
        ("lora.alpha", 0, "zero_alpha"),
        ("optimizer.text_encoder_lr", 0, "zero_text_lr"),
        ("images.subsets", ["gone = 1"], "folder_missing"),
    ],
)
def test_what_would_be_found_only_later_is_answered_at_its_field(
    services: Services, name: str, value: object, code: str
) -> None:
    found = services.set("mine")
    assert found is not None
    tree = filled(services, found)
    assert training.problems(services, found, tree) == []
    load.put(tree, name, value)
    assert [(problem.field, problem.code) for problem in training.problems(services, found, tree)] == [(name, code)]
    with pytest.raises(Problem) as told:
        training.start(services, found, tree, "key")
    assert told.value.field == name and services.jobs.rows() == []
    services.close()


def test_a_prediction_chosen_against_the_bases_own_word_is_said_beside_the_base(services: Services) -> None:
    ui, base = Ui.of(services, "en"), catalog.find(services.home, "mini")
    assert base.stated == "v_prediction"
    assert "you chose “predicts noise" in view.about_base(ui, base, "epsilon")
    assert all("you chose" not in view.about_base(ui, base, said) for said in ("auto", "v_prediction"))


def test_masks_that_are_wanted_and_nowhere_are_told_before_the_start(services: Services) -> None:
    found = services.set("mine")
    assert found is not None
    tree = filled(services, found)
    load.put(tree, "loss.masked", True)
    (problem,) = training.problems(services, found, tree)
    assert (problem.code, problem.field) == ("masks_none", "loss.masked")
    picture = found.pictures()[0]
    Image.new("L", (picture.width, picture.height), 255).save(found.folder / f"{picture.file.stem}.mask.png")
    assert training.problems(services, found, tree) == []


def test_a_double_click_makes_one_run_and_a_second_start_another(services: Services) -> None:
    found = services.set("mine")
    assert found is not None
    tree = filled(services, found)
    first = training.start(services, found, tree, "key-1")
    assert training.start(services, found, tree, "key-1") == first
    assert [row.id for row in services.jobs.rows()] == [first]
    second = training.start(services, found, tree, "key-2")
    assert {row.id for row in services.jobs.rows()} == {first, second}
    assert {row.state for row in services.jobs.rows()} == {"queued"}
    services.close()


def test_a_run_takes_the_pictures_the_name_and_the_preset_of_the_embedded_base(services: Services) -> None:
    found = services.set("mine")
    assert found is not None
    config = training.config_of(services, found, filled(services, found))
    assert Path(config.images.folder) == found.folder
    assert (config.save.name, config.rights.pictures_ok, config.captions.trigger) == (
        "Ink stamp",
        True,
        "inkstamp style",
    )
    wanted = load.build(load.preset("style", training.base_of(services, {})))
    assert (config.optimizer, config.lora) == (wanted.optimizer, wanted.lora)


def test_steps_follow_from_pictures_repeats_and_batch(services: Services) -> None:
    found = services.set("mine")
    assert found is not None
    config = load.build(
        {"run": {"epochs": 10, "batch_size": 3, "gradient_accumulation": 2}, "images": {"folder": str(found.folder)}}
    )
    assert training.length(config)[0] == -(-16 * 10 // 6)
    found.set_picture("0001", repeats=5)
    assert training.length(config)[0] == -(-20 * 10 // 6)
    tree = {"run": {"steps": 7, "batch_size": 10}, "images": {"folder": str(found.folder)}}
    assert training.length(load.build(tree)) == (7, 3.5)  # 70 images seen of 20


def test_a_findings_button_does_what_it_says_and_can_be_taken_back(services: Services) -> None:
    ui, found = Ui.of(services, "ja"), services.set("mine")
    assert found is not None
    assert training.mend(ui, found, {"action": "remove", "targets": ["0001", "0002"]}) == ui.t("page.train.removed", count=2)
    assert len(found.pictures()) == 14
    training.mend(ui, found, {"action": "undo"})
    assert len(found.pictures()) == 16
    assert training.mend(ui, found, {"action": "remove", "targets": ["none"]}) != ""
    assert training.mend(ui, found, {"action": "rm -rf"}) == ""


@pytest.mark.parametrize("name", ["..", "../home", "mine/..", "/etc", ".hidden", "a\\b", "", None, "nothing", "mine/0001.png"])
def test_only_a_set_of_this_home_is_a_set(services: Services, name: str | None) -> None:
    assert services.set(name) is None


def test_hostile_words_are_shown_as_text(services: Services, tmp_path: Path) -> None:
    ui = Ui.of(services, "en")
    Image.new("RGB", (400, 300), "red").save(tmp_path / "a.png")
    found = ImageSet.create(services.home, EVIL)
    take_in([tmp_path / "a.png"], found)
    found.set_caption("0001", EVIL)
    found.update(trigger=EVIL)
    pictures = found.pictures()
    pages = [
        sets.sheet(ui, found, pictures), sets.heading(ui, found, 1, []), sets.choices(ui, [found]),
        sets.drop(ui, found), sets.report(ui, found, report(found, 512)), images.grid(ui, found, pictures, 0, "0001"),
        images.large(ui, found, pictures[0], 512, 64, True), images.changes(ui, [("0001", EVIL, EVIL + "x")]),
        form.beside(ui, [("save.name", EVIL)]),
    ]  # fmt: skip
    for html in pages:
        assert "<script" not in html and "<img src=x" not in html
    assert "&lt;script&gt;" in pages[5] and "${1+1} {{x}}" in pages[5]


def test_the_cut_on_the_page_is_the_cut_of_training(services: Services, tmp_path: Path) -> None:
    Image.new("RGB", (1200, 400), "blue").save(tmp_path / "wide.png")
    found = ImageSet.create(services.home, "wide")
    take_in([tmp_path / "wide.png"], found)
    html = images.large(Ui.of(services, "en"), found, found.pictures()[0], 512, 64, True)
    # 3 : 1 goes into the widest format, 640 x 384 (5 : 3): 667 of 1200 columns stay, from the middle
    assert "left:22.222%;top:0.000%;width:55.556%;height:100.000%" in html
    found.set_picture("0001", focus=(0.0, 0.5))
    html = images.large(Ui.of(services, "en"), found, found.pictures()[0], 512, 64, True)
    assert "left:0.000%;top:0.000%;width:55.556%" in html


@pytest.mark.parametrize("language", ["en", "ja"])
def test_settings_too_large_for_the_card_get_a_proposal_with_a_button(
    services: Services, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    ui, found = Ui.of(services, language), services.set("mine")
    assert found is not None
    mini = training.base_of(services, {})
    assert mini is not None
    real = replace(mini, resolution=512, size_bytes=4 * 10**9)
    monkeypatch.setattr(training, "base_of", lambda *given: real)
    tree = filled(services, found)
    for free, said in ((0, False), (24 * 10**9, False), (4 * 10**9, True), (10**9, True)):
        monkeypatch.setattr(Services, "card_free", lambda self, free=free: free)
        html = view.smaller(ui, found, tree)
        assert bool(html) == said
    assert ui.t("memory.int4") in html
    options = json.loads(unescape(html.split('data-said="')[1].split('"')[0]))
    for name, value in options["options"].items():
        load.put(tree, name, value)
    least = training.config_of(services, found, tree).memory
    assert (least.quantize_base, least.offload_fraction) == ("int4", 1)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_trial_that_ran_out_of_memory_says_the_figures_and_proposes_less(
    services: Services, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    ui, found = Ui.of(services, language), services.set("mine")
    assert found is not None
    training.keep(services, found, load.merge(filled(services, found), {"run": {"batch_size": 8}}))
    monkeypatch.setattr(services.jobs, "forecast", lambda config: NoForecast(True, 9 * 10**9, 3 * 10**9))
    cost, less = view.costs(ui, found).values()
    assert "9.0 GB" in cost and "3.0 GB" in cost
    options = json.loads(unescape(less.split('data-said="')[1].split('"')[0]))["options"]
    assert options["run.batch_size"] * options["run.gradient_accumulation"] == 8 and options["memory.gradient_checkpointing"]

    least = {"run": {"batch_size": 1}, "lora": {"train_text_encoder": False},
             "memory": {"quantize_base": "int4", "offload_fraction": 1.0, "gradient_checkpointing": True}}  # fmt: skip
    training.keep(services, found, load.merge(filled(services, found), least))
    monkeypatch.setattr(services.jobs, "forecast", lambda config: NoForecast(True))
    cost, less = view.costs(ui, found).values()
    length = view.length_words(*training.length(training.config_of(services, found, training.opened(services, found))))
    assert ui.t("page.train.cost.killed", **length) in cost and ui.t("page.train.memory.nothing") in less
    monkeypatch.setattr(services.jobs, "forecast", lambda config: NoForecast())
    cost, less = view.costs(ui, found).values()
    assert "forecast.log" in cost and less == ""


def test_the_check_covers_the_further_folders_of_the_settings(services: Services) -> None:
    ui, found = Ui.of(services, "en"), services.set("mine")
    assert found is not None
    shutil.copytree(found.folder, services.home.datasets / "more")
    (services.home.datasets / "more" / "0001.txt").unlink()
    training.keep(services, found, load.merge(filled(services, found), {"images": {"subsets": ["more = 0.5", "gone = 1"]}}))
    made = training.report(services, found)
    assert made.pictures == 32
    assert sum(one.text == "duplicate_across" for one in made.findings) == 16
    said = sets.report(ui, found, made)
    assert "In further folders: more/0001.png" in said
