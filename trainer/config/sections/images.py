"""The options of what is looked at: pictures, in which sizes and forms, and how their captions are read. Part of the tree in
train.py."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from trainer.config.lines import read_subset
from trainer.core.encodings import normal
from trainer.core.schema import Section

Side = Annotated[int, Field(ge=64, le=2048, multiple_of=8)]


class Images(Section):
    folder: str = ""
    """The folder with the pictures and their captions of the same name. Sub-folders are not read."""
    subsets: tuple[str, ...] = ()
    """Further folders to learn from, one a line, each with how much its pictures count: `backgrounds = 0.5`, and after a
    comma how often they are shown in a round: `backgrounds = 0.5, 3`. A folder lies inside or beside the first one, or is
    a path; one called `10_name` is shown ten times by itself."""
    resolution: int | None = Field(default=None, ge=64, le=2048, multiple_of=8)
    """The size pictures are trained at, as the side of a square of the same area. Left empty, the base's own size. Larger
    costs time and memory with the square; much larger than the base's own teaches it to draw things twice."""
    extra_resolutions: tuple[Side, ...] = ()
    """Further training sizes: each picture is also looked at in each of these, so that the result holds at more sizes. The
    number of looks stays the same; what is larger than the first size costs its own time and memory."""
    encoding: str = "auto"
    """The encoding of caption files that are not UTF-8. auto finds it out from all captions together and is nearly always
    right; where the words come out wrong, name it: shift_jis, euc_jp, gbk, big5, euc_kr, cp1251, koi8_r, cp1252, utf-16."""
    buckets: bool = True
    """Keep each picture's shape by sorting pictures into formats of about the same area. Off cuts everything to a square
    and loses what is at the edges."""
    bucket_resolution_step: int = Field(default=64, ge=8, le=256, multiple_of=8)
    """The sides of the formats are multiples of this. Smaller cuts off less but makes more formats, and pictures of
    different formats cannot share a batch."""
    bucket_ratio: float = Field(default=2.0, ge=1, le=8)
    """How many times longer than wide a format may be, and the other way round. 2 suits most sets; 3 or 4 for panoramas and
    tall strips, which are cut to 1:2 otherwise. Bases draw such shapes poorly, and few pictures share a format."""
    bucket_dense: bool = False
    """Also take the formats that are found from their longer side, such as 1280x768 and 1408x704 at 1024. They hold a little
    less and cut off less. The presets switch it on; off, formats are those of trainings from before there was this choice."""
    upscale: bool = True
    """Enlarge pictures smaller than the training size. Off trains them in a smaller format, which keeps them crisp."""
    flip_augment: bool = False
    """Show each picture also mirrored. Doubles few pictures for a style; harmful where left and right matter, such as a
    character's parting or writing."""

    random_crops: int = Field(default=1, ge=1, le=16)
    """How many cuts of each picture are looked at, in turn and at random: the usual one and others along the side that
    hangs over. For few pictures of another shape than the formats. Each cut is encoded and kept, so the first start takes
    that many times as long and as much disk; faces may be cut off."""
    augment_variants: int = Field(default=4, ge=2, le=16)
    """How many forms of each picture are looked at, in turn and at random, where one of the next two is above 0: the picture
    itself and others changed as they say. Each is encoded and kept, for that many times the first start and disk."""
    color_jitter: float = Field(default=0.0, ge=0, le=0.5)
    """How much brightness, contrast, saturation and, a little, hue of further forms may differ. 0.1 to 0.2 where a thing or
    figure is learnt from few pictures in one light. It hurts a style: its colours are what is to be learnt. 0 is off."""
    rotation: float = Field(default=0.0, ge=0, le=30)
    """By how many degrees at most further forms are turned to either side, made larger so that no corner is empty. 3 to 10
    for a thing seen from one side only; it hurts a style of upright lines, writing and whatever stands. 0 is off."""

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, name: str) -> str:
        name = name.strip() or "auto"
        if name.lower() != "auto" and normal(name) is None:
            raise ValueError("encoding_unknown")
        return name

    @field_validator("subsets")
    @classmethod
    def _subsets_are_readable(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        try:
            _ = [read_subset(line) for line in lines]
        except ValueError:
            raise ValueError("subset_form") from None
        return lines

    @field_validator("extra_resolutions", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        """`512, 768` in one line is two sizes."""
        if isinstance(value, list | tuple):
            return [part for one in value for part in (one.replace(",", " ").split() if isinstance(one, str) else [one])]
        return value
