"""Every former name and value of an option means what it meant: typed, in files, drafts, runs, LoRAs and checkpoints."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomlkit

from app.forms.seen import Seen
from trainer.adapters import file as adapter_file
from trainer.config import load, renamed
from trainer.config.drafts import Drafts
from trainer.config.load import ConfigProblems
from trainer.config.options import Option, option, options
from trainer.config.train import TrainConfig
from trainer.core.files import write_json
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.library.library import Library

pytest.importorskip("torch")
from trainer.engine.output.checkpoint import config_hash

CASES = [(former, name, None) for former, name in renamed.NAMES.items()] + [
    (name, name, before) for name, values in renamed.VALUES.items() for before in values
]
IDS = [former if value is None else f"{former}={value}" for former, _, value in CASES]
OTHER: dict[str, Any] = {
    "lora.include": "attn2", "lora.exclude": "to_out", "noise.max_timestep": 900, "images.extra_resolutions": [512],
    "captions.max_token_length": 150, "validation.similarity_model": "off",
}  # fmt: skip
"""A value that differs from the default, where the bounds do not tell one."""


def value_of(known: Option) -> Any:
    """A value of the option that is allowed and not its default."""
    if known.name in OTHER:
        return OTHER[known.name]
    if known.kind == "bool":
        return not known.default
    if known.kind == "choice":
        return next(choice for choice in known.choices if choice != known.default)
    if known.kind == "list":
        return ["one", "two"]
    if known.kind == "str":
        return "a word"
    step = known.step or (1 if known.kind == "int" else 0.25)
    value = (known.default or known.low or 0) + step
    return type(step)(value) if known.high is None or value < known.high else (known.default or 0) - step


@pytest.fixture(params=CASES, ids=IDS)
def case(request) -> tuple[str, str, Any, Any]:
    """(former name, name, former value, value)."""
    former, name, before = request.param
    value = renamed.VALUES[name][before] if before else value_of(option(name))
    return former, name, before or value, value


def tree_of(name: str, value: Any) -> load.Tree:
    tree: load.Tree = {}
    load.put(tree, name, value)
    return tree


def typed(value: Any) -> str:
    return (
        "\n".join(map(str, value)) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)
    )


def test_the_table_names_options_there_are_and_none_that_stands_for_another():
    known = {one.name: one for one in options()}
    assert set(renamed.NAMES.values()) <= set(known) and not set(renamed.NAMES) & set(known)
    assert len(renamed.FORMER) == len(renamed.NAMES)
    assert all(former.partition(".")[0] == name.partition(".")[0] for former, name in renamed.NAMES.items())
    assert all(set(values.values()) <= set(known[name].choices) for name, values in renamed.VALUES.items())
    assert all(not set(values) & set(known[name].choices) for name, values in renamed.VALUES.items())


def test_a_former_name_builds_the_same_config_in_trees_words_and_toml(case):
    former, name, before, value = case
    wanted = load.build(tree_of(name, value))
    assert wanted != TrainConfig() and load.get(load.dump(wanted), name) == value
    assert load.build(tree_of(former, before)) == wanted
    assert load.build({}, overrides=[f"{former}={typed(before)}"]) == wanted
    assert load.build({}, overrides=[f"{name}={typed(before)}"]) == wanted
    text = tomlkit.dumps(tree_of(former, before))
    assert load.build(load.parse_toml(text, "run.toml")) == wanted


def test_a_former_name_means_the_same_in_a_toml_file_a_draft_a_tab_a_run_folder_and_a_lora(case, tmp_path):
    former, name, before, value = case
    old, new, wanted = tree_of(former, before), tree_of(name, value), load.build(tree_of(name, value))
    home = Home(tmp_path).create()
    file = tmp_path / "run.toml"
    file.write_text(tomlkit.dumps(old), "utf-8")
    assert load.read_toml(file) == new

    drafts = Drafts(home)
    drafts.save("mine", old)
    assert drafts.load("mine") == new
    assert Seen.read(json.dumps({"tab": "a", "version": "b", "tree": old})).tree == new

    run = home.runs / "r1"
    run.mkdir(parents=True)
    place = ("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    factors = (np.ones((1, 1280), np.float32), np.ones((1280, 1), np.float32), 1.0)
    for stem, told in (("of_a_run", {"id": "r1"}), ("from_elsewhere", {})):
        metadata = {"atelier.config": json.dumps(old), "atelier.run": json.dumps(told)}
        adapter_file.write(home.loras / f"{stem}.safetensors", {place: factors}, metadata, family="sd1")
    write_json(run / "config.json", old)
    library = Library(home)
    assert library.again("of_a_run") == new and load.build(library.again("from_elsewhere")) == wanted


def test_both_names_of_an_option_are_refused_unless_they_say_the_same(case):
    former, name, before, value = case
    if former == name:
        return
    default = option(name).default
    both = tree_of(name, default)
    load.put(both, former, before)
    for given in (lambda: load.build(both), lambda: renamed.modernized(both)):
        with pytest.raises(Problem) as wrong:
            given()
        assert (wrong.value.code, wrong.value.field) == ("option_twice", name)
        assert former in str(wrong.value) and name in str(wrong.value)
    load.put(both, name, value)
    assert load.build(both) == load.build(tree_of(name, value))
    words = [f"{former}={typed(before)}", f"{name}={typed(value)}"]
    assert load.build({}, overrides=words) == load.build(tree_of(name, value))
    with pytest.raises(ConfigProblems) as twice:
        load.build({}, overrides=[f"{former}={typed(before)}", f"{name}={typed(default if default is not None else '')}"])
    assert [problem.code for problem in twice.value.problems] == ["option_twice"]
    later = load.build(tree_of(former, before), tree_of(name, default))
    assert load.get(load.dump(later), name) == load.get(load.dump(TrainConfig()), name)  # of two layers the later counts


def test_a_checkpoint_is_hashed_under_the_former_names(case):
    """Spelt out, so that what checkpoints of earlier versions hold stays what this version computes."""
    former, name, before, value = case
    section = name.partition(".")[0]
    tree: dict[str, Any] = {"images": {}, "optimizer": {"name": "adamw"}, "schedule": {"name": "cosine"}}
    if section != "samples":  # does not decide the numbers of a run
        tree = load.merge(tree, tree_of(former, before))
    wanted = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]
    assert config_hash(load.build(tree_of(name, value))) == config_hash(load.build(tree_of(former, before))) == wanted


def test_a_file_with_both_names_that_no_person_writes_keeps_the_new_one(tmp_path: Path):
    drafts = Drafts(Home(tmp_path).create())
    drafts.save("mine", {"run": {"exposures": 3, "epochs": 4}})
    assert drafts.load("mine") == {"run": {"epochs": 4}}
