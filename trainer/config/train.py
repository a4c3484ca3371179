"""The one tree of options. The form, the command line, docs/options.md, presets, run files and LoRA metadata come from it.

To add an option: one field with bounds, a default and a docstring here, and the line that uses it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from trainer.config.learning import Loss, Noise, Preservation, Validation
from trainer.config.pictures import Captions, Images
from trainer.config.slider import Slider
from trainer.core.schema import Section
from trainer.strategies.lora_targets import read_block
from trainer.strategies.optimizers import (
    CAME,
    Adafactor,
    AdamW,
    AdamW8bit,
    DAdaptAdam,
    DAdaptLion,
    Lion,
    Lion8bit,
    Muon,
    PagedAdamW8bit,
    Prodigy,
    ScheduleFree,
)
from trainer.strategies.samplers import SamplerName
from trainer.strategies.schedules import Constant, Cosine, Linear, Polynomial, Restarts, Rex


class Model(Section):
    base: str = "mini"
    """The base model to teach: a name from your models folder, a path to a diffusers folder or a single .safetensors
    file, or a hub id like owner/name. The base is only read, never changed. Of a single file that predicts v and does not
    say so, let the name contain v_pred (and ztsnr for a zero-terminal schedule)."""
    revision: str | None = None
    """The exact commit of a hub model. Left empty, the newest is taken and its commit is written into the file."""
    prediction: Literal["auto", "epsilon", "v_prediction"] = "auto"
    """What the base predicts: noise (epsilon) or v. Auto believes the base, which is nearly always right; set it only where
    a base says the wrong thing, seen in pictures of nothing but noise or grey from the first step. It is written into the
    file."""
    vae: str = ""
    """Another VAE than the base's own, the part that turns pictures into what is learnt and back: a diffusers folder or a
    single .safetensors file of the same family. Costs nothing; choose one where the base's own gives pale or broken colours."""


class Lora(Section):
    kind: Literal["lora", "rslora", "dora", "loha", "lokr", "oft", "ia3", "glora", "full"] = "lora"
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
    only: str = ""
    """Learn only layers whose name fits this regular expression, such as `attn2` or `up_blocks.1`. Names are those that
    `inspect` shows. Left empty, all the chosen ones learn."""
    skip: str = ""
    """Leave out layers whose name fits this regular expression, such as `to_out` or `text_encoder.*layers.1[01]`. Left
    empty, none is left out."""
    unet: bool = True
    """Teach the part that draws. Nearly always wanted."""
    text_encoder: bool = True
    """Teach the part that reads as well. Helps a new word to get its meaning; costs a little time and makes the effect
    reach other prompts more easily."""
    text_encoders: Literal["both", "first", "second"] = "both"
    """Which of SDXL's two text encoders learn, where the part that reads is taught at all. The second and larger one also
    sums up the whole caption. Bases with a single one have no choice here."""
    text_encoder_until: float = Field(default=1.0, gt=0, le=1)
    """The share of the run in which the part that reads learns; then it stays as it is. 0.5 keeps it from being overdone
    and makes the second half quicker."""
    text_encoder_2_until: float | None = Field(default=None, gt=0, le=1)
    """The share of the run in which SDXL's second text encoder learns. Left empty, the same as the first."""
    embedding: int = Field(default=0, ge=0, le=32)
    """How many token vectors of its own the trigger word gets, learnt beside the LoRA (pivotal tuning). 2 to 4 hold a
    character or a thing that the base's own words miss; more takes room from the caption. They are written into
    the LoRA file for the preview here and beside it as an embedding for other programs. 0 leaves the words as they are, and
    so does a training without a trigger word."""
    embedding_from: str = Field(default="", max_length=100)
    """The word whose vectors the trigger's own start from, such as woman or watercolor: close to what is learnt is half the
    way. Left empty, they start from the trigger as the base reads it."""
    start: Literal["default", "pissa", "olora"] = "default"
    """What it starts from. Default starts from nothing; PiSSA (from the strongest directions of the base) and OLoRA (from
    orthogonal ones) learn faster at first. Their file is twice as large, for the start is taken off again inside it."""
    start_from: str = ""
    """Go on from an existing LoRA: a .safetensors file, or a name of your library. It must be of the same kind and base;
    a smaller rank is widened, and a LoKr or OFT of other factors or blocks keeps its own. Left empty, it starts anew."""
    partial: bool = False
    """Also go on from a file of which less than half of the layers are known here. What is unknown is lost then."""
    lokr_factor: int = Field(default=0, ge=0, le=512)
    """How LoKr splits a layer: into a small part of about this size and a large one. 0 splits as evenly as possible and
    makes the smallest file; 4 to 16 holds more."""
    up_ratio: float = Field(default=1.0, ge=1, le=64)
    """How much faster the second factor learns than the first (LoRA+, Hayou et al. 2024). 4 to 16 gets there in fewer steps;
    lower the learning rate with it. Not with optimisers that find their own rate."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """The share of single values left out at random in each look, so that none counts for too much. 0.05 to 0.1 where few
    pictures are learnt by heart. For LoRA, rsLoRA and DoRA."""
    rank_dropout: float = Field(default=0.0, ge=0, lt=1)
    """The share of ranks left out at random in each look, which spreads what is learnt over all of them. 0.1 is much."""
    module_dropout: float = Field(default=0.0, ge=0, lt=1)
    """The share of layers left out at random in each step, so that the others can do without. 0.1 is much."""
    max_norm: float | None = Field(default=None, gt=0, le=1000)
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

    @field_validator("only", "skip")
    @classmethod
    def _pattern_is_one(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error:
            raise ValueError("pattern_broken") from None
        return pattern

    @field_validator("start", "up_ratio", "dropout")
    @classmethod
    def _kind_has_two_factors(cls, value: Any, seen: ValidationInfo) -> Any:
        default = cls.model_fields[seen.field_name or ""].default
        kinds = ("lora", "rslora") if seen.field_name == "start" else ("lora", "rslora", "dora")
        if value != default and seen.data.get("kind") not in kinds:
            raise ValueError("not_for_kind")
        return value

    @field_validator("max_norm")
    @classmethod
    def _kind_adds(cls, value: Any, seen: ValidationInfo) -> Any:
        if value and seen.data.get("kind") in ("oft", "ia3", "glora"):
            raise ValueError("not_multiplied")
        return value

    @field_validator("start_from", "max_norm")
    @classmethod
    def _start_is_nothing(cls, value: Any, seen: ValidationInfo) -> Any:
        if value and seen.data.get("start", "default") != "default":
            raise ValueError("not_with_start")
        return value

    @field_validator("text_encoder_until", "text_encoder_2_until")
    @classmethod
    def _something_goes_on(cls, share: float | None, seen: ValidationInfo) -> float | None:
        if share is not None and share < 1 and not seen.data.get("unet", True):
            raise ValueError("nothing_learns_later")
        return share

    @model_validator(mode="after")
    def _something_learns(self) -> Lora:
        if not (self.unet or self.text_encoder or self.embedding):
            raise ValueError("nothing_learns")
        return self


class Memory(Section):
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """The number format of the frozen base. Auto takes bf16 where the GPU has it, fp16 on older ones and fp32 on a CPU. The
    adapter itself is always learnt in fp32. On a CPU that multiplies in 16 bits, bf16 can be a sixth quicker from batches of
    four on, with losses within half a percent; at batch 1 it is slower."""
    base_precision: Literal["full", "int8", "int4"] = "full"
    """How many bits each weight of the frozen base gets while training: its linear layers and convolutions. 8 bits take half
    the memory of 16 and change the base by about 1 %, 4 bits a good quarter and about 9 %; every step takes longer, for
    the weights are made whole layer by layer. Change it when the base itself does not fit. What learns, the file and the
    preview are the same; the run's own test pictures are drawn with the base in few bits."""
    gradient_checkpointing: bool = False
    """Save memory by computing parts twice: about a third slower, and less than half the memory. Switch on when memory
    runs out."""
    offload: float = Field(default=0.0, ge=0, le=1)
    """The share of the UNet's blocks that wait in main memory and come to the card only while they compute, 0 to 1. The result
    stays the same; it costs time, less where the road between card and main memory is quick, and main memory in place of the
    card's. Gradient checkpointing goes on with it, CUDA graphs and compiling off. Change it when the base does not fit and is
    to keep its bits. On a CPU there is nothing to move, and it does nothing."""
    attention: Literal["auto", "sdpa", "xformers"] = "auto"
    """How attention is computed. Auto tries what is there and takes the one that works and is faster; results are the same
    up to rounding."""
    graphs: Literal["auto", "off"] = "off"
    """On a GPU, start each step's work as a whole (CUDA graphs) instead of piece by piece. Meant to be quicker at small
    batches, for a little more memory; new and off until it has been measured on many cards. What cannot be started so goes on
    as usual, said in the log."""
    compile: Literal["off", "auto", "on"] = "off"
    """Translate the repeated blocks into machine code before training (torch.compile). Auto does it on a GPU where timing one
    block shows that the run is long enough to be repaid; on does it anywhere. The start takes a minute or more longer; on a
    CPU it measured slower. What cannot be compiled goes on as usual, said in the log."""
    cache_latents: bool = True
    """Encode the pictures once and keep the result on disk. Off encodes them at every look, which is much slower."""

    @property
    def checkpoints(self) -> bool:
        """Whether gradients are checkpointed: asked for, or needed by blocks that wait elsewhere."""
        return self.gradient_checkpointing or self.offload > 0


class Samples(Section):
    prompts: tuple[str, ...] = ()
    """What to draw while training goes on, one prompt a line. Left empty, the base's own test prompts with your trigger.
    A line may end in what holds for it alone, as kohya writes it: `a cat --n blurry --w 768 --h 512 --d 7 --l 5 --s 28` for
    the negative prompt, width, height, seed, guidance and steps, and `--ss` for the sampler."""
    every: int = Field(default=0, ge=0, le=100_000)
    """Draw after every so many steps; 0 draws at the start, about four times on the way and at the end. Pictures are the
    only fair judge of a training."""
    steps: int = Field(default=20, ge=1, le=200)
    """Sampling steps of the test pictures. More is slower and rarely better beyond 30."""
    guidance: float | None = Field(default=None, ge=0, le=30)
    """How strictly the test pictures follow their prompt. Left empty, the base's own value; 0 and 1 do without guidance."""
    sampler: SamplerName = "base"
    """How the test pictures are drawn from noise: the base's own way, or another that other programs know. They differ a
    little; Euler a and DPM++ 2M SDE add noise on the way and give another picture at every number of steps. Change it to
    compare with pictures drawn elsewhere."""
    seed: int = Field(default=7, ge=0, le=2**32 - 1)
    """The starting noise of the test pictures, the same every time so that only the learning differs."""
    negative: str = ""
    """What the test pictures should not show."""


class Save(Section):
    name: str = ""
    """The name of the LoRA and of its file. An existing file is never overwritten: the new one gets _v2."""
    every: int = Field(default=0, ge=0, le=100_000)
    """Keep a checkpoint after every so many steps; 0 keeps about four on the way. A stopped or crashed run goes on from
    the newest one."""
    keep: int = Field(default=4, ge=1, le=1000)
    """How many checkpoints stay on disk, newest first. Each is as large as the adapter times three."""
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16"
    """The number format inside the file. fp16 is read everywhere and exact enough."""
    bundle_embedding: bool = False
    """Also put the trigger's own token vectors into the LoRA file as tensors, as AUTOMATIC1111 and Forge read them: one file to
    hand on. diffusers and InvokeAI then refuse the whole file, so leave it off for those."""
    share_captions: bool = True
    """Write the words of the captions into the file, as other programs do, so that they can show them. Off when the words
    are private."""
    tensorboard: bool = False
    """Also write losses and rates as TensorBoard files, into the folder `tensorboard` of the run."""
    wandb: str = ""
    """The name of a Weights & Biases project to send losses and rates to. Needs the package wandb and an account there;
    empty sends nothing anywhere."""


class Rights(Section):
    pictures_ok: bool = False
    """I may use these pictures for training: I made them, have permission, or their licence allows it."""
    pictures_licence: str = ""
    """Whose the pictures are and under which licence, in your words. It is written into the file."""
    licence: str = ""
    """The conditions under which you give the LoRA away, such as CC-BY-4.0 or private use only."""
    purpose: str = ""
    """What this LoRA is for, in one sentence. It is written into the file and shown on its card."""


class Run(Section):
    kind: Literal["style", "character", "concept", "slider"] = "style"
    """What is to be learnt: how things look (style), one figure that stays itself (character), a thing or pose (concept), or
    a quality that the strength moves up and down, from words and without pictures (slider). It sets everything else to
    values that suit."""
    steps: int | None = Field(default=None, ge=1, le=1_000_000)
    """How many optimiser steps to train. Left empty, it follows from the looks per picture."""
    exposures: int = Field(default=50, ge=1, le=10_000)
    """How often each picture is looked at. Too little and nothing is learnt; too much and the pictures themselves come
    back whatever is asked for."""
    batch_size: int = Field(default=2, ge=1, le=256)
    """How many pictures are looked at in one step. More is steadier and needs more memory."""
    accumulation: int = Field(default=1, ge=1, le=256)
    """Adds up this many small batches before learning from them: the effect of a larger batch without its memory."""
    max_grad_norm: float = Field(default=1.0, ge=0, le=1000)
    """Caps the size of one step's change, against jumps. 0 turns the cap off."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Save a running average of the adapter (EMA) in place of its last state, which evens out the steps. 0.99 for runs of
    some hundred steps, 0.999 for some thousand; costs the adapter's memory once more. 0 is off."""
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """The start of all chance in the run: the same seed and settings give the same LoRA."""
    compat: Literal["own", "kohya"] = "own"
    """Whose reckoning the numbers follow where two programs mean different things by the same one. kohya takes debiased and
    min-SNR weights on v-prediction bases, the coarser noise and the weights in captions as sd-scripts reckons them, for
    settings copied from there; own is what these pages describe, and better on zero-terminal bases. All else is alike."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """Where to compute. Auto takes the GPU where there is one."""


class TrainConfig(Section):
    """Everything that decides what a training does. Frozen; unknown keys are refused."""

    run: Run = Run()
    model: Model = Model()
    images: Images = Images()
    captions: Captions = Captions()
    slider: Slider = Slider()
    lora: Lora = Lora()
    optimizer: Annotated[
        AdamW
        | Prodigy
        | DAdaptAdam
        | DAdaptLion
        | AdamW8bit
        | PagedAdamW8bit
        | ScheduleFree
        | Lion
        | Lion8bit
        | Adafactor
        | CAME
        | Muon,
        Field(discriminator="name"),
    ] = AdamW()
    schedule: Annotated[Cosine | Constant | Linear | Restarts | Polynomial | Rex, Field(discriminator="name")] = Cosine()
    loss: Loss = Loss()
    noise: Noise = Noise()
    preservation: Preservation = Preservation()
    validation: Validation = Validation()
    memory: Memory = Memory()
    samples: Samples = Samples()
    save: Save = Save()
    rights: Rights = Rights()
