"""The options of memory and speed. Part of the tree in train.py."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainer.core.schema import Section


class Memory(Section):
    base_dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """The precision (dtype) of the frozen base. auto takes bf16 if the GPU supports it, fp16 on older ones and fp32 on a
    CPU. The adapter itself is always trained in fp32. On a CPU that multiplies in 16 bits, bf16 can be a sixth faster from
    batches of four on, with losses within half a percent; at batch 1 it is slower."""
    quantize_base: Literal["full", "int8", "int4"] = "full"
    """Quantizes the frozen base during training: the bits per weight of its linear and convolution layers. int8 takes half
    the memory of 16 bits and changes the weights by about 1 %, int4 a good quarter and about 9 %. Every step takes longer,
    because weights are dequantized layer by layer. Change it if the base itself does not fit. The adapter, its file and the
    preview are not affected; only the run's own sample images are generated with the quantized base."""
    gradient_checkpointing: bool = False
    """Saves memory by computing activations twice: about a third slower, and less than half the memory. Switch it on when
    memory runs out."""
    offload_fraction: float = Field(default=0.0, ge=0, le=1)
    """CPU offload (block swap): the fraction of the UNet's blocks, 0 to 1, that are kept in main memory and moved to the
    GPU only while they compute. The result stays the same. It costs time, less if the link between GPU and main memory is
    fast, and uses main memory in place of the GPU's. It switches gradient checkpointing on, and CUDA graphs and compiling
    off. Change it if the base does not fit and is not to be quantized. On a CPU there is nothing to move, and it does
    nothing."""
    attention: Literal["auto", "sdpa", "xformers"] = "auto"
    """The implementation of attention. auto tries those installed and takes the fastest that works; results are the same up
    to rounding."""
    cuda_graphs: Literal["auto", "off"] = "off"
    """CUDA graphs: launches the work of a step on the GPU as a whole instead of kernel by kernel. Meant to be faster at
    small batches, for a little more memory; new, and off until it has been measured on many GPUs. Work that cannot be
    captured runs as usual, with a note in the log."""
    compile: Literal["off", "auto", "on"] = "off"
    """torch.compile: compiles the repeated blocks before training. auto does so on a GPU where timing one block shows that
    the run is long enough to pay for it; on does it anywhere. The start takes a minute or more longer; on a CPU it measured
    slower. Blocks that cannot be compiled run as usual, with a note in the log."""
    cache_latents: bool = True
    """Encodes the images into latents once and caches them on disk. Off encodes them each time they are seen, which is much
    slower."""

    @property
    def checkpoints(self) -> bool:
        """Whether gradients are checkpointed: asked for, or needed by blocks that wait elsewhere."""
        return self.gradient_checkpointing or self.offload_fraction > 0
