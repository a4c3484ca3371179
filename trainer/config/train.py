"""The one tree of options. The form, the command line, docs/options.md, presets, run files and LoRA metadata come from it.

To add an option: one field with bounds, a default and a docstring here, and the line that uses it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.schema import Section
from trainer.strategies.optimizers import AdamW, Prodigy
from trainer.strategies.schedules import Constant, Cosine, Linear


class Model(Section):
    base: str = "mini"
    """The base model to teach: a name from your models folder, a path to a diffusers folder or a single .safetensors
    file, or a hub id like owner/name. The base is only read, never changed."""
    revision: str | None = None
    """The exact commit of a hub model. Left empty, the newest is taken and its commit is written into the file."""


class Images(Section):
    folder: str = ""
    """The folder with the pictures and their captions of the same name. Sub-folders are not read."""
    resolution: int | None = Field(default=None, ge=64, le=2048, multiple_of=8)
    """The size pictures are trained at, as the side of a square of the same area. Left empty, the base's own size. Larger
    costs time and memory with the square; much larger than the base's own teaches it to draw things twice."""
    buckets: bool = True
    """Keep each picture's shape by sorting pictures into formats of about the same area. Off cuts everything to a square
    and loses what is at the edges."""
    bucket_step: int = Field(default=64, ge=8, le=256, multiple_of=8)
    """The sides of the formats are multiples of this. Smaller cuts off less but makes more formats, and pictures of
    different formats cannot share a batch."""
    upscale: bool = True
    """Enlarge pictures smaller than the training size. Off trains them in a smaller format, which keeps them crisp."""
    flip: bool = False
    """Show each picture also mirrored. Doubles few pictures for a style; harmful where left and right matter, such as a
    character's parting or writing."""


class Captions(Section):
    trigger: str = ""
    """The word that calls what was learnt. It is put in front of every caption that lacks it. Choose one that means
    nothing else yet."""
    shuffle: bool = False
    """Change the order of the comma-separated parts at every look, so that none counts for its place. For tag lists, not
    for sentences."""
    keep_tokens: int = Field(default=1, ge=0, le=20)
    """How many parts at the front stay in place when shuffling: usually one, the trigger."""
    dropout: float = Field(default=0.05, ge=0, le=1)
    """The share of looks without any caption. A little (0.05 to 0.1) lets a style work without its trigger and keeps
    guidance healthy; much forgets the words."""


class Lora(Section):
    rank: int = Field(default=16, ge=1, le=512)
    """How much the adapter can hold. 4 to 16 suits most styles and characters; more makes larger files and learns
    accidents of the pictures too."""
    alpha: float = Field(default=8.0, gt=0, le=1024)
    """Scales what is learnt by alpha / rank. Changing it is like changing the learning rate; half the rank is a good
    habit."""
    targets: Literal["attention"] = "attention"
    """Which layers learn. The attention layers are where words meet the picture, and the smallest file."""
    unet: bool = True
    """Teach the part that draws. Nearly always wanted."""
    text_encoder: bool = True
    """Teach the part that reads as well. Helps a new word to get its meaning; costs a little time and makes the effect
    reach other prompts more easily."""

    @model_validator(mode="after")
    def _something_learns(self) -> Lora:
        if not (self.unet or self.text_encoder):
            raise ValueError("nothing_learns")
        return self


class Loss(Section):
    min_snr_gamma: float | None = Field(default=5.0, ge=0.1, le=50)
    """Weighs noise levels evenly (min-SNR, Hang et al. 2023), which makes learning faster and steadier. 5 is the paper's
    value; empty turns it off."""


class Noise(Section):
    offset: float = Field(default=0.0, ge=0, le=0.5)
    """Adds a little of the same noise everywhere, which helps very dark and very bright pictures. 0.03 to 0.06 where
    wanted; not for bases with a zero-terminal schedule."""


class Memory(Section):
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """The number format of the frozen base. Auto takes bf16 where the GPU has it, fp16 on older ones and fp32 on a CPU. The
    adapter itself is always learnt in fp32."""
    gradient_checkpointing: bool = False
    """Save memory by computing parts twice: about a third slower, and less than half the memory. Switch on when memory
    runs out."""
    attention: Literal["auto", "sdpa", "xformers"] = "auto"
    """How attention is computed. Auto tries what is there and takes the one that works and is faster; results are the same
    up to rounding."""
    graphs: Literal["auto", "off"] = "auto"
    """On a GPU, start each step's work as a whole instead of piece by piece, which is quicker at small batches and takes a
    little more memory. What cannot be started so goes on as usual, said in the log. Off where memory is very short."""
    cache_latents: bool = True
    """Encode the pictures once and keep the result on disk. Off encodes them at every look, which is much slower."""


class Samples(Section):
    prompts: tuple[str, ...] = ()
    """What to draw while training goes on, one prompt a line. Left empty, the base's own test prompts with your trigger."""
    every: int = Field(default=0, ge=0, le=100_000)
    """Draw after every so many steps; 0 draws at the start, about four times on the way and at the end. Pictures are the
    only fair judge of a training."""
    steps: int = Field(default=20, ge=1, le=200)
    """Sampling steps of the test pictures. More is slower and rarely better beyond 30."""
    guidance: float | None = Field(default=None, ge=1, le=30)
    """How strictly the test pictures follow their prompt. Left empty, the base's own value."""
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
    share_captions: bool = True
    """Write the words of the captions into the file, as other programs do, so that they can show them. Off when the words
    are private."""


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
    kind: Literal["style", "character", "concept"] = "style"
    """What is to be learnt: how things look (style), one figure that stays itself (character), or a thing or pose
    (concept). It sets everything else to values that suit."""
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
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """The start of all chance in the run: the same seed and settings give the same LoRA."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """Where to compute. Auto takes the GPU where there is one."""


class TrainConfig(Section):
    """Everything that decides what a training does. Frozen; unknown keys are refused."""

    run: Run = Run()
    model: Model = Model()
    images: Images = Images()
    captions: Captions = Captions()
    lora: Lora = Lora()
    optimizer: Annotated[AdamW | Prodigy, Field(discriminator="name")] = AdamW()
    schedule: Annotated[Cosine | Constant | Linear, Field(discriminator="name")] = Cosine()
    loss: Loss = Loss()
    noise: Noise = Noise()
    memory: Memory = Memory()
    samples: Samples = Samples()
    save: Save = Save()
    rights: Rights = Rights()
