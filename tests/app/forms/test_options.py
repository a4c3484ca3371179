"""Every option goes into its field and comes back the same; mistakes come back beside their field."""

from __future__ import annotations

from typing import Any

import pytest

from app.forms import options as form
from app.forms import training
from app.ui.services import Services, Ui
from app.views.train import about_base
from tests.helpers import lora_files
from trainer.config import drafts, load
from trainer.config.options import Option, options
from trainer.core.home import Home


def other(known: Option) -> Any:
    """A value of the option that is not its default and is allowed."""
    if known.kind == "bool":
        return not known.default
    if known.kind == "choice":
        return next(choice for choice in known.choices if choice != known.default) if len(known.choices) > 1 else known.default
    if known.kind == "list":
        lists = {
            "lora.block_ranks": ["mid_block = 2", "up_blocks.1 = 3"],
            "optimizer.block_lrs": ["mid_block = 0.5", "*.attn2.* = 2"],
            "images.extra_resolutions": [64, 128],
            "images.subsets": ["backgrounds = 0.5", "poses = 1, 3"],
        }
        return lists.get(known.name, ["one", "two"])
    if known.kind == "str":
        return {"run.device": "cpu", "images.encoding": "gbk"}.get(known.name, "word")
    step = known.step or (1 if known.kind == "int" else 0.125)
    low = known.low if known.low is not None else 0
    return type(step)(low + step) if known.kind == "int" else float(low + step * (1 if (known.high or 9) > low + step else 0.5))


def tree_with(known: Option, value: Any) -> load.Tree:
    tree: load.Tree = {}
    if known.variants:
        load.put(tree, f"{known.section}.name", known.variants[0])
    load.put(tree, known.name, value)
    return drafts.with_defaults(tree)


@pytest.mark.parametrize("known", options(), ids=lambda known: known.name)
def test_an_option_survives_the_form(known: Option) -> None:
    tree = tree_with(known, other(known))
    names = [o.name for o in options()]
    updates = form.shown(names, tree)
    held = {name: update["value"] for name, update in updates.items()}
    config = load.build(form.values(held))
    got = load.get(load.dump(config), known.name)
    assert got == (list(other(known)) if known.kind == "list" else other(known))
    assert load.dump(config) == load.dump(load.build(tree))


@pytest.mark.parametrize("known", [o for o in options() if o.optional], ids=lambda known: known.name)
def test_an_empty_field_means_automatic(known: Option) -> None:
    assert form.from_field(known, None) is None and form.from_field(known, "") is None


def test_only_the_fields_of_what_is_chosen_are_seen() -> None:
    names = [o.name for o in options() if o.section == "optimizer"]
    for chosen, hidden in (("adamw", "optimizer.d_coef"), ("prodigy", "optimizer.text_encoder_lr")):
        seen = form.shown(names, {"optimizer": {"name": chosen}})
        assert seen[hidden]["visible"] is False
        assert seen["optimizer.lr"]["visible"] is True
        assert seen["optimizer.lr"]["value"] == (1.0 if chosen == "prodigy" else 2e-4)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("lora.rank", 0, "greater_than_equal"), ("lora.rank", 100000, "less_than_equal"), ("lora.rank", 3.5, "not_int"),
        ("optimizer.lr", 0, "greater_than"), ("optimizer.lr", -1, "greater_than"),
        ("optimizer.lr", float("nan"), "finite_number"),
        ("run.steps", 0, "greater_than_equal"), ("run.steps", 10**9, "less_than_equal"),
        ("run.seed", -1, "greater_than_equal"),
        ("run.seed", 2**70, "less_than_equal"), ("run.device", "gpu; rm", "not_valid"), ("lora.rank", None, "not_int"),
    ],
)  # fmt: skip
def test_a_bad_value_is_answered_beside_its_field(tmp_path, name: str, value: Any, code: str) -> None:
    ui = Ui.of(Services(Home(tmp_path)), "ja")
    names = [o.name for o in options()]
    held = {n: update["value"] for n, update in form.shown(names, {}).items()} | {name: value}
    found = training.problems(ui.services, None, form.values(held))
    assert [(p.field, p.code) for p in found] == [(name, code)]
    assert form.field_id(name) in form.beside(ui, found)


def test_a_draft_keeps_only_what_differs_from_the_preset(tmp_path) -> None:
    services = Services(Home(tmp_path))
    tree = training.opened(services, None)
    load.put(tree, "lora.rank", 24)
    training.keep(services, None, tree)
    kept = services.drafts.load(None)
    assert kept["lora"] == {"rank": 24}
    assert set(kept) == {"run", "model", "lora"}
    assert load.get(training.opened(Services(Home(tmp_path)), None), "lora.rank") == 24


def test_another_kind_brings_its_own_values_and_keeps_what_was_changed(tmp_path) -> None:
    services = Services(Home(tmp_path))
    before = training.opened(services, None)
    now = drafts.with_defaults(before)
    load.put(now, "lora.rank", 24)
    load.put(now, "run.kind", "character")
    after = drafts.with_defaults(training.changed(services, before, now))
    wanted = drafts.with_defaults(load.preset("character", training.base_of(services, now)))
    assert load.get(after, "lora.rank") == 24
    for known in options():
        if known.name not in ("lora.rank", "run.kind", "model.base"):
            assert load.get(after, known.name) == load.get(wanted, known.name), known.name


def test_another_optimiser_brings_its_own_rate(tmp_path) -> None:
    services = Services(Home(tmp_path))
    before = training.opened(services, None)
    now = drafts.with_defaults(before)
    load.put(now, "optimizer.name", "prodigy")
    after = drafts.with_defaults(training.changed(services, before, now))
    assert load.get(after, "optimizer.lr") == 1.0


def test_the_settings_survive_their_file(tmp_path) -> None:
    config = load.build(load.preset("character"), overrides=["lora.rank=24", "samples.prompts=one"])
    (tmp_path / "run.toml").write_text(load.write_toml(config), "utf-8")
    assert load.build(load.read_toml(tmp_path / "run.toml")) == config


@pytest.mark.parametrize(("lr", "verdict"), [(1e-5, "low"), (2e-4, "good"), (1e-2, "high")])
def test_the_effective_rate_is_said_in_words(tmp_path, lr: float, verdict: str) -> None:
    ui = Ui.of(Services(Home(tmp_path)), "en")
    said = form.effective_rate(ui, {"optimizer": {"lr": lr}, "lora": {"rank": 16, "alpha": 16.0}})
    assert ui.t(f"page.train.rate.{verdict}") in said


@pytest.mark.parametrize(("language", "words"), [
    ("en", "Stable Diffusion XL · predicts v · zero-terminal SNR · 1024 px · sdxl_base_v1-0"),
    ("ja", "Stable Diffusion XL · v 予測 · 終端 SNR ゼロ · 1024 px · sdxl_base_v1-0"),
])  # fmt: skip
def test_the_base_chosen_says_what_it_is_and_its_licence(tmp_path, language: str, words: str) -> None:
    facts = lora_files.facts(
        family="sdxl", version="sdxl_base_v1-0", prediction="v_prediction", zero_snr=True, resolution=1024,
    )  # fmt: skip
    ui = Ui.of(Services(Home(tmp_path)), language)
    shown = about_base(ui, facts)
    assert words in shown and facts.licence_summary(language) in shown
    assert ui.t("bases.epsilon") in about_base(ui, lora_files.facts())
