"""Walks the tree of options once. The form, the command line, docs/options.md and the presets' validation use this walk."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from trainer.config.train import TrainConfig
from trainer.core.texts import lookup


@dataclass(frozen=True)
class Option:
    """One option of the tree, ready to be shown, typed or documented."""

    name: str
    """Dotted, such as `lora.rank`: the same word in the form, in TOML, on the command line and in the file's metadata."""
    type: type
    kind: Literal["bool", "int", "float", "str", "choice", "list"]
    default: Any
    help: str
    """English; the field's docstring."""
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    """`low` itself is not allowed."""
    step: float | None = None
    optional: bool = False
    variants: tuple[str, ...] = ()
    """For an option that only some choices of its section have: those choices (`optimizer.d_coef`: `prodigy`)."""

    @property
    def section(self) -> str:
        """`lora` of `lora.rank`."""
        return self.name.split(".")[0]


@cache
def options() -> tuple[Option, ...]:
    """All options in the order of the tree."""
    result: dict[str, Option] = {}
    for section, field in TrainConfig.model_fields.items():
        members = _members(field.annotation)
        tags = [_tag(member) for member in members] if len(members) > 1 else []
        for member in members:
            for name, inner in sorted(member.model_fields.items(), key=lambda item: item[0] != "name"):
                dotted = f"{section}.{name}"
                if tags and name == "name":
                    default = field.default.name
                    result[dotted] = Option(dotted, str, "choice", default, _help(inner), tuple(tags))
                    continue
                variants = (_tag(member),) if tags else ()
                if dotted in result:
                    variants = (*result[dotted].variants, *variants)
                    result[dotted] = _replace_variants(result[dotted], variants if len(variants) < len(tags) else ())
                else:
                    result[dotted] = _option(dotted, inner, variants)
    return tuple(result.values())


def option(name: str) -> Option:
    """The option called `name`; KeyError where there is none."""
    return {o.name: o for o in options()}[name]


def label(option: Option, language: str | None = None) -> str:
    """The short name shown in the form."""
    text = lookup(f"options.{option.name}.label", language)
    return text if isinstance(text, str) else option.name


def help_text(option: Option, language: str | None = None) -> str:
    """What the option does, what it costs and when to change it."""
    text = lookup(f"options.{option.name}.help", language)
    return text if isinstance(text, str) else option.help


def _members(annotation: Any) -> list[type[BaseModel]]:
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return list(typing.get_args(annotation))
    return [annotation]


def _tag(member: type[BaseModel]) -> str:
    return typing.get_args(member.model_fields["name"].annotation)[0]


def _replace_variants(option: Option, variants: tuple[str, ...]) -> Option:
    return Option(**{**option.__dict__, "variants": variants})


def _option(name: str, field: FieldInfo, variants: tuple[str, ...]) -> Option:
    annotation, optional = field.annotation, False
    if typing.get_origin(annotation) in (Union, types.UnionType):
        inner = [a for a in typing.get_args(annotation) if a is not type(None)]
        annotation, optional = inner[0], True
    kind, plain, choices = _kind(annotation)
    bounds: dict[str, Any] = {}
    for mark in field.metadata:
        if isinstance(mark, Ge):
            bounds["low"] = mark.ge
        elif isinstance(mark, Gt):
            bounds.update(low=mark.gt, open_low=True)
        elif isinstance(mark, Le):
            bounds["high"] = mark.le
        elif isinstance(mark, Lt):
            bounds["high"] = mark.lt
        elif isinstance(mark, MultipleOf):
            bounds["step"] = mark.multiple_of
    default = None if field.default is PydanticUndefined else field.default
    return Option(name, plain, kind, default, _help(field), choices, optional=optional, variants=variants, **bounds)


def _help(field: FieldInfo) -> str:
    """The docstring under a field on one line."""
    return " ".join((field.description or "").split())


def _kind(annotation: Any) -> tuple[Any, type, tuple[str, ...]]:
    if typing.get_origin(annotation) is Literal:
        return "choice", str, tuple(typing.get_args(annotation))
    if typing.get_origin(annotation) is tuple:
        return "list", tuple, ()
    return {bool: "bool", int: "int", float: "float", str: "str"}[annotation], annotation, ()
