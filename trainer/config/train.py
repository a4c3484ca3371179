"""The one tree of options. The form, the command line, docs/options.md, presets, run files and LoRA metadata come from it.

To add an option: one field with bounds, a default and a docstring here, and the line that uses it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainer.config.sections.captions import Captions
from trainer.config.sections.images import Images
from trainer.config.sections.learning import Loss, Noise, Preservation, Validation
from trainer.config.sections.lora import Lora
from trainer.config.sections.memory import Memory
from trainer.config.sections.slider import Slider
from trainer.config.strategies.optimizers import (
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
from trainer.config.strategies.samplers import SamplerName
from trainer.config.strategies.schedules import Constant, Cosine, CosineWithRestarts, Linear, Polynomial, Rex
from trainer.core.schema import Section


class Model(Section):
    base: str = "mini"
    """The base model to teach: a name from your models folder, a path to a diffusers folder or a single .safetensors
    file, or a hub id like owner/name. The base is only read, never changed. Of a single file that predicts v and does not
    say so, let the name contain v_pred (and ztsnr for a zero-terminal schedule)."""
    revision: str | None = None
    """The exact commit of a hub model. Left empty, the newest is taken and its commit is written into the file."""
    prediction_type: Literal["auto", "epsilon", "v_prediction"] = "auto"
    """What the base predicts: noise (epsilon) or v. Auto believes the base, which is nearly always right; set it only where
    a base says the wrong thing, seen in pictures of nothing but noise or grey from the first step. It is written into the
    file."""
    vae: str = ""
    """Another VAE than the base's own, the part that turns pictures into what is learnt and back: a diffusers folder or a
    single .safetensors file of the same family. Costs nothing; choose one where the base's own gives pale or broken colours."""


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
    cfg_scale: float | None = Field(default=None, ge=0, le=30)
    """How strictly the test pictures follow their prompt. Left empty, the base's own value; 0 and 1 do without guidance."""
    sampler: SamplerName = "base"
    """How the test pictures are drawn from noise: the base's own way, or another that other programs know. They differ a
    little; Euler a and DPM++ 2M SDE add noise on the way and give another picture at every number of steps. Change it to
    compare with pictures drawn elsewhere."""
    seed: int = Field(default=7, ge=0, le=2**32 - 1)
    """The starting noise of the test pictures, the same every time so that only the learning differs."""
    negative_prompt: str = ""
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
    epochs: int = Field(default=50, ge=1, le=10_000)
    """How often each picture is looked at. Too little and nothing is learnt; too much and the pictures themselves come
    back whatever is asked for."""
    batch_size: int = Field(default=2, ge=1, le=256)
    """How many pictures are looked at in one step. More is steadier and needs more memory."""
    gradient_accumulation: int = Field(default=1, ge=1, le=256)
    """Adds up this many small batches before learning from them: the effect of a larger batch without its memory."""
    max_grad_norm: float = Field(default=1.0, ge=0, le=1000)
    """Caps the size of one step's change, against jumps. 0 turns the cap off."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
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
    schedule: Annotated[Cosine | Constant | Linear | CosineWithRestarts | Polynomial | Rex, Field(discriminator="name")] = (
        Cosine()
    )
    loss: Loss = Loss()
    noise: Noise = Noise()
    preservation: Preservation = Preservation()
    validation: Validation = Validation()
    memory: Memory = Memory()
    samples: Samples = Samples()
    save: Save = Save()
    rights: Rights = Rights()
