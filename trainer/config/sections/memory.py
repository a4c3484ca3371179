"""The options of memory and speed. Part of the tree in train.py."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainer.core.schema import Section


class Memory(Section):
    base_dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """The number format of the frozen base. Auto takes bf16 where the GPU has it, fp16 on older ones and fp32 on a CPU. The
    adapter itself is always learnt in fp32. On a CPU that multiplies in 16 bits, bf16 can be a sixth quicker from batches of
    four on, with losses within half a percent; at batch 1 it is slower."""
    quantize_base: Literal["full", "int8", "int4"] = "full"
    """How many bits each weight of the frozen base gets while training: its linear layers and convolutions. 8 bits take half
    the memory of 16 and change the base by about 1 %, 4 bits a good quarter and about 9 %; every step takes longer, for
    the weights are made whole layer by layer. Change it when the base itself does not fit. What learns, the file and the
    preview are the same; the run's own test pictures are drawn with the base in few bits."""
    gradient_checkpointing: bool = False
    """Save memory by computing parts twice: about a third slower, and less than half the memory. Switch on when memory
    runs out."""
    offload_fraction: float = Field(default=0.0, ge=0, le=1)
    """The share of the UNet's blocks that wait in main memory and come to the card only while they compute, 0 to 1. The result
    stays the same; it costs time, less where the road between card and main memory is quick, and main memory in place of the
    card's. Gradient checkpointing goes on with it, CUDA graphs and compiling off. Change it when the base does not fit and is
    to keep its bits. On a CPU there is nothing to move, and it does nothing."""
    attention: Literal["auto", "sdpa", "xformers"] = "auto"
    """How attention is computed. Auto tries what is there and takes the one that works and is faster; results are the same
    up to rounding."""
    cuda_graphs: Literal["auto", "off"] = "off"
    """On a GPU, start each step's work as a whole (CUDA graphs) instead of piece by piece. Meant to be quicker at small
    batches, for a little more memory; new and off until it has been measured on many cards. What cannot be started so goes on
    as usual, said in the log."""
    compile: Literal["off", "auto", "on"] = "off"
    """Translate the repeated blocks into machine code before training (torch.compile). Auto does it on a GPU where timing one
    block shows that the run is long enough to be repaid; on does it anywhere. The start takes a minute or more longer; on a
    CPU it measured slower. What cannot be compiled goes on as usual, said in the log."""
    cache_latents: bool = True
    """Encode the pictures once and keep the result on disk. Off encodes them at every look, which is much slower."""

    @property
    def checkpoints(self) -> bool:
        """Whether gradients are checkpointed: asked for, or needed by blocks that wait elsewhere."""
        return self.gradient_checkpointing or self.offload_fraction > 0
