"""The options of the training images: folders, resolutions, buckets and augmentation. Part of the tree in train.py."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from trainer.config.lines import read_subset
from trainer.core.encodings import normal
from trainer.core.schema import Section

Side = Annotated[int, Field(ge=64, le=2048, multiple_of=8)]


class Images(Section):
    folder: str = ""
    """The folder that holds the images and their captions, which have the same file names. Subfolders are not read."""
    subsets: tuple[str, ...] = ()
    """More image folders, one per line, each with the weight of its images in the loss: `backgrounds = 0.5`. A second
    number, after a comma, is the number of repeats per epoch: `backgrounds = 0.5, 3`. A folder is inside or next to the
    main folder, or given by its path; one called `10_name` gets 10 repeats by itself."""
    resolution: int | None = Field(default=None, ge=64, le=2048, multiple_of=8)
    """The training resolution: the side of a square of the same area. Left empty, the base's own. Time and memory grow with
    its square, and far above the base's own resolution the model learns to draw things twice."""
    extra_resolutions: tuple[Side, ...] = ()
    """Further resolutions: each image is also trained at each of these, so that the LoRA works at more image sizes. The
    number of epochs stays the same; resolutions above the first cost extra time and memory."""
    encoding: str = "auto"
    """The text encoding of caption files that are not UTF-8. auto detects it from all captions together and is nearly
    always right. If captions come out garbled, name it: shift_jis, euc_jp, gbk, big5, euc_kr, cp1251, koi8_r, cp1252,
    utf-16."""
    buckets: bool = True
    """Aspect-ratio bucketing: sorts images into buckets of different shapes and about the same area, so that each keeps its
    aspect ratio. Off, every image is cropped to a square and loses what is at its edges."""
    bucket_resolution_step: int = Field(default=64, ge=8, le=256, multiple_of=8)
    """Bucket sides are multiples of this. A smaller step crops less but makes more buckets, and images of different buckets
    cannot share a batch."""
    bucket_ratio: float = Field(default=2.0, ge=1, le=8)
    """The largest aspect ratio of a bucket, long side to short side. 2 suits most sets; use 3 or 4 for panoramas and tall
    strips, which are cropped to 1:2 otherwise. Base models draw such shapes poorly, and few images share a bucket."""
    bucket_dense: bool = False
    """Adds buckets that are computed from their longer side, such as 1280x768 and 1408x704 at 1024. They cover slightly
    less area and crop less. The presets switch this on; off, the buckets are those of trainings made before this option
    existed."""
    upscale: bool = True
    """Upscales images that are smaller than the training resolution. Off, they are trained in a smaller bucket and stay
    crisp."""
    flip_augment: bool = False
    """Horizontal flip augmentation: also trains on the mirrored image. It doubles a small set for a style, and does harm
    where left and right matter, as with a character's parting or with writing."""

    random_crops: int = Field(default=1, ge=1, le=16)
    """How many crops of each image are used, in turn and at random: the usual one and others along the side that overhangs
    the bucket. For small sets whose aspect ratios do not fit the buckets. Each crop is encoded and cached, so the first
    start takes that many times as long and as much disk space; faces may be cut off."""
    augment_variants: int = Field(default=4, ge=2, le=16)
    """How many augmented variants of each image are used, in turn and at random, if one of the next two options is above 0:
    the image itself and others changed as they say. Each variant is encoded and cached, which takes that many times as long
    at the first start and as much disk space."""
    color_jitter: float = Field(default=0.0, ge=0, le=0.5)
    """Color jitter augmentation: how far the brightness, contrast, saturation and, a little, the hue of augmented variants
    may differ. Use 0.1 to 0.2 for a thing or figure trained from a few images in one light. It hurts a style, whose colours
    are what is to be learned. 0 is off."""
    rotation: float = Field(default=0.0, ge=0, le=30)
    """Random rotation augmentation: by how many degrees at most augmented variants are rotated to either side, enlarged so
    that no corner is empty. Use 3 to 10 for a thing photographed from one side only. It hurts a style of upright lines,
    writing and anything that stands. 0 is off."""

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
    def _split_sizes(cls, value: object) -> object:
        """`512, 768` in one line is two sizes."""
        if isinstance(value, list | tuple):
            parts = (item.replace(",", " ").split() if isinstance(item, str) else [item] for item in value)
            return [part for item in parts for part in item]
        return value
