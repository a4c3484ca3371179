"""From presets, TOML files, form values and command-line arguments to one valid TrainConfig, and back."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import ValidationError

from trainer.config import renamed
from trainer.config.options import Option, option, options
from trainer.config.train import TrainConfig
from trainer.core.problem import Problem

PRESETS = Path(__file__).parent / "presets"
UNIONS = ("optimizer", "schedule")
MAX_DOTS = 100
_STRING = re.compile(r"\"\"\".*?\"\"\"|'''.*?'''|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'", re.DOTALL)
_COMMENT = re.compile(r"#[^\n]*")
_BETWEEN_KEYS = re.compile(r"[=,{}\[\]\n]")
Tree = dict[str, Any]
_ZERO = {
    "lora.alpha": "zero_alpha", "lora.conv_alpha": "zero_alpha", "lora.conv_rank": "zero_conv_rank",
    "lora.scale_weight_norms": "zero_empty", "loss.min_snr_gamma": "zero_empty",
    "lora.text_encoder_stop_at": "zero_until", "lora.text_encoder_2_stop_at": "zero_until",
    "optimizer.text_encoder_lr": "zero_text_lr", "optimizer.text_encoder_2_lr": "zero_text_2_lr",
    "optimizer.embedding_lr": "zero_embedding_lr",
}  # fmt: skip
"""Options that other programs switch off, or leave to the rank, with a 0, and the problem that says how it is done here."""


class ConfigProblems(Problem):
    """Everything that is wrong with the values given: one Problem a field."""

    def __init__(self, problems: list[Problem]) -> None:
        first = problems[0]
        super().__init__(first.code, field=first.field, **first.params)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def preset(kind: str, base: Any = None) -> Tree:
    """The preset's values for `style`, `character` or `concept` on `base` (a BaseFacts): general, then family, then base."""
    path = PRESETS / f"{kind}.toml"
    if not path.is_file():
        raise Problem("preset_unknown", field="run.kind", kind=kind, kinds=", ".join(presets()))
    tree = read_toml(path)
    special = tree.pop("for", {})
    tree.setdefault("run", {})["kind"] = kind
    if base is not None:
        for key in (base.family, base.id):
            tree = merge(tree, special.get(key, {}))
    return tree


def presets() -> list[str]:
    """The presets' names."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def build(*layers: Tree, overrides: Iterable[str] = ()) -> TrainConfig:
    """Merge `layers` (later ones win) and `section.name=value` assignments into a valid TrainConfig, or raise ConfigProblems.
    Both may use former names (trainer/config/renamed.py)."""
    tree: Tree = {}
    problems: list[Problem] = []
    for layer in layers:
        problems += renamed.conflicts(layer)
        tree = merge(tree, renamed.modernized_file(layer))
    typed, wrong = _typed(overrides)
    problems += wrong
    tree = merge(tree, typed)
    for section in UNIONS:
        if isinstance(tree.get(section), dict):
            tree[section].setdefault("name", TrainConfig.model_fields[section].default.name)
    _drop_foreign_variants(tree)
    try:
        config = TrainConfig.model_validate(tree)
    except ValidationError as error:
        problems += [_problem(item) for item in error.errors()]
        raise ConfigProblems(problems) from None
    if problems:
        raise ConfigProblems(problems)
    return config


def _typed(assignments: Iterable[str]) -> tuple[Tree, list[Problem]]:
    """The tree that assignments like `lora.rank=32` make, the last of a name counting, and what is wrong with them."""
    typed: Tree = {}
    problems: list[Problem] = []
    spelled: dict[str, str] = {}
    for word in assignments:
        name, sign, text = word.partition("=")
        try:
            if not sign:
                raise Problem("option_form", word=word)
            option_ = _known(renamed.name_of(name))
            value = renamed.value_of(option_.name, parse(option_, text))
            if spelled.setdefault(option_.name, name) != name and get(typed, option_.name) != value:
                raise renamed.named_twice(option_.name)
            put(typed, option_.name, value)
        except Problem as problem:
            problems.append(problem)
    return typed, problems


def dump(config: TrainConfig) -> Tree:
    """The whole tree as plain values."""
    return config.model_dump(mode="json")


def read_toml(path: Path) -> Tree:
    """A TOML file as a tree; a clear Problem where it is not one."""
    try:
        return parse_toml(path.read_text("utf-8-sig"), path.name)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise Problem("file_missing", file=str(path)) from None
    except (UnicodeDecodeError, OSError) as error:
        raise Problem("toml_broken", file=path.name, detail=str(error)) from None


def parse_toml(text: str, name: str) -> Tree:
    """TOML as a tree under the names of today; a Problem that names the file `name` where it is no TOML, or is nested too
    deeply, and one where an option stands in it under both its names."""
    try:
        if _too_deep(text):
            raise RecursionError("nested too deeply")
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise Problem("toml_broken", file=name, detail=str(error)) from None
    return renamed.modernized(tree)


def _too_deep(text: str) -> bool:
    """Whether a key has more dots than any of ours: tomllib keeps every prefix of a key, memory by the square of its parts."""
    bare = _COMMENT.sub("", _STRING.sub("s", text))
    return any(part.count(".") > MAX_DOTS for part in _BETWEEN_KEYS.split(bare))


def write_toml(config: TrainConfig) -> str:
    """The config as TOML text with each option's help as a comment; empty options are left out."""
    tree, document = dump(config), tomlkit.document()
    for section, values in tree.items():
        table = tomlkit.table()
        for name, value in values.items():
            if value is None:
                continue
            entry = option(f"{section}.{name}")
            if entry.help:
                table.add(tomlkit.comment(entry.help))
            table.add(name, value)
        document.add(section, table)
    return tomlkit.dumps(document)


def get(tree: Tree, name: str) -> Any:
    """The value under a dotted name, or None."""
    section, _, field = name.partition(".")
    return tree.get(section, {}).get(field)


def put(tree: Tree, name: str, value: Any) -> None:
    """Set the value under a dotted name."""
    section, _, field = name.partition(".")
    tree.setdefault(section, {})[field] = value


def merge(below: Tree, above: Tree) -> Tree:
    """A new tree with `above`'s values over `below`'s, section by section.

    Where `above` chooses another optimiser or schedule, `below`'s values for it do not carry over: a rate that suits
    AdamW is no rate for Prodigy.
    """
    result = copy.deepcopy(below)
    for section, values in above.items():
        if isinstance(values, dict) and isinstance(result.get(section), dict):
            if values.get("name") and result[section].get("name", values["name"]) != values["name"] and section in UNIONS:
                result[section] = {}
            result[section].update(copy.deepcopy(values))
        else:
            result[section] = copy.deepcopy(values)
    return result


def parse(option_: Option, text: str) -> Any:
    """A value typed as text. Empty text means None for an option that may be empty; bounds are checked by `build`."""
    text = text.strip()
    if text == "" and option_.optional:
        return None
    try:
        if option_.kind == "bool":
            return {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}[
                text.lower()
            ]
        if option_.kind == "int":
            return int(text)
        if option_.kind == "float":
            return float(text)
    except (ValueError, KeyError):
        raise Problem(f"not_{option_.kind}", field=option_.name, given=text[:80]) from None
    if option_.kind == "list":
        return [part.strip() for part in text.splitlines() if part.strip()]
    return text


def _known(name: str) -> Option:
    try:
        return option(name)
    except KeyError:
        raise Problem("option_unknown", field=name[:80], near=_nearest(name)) from None


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    names = [o.name for o in options()]
    matches = get_close_matches(name, names, 1, 0.4) or [n for n in names if n.endswith("." + name)]
    return matches[0] if matches else names[0]


def _drop_foreign_variants(tree: Tree) -> None:
    """Switching `optimizer.name` must not trip over the other choice's fields coming from a preset or a form."""
    for option_ in options():
        values = tree.get(option_.section)
        field = option_.name.partition(".")[2]
        if option_.variants and isinstance(values, dict) and field in values and values.get("name") not in option_.variants:
            del values[field]


def _is_zero(value: Any) -> bool:
    try:
        return float(value) == 0
    except (TypeError, ValueError):
        return False


def _problem(error: Any) -> Problem:
    place = [str(part) for part in error["loc"]]
    if len(place) == 3:  # a union names the chosen member in the middle, a list the line at the end
        place = [place[0], place[2] if place[0] in UNIONS else place[1]]
    name, kind, context = ".".join(place), error["type"], error.get("ctx", {})
    if name in UNIONS:
        name = f"{name}.name"
    text = str(error.get("input"))[:80]
    if kind == "extra_forbidden":
        return Problem("option_unknown", field=name, near=_nearest(name))
    if kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than", "multiple_of", "finite_number"):
        limit = next(iter(context.values()), "")
        if name in _ZERO and _is_zero(error.get("input")):
            return Problem(_ZERO[name], field=name)
        return Problem(kind, field=name, given=text, limit=limit)
    if kind in ("literal_error", "union_tag_invalid"):
        return Problem("not_choice", field=name, given=text, choices=context.get("expected") or context.get("expected_tags"))
    if kind == "value_error":
        code, _, field = str(error["ctx"]["error"]).partition(":")  # `code` or `code:field`
        return Problem(code, field=field or (f"{name}.train_unet" if name == "lora" else name), given=text)
    for start, code in (("int", "not_int"), ("float", "not_float"), ("bool", "not_bool")):
        if kind.startswith(start):
            return Problem(code, field=name, given=text)
    return Problem("not_valid", field=name, given=text)
