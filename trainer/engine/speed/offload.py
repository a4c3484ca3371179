"""CPU offload (block swap): frozen weights wait in main memory and are on the card only while they compute.

Two kinds wait: blocks of the UNet (`memory.offload_fraction`), each brought before its forward pass and again before gradient
checkpointing computes it anew; and the parts a step does not need, the VAE and text encoders whose answers are kept.

The module's own tensors are the store. While it computes, copies on the device stand in their places; then the very same
tensors stand there again. A copy that the gradient still needs is held by the graph alone and goes with it. So base, strength
0, folding and the saved file know of nothing. Adapters stay on the device.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainer.bases.families import ModelComponents
from trainer.config.train import TrainConfig

BLOCKS = ("ResnetBlock2D", "BasicTransformerBlock")
"""What gradient checkpointing computes anew one by one: nearly all of a UNet's weights."""
VAE_PIECES = ("encoder", "decoder", "quant_conv", "post_quant_conv")
MAIN = torch.device("cpu")
Place = tuple[nn.Module, str]
"""A tensor by its module and its name in it."""


@dataclass
class Transfer:
    """Copies on their way to the device, and what they are copies of."""

    sources: list[torch.Tensor]
    copies: list[torch.Tensor]
    arrived: Any = None
    """The CUDA event after which they may be read."""


class CopyStream:
    """Copies tensors to `device`: on CUDA on a stream of its own, beside what computes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def fetch(self, sources: list[torch.Tensor]) -> Transfer:
        """Start copying. The copies lie in the computing stream's memory, and the copying waits until that stream has come
        to here: memory that a block just gave back is taken at once, and none is overwritten while still read."""
        copies = [torch.empty_like(source, device=self.device) for source in sources]
        if self.stream is None:
            for copy, source in zip(copies, sources, strict=True):
                copy.copy_(source)
            return Transfer(sources, copies)
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            for copy, source in zip(copies, sources, strict=True):
                copy.copy_(source, non_blocking=True)
            return Transfer(sources, copies, self.stream.record_event())

    def arrive(self, trip: Transfer) -> None:
        """Let what computes from here on wait for the copies; the host does not wait."""
        if trip.arrived is not None:
            torch.cuda.current_stream(self.device).wait_event(trip.arrived)


class BlockPrefetcher:
    """Modules that wait, in the order they are asked for: what followed two others the last time is brought while the second
    of them computes. In a forward pass that is the next block, in the backward pass the one before."""

    def __init__(self, courier: CopyStream, ahead: bool) -> None:
        self.courier, self.looks_ahead = courier, ahead
        self.waiting: list[OffloadedModule] = []
        self.follows: dict[tuple[OffloadedModule | None, OffloadedModule | None], OffloadedModule] = {}
        self.last: tuple[OffloadedModule | None, OffloadedModule | None] = (None, None)
        self.ahead: tuple[OffloadedModule, Transfer] | None = None

    def add(self, module: nn.Module) -> None:
        """Let `module` wait from here on."""
        self.waiting.append(OffloadedModule(module, self))

    def bring(self, one: OffloadedModule) -> list[torch.Tensor]:
        """The tensors of `one` on the device; those expected next are on their way."""
        sources = one.sources()
        (expected, trip), self.ahead = self.ahead or (None, None), None
        if trip is not None:  # also where it is not wanted: its memory is given away next
            self.courier.arrive(trip)
        if trip is None or expected is not one or not _same(trip.sources, sources):  # a folded LoRA changes what lies there
            trip = self.courier.fetch(sources)
            self.courier.arrive(trip)
        self.follows[self.last] = one
        self.last = (self.last[1], one)
        after = self.follows.get(self.last) if self.looks_ahead else None
        if after is not None:
            self.ahead = after, self.courier.fetch(sources if after is one else after.sources())
        return trip.copies


class OffloadedModule:
    """A module whose frozen tensors are copied to the device for each of its calls."""

    def __init__(self, module: nn.Module, line: BlockPrefetcher) -> None:
        self.line, self.places = line, list(_frozen(module))
        self.at_home: list[torch.Tensor] | None = None
        """The tensors of the store while copies stand in their places."""
        for owner, name in self.places:
            _put(owner, name, _pinned(_get(owner, name), line.courier.device))
        module.register_forward_pre_hook(lambda *_: self.enter())
        module.register_forward_hook(lambda *_: self.leave(), always_call=True)  # recomputing ends by an exception

    def sources(self) -> list[torch.Tensor]:
        """The tensors of the store as they are now."""
        return self.at_home or [_get(owner, name) for owner, name in self.places]

    def enter(self) -> None:
        """Copies into the places."""
        home = self.sources()
        copies = self.line.bring(self)
        self.at_home = home
        for (owner, name), copy in zip(self.places, copies, strict=True):
            parameter = name in owner._parameters
            _set(owner, name, nn.Parameter(copy, requires_grad=False) if parameter else copy)

    def leave(self) -> None:
        """The store's own tensors back into their places."""
        if self.at_home is None:  # there was no memory for the copies
            return
        for (owner, name), tensor in zip(self.places, self.at_home, strict=True):
            _set(owner, name, tensor)
        self.at_home = None


# --- what waits -----------------------------------------------------------------------------------------------


def courier_for(device: torch.device) -> CopyStream | None:
    """Who brings weights to `device`; None where they compute where they lie: a CPU, and Apple's shared memory."""
    return CopyStream(device) if device.type == "cuda" else None


def chosen(parts: ModelComponents, share: float) -> list[nn.Module]:
    """The blocks of the UNet that wait: about `share` of their weights, spread evenly so that they can be brought while others
    compute. None where nothing would be gained."""
    return spread(blocks(parts.unet), share) if share and courier_for(parts.device) else []


def blocks(unet: Any) -> list[nn.Module]:
    """The UNet's blocks that gradient checkpointing computes anew. diffusers never does so with the middle's first."""
    middle = getattr(unet, "mid_block", None)
    kept = middle.resnets[0] if middle is not None else None
    return [module for module in unet.modules() if type(module).__name__ in BLOCKS and module is not kept]


def spread(modules: list[nn.Module], share: float) -> list[nn.Module]:
    """Some of `modules`, evenly, that together have about `share` of their frozen numbers."""
    found: list[nn.Module] = []
    seen = away = 0
    for module in modules:
        size = sum(tensor.numel() for tensor in frozen(module))
        seen += size
        if away + size / 2 <= share * seen:
            found.append(module)
            away += size
    return found


def settle(parts: ModelComponents, away: list[nn.Module]) -> str:
    """Let the blocks `away`, which lie in main memory already, wait there. Returns what is done, for the log."""
    courier = courier_for(parts.device)
    if courier is None or not away:
        return f"off: on {parts.device.type} the base computes where it lies" if courier is None else "off"
    line = BlockPrefetcher(courier, ahead=True)
    for block in away:
        line.add(block)
    size = sum(tensor.nbytes for waiting in line.waiting for tensor in waiting.sources())
    return f"{len(away)} of {len(blocks(parts.unet))} blocks, {size / 1e9:.2f} GB"


def rest(parts: ModelComponents, config: TrainConfig, text_learns: bool) -> str:
    """From here on the VAE waits where latents are kept, and the text encoders where their answers are. Returns who waits.

    Words that are new at every look are encoded at every look: those encoders stay, unless memory is short enough for
    `memory.offload_fraction`.
    """
    courier = courier_for(parts.device)
    if courier is None:
        return ""
    line, named = BlockPrefetcher(courier, ahead=False), []
    if not text_learns and (config.memory.offload_fraction or not config.captions.endless):
        for part, encoder in parts.text_encoders.items():
            line.add(encoder)
            named.append(part)
    if config.memory.cache_latents:
        for piece in (getattr(parts.vae, name, None) for name in VAE_PIECES):
            if piece is not None:
                line.add(piece)
        named.append("vae")
    return " ".join(named)


def place(model: nn.Module, device: torch.device, away: Collection[nn.Module]) -> None:
    """Bring `model` to `device`, all but the frozen tensors of the blocks `away`."""
    left = {(owner, name) for block in away for owner, name in _frozen(block)}
    for owner in model.modules():
        for name in [*owner._parameters, *owner._buffers]:
            if (owner, name) not in left and _get(owner, name) is not None:
                _put(owner, name, _get(owner, name).to(device))


# --- tensors in their places ----------------------------------------------------------------------------------


def frozen(module: nn.Module) -> Iterator[torch.Tensor]:
    """Every tensor of `module` that does not learn."""
    return (_get(owner, name) for owner, name in _frozen(module))


def _frozen(module: nn.Module) -> Iterator[Place]:
    """Every tensor of `module` that does not learn."""
    for owner in module.modules():
        for name, tensor in (*owner._parameters.items(), *owner._buffers.items()):
            if tensor is not None and not tensor.requires_grad:
                yield owner, name


def _get(owner: nn.Module, name: str) -> Any:
    return owner._parameters[name] if name in owner._parameters else owner._buffers[name]


def _set(owner: nn.Module, name: str, tensor: Any) -> None:
    (owner._parameters if name in owner._parameters else owner._buffers)[name] = tensor


def _put(owner: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Another storage under the same parameter, or another buffer."""
    if name in owner._parameters:
        _get(owner, name).data = tensor.detach()
    else:
        _set(owner, name, tensor)


def _pinned(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` in main memory, page-locked where it goes to a card: only from there it is copied beside what computes."""
    if device.type != "cuda":
        return tensor
    kept = tensor.detach().to(MAIN)
    try:
        return kept.pin_memory()
    except RuntimeError:  # the system gives no more of it: slower, and right as well
        return kept


def _same(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))
