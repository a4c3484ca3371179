"""The options of the adapter: its type, its size and the layers it sits on. Part of the tree in train.py."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from trainer.config.lines import read_block
from trainer.core.schema import Section


class Lora(Section):
    type: Literal["lora", "rslora", "dora", "loha", "lokr", "oft", "ia3", "glora", "full"] = "lora"
    """How what is learnt is held. LoRA is read everywhere; rsLoRA keeps large ranks lively; DoRA learns size and direction
    apart, often better at small ranks, and is slower; LoHa and LoKr hold more in small files, and not every
    program reads them. OFT turns what a layer gives without changing its size, which keeps what the base knows together;
    (IA)³ makes its rows stronger or weaker, in a tiny file, and wants a rate of 0.005 or more. AUTOMATIC1111 reads both,
    ComfyUI OFT (its effect there grows with the square of the strength), InvokeAI (IA)³. GLoRA also mixes what goes into a
    layer, in a file twice a LoRA's that ComfyUI and Forge read. Full learns every number of the layers: it holds most, and
    its file is as large as they are (about 240 MB for the attention of Stable Diffusion 1.x in fp16)."""
    rank: int = Field(default=16, ge=1, le=512)
    """How much the adapter can hold. 4 to 16 suits most styles and characters; more makes larger files and learns
    accidents of the pictures too. With OFT it is how many rows turn among each other; (IA)³ and full have none."""
    alpha: float = Field(default=8.0, gt=0, le=1024)
    """Scales what is learnt by alpha / rank. Changing it is like changing the learning rate; half the rank is a good
    habit."""
    targets: Literal["attention", "attention_mlp", "all"] = "attention"
    """Which layers learn. The attention layers are where words meet the picture, and the smallest file. With the layers
    between them it holds more and the file is twice as large; with the convolutions (LoCon) also fine texture, at up to four
    times the size. Both cost time and memory."""
    conv_rank: int | None = Field(default=None, ge=1, le=512)
    """The rank of the convolutions, where they learn. Left empty, the same as the others; a quarter of it is usual, for
    they are nine times as wide."""
    conv_alpha: float | None = Field(default=None, gt=0, le=1024)
    """The alpha of the convolutions. Left empty, it stands to their rank as the other alpha to its own."""
    block_ranks: tuple[str, ...] = ()
    """Ranks of single blocks, one a line: `mid_block = 32`, `up_blocks.1 = 8`, `*.attn2.* = 4`. 0 leaves a block out.
    Early up-blocks hold shape, late ones surface; change it when one of them should learn less."""
    include: str = ""
    """Learn only layers whose name fits this regular expression, such as `attn2` or `up_blocks.1`. Names are those that
    `inspect` shows. Left empty, all the chosen ones learn."""
    exclude: str = ""
    """Leave out layers whose name fits this regular expression, such as `to_out` or `text_encoder.*layers.1[01]`. Left
    empty, none is left out."""
    train_unet: bool = True
    """Teach the part that draws. Nearly always wanted."""
    train_text_encoder: bool = True
    """Teach the part that reads as well. Helps a new word to get its meaning; costs a little time and makes the effect
    reach other prompts more easily."""
    text_encoders: Literal["both", "first", "second"] = "both"
    """Which of SDXL's two text encoders learn, where the part that reads is taught at all. The second and larger one also
    sums up the whole caption. Bases with a single one have no choice here."""
    text_encoder_stop_at: float = Field(default=1.0, gt=0, le=1)
    """The share of the run in which the part that reads learns; then it stays as it is. 0.5 keeps it from being overdone
    and makes the second half quicker."""
    text_encoder_2_stop_at: float | None = Field(default=None, gt=0, le=1)
    """The share of the run in which SDXL's second text encoder learns. Left empty, the same as the first."""
    embedding_tokens: int = Field(default=0, ge=0, le=32)
    """How many token vectors of its own the trigger word gets, learnt beside the LoRA (pivotal tuning). 2 to 4 hold a
    character or a thing that the base's own words miss; more takes room from the caption. They are written into
    the LoRA file for the preview here and beside it as an embedding for other programs. 0 leaves the words as they are, and
    so does a training without a trigger word."""
    embedding_init: str = Field(default="", max_length=100)
    """The word whose vectors the trigger's own start from, such as woman or watercolor: close to what is learnt is half the
    way. Left empty, they start from the trigger as the base reads it."""
    init: Literal["default", "pissa", "olora"] = "default"
    """What it starts from. Default starts from nothing; PiSSA (from the strongest directions of the base) and OLoRA (from
    orthogonal ones) learn faster at first. Their file is twice as large, for the start is taken off again inside it."""
    continue_from: str = ""
    """Go on from an existing LoRA: a .safetensors file, or a name of your library. It must be of the same kind and base;
    a smaller rank is widened, and a LoKr or OFT of other factors or blocks keeps its own. Left empty, it starts anew."""
    partial: bool = False
    """Also go on from a file of which less than half of the layers are known here. What is unknown is lost then."""
    lokr_factor: int = Field(default=0, ge=0, le=512)
    """How LoKr splits a layer: into a small part of about this size and a large one. 0 splits as evenly as possible and
    makes the smallest file; 4 to 16 holds more."""
    loraplus_ratio: float = Field(default=1.0, ge=1, le=64)
    """How much faster the second factor learns than the first (LoRA+, Hayou et al. 2024). 4 to 16 gets there in fewer steps;
    lower the learning rate with it. Not with optimisers that find their own rate."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """The share of single values left out at random in each look, so that none counts for too much. 0.05 to 0.1 where few
    pictures are learnt by heart. For LoRA, rsLoRA and DoRA."""
    rank_dropout: float = Field(default=0.0, ge=0, lt=1)
    """The share of ranks left out at random in each look, which spreads what is learnt over all of them. 0.1 is much."""
    module_dropout: float = Field(default=0.0, ge=0, lt=1)
    """The share of layers left out at random in each step, so that the others can do without. 0.1 is much."""
    scale_weight_norms: float | None = Field(default=None, gt=0, le=1000)
    """Shrinks a layer's change back to this size after each step, against single layers that run away. 1 is usual; left
    empty, nothing is shrunk."""

    @field_validator("block_ranks")
    @classmethod
    def _blocks_are_readable(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        try:
            _ = [read_block(line) for line in lines]
        except ValueError:
            raise ValueError("block_rank_form") from None
        return lines

    @field_validator("include", "exclude")
    @classmethod
    def _pattern_is_one(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error:
            raise ValueError("pattern_broken") from None
        return pattern

    @field_validator("init", "loraplus_ratio", "dropout")
    @classmethod
    def _kind_has_two_factors(cls, value: Any, seen: ValidationInfo) -> Any:
        default = cls.model_fields[seen.field_name or ""].default
        kinds = ("lora", "rslora") if seen.field_name == "init" else ("lora", "rslora", "dora")
        if value != default and seen.data.get("type") not in kinds:
            raise ValueError("not_for_kind")
        return value

    @field_validator("scale_weight_norms")
    @classmethod
    def _kind_adds(cls, value: Any, seen: ValidationInfo) -> Any:
        if value and seen.data.get("type") in ("oft", "ia3", "glora"):
            raise ValueError("not_multiplied")
        return value

    @field_validator("continue_from", "scale_weight_norms")
    @classmethod
    def _start_is_nothing(cls, value: Any, seen: ValidationInfo) -> Any:
        if value and seen.data.get("init", "default") != "default":
            raise ValueError("not_with_start")
        return value

    @field_validator("text_encoder_stop_at", "text_encoder_2_stop_at")
    @classmethod
    def _something_goes_on(cls, share: float | None, seen: ValidationInfo) -> float | None:
        if share is not None and share < 1 and not seen.data.get("train_unet", True):
            raise ValueError("nothing_learns_later")
        return share

    @model_validator(mode="after")
    def _something_learns(self) -> Lora:
        if not (self.train_unet or self.train_text_encoder or self.embedding_tokens):
            raise ValueError("nothing_learns")
        return self
