"""The options of the adapter: its type, its size and the layers it sits on. Part of the tree in train.py."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from trainer.config.lines import read_block
from trainer.core.schema import Section


class Lora(Section):
    type: Literal["lora", "rslora", "dora", "loha", "lokr", "oft", "ia3", "glora", "full"] = "lora"
    """The type of adapter. LoRA is supported everywhere; rsLoRA keeps large ranks effective; DoRA trains magnitude and
    direction separately, often better at small ranks, and is slower; LoHa and LoKr hold more in small files, and not every
    program supports them. OFT rotates a layer's outputs without changing their size, which keeps the base's knowledge
    intact; (IA)³ scales a layer's outputs, in a tiny file, and needs a learning rate of 0.005 or more. AUTOMATIC1111
    supports both, ComfyUI OFT (its effect there grows with the square of the strength), InvokeAI (IA)³. GLoRA also
    transforms a layer's inputs, in a file twice the size of a LoRA that ComfyUI and Forge support. Full trains every weight
    of the layers: it holds the most, and its file is as large as they are (about 240 MB for the attention layers of Stable
    Diffusion 1.x in fp16)."""
    rank: int = Field(default=16, ge=1, le=512)
    """The rank (network dim): how much the adapter can hold. 4 to 16 suits most styles and characters; more makes larger
    files and also learns accidental details of the images. For OFT it is the block size, the number of rows rotated
    together; (IA)³ and full do not use it."""
    alpha: float = Field(default=8.0, gt=0, le=1024)
    """Scales the adapter's output by alpha / rank (network alpha). Changing it acts like changing the learning rate; half
    the rank is a good default."""
    targets: Literal["attention", "attention_mlp", "all"] = "attention"
    """Which layers are trained. Attention layers connect the words to the image and make the smallest file. Adding the
    feed-forward layers (attention_mlp) holds more in a file twice as large; adding the convolutions too (all, LoCon) also
    captures fine texture, at up to four times the size. Both cost time and memory."""
    conv_rank: int | None = Field(default=None, ge=1, le=512)
    """The rank of convolution layers (conv dim), where they are trained. Left empty, the same as the other layers; a
    quarter of that is usual, since convolutions are nine times as wide."""
    conv_alpha: float | None = Field(default=None, gt=0, le=1024)
    """The alpha of convolution layers. Left empty, it keeps the ratio of alpha to rank of the other layers."""
    block_ranks: tuple[str, ...] = ()
    """Ranks of single blocks (block dims), one per line: `mid_block = 32`, `up_blocks.1 = 8`, `*.attn2.* = 4`. 0 leaves a
    block out. Early up-blocks hold shape, late ones surface texture; change it when one of them should learn less."""
    include: str = ""
    """Trains only layers whose names match this regular expression, such as `attn2` or `up_blocks.1`. Names are those that
    `inspect` prints. Left empty, all target layers are trained."""
    exclude: str = ""
    """Leaves out layers whose names match this regular expression, such as `to_out` or `text_encoder.*layers.1[01]`. Left
    empty, none is left out."""
    train_unet: bool = True
    """Trains the UNet, the network that makes the image. Nearly always wanted."""
    train_text_encoder: bool = True
    """Trains the text encoder too, the network that reads the prompt. It helps a new word to get its meaning, costs a
    little time, and makes the LoRA affect other prompts more easily."""
    text_encoders: Literal["both", "first", "second"] = "both"
    """Which of SDXL's two text encoders to train, if the text encoder is trained at all. The second, larger one also
    summarises the whole caption. Bases with a single text encoder have no choice here."""
    text_encoder_stop_at: float = Field(default=1.0, gt=0, le=1)
    """Stops training the text encoder at this fraction of the run; then it stays as it is. 0.5 keeps it from overfitting
    and makes the second half faster."""
    text_encoder_2_stop_at: float | None = Field(default=None, gt=0, le=1)
    """Stops training SDXL's second text encoder at this fraction of the run. Left empty, the same as the first."""
    embedding_tokens: int = Field(default=0, ge=0, le=32)
    """How many token embeddings of its own the trigger word gets, trained along with the LoRA (textual inversion; together,
    pivotal tuning). 2 to 4 capture a character or a thing that the base has no words for; more takes room from the caption.
    They are written into the LoRA file for the preview here and next to it as an embedding file for other programs. 0
    leaves the vocabulary as it is, and so does a training without a trigger word."""
    embedding_init: str = Field(default="", max_length=100)
    """The initial text of the embedding, such as woman or watercolor: starting close to what is to be learned is half the
    way. Left empty, it starts from the trigger word as the base reads it."""
    init: Literal["default", "pissa", "olora"] = "default"
    """Weight initialization. default starts from zero; PiSSA (from the strongest directions of the base) and OLoRA (from
    orthogonal ones) learn faster at first. Their files are twice as large, because the initial weights are subtracted again
    inside."""
    continue_from: str = ""
    """Continues training from an existing LoRA: a .safetensors file, or a name from your library. It must be of the same
    type and base; a smaller rank is widened, and a LoKr or OFT with another factor or block size keeps its own. Left empty,
    training starts from scratch."""
    partial: bool = False
    """Also continues from a file of which fewer than half of the layers are recognised. The others are lost."""
    lokr_factor: int = Field(default=0, ge=0, le=512)
    """How LoKr factorises a layer: into a small part of about this size and a large one. 0 splits as evenly as possible and
    makes the smallest file; 4 to 16 holds more."""
    loraplus_ratio: float = Field(default=1.0, ge=1, le=64)
    """How many times higher the learning rate of the second matrix (up) is than that of the first (LoRA+, Hayou et al.
    2024). 4 to 16 needs fewer steps; lower the learning rate along with it. Not available with optimizers that find their
    own learning rate."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout: the fraction of values zeroed at random in each forward pass, so that none is relied on too much. Use 0.05
    to 0.1 if a small set is memorised. For LoRA, rsLoRA and DoRA."""
    rank_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Rank dropout: the fraction of ranks zeroed at random in each forward pass, which spreads what is learned over all of
    them. 0.1 is a lot."""
    module_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Module dropout: the fraction of layers skipped at random in each step, so that the others can do without them. 0.1 is
    a lot."""
    scale_weight_norms: float | None = Field(default=None, gt=0, le=1000)
    """Max-norm regularization: scales a layer's weights down to this norm after each step, which keeps single layers from
    running away. 1 is usual; left empty, nothing is scaled."""

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
