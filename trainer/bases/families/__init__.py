"""The families of base models, as an explicit tuple: adding one is a file and a line here."""

from __future__ import annotations

from trainer.bases.families.base import Family, ModelComponents
from trainer.bases.families.sd1 import StableDiffusion1
from trainer.bases.families.sd2 import StableDiffusion2
from trainer.bases.families.sdxl import StableDiffusionXL
from trainer.core.problem import Problem

FAMILIES: tuple[Family, ...] = (StableDiffusion1(), StableDiffusion2(), StableDiffusionXL())


def family(name: str, base: str = "") -> Family:
    """The family called `name`; a Problem where this version cannot train on it."""
    for item in FAMILIES:
        if item.name == name:
            return item
    raise Problem("family_unknown", field="model.base", base=base or name, family=name)


__all__ = ["FAMILIES", "Family", "ModelComponents", "family"]
