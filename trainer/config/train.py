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
    """The base model to train on: a name from your models folder, the path of a diffusers folder or of a single
    .safetensors file, or a hub id such as owner/name. The base is only read, never changed. If a single file predicts v and
    does not say so, put v_pred into its name (and ztsnr for a zero-terminal-SNR schedule)."""
    revision: str | None = None
    """The commit of a hub model. Left empty, the newest is used and its commit is recorded in the file."""
    prediction_type: Literal["auto", "epsilon", "v_prediction"] = "auto"
    """What the base predicts: the noise (epsilon) or the velocity (v). auto follows the base, which is nearly always right.
    Set it only if the base states the wrong type, which shows as sample images of pure noise or grey from the first step.
    It is recorded in the file."""
    vae: str = ""
    """A VAE to use in place of the base's own: the part that encodes images into latents and decodes them again. Give a
    diffusers folder or a single .safetensors file of the same family. It costs nothing; choose one if the base's own VAE
    gives pale or broken colours."""


class Samples(Section):
    prompts: tuple[str, ...] = ()
    """Prompts of the sample images drawn during training, one per line. Left empty, the base's own test prompts with your
    trigger. A line may end in settings of its own, as kohya writes them: `a cat --n blurry --w 768 --h 512 --d 7 --l 5 --s
    28` for the negative prompt, width, height, seed, guidance and steps, and `--ss` for the sampler."""
    every: int = Field(default=0, ge=0, le=100_000)
    """Draws sample images after every so many steps; 0 draws them at the start, about four times on the way and at the end.
    Images are the only fair measure of a training."""
    steps: int = Field(default=20, ge=1, le=200)
    """Sampling steps of the sample images. More is slower and rarely better beyond 30."""
    cfg_scale: float | None = Field(default=None, ge=0, le=30)
    """Classifier-free guidance (CFG scale): how strictly the sample images follow their prompts. Left empty, the base's own
    value; 0 and 1 turn guidance off."""
    sampler: SamplerName = "base"
    """The sampler: how the sample images are made from noise, by the base's own scheduler or another that other programs
    know. They differ a little; Euler a and DPM++ 2M SDE add noise on the way and give another image at every number of
    steps. Change it to compare with images made elsewhere."""
    seed: int = Field(default=7, ge=0, le=2**32 - 1)
    """The seed of the sample images, the same every time so that only the training differs."""
    negative_prompt: str = ""
    """The negative prompt: what the sample images should not show."""


class Save(Section):
    name: str = ""
    """The output name of the LoRA and of its file. An existing file is never overwritten: the new one gets _v2."""
    every: int = Field(default=0, ge=0, le=100_000)
    """Saves a checkpoint after every so many steps; 0 saves about four on the way. A stopped or crashed run resumes from
    the newest one."""
    keep: int = Field(default=4, ge=1, le=1000)
    """How many checkpoints are kept on disk, newest first. Each takes about three times the size of the adapter."""
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16"
    """The precision of the numbers in the file. fp16 is supported everywhere and exact enough."""
    bundle_embedding: bool = False
    """Also puts the trigger's token embeddings into the LoRA file as tensors, as AUTOMATIC1111 and Forge read them: one
    file to share. diffusers and InvokeAI then refuse the whole file, so leave it off for those."""
    share_captions: bool = True
    """Writes the tags of the captions into the file's metadata, as other programs do, so that they can show them. Switch it
    off if the captions are private."""
    tensorboard: bool = False
    """Also writes losses and learning rates as TensorBoard logs, into the run's folder `tensorboard`."""
    wandb: str = ""
    """The Weights & Biases project to send losses and learning rates to. Needs the package wandb and an account there; left
    empty, nothing is sent anywhere."""


class Rights(Section):
    pictures_ok: bool = False
    """I may use these images for training: I made them, have permission, or their licence allows it."""
    pictures_licence: str = ""
    """Who owns the images and under which licence, in your words. Recorded in the file."""
    licence: str = ""
    """The terms under which you share the LoRA, such as CC-BY-4.0 or private use only."""
    purpose: str = ""
    """What this LoRA is for, in one sentence. Recorded in the file and shown on its card."""


class Run(Section):
    kind: Literal["style", "character", "concept", "slider"] = "style"
    """What to train: a look (style), one figure that stays recognisable (character), a thing or a pose (concept), or a
    quality that the LoRA's strength moves up and down, trained from words without images (slider). It sets all other
    options to suitable values."""
    steps: int | None = Field(default=None, ge=1, le=1_000_000)
    """The number of optimizer steps. Left empty, it follows from the epochs."""
    epochs: int = Field(default=50, ge=1, le=10_000)
    """How often each image is seen during training. Too few epochs and nothing is learned; too many and the model overfits:
    it reproduces the training images whatever the prompt says."""
    batch_size: int = Field(default=2, ge=1, le=256)
    """How many images one step sees at once. Larger batches give steadier gradients and need more memory."""
    gradient_accumulation: int = Field(default=1, ge=1, le=256)
    """Adds up the gradients of this many batches before each optimizer step: the effect of a larger batch without its
    memory."""
    max_grad_norm: float = Field(default=1.0, ge=0, le=1000)
    """Gradient clipping: scales gradients down to this norm when they exceed it, which prevents sudden jumps. 0 turns
    clipping off."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Saves an exponential moving average (EMA) of the adapter's weights in place of the last ones, which evens out the
    steps. Use 0.99 for a few hundred steps, 0.999 for a few thousand; it costs the adapter's memory once more. 0 is off."""
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """The seed of all random numbers in the run: the same seed and settings give the same LoRA."""
    compat: Literal["own", "kohya"] = "own"
    """Whose formulas apply where two programs mean different things by the same number. kohya follows sd-scripts for
    debiased and min-SNR weighting on v-prediction bases, multi-resolution noise and weighted captions: choose it for
    settings copied from there. own follows the descriptions on this page and suits zero-terminal-SNR bases better.
    Everything else is the same."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """The device to train on. auto takes the GPU if there is one."""


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
