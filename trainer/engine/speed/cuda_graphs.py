"""On a GPU: work started as CUDA graphs, one a shape, because at small batches a GPU waits for Python, which starts thousands
of kernels a step. Set up by the recipe.

Where the optimiser allows it, the step is one graph (`whole`). Elsewhere the UNet's and the text encoders' forward and backward
are graphs; optimiser, loss and everything that changes from run to run stay outside, so every optimiser and loss can be used.
`GraphedFamily` stands in for the family of the loaded base, so that the step's arithmetic does not know of it. Elsewhere than
on CUDA the same road is taken with plain copies into the same static buffers, which is what the tests hold against eager steps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch.utils.checkpoint import checkpoint

from trainer.bases.families import ModelComponents
from trainer.config.plan import is_slider
from trainer.config.train import TrainConfig
from trainer.engine.networks.adapter import Adapter
from trainer.engine.objective.step import TrainingObjective
from trainer.engine.optim.optimizer import OptimizerStepper
from trainer.engine.speed import step_graph

Tensors = tuple[torch.Tensor, ...]


def choose(
    config: TrainConfig, maker: TrainingObjective, guard: OptimizerStepper, tell: Callable[[str], None]
) -> tuple[step_graph.EagerStepper, str]:
    """How steps are taken, with graphs where they apply, and what is done, for the log. `tell` hears why graphs are given up
    later."""
    parts, eager = maker.parts, step_graph.EagerStepper(maker, guard)
    if config.memory.cuda_graphs == "off":
        return eager, "eager: asked"
    if parts.device.type != "cuda":
        return eager, f"eager: {parts.device.type} has no graphs"
    if config.memory.offload_fraction:
        return eager, "eager: blocks that wait in main memory come and go while a step runs"
    if is_slider(config):
        return eager, "eager: a slider's step has two signs"
    if maker.adapter.token_embedding is not None:
        return eager, "eager: a word's own vectors stand elsewhere in every caption"
    if maker.adapter.has_dropout:
        return eager, "eager: dropout draws anew at every step"
    if parts.unet.is_gradient_checkpointing:  # reading the state of chance is not allowed while capturing; nothing draws
        parts.unet.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False, preserve_rng_state=False))
        for encoder in parts.text_encoders.values():
            encoder.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    why = step_graph.obstacle(config, guard, maker.text_learns)
    if not why:
        return step_graph.GraphStepper(maker, guard, tell, step_graph.CudaRecorder()), "a graph of the whole step"
    parts.family = cast(Any, GraphedFamily(parts, maker.adapter, tell, CudaGraphs))
    return eager, f"graphs of forward and backward: {why}"


def drop(parts: ModelComponents) -> None:
    """Go on without graphs, freeing what they hold: memory ran out."""
    if isinstance(parts.family, GraphedFamily):
        parts.family = parts.family.plain


class GraphedFamily:
    """A family whose `encode` and `predict` replay graphs while the adapter learns; everything else is the family's own.

    Eager, because a graph would be wrong there: without gradients, with the adapter switched off, and for a second backward
    pass in one step (accumulation, preservation): a graph's gradients live in buffers its next replay overwrites.
    """

    def __init__(self, parts: ModelComponents, adapter: Adapter, tell: Callable[[str], None], maker: Callable[[], Any]) -> None:
        self.plain, self.parts, self.tell, self.maker = parts.family, parts, tell, maker
        self.learnt = adapter.parameters()
        self.makers: dict[str, Any] = {}
        self.made: dict[Any, Any] = {}
        self.given_up = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)

    def encode(self, parts: ModelComponents, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if not any(p.requires_grad for encoder in parts.text_encoders.values() for p in encoder.parameters()):
            return self.plain.encode(parts, tokens)
        return self._run("encode", tuple(parts.text_encoders.values()), tokens, lambda given: self.plain.encode(parts, given))

    def predict(
        self, parts: ModelComponents, noisy: torch.Tensor, t: torch.Tensor, condition: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        def work(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            rest = {name: value for name, value in given.items() if name not in ("noisy.", "t.")}
            return {"out": self.plain.predict(parts, given["noisy."], given["t."], rest)}

        return self._run("predict", (parts.unet,), {"noisy.": noisy, "t.": t, **condition}, work)["out"]

    def _run(
        self,
        what: str,
        modules: tuple[torch.nn.Module, ...],
        given: dict[str, torch.Tensor],
        work: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    ) -> dict[str, torch.Tensor]:
        if self.given_up or not torch.is_grad_enabled() or any(p.grad is not None for p in self.learnt):
            return work(given)
        learning = tuple(p.requires_grad for p in self.learnt)
        key = (what, learning, *((n, x.shape, x.dtype, x.requires_grad) for n, x in given.items()))
        if key not in self.made:
            holder = GraphCallable(modules, tuple(given), work)
            maker = self.makers.setdefault(what, self.maker())
            try:
                self.made[key] = holder, maker(holder, tuple(given.values()), self.parts.dtype)
            except RuntimeError as error:  # something in this model cannot be captured: go on as if there were no graphs
                self.given_up = True
                self.made.clear()
                self.tell(str(error).strip().splitlines()[0][:160])
                return work(given)
        holder, replay = self.made[key]
        made = replay(*given.values())
        return dict(zip(holder.names_out, made, strict=True))


class GraphCallable(torch.nn.Module):
    """A function of named tensors as a module of positional ones, holding the modules whose parameters it uses."""

    def __init__(self, modules: tuple[torch.nn.Module, ...], names: tuple[str, ...], work: Callable[..., Any]) -> None:
        super().__init__()
        self.used = torch.nn.ModuleList(modules)
        self.train(modules[0].training)
        self.names, self.work, self.names_out = names, work, ()

    def forward(self, *given: torch.Tensor) -> Tensors:
        made = self.work(dict(zip(self.names, given, strict=True)))
        self.names_out = tuple(made)
        return tuple(made.values())


class CudaGraphs:
    """Captures through torch.cuda.make_graphed_callables. One memory pool for all shapes of one kind of work: a step ends one
    shape's backward pass before the next shape begins; text and UNet overlap in a step, so each kind has its own."""

    def __init__(self) -> None:
        self.pool: Any = None

    def __call__(self, work: GraphCallable, given: Tensors, dtype: torch.dtype) -> Callable[..., Tensors]:
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        samples = tuple(x.detach().clone().requires_grad_(x.requires_grad) for x in given)
        low = dtype != torch.float32
        with torch.autocast("cuda", dtype if low else torch.bfloat16, enabled=low, cache_enabled=False):
            made: Any = torch.cuda.make_graphed_callables(work, samples, allow_unused_input=True, pool=self.pool)
        return made


class StaticBuffers:
    """The same road without capture: inputs are copied into buffers that stay, and the work reads them there."""

    def __call__(self, work: GraphCallable, given: Tensors, dtype: torch.dtype) -> Callable[..., Tensors]:
        buffers = tuple(torch.empty_like(x) for x in given)

        def replay(*now: torch.Tensor) -> Tensors:
            return work(*(_Into.apply(x, buffer) for x, buffer in zip(now, buffers, strict=True)))

        return replay


class _Into(torch.autograd.Function):
    """Copy `x` into `buffer` and go on from there; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, buffer: torch.Tensor) -> torch.Tensor:
        return buffer.copy_(x).clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        return grads[0], None
