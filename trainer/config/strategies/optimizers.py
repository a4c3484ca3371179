"""Optimizers to choose from. A new one is its fields plus `build`, and a name in TrainConfig.optimizer's union.

`engine/optim/optimizer.py` builds them; where the library of one is missing or does not work here, AdamW takes its place.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from trainer.config.lines import read_factor
from trainer.core.schema import Section

Groups = list[dict[str, Any]]
"""Parameter groups, [{"name": "unet"|"text_encoder…", "params": [...], "ratio": factor on the part's learning rate}]."""


def _factors(lines: tuple[str, ...]) -> tuple[str, ...]:
    try:
        _ = [read_factor(line) for line in lines]
    except ValueError:
        raise ValueError("block_lr_form") from None
    return lines


BlockLrFactors = Annotated[tuple[str, ...], AfterValidator(_factors)]


class OptimizerOptions(Section):
    """What every optimizer says about itself, beside its fields and `build(groups)`, which returns a torch optimizer."""

    optional: ClassVar[bool] = False
    """Whether it stands on a library that may be missing or not work on a machine."""
    single_lr: ClassVar[bool] = False
    """Whether it takes one learning rate for all parameters: what is to be slower or faster is then a share of its step."""


class PerPartLr(OptimizerOptions):
    """Fields of every optimizer whose learning rates are chosen: one for each part."""

    lr: float = Field(default=2e-4, gt=0, le=1)
    """The learning rate of the UNet. Too low and nothing is learned in the time given, too high and images turn to noise.
    What counts is this times alpha / rank."""
    text_encoder_lr: float = Field(default=5e-5, gt=0, le=1)
    """The learning rate of the text encoder. Usually a quarter of the UNet's or less."""
    text_encoder_2_lr: float | None = Field(default=None, gt=0, le=1)
    """The learning rate of SDXL's second text encoder. Left empty, the same as the first; try half of it if words learned
    in training leak into other prompts."""
    block_lrs: BlockLrFactors = ()
    """Learning-rate factors of single blocks, one per line: `mid_block = 0.5`, `up_blocks.1 = 2`, `*.attn2.* = 1.5`,
    `text_encoder = 0`. The factor of the longest matching pattern, or else of the longest matching block, multiplies the
    learning rate; 0 freezes the block. Early up-blocks hold shape, late ones surface texture; change it when one of them
    runs ahead of the others."""
    embedding_lr: float = Field(default=1e-3, gt=0, le=1)
    """The learning rate of the trigger's token embeddings, if they are trained. Too low and the word keeps the meaning it
    started from, too high and it drowns out the other words; without a LoRA, use about five times as much."""
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    """Weight decay: pulls the adapter's weights gently back towards zero. Seldom worth changing."""

    def with_lr(self, groups: Groups) -> Groups:
        """`groups`, each with the learning rate of its part (changed in place)."""
        second = self.text_encoder_2_lr or self.text_encoder_lr
        learning_rates = {"unet": self.lr, "text_encoder": self.text_encoder_lr, "text_encoder_2": second,
                 "embedding": self.embedding_lr}  # fmt: skip
        for group in groups:
            group["lr"] = learning_rates[group["name"]]
        return groups


class _Adam(PerPartLr):
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """How long past gradients are remembered: the decay rate of their average. Seldom worth changing."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """How long the size of past gradients is remembered: the decay rate of their squared average. 0.99 adapts faster in
    short runs."""


class AdamW(_Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019): the dependable choice."""

    name: Literal["adamw"] = "adamw"
    """The optimizer, which turns gradients into weight updates. AdamW is dependable; Prodigy and D-Adaptation find their
    own learning rate; the 8-bit ones need the package bitsandbytes, and AdamW takes their place if it is missing."""

    def build(self, groups: Groups) -> Any:
        """torch's own."""
        import torch

        betas = (self.beta1, self.beta2)
        return torch.optim.AdamW(self.with_lr(groups), lr=self.lr, betas=betas, weight_decay=self.weight_decay)


class AdaptiveLr(OptimizerOptions):
    """Fields of every optimizer that estimates one learning rate for everything by itself (Prodigy, D-Adaptation)."""

    optional: ClassVar[bool] = True
    single_lr: ClassVar[bool] = True
    lr: float = Field(default=1.0, gt=0, le=10)
    """A factor on the learning rate it finds. Leave it at 1; 0.5 is more cautious."""
    block_lrs: BlockLrFactors = ()
    """Learning-rate factors of single blocks, one per line: `mid_block = 0.5`, `up_blocks.1 = 2`, `*.attn2.* = 1.5`,
    `text_encoder = 0`. The factor of the longest matching pattern, or else of the longest matching block, multiplies the
    learning rate; 0 freezes the block. Early up-blocks hold shape, late ones surface texture; change it when one of them
    runs ahead of the others."""
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    """Weight decay: pulls the adapter's weights gently back towards zero. Seldom worth changing."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """How long past gradients are remembered: the decay rate of their average. Seldom worth changing."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """How long the size of past gradients is remembered: the decay rate of their squared average. 0.99 adapts faster in
    short runs."""

    def _kwargs(self) -> dict[str, Any]:
        return {"lr": self.lr, "betas": (self.beta1, self.beta2), "weight_decay": self.weight_decay}

    def with_single_lr(self, groups: Groups) -> Groups:
        """`groups`, all with the same factor, as these algorithms require (changed in place)."""
        for group in groups:
            group["lr"] = self.lr
        return groups


class Prodigy(AdaptiveLr):
    """Finds its own step size (Mishchenko & Defazio 2023). Keep alpha equal to rank and the schedule constant."""

    name: Literal["prodigy"] = "prodigy"
    """The optimizer, which turns gradients into weight updates. AdamW is dependable; Prodigy and D-Adaptation find their
    own learning rate; the 8-bit ones need the package bitsandbytes, and AdamW takes their place if it is missing."""
    lr: float = Field(default=1.0, gt=0, le=10)
    """A factor on the learning rate it finds. Leave it at 1 and change d_coef instead."""
    d_coef: float = Field(default=1.0, gt=0, le=10)
    """How bold the estimate of the learning rate is: 0.5 for cautious, 2 for fast."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """How long the size of past gradients is remembered: the decay rate of their squared average."""
    bias_correction: bool = True
    """Bias correction: makes up for the short memory of the first steps."""
    safeguard_warmup: bool = True
    """Keeps the estimate from growing while the learning rate is still warming up."""

    def build(self, groups: Groups) -> Any:
        """A prodigyopt optimiser; all groups share one estimate."""
        import prodigyopt

        optimizer_class: Any = prodigyopt.Prodigy
        return optimizer_class(
            self.with_single_lr(groups),
            decouple=True,
            d_coef=self.d_coef,
            use_bias_correction=self.bias_correction,
            safeguard_warmup=self.safeguard_warmup,
            **self._kwargs(),
        )


class DAdaptAdam(AdaptiveLr):
    """Adam that finds its own step size (D-Adaptation, Defazio & Mishchenko 2023), more carefully than Prodigy."""

    name: Literal["dadapt_adam"] = "dadapt_adam"
    """The optimizer, which turns gradients into weight updates. AdamW is dependable; Prodigy and D-Adaptation find their
    own learning rate; the 8-bit ones need the package bitsandbytes, and AdamW takes their place if it is missing."""

    def build(self, groups: Groups) -> Any:
        """pytorch-optimizer's, with decoupled weight decay; all groups share one estimate."""
        import pytorch_optimizer

        return pytorch_optimizer.DAdaptAdam(self.with_single_lr(groups), weight_decouple=True, **self._kwargs())


class DAdaptLion(AdaptiveLr):
    """Lion that finds its own step size (D-Adaptation, Defazio & Mishchenko 2023): half the memory of the Adam form."""

    name: Literal["dadapt_lion"] = "dadapt_lion"
    """The optimizer, which turns gradients into weight updates. AdamW is dependable; Prodigy and D-Adaptation find their
    own learning rate; the 8-bit ones need the package bitsandbytes, and AdamW takes their place if it is missing."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """How long the momentum itself is remembered. Seldom worth changing."""

    def build(self, groups: Groups) -> Any:
        """pytorch-optimizer's, with decoupled weight decay; all groups share one estimate."""
        import pytorch_optimizer

        return pytorch_optimizer.DAdaptLion(self.with_single_lr(groups), weight_decouple=True, **self._kwargs())


class AdamW8bit(_Adam):
    """AdamW that keeps its memory in 8 bits (Dettmers et al. 2022). Needs the package bitsandbytes, best on an NVIDIA card."""

    optional: ClassVar[bool] = True
    name: Literal["adamw8bit"] = "adamw8bit"
    """The optimizer, which turns gradients into weight updates. AdamW is dependable; Prodigy and D-Adaptation find their
    own learning rate; the 8-bit ones need the package bitsandbytes, and AdamW takes their place if it is missing."""

    def build(self, groups: Groups) -> Any:
        """bitsandbytes' own; ImportError where it is not installed."""
        return _bitsandbytes(self, "AdamW8bit", groups)


class PagedAdamW8bit(_Adam):
    """8-bit AdamW whose memory moves to the computer's own when the card's runs short (Dettmers et al. 2023). Needs the
    package bitsandbytes, best on an NVIDIA card."""

    optional: ClassVar[bool] = True
    name: Literal["paged_adamw8bit"] = "paged_adamw8bit"
    """The optimizer, which turns gradients into weight updates. AdamW is dependable; Prodigy and D-Adaptation find their
    own learning rate; the 8-bit ones need the package bitsandbytes, and AdamW takes their place if it is missing."""

    def build(self, groups: Groups) -> Any:
        """bitsandbytes' own; ImportError where it is not installed."""
        return _bitsandbytes(self, "PagedAdamW8bit", groups)


class ScheduleFree(_Adam):
    """AdamW that averages by itself and needs no schedule (Defazio et al. 2024). The average is what is saved."""

    optional: ClassVar[bool] = True
    name: Literal["schedule_free"] = "schedule_free"
    """The optimizer, which turns gradients into weight updates. AdamW is dependable; Prodigy and D-Adaptation find their
    own learning rate; the 8-bit ones need the package bitsandbytes, and AdamW takes their place if it is missing."""
    lr: float = Field(default=5e-4, gt=0, le=1)
    """The learning rate of the UNet. Two to five times AdamW's; keep the schedule constant."""
    text_encoder_lr: float = Field(default=1e-4, gt=0, le=1)
    """The learning rate of the text encoder. Usually a quarter of the UNet's or less."""

    def build(self, groups: Groups) -> Any:
        """schedulefree's own, ready to step."""
        import schedulefree

        optimizer_class: Any = schedulefree.AdamWScheduleFree
        betas = (self.beta1, self.beta2)
        optimizer = optimizer_class(self.with_lr(groups), lr=self.lr, betas=betas, weight_decay=self.weight_decay)
        optimizer.train()
        return optimizer


class Lion(PerPartLr):
    """Steps by the sign of the momentum (Chen et al. 2023): half of AdamW's memory, a third of its rate."""

    optional: ClassVar[bool] = True
    name: Literal["lion"] = "lion"
    """The optimizer, which turns gradients into weight updates. AdamW is dependable; Prodigy and D-Adaptation find their
    own learning rate; the 8-bit ones need the package bitsandbytes, and AdamW takes their place if it is missing."""
    lr: float = Field(default=6e-5, gt=0, le=1)
    """The learning rate of the UNet. A third to a tenth of AdamW's, since every update has full size."""
    text_encoder_lr: float = Field(default=1.5e-5, gt=0, le=1)
    """The learning rate of the text encoder. Usually a quarter of the UNet's or less."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """How long past gradients are remembered: the decay rate of their average. Seldom worth changing."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """How long the momentum itself is remembered. Seldom worth changing."""

    def build(self, groups: Groups) -> Any:
        """pytorch-optimizer's."""
        import pytorch_optimizer

        betas = (self.beta1, self.beta2)
        return pytorch_optimizer.Lion(self.with_lr(groups), lr=self.lr, betas=betas, weight_decay=self.weight_decay)


class Lion8bit(Lion):
    """Lion that keeps its memory in 8 bits: an eighth of AdamW's. Needs the package bitsandbytes, best on an NVIDIA card."""

    name: Literal["lion8bit"] = "lion8bit"  # pyright: ignore[reportIncompatibleVariableOverride]
    """The optimizer, which turns gradients into weight updates. AdamW is dependable; Prodigy and D-Adaptation find their
    own learning rate; the 8-bit ones need the package bitsandbytes, and AdamW takes their place if it is missing."""

    def build(self, groups: Groups) -> Any:
        """bitsandbytes' own; ImportError where it is not installed."""
        return _bitsandbytes(self, "Lion8bit", groups)


class Adafactor(PerPartLr):
    """Remembers rows and columns only (Shazeer & Stern 2018): nearly no memory of its own."""

    name: Literal["adafactor"] = "adafactor"
    """The optimizer, which turns gradients into weight updates. AdamW is dependable; Prodigy and D-Adaptation find their
    own learning rate; the 8-bit ones need the package bitsandbytes, and AdamW takes their place if it is missing."""
    lr: float = Field(default=3e-3, gt=0, le=1)
    """The learning rate of the UNet, relative to the size of the weights, so higher than AdamW's."""
    text_encoder_lr: float = Field(default=1e-3, gt=0, le=1)
    """The learning rate of the text encoder. Usually a quarter of the UNet's or less."""

    def build(self, groups: Groups) -> Any:
        """torch's own."""
        import torch

        return torch.optim.Adafactor(self.with_lr(groups), lr=self.lr, weight_decay=self.weight_decay)


class CAME(PerPartLr):
    """Adafactor with confidence (Luo et al. 2023): little memory, steadier."""

    optional: ClassVar[bool] = True
    name: Literal["came"] = "came"
    """The optimizer, which turns gradients into weight updates. AdamW is dependable; Prodigy and D-Adaptation find their
    own learning rate; the 8-bit ones need the package bitsandbytes, and AdamW takes their place if it is missing."""
    lr: float = Field(default=1e-4, gt=0, le=1)
    """The learning rate of the UNet. About half of AdamW's."""
    text_encoder_lr: float = Field(default=2.5e-5, gt=0, le=1)
    """The learning rate of the text encoder. Usually a quarter of the UNet's or less."""

    def build(self, groups: Groups) -> Any:
        """pytorch-optimizer's."""
        import pytorch_optimizer

        return pytorch_optimizer.CAME(self.with_lr(groups), lr=self.lr, weight_decay=self.weight_decay)


class Muon(PerPartLr):
    """Makes each step of a matrix orthogonal (Jordan et al. 2024): all directions learn alike. More work a step."""

    optional: ClassVar[bool] = True
    name: Literal["muon"] = "muon"
    """The optimizer, which turns gradients into weight updates. AdamW is dependable; Prodigy and D-Adaptation find their
    own learning rate; the 8-bit ones need the package bitsandbytes, and AdamW takes their place if it is missing."""
    lr: float = Field(default=1e-3, gt=0, le=1)
    """The learning rate of the UNet. About five times AdamW's."""
    text_encoder_lr: float = Field(default=2.5e-4, gt=0, le=1)
    """The learning rate of the text encoder. Usually a quarter of the UNet's or less."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Momentum: how long past gradients are remembered. Seldom worth changing."""

    def build(self, groups: Groups) -> Any:
        """pytorch-optimizer's; what is no matrix (a DoRA magnitude, a convolution's factor) learns by its AdamW."""
        import pytorch_optimizer

        split = [
            {**group, "params": params, "use_muon": matrices}
            for group in self.with_lr(groups)
            for matrices in (True, False)
            if (params := [p for p in group["params"] if (p.ndim == 2) is matrices])
        ]
        for group in split:
            if not group["use_muon"]:
                group["lr"] /= 5
        return pytorch_optimizer.Muon(split, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)


def _bitsandbytes(options: Any, name: str, groups: Groups) -> Any:
    """The optimizer `name` of bitsandbytes with the fields of `options`. ImportError where it is not installed."""
    import bitsandbytes  # pyright: ignore[reportMissingImports]

    optimizer_class = getattr(bitsandbytes.optim, name)
    betas = (options.beta1, options.beta2)
    return optimizer_class(options.with_lr(groups), lr=options.lr, betas=betas, weight_decay=options.weight_decay)
