"""torch.compile of the UNet's repeated transformer blocks, where that is asked for or repaid by the run. Called by the recipe.

Blocks of one shape share what is compiled. Every kind is compiled and timed, forward and backward, on inputs of one real step,
before any is used: a failure or a loss of time shows there, and the run goes on eager with the reason in the log. Pictures are
drawn and judged eagerly, so that nothing is compiled for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

BLOCKS = "BasicTransformerBlock"
LEAST = 60.0
"""Seconds the blocks must take over the rest of the run before compiling one is tried at all: it takes about as long."""
Given = tuple[tuple[Any, ...], dict[str, Any]]


def choose(
    unet: Any, wanted: str, calls: int, formats: int, forward: Callable[[], Any], low: Callable[[], AbstractContextManager[Any]]
) -> str:
    """Compile the blocks of `unet` where that is `on`, or `auto` and repaid; returns what is done and why, for the log.

    `calls` is how often the UNet learns in the rest of the run, `formats` how many shapes it sees, `forward` one call of it
    without gradients, `low` the run's autocast.
    """
    device = next(unet.parameters()).device
    if wanted == "off":
        return "eager: asked"
    if wanted == "auto" and device.type != "cuda":
        return f"eager: measured slower than the kernels in use on a {device.type}"
    kinds = _kinds(unet, forward)
    plain = {key: _seconds(blocks[0], given, low) for key, (blocks, given) in kinds.items()}
    whole = calls * sum(plain[key] * len(blocks) for key, (blocks, _) in kinds.items())
    if wanted == "auto" and whole < LEAST:
        return f"eager: the blocks take {whole:.0f} s in all"
    cost, saved, fast = 0.0, 0.0, {}
    for key, (blocks, given) in kinds.items():
        begun = time.perf_counter()
        try:
            fast[key] = [_compiled(block) for block in blocks]
            _once(fast[key][0], given, low)
        except (RuntimeError, OSError, ImportError) as error:  # no compiler here, or something it cannot compile
            return f"eager: {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:160]}"
        spent = time.perf_counter() - begun
        cost += spent * (formats - 1)  # this format's is spent already, the others' would come
        saved += calls * len(blocks) * (plain[key] - _seconds(fast[key][0], given, low))
        if wanted == "auto" and saved < cost:
            return f"eager: compiling costs {cost + spent:.0f} s and saves {saved:.0f} s over the rest of the run"
    for key, (blocks, _) in kinds.items():
        for block, forward_of in zip(blocks, fast[key], strict=True):
            block.forward = forward_of
    return f"compiled: {sum(len(blocks) for blocks, _ in kinds.values())} blocks, saves {saved:.0f} s over the rest of the run"


def _kinds(unet: Any, forward: Callable[[], Any]) -> dict[Any, tuple[list[Any], Given]]:
    """The blocks by what they are given and hold: {shapes: (blocks, (arguments, named arguments))}."""
    found: dict[Any, tuple[list[Any], Given]] = {}

    def look(block: Any, args: tuple[Any, ...], words: dict[str, Any]) -> None:
        shapes = tuple(tuple(x.shape) for x in (*args, *words.values()) if isinstance(x, torch.Tensor))
        weights = tuple(tuple(p.shape) for p in block.parameters())
        found.setdefault((shapes, weights), ([], (args, words)))[0].append(block)

    blocks = [module for module in unet.modules() if type(module).__name__ == BLOCKS]
    hooks = [block.register_forward_pre_hook(look, with_kwargs=True) for block in blocks]
    try:
        with torch.no_grad():
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _compiled(block: Any) -> Callable[..., Any]:
    """The block's forward: compiled while gradients are recorded, as it was otherwise."""
    plain, fast = block.forward, torch.compile(block.forward, dynamic=False)
    return lambda *args, **words: fast(*args, **words) if torch.is_grad_enabled() else plain(*args, **words)


def _once(block: Callable[..., Any], given: Given, low: Callable[[], AbstractContextManager[Any]]) -> None:
    """Forward and backward on inputs that ask for gradients; the adapter's own are thrown away."""
    args, words = ([_learning(x) for x in given[0]], {name: _learning(x) for name, x in given[1].items()})
    with torch.enable_grad():
        with low():
            out = block(*args, **words)
        wants = [x for x in (*args, *words.values()) if isinstance(x, torch.Tensor) and x.requires_grad]
        _ = torch.autograd.grad(out.float().sum(), wants, allow_unused=True)
    if out.device.type == "cuda":
        torch.cuda.synchronize()


def _learning(x: Any) -> Any:
    floating = isinstance(x, torch.Tensor) and x.is_floating_point()
    return x.detach().clone().requires_grad_() if floating else x


def _seconds(block: Callable[..., Any], given: Given, low: Callable[[], AbstractContextManager[Any]]) -> float:
    """Seconds of forward and backward, the best of three after a first."""
    times = []
    for _ in range(4):
        begun = time.perf_counter()
        _once(block, given, low)
        times.append(time.perf_counter() - begun)
    return min(times[1:])
