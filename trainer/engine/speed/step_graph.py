"""One optimiser step as the recipe takes it: eagerly, or on a GPU replayed whole, from the noise to the new weights, as one
CUDA graph a shape. Chosen by `graphs.choose`.

What differs from step to step (latents, noise, timesteps, words, the learning rate) is copied into buffers that stay, and a
replay reads it there. The first steps of a shape are made from the same buffers without a graph: they count like any other and
let libraries and the optimiser prepare themselves. On a CPU the same road is taken without capture, which the tests hold
against eager steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from trainer.config.train import TrainConfig
from trainer.engine.objective.step import TrainingBatch, TrainingObjective
from trainer.engine.optim.optimizer import OptimizerStepper
from trainer.engine.text.encode import PIECE
from trainer.images.set.examples import View

Result = tuple[torch.Tensor, torch.Tensor]
"""The loss, and whether the step was made: scalars on the device."""
Work = Callable[[], Result]

WARM = 3
"""Steps of a shape before it is captured, as torch advises."""


class EagerStepper:
    """Kernel by kernel; works everywhere and for everything."""

    @property
    def warm_up(self) -> int:
        """The first steps of a shape, which take longer than all others."""
        return 1

    def __init__(self, maker: TrainingObjective, guard: OptimizerStepper) -> None:
        self.maker, self.guard = maker, guard

    def take(self, step: int, micro: list[list[View]], factor: float) -> Result:
        """One optimiser step over the `micro` batches at `factor` times the rates."""
        loss = self.maker.backward(step, micro, self.guard.scale)
        return loss, self.guard.update(loss, factor)

    def drop(self) -> None:
        """Free what is held for being quick: memory ran out."""


class GraphStepper(EagerStepper):
    """Replays. Goes on eagerly, and tells why, where something in the model cannot be captured."""

    def __init__(self, maker: TrainingObjective, guard: OptimizerStepper, tell: Callable[[str], None], recorder: Any) -> None:
        super().__init__(maker, guard)
        self.tell, self.recorder, self.given_up = tell, recorder, False
        self.learnt = maker.adapter.parameters()
        self.seen: Counter[Any] = Counter()
        self.made: dict[Any, tuple[dict[str, torch.Tensor], Work]] = {}
        self.state_version = guard.state_version
        guard.keep_lr_in_tensors()

    @property
    def warm_up(self) -> int:
        """Those before the capture, and the one that captures."""
        return WARM + 1

    def take(self, step: int, micro: list[list[View]], factor: float) -> Result:
        """As `EagerStepper.take`, for one micro batch."""
        if self.given_up or self.maker.split > 1:
            return super().take(step, micro, factor)
        if self.state_version != self.guard.state_version:  # rolled back: the optimiser holds other tensors now
            self.state_version = self.guard.state_version
            self._forget()
        (looks,) = micro
        given = self._given(self.maker.draw(step, 0, looks))
        key = (tuple(p.requires_grad for p in self.learnt), *((n, x.shape, x.dtype) for n, x in given.items()))
        self.guard.set_lr(factor)
        try:
            loss, finite = self._run(key, given)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            self.drop()
            self.tell((str(error).strip().splitlines() or ["?"])[0][:160])
            self.guard.optimizer.zero_grad(set_to_none=True)
            return super().take(step, micro, factor)
        return loss, self.guard.after(finite)

    def drop(self) -> None:
        """Free the graphs and go on eagerly."""
        self.given_up = True
        self._forget()

    def _forget(self) -> None:
        self.made.clear()
        self.seen.clear()

    def _run(self, key: Any, given: dict[str, torch.Tensor]) -> Result:
        self.seen[key] += 1
        if key not in self.made:
            buffers = {name: torch.empty_like(x, device=self.maker.parts.device) for name, x in given.items()}
            self.made[key] = buffers, lambda: self._step(buffers)
        buffers, replay = self.made[key]
        for name, x in given.items():
            buffers[name].copy_(x, non_blocking=True)
        if self.seen[key] <= WARM:
            return self.recorder.warm(replay)
        if self.seen[key] == WARM + 1:
            replay = self.recorder.record(replay)
            self.made[key] = buffers, replay
        loss, finite = replay()
        return loss.clone(), finite.clone()  # the next replay writes where these lie

    def _given(self, batch: TrainingBatch) -> dict[str, torch.Tensor]:
        """Everything this step differs in. Words are told as the text encoders' answer, or as tokens where those learn."""
        parts, family = self.maker.parts, self.maker.parts.family
        names = ("x0", "noise", "shown", "t", "weight", "mask")
        given = {name: x for name in names if (x := getattr(batch, name)) is not None}
        if self.maker.text_learns:
            given |= {f"ids.{name}": x for name, x in family.tokens(parts, batch.captions).items()}
        else:
            with self.maker.autocast():
                given |= {f"told.{name}": x for name, x in self.maker.condition(batch.captions).items()}
        return given | {f"told.{name}": x for name, x in family.added_conditioning(parts, batch.looks).items()}

    def _step(self, buffers: dict[str, torch.Tensor]) -> Result:
        """Loss, gradients and the optimiser's step from what lies in `buffers`; nothing in it waits for the host."""
        ids, told, rest = _named("ids.", buffers), _named("told.", buffers), {"mask": None, **buffers}
        if ids:
            with self.maker.autocast():
                told |= self.maker.parts.family.encode(self.maker.parts, ids)
        tensors = {name: rest[name] for name in ("x0", "noise", "shown", "t", "weight", "mask")}
        loss = self.maker.loss(TrainingBatch([], [], **tensors, told=told))
        loss.backward()
        return loss.detach(), self.guard.step(loss.detach())


def obstacle(config: TrainConfig, guard: OptimizerStepper, text_learns: bool) -> str:
    """Why a whole step cannot be one graph under these settings; empty where it can."""
    if not guard.on_device:
        return "the optimiser reads numbers back"
    if config.run.gradient_accumulation > 1:
        return "a step has several passes"
    if config.preservation.base_prior or config.preservation.regularization_folder:
        return "preservation adds a pass"
    if text_learns and (config.captions.max_token_length > PIECE or config.captions.weighted):
        return "captions come in pieces or with weights"
    return ""


class CudaRecorder:
    """Captures with torch.cuda.graph. All shapes share one pool: only one replays at a time, and none reads another's."""

    def __init__(self) -> None:
        self.pool, self.stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()

    def warm(self, work: Work) -> Result:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):  # not the usual stream: what it leaves behind would be captured too
            made = work()
        torch.cuda.current_stream().wait_stream(self.stream)
        return made

    def record(self, work: Work) -> Work:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            made = work()

        def replay() -> Result:
            graph.replay()
            return made

        return replay


def _named(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
