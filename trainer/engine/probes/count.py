"""Counts the bytes of a training step on torch's meta device: real sizes and shapes, no memory, no card. Writes
trainer/hardware/memory_bytes.json, which trainer/hardware/memory.py reads: `python -m trainer.engine.probes.count`.

Counted are all tensors alive at once, weights apart from what a step adds, in the arithmetic of a GPU in bf16: what autocast
casts up and down there is cast here. Not counted: the CUDA context, the libraries' work spaces, gaps between blocks.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd import Function
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainer.bases.families import FAMILIES, ModelComponents, family
from trainer.config.load import build
from trainer.engine.networks.adapter import Adapter
from trainer.engine.speed import offload, quantize
from trainer.hardware import memory

META = torch.device("meta")
SIDES = {"sd1": 512, "sd2": 768, "sdxl": 1024}
LOW = ("linear", "conv2d")
HIGH = ("group_norm", "layer_norm")
"""What CUDA's autocast computes in 16 and in 32 bits, of what these models call."""


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors made inside and alive: `now`, and at most, `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._take(tensor.untyped_storage())
        return made

    def there(self, tensors: Any) -> None:
        """These are there already and not counted."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self.known[storage._cdata] = storage

    def _take(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known[key] = weakref.finalize(storage, self._drop, key, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _drop(self, key: int, size: int) -> None:
        self.known.pop(key, None)
        self.now -= size


class _Attention(Function):
    """What flash and memory-efficient attention keep: q, k, v, the result, and one fp32 number a row (Dao et al. 2022)."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out, torch.empty(q.shape[:-1], dtype=torch.float32, device=q.device))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        q, k, v, *_ = ctx.saved_tensors
        _ = torch.empty_like(q, dtype=torch.float32)  # dq is summed in 32 bits
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


@contextmanager
def as_on_cuda(low: torch.dtype) -> Iterator[None]:
    """Attention, and autocast to `low`, as they are on a GPU: meta tensors know neither."""

    def cast(work: Any, kind: torch.dtype) -> Any:
        return lambda *args, **words: work(*(_cast(x, kind) for x in args), **{k: _cast(x, kind) for k, x in words.items()})

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *rest: Any, **words: Any) -> Any:
        return _Attention.apply(*(x.to(low) for x in (q, k, v)))

    before = {name: getattr(functional, name) for name in (*LOW, *HIGH, "scaled_dot_product_attention")}
    for name in LOW:
        setattr(functional, name, cast(before[name], low))
    for name in HIGH:
        setattr(functional, name, cast(before[name], torch.float32))
    functional.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        for name, work in before.items():
            setattr(functional, name, work)


def _cast(x: Any, kind: torch.dtype) -> Any:
    return x.to(kind) if isinstance(x, torch.Tensor) and x.is_floating_point() and x.dtype != kind else x


def empty_parts(name: str, dtype: torch.dtype = torch.bfloat16) -> ModelComponents:
    """A base of the family's real size without any memory, frozen."""
    from diffusers import UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    known = family(name)
    with META:
        config = json.loads((known.assets / "unet" / "config.json").read_text("utf-8"))
        unet: Any = UNet2DConditionModel.from_config(config)
        texts: dict[str, Any] = {}
        for part in known.text_parts:
            kind = CLIPTextModelWithProjection if part == "text_encoder_2" else CLIPTextModel
            texts[part] = kind(CLIPTextConfig.from_pretrained(known.assets / part))
    for model in (unet, *texts.values()):
        model.to(dtype).requires_grad_(False).eval()
    made: Any = ModelComponents(known, None, unet, texts, {}, None, None, META, dtype)  # pyright: ignore[reportArgumentType]
    return made


def step_bytes(
    name: str, side: int, batch: int, precision: str = "full", checkpointing: bool = False, what: str = "unet"
) -> tuple[dict[str, int], int]:
    """(bytes of the frozen weights, most bytes one step adds) for a LoRA of rank 16 on attention.

    The weights are those of the `unet`, of its `blocks` that could wait in main memory and of the `largest` of them, and of
    the `text` encoders. `what`: the step of the `unet`, or that of the `text` encoders alone.
    """
    from trainer.engine.speed.gradient_checkpointing import checkpoint_gradients

    parts = empty_parts(name)
    config = build({"lora": {"rank": 16, "train_text_encoder": what == "text", "train_unet": what == "unet"}})
    adapter = Adapter(parts, config)
    quantize.settle(parts, precision)
    if checkpointing:
        checkpoint_gradients(parts)
    models = [parts.module(part) for part in ("unet", *parts.family.text_parts)]
    mine = {id(p) for p in adapter.parameters()}
    frozen = [t for model in models for t in (*model.parameters(), *model.buffers()) if id(t) not in mine]
    live = LiveBytes()
    live.there([*frozen, *adapter.parameters()])
    with live, as_on_cuda(parts.dtype):
        if what == "text":
            tokens = {part: torch.zeros(batch, 77, dtype=torch.long, device=META) for part in parts.family.text_parts}
            out = sum(value.float().sum() for value in parts.family.encode(parts, tokens).values())
        else:
            out = parts.family.predict(parts, *_given(parts, side, batch)).float().pow(2).mean()
        out.backward()  # pyright: ignore
    blocks = [_bytes(block) for block in offload.blocks(parts.unet)]
    texts = sum(_bytes(parts.module(part)) for part in parts.family.text_parts)
    return {"unet": _bytes(parts.unet), "blocks": sum(blocks), "largest": max(blocks), "text": texts}, live.peak


def _bytes(model: Any) -> int:
    return sum(tensor.nbytes for tensor in offload.frozen(model))


def _given(parts: ModelComponents, side: int, batch: int) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    width = parts.unet.config.cross_attention_dim
    words: dict[str, Any] = {"device": META, "dtype": torch.bfloat16}
    condition = {"hidden": torch.empty(batch, 77, width, **words)}
    if parts.family.name == "sdxl":
        condition |= {"pooled": torch.empty(batch, 1280, **words), "sizes": torch.empty(batch, 6, device=META)}
    return torch.empty(batch, 4, side // 8, side // 8, **words), torch.zeros(batch, dtype=torch.long, device=META), condition


def picture_bytes(name: str, side: int) -> tuple[int, int]:
    """(bytes of the VAE in fp32, most bytes it takes to encode or decode one picture of `side`)."""
    from diffusers import AutoencoderKL  # pyright: ignore[reportPrivateImportUsage]

    with META:
        vae: Any = AutoencoderKL.from_config(json.loads((family(name).assets / "vae" / "config.json").read_text("utf-8")))
    most = 0
    for work, channels, size in ((vae.encode, 3, side), (vae.decode, 4, side // 8)):
        live = LiveBytes()
        live.there(vae.parameters())
        with torch.no_grad(), live, as_on_cuda(torch.float32):
            work(torch.empty(1, channels, size, size, device=META))
        most = max(most, live.peak)
    return sum(p.nbytes for p in vae.parameters()), most


def family_bytes(name: str) -> dict[str, Any]:
    """Everything memory.py needs of a family, at its own size."""
    side = SIDES[name]
    held, one, two, few = {}, {}, {}, {}
    for checkpointing in (False, True):
        key = "checkpointed" if checkpointing else "plain"
        held["full"], one[key] = step_bytes(name, side, 1, "full", checkpointing)
        _, two[key] = step_bytes(name, side, 2, "full", checkpointing)
    for precision in ("int8", "int4"):
        held[precision], peak = step_bytes(name, side, 1, precision, True)
        few[precision] = max(0, peak - one["checkpointed"])
    _, text = step_bytes(name, side, 1, what="text")
    vae, picture = picture_bytes(name, side)
    return {
        "side": side,
        "weights": held,
        "vae": vae,
        "picture": picture,
        "text_step": text,
        "made_whole": few,
        "step": {key: {"each": two[key] - one[key], "always": 2 * one[key] - two[key]} for key in one},
    }


def main() -> None:
    """Count every family and write the file."""
    found = {known.name: family_bytes(known.name) for known in FAMILIES}
    memory.COUNTED.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
