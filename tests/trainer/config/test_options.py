"""The one tree of options: walked, validated, written and read back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.bases import catalog
from trainer.config import load
from trainer.config.options import help_text, label, option, options
from trainer.config.train import TrainConfig
from trainer.core.home import PROJECT, Home


def problems(*assignments: str, **tree):
    with pytest.raises(load.ConfigProblems) as caught:
        load.build(tree, overrides=assignments)
    return {(p.field, p.code) for p in caught.value.problems}


def test_every_option_has_help_a_label_and_a_default_that_is_valid():
    for entry in options():
        assert len(entry.help) > 20, entry.name
        assert label(entry, "en") and label(entry, "ja")
    assert load.build({}) == TrainConfig()


def test_names_are_unique_and_reach_the_tree():
    names = [o.name for o in options()]
    assert len(names) == len(set(names)) > 45
    tree = load.dump(TrainConfig())
    for entry in options():
        section, _, field = entry.name.partition(".")
        assert field in tree[section] or entry.variants


@pytest.mark.parametrize(
    ("word", "field", "code"),
    [
        ("optimizer.lr=0", "optimizer.lr", "greater_than"),
        ("optimizer.lr=-1", "optimizer.lr", "greater_than"),
        ("optimizer.lr=nan", "optimizer.lr", "finite_number"),
        ("optimizer.lr=1e-4;rm", "optimizer.lr", "not_float"),
        ("lora.rank=0", "lora.rank", "greater_than_equal"),
        ("lora.rank=100000", "lora.rank", "less_than_equal"),
        ("run.steps=0", "run.steps", "greater_than_equal"),
        ("run.steps=1000000000", "run.steps", "less_than_equal"),
        ("run.seed=-1", "run.seed", "greater_than_equal"),
        ("run.seed=1180591620717411303424", "run.seed", "less_than_equal"),
        ("lora.rnak=3", "lora.rnak", "option_unknown"),
        ("nonsense", None, "option_form"),
        ("optimizer.name=sgd", "optimizer.name", "not_choice"),
        ("memory.base_dtype=fp8", "memory.base_dtype", "not_choice"),
        ("images.flip_augment=maybe", "images.flip_augment", "not_bool"),
        ("images.resolution=100", "images.resolution", "multiple_of"),
        ("run.device=gpu", "run.device", "not_valid"),
        ("images.extra_resolutions=512\n1001", "images.extra_resolutions", "multiple_of"),
        ("images.extra_resolutions=big", "images.extra_resolutions", "not_int"),
        ("captions.max_token_length=100", "captions.max_token_length", "multiple_of"),
        ("noise.min_timestep=1000", "noise.min_timestep", "less_than_equal"),
        ("loss.type=l3", "loss.type", "not_choice"),
        ("run.ema_decay=1", "run.ema_decay", "less_than"),
    ],
)
def test_a_bad_value_is_answered_beside_its_field(word, field, code):
    assert problems(word) == {(field, code)}


def test_all_bad_values_are_told_at_once():
    assert problems("lora.rank=0", "run.steps=x", "foo.bar=1") == {
        ("lora.rank", "greater_than_equal"),
        ("run.steps", "not_int"),
        ("foo.bar", "option_unknown"),
    }


def test_noise_levels_must_leave_room_and_sizes_may_stand_in_one_line():
    assert problems("noise.min_timestep=500", "noise.max_timestep=500") == {("noise.min_timestep", "timestep_range")}
    assert load.build({}, overrides=["images.extra_resolutions=512, 768"]).images.extra_resolutions == (512, 768)


def test_nothing_to_learn_is_refused():
    assert problems("lora.train_unet=false", "lora.train_text_encoder=false") == {("lora.train_unet", "nothing_learns")}


def test_choosing_another_optimiser_takes_its_own_values():
    config = load.build(load.preset("style"), overrides=["optimizer.name=prodigy"])
    assert config.optimizer.name == "prodigy" and config.optimizer.lr == 1.0
    config = load.build(load.preset("style"), overrides=["optimizer.lr=0.5", "optimizer.name=prodigy"])
    assert config.optimizer.lr == 0.5


@pytest.mark.parametrize("kind", load.presets())
def test_every_preset_is_valid_and_knows_the_embedded_base(kind):
    mini = catalog.find(Home(PROJECT), "mini")
    general, special = load.build(load.preset(kind)), load.build(load.preset(kind, mini))
    assert general.run.kind == special.run.kind == kind
    rates = [c.optimizer.lr * c.lora.alpha / c.lora.rank for c in (special, general)]
    assert rates[0] > rates[1], "a small base learns at a higher rate"


def test_toml_and_back_gives_the_same(tmp_path):
    config = load.build(load.preset("character"), overrides=["optimizer.name=prodigy", "samples.prompts=a fox\na cat"])
    path = tmp_path / "run.toml"
    path.write_text(load.write_toml(config), "utf-8")
    assert load.build(load.read_toml(path)) == config
    assert option("lora.rank").help.split(".")[0] in path.read_text("utf-8")


def test_a_broken_toml_is_said(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("lora = [")
    with pytest.raises(load.Problem) as caught:
        load.read_toml(path)
    assert caught.value.code == "toml_broken"


@given(st.sampled_from([o.name for o in options()]), st.text(max_size=40))
def test_no_text_breaks_the_command_line(name, text):
    try:
        load.build({}, overrides=[f"{name}={text}"])
    except load.ConfigProblems as caught:
        assert str(caught)


def test_the_page_of_options_is_current():
    from trainer.config import document

    assert document.PAGE.read_text("utf-8") == document.page(), "run: python -m trainer.config.document"


USUAL_TERMS = {
    "en": ["CFG", "negative prompt", "scheduler", "gradient accumulation", "epoch", "augmentation", "quantiz", "block swap",
           "regularization", "textual inversion"],
    "ja": ["CFG", "ネガティブプロンプト", "スケジューラー", "勾配累積", "エポック", "データ拡張", "量子化", "ブロックスワップ",
           "正則化", "Textual Inversion"],
}  # fmt: skip


def test_no_help_speaks_of_private_things():
    private = re.compile(r"part that (draws|reads)|\blooks? (per|at)|\blooked at|\btaught\b|\bjudg|描く部分|読み取る部分|判定")
    assert [one.name for one in options() for lang in ("en", "ja") if private.search(help_text(one, lang))] == []


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_an_option_is_found_by_the_term_the_field_uses(lang: str) -> None:
    labels = "\n".join(label(option, lang) for option in options()).lower()
    assert [term for term in USUAL_TERMS[lang] if term.lower() not in labels] == []
    if lang == "en":
        page = (PROJECT / "docs" / "options.md").read_text("utf-8").lower()
        assert [term for term in USUAL_TERMS[lang] if term.lower() not in page] == []


@pytest.mark.parametrize(
    ("word", "code", "part"),
    [
        ("lora.alpha=0", "zero_alpha", "rank"),
        ("lora.conv_alpha=0.0", "zero_alpha", "rank"),
        ("optimizer.text_encoder_lr=0", "zero_text_lr", "lora.train_text_encoder"),
        ("optimizer.text_encoder_2_lr=0", "zero_text_2_lr", "lora.text_encoders"),
        ("lora.text_encoder_stop_at=0", "zero_until", "lora.train_text_encoder"),
        ("lora.conv_rank=0", "zero_conv_rank", "lora.targets"),
        ("loss.min_snr_gamma=0", "zero_empty", "empty"),
        ("lora.scale_weight_norms=0", "zero_empty", "empty"),
        ("lora.alpha=-1", "greater_than", "-1"),
    ],
)
def test_a_zero_that_means_off_elsewhere_is_answered_with_the_way_to_do_it_here(word, code, part):
    field = word.partition("=")[0]
    assert problems(word) == {(field, code)}
    with pytest.raises(load.ConfigProblems) as caught:
        load.build({}, overrides=[word])
    assert part in caught.value.sentence("en")
    section, name = field.split(".")
    assert problems(**{section: {name: 0.0 if code != "greater_than" else -1.0}}) == {(field, code)}, "from a form or a file"


def test_a_run_from_before_an_option_hashes_as_it_did():
    """The hash that checkpoints of earlier versions carry: the defaults, and a run as the style preset made it then."""
    from trainer.engine.output.checkpoint import config_hash

    assert config_hash(TrainConfig()) == "e71d92acb1b7ed30"
    tree = load.dump(load.build(load.preset("style")))
    for name in ("images.bucket_ratio", "images.bucket_dense", "run.compat"):
        section, _, field = name.partition(".")
        del tree[section][field]
    assert config_hash(load.build(tree)) == "eb7d7eb395c29798"
    for word in ("images.bucket_dense=true", "images.bucket_ratio=3", "run.compat=kohya"):
        assert config_hash(load.build(tree, overrides=[word])) != "eb7d7eb395c29798"
