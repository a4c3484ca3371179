"""Layers that multiply what the base's layer gives, and learn by what: OFT and (IA)³. Used by engine/networks/types.py.

Their files are read, drawn and judged by formats/multiplied.py. Both leave the base's result as it is, to the bit, as long
as nothing is learnt, and work on it alone: the frozen weight is neither copied nor computed anew, in 16 or in few bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainer.formats.layers import Layer


class OutputAdapter(nn.Module):
    """Adds a change of W·x, the base layer's result without its bias. `rank_dropout` of the rows or blocks and `module_dropout`
    of the layers add nothing in a training step, by torch's own generator and without rescaling the others, as in LyCORIS."""

    def __init__(self, base_layer: Any, rank_dropout: float, module_dropout: float) -> None:
        super().__init__()
        self.base_layer, self.rank_dropout, self.module_dropout = base_layer, rank_dropout, module_dropout
        self.enabled, self.sign = True, 1.0
        self.wide = base_layer.weight.ndim == 4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[…, in] to […, out], or [B, in, h, w] to [B, out, h', w']."""
        result = self.base_layer(x)
        if not self.enabled:
            return result
        own = (result.movedim(1, -1) if self.wide else result).float()
        if self.base_layer.bias is not None:
            own = own - self.base_layer.bias.float()
        change = self.change(own)
        return result + self.sign * (change.movedim(-1, 1) if self.wide else change).to(result.dtype)

    def change(self, own: torch.Tensor) -> torch.Tensor:
        """What is added to `own` […, out], in float32."""
        raise NotImplementedError

    def apply_dropout(self, tensor: torch.Tensor) -> torch.Tensor:
        """`tensor` with what is dropped in this step at 0, along its first axis."""
        if not self.training:
            return tensor
        if self.rank_dropout:
            kept = torch.rand(tensor.shape[0], device=tensor.device) >= self.rank_dropout
            tensor = tensor * kept.view(-1, *[1] * (tensor.ndim - 1))
        return tensor * (torch.rand((), device=tensor.device) >= self.module_dropout) if self.module_dropout else tensor


class OftLayer(OutputAdapter):
    """OFT (Qiu et al. 2023): W' = Rᵀ·W with R of `out / side` blocks on its diagonal, each orthogonal by Cayley's
    R = (I + Q)(I - Q)⁻¹, Q = B - Bᵀ. Rows are turned among each other and keep their lengths and angles.

    R - I = 2·(I - Q)⁻¹·Q is computed instead of R: small changes keep their digits, and at B = 0 it is nothing.
    """

    def __init__(self, base_layer: Any, side: int, rank_dropout: float = 0.0, module_dropout: float = 0.0) -> None:
        super().__init__(base_layer, rank_dropout, module_dropout)
        factory_kwargs = {"device": base_layer.weight.device, "dtype": torch.float32}
        self.oft_blocks = nn.Parameter(torch.zeros(base_layer.weight.shape[0] // side, side, side, **factory_kwargs))
        self.eval()

    def change(self, own: torch.Tensor) -> torch.Tensor:
        """(R - I)ᵀ on each block of values. I - Q has no eigenvalue 0, so nothing is checked and no host waited for."""
        q = self.oft_blocks - self.oft_blocks.mT
        one = torch.eye(q.shape[-1], device=q.device)
        turn, _ = torch.linalg.solve_ex(one - q, 2 * q)
        return torch.einsum("...kn,knm->...km", own.unflatten(-1, q.shape[:2]), self.apply_dropout(turn)).flatten(-2)

    def trainable(self) -> dict[str, nn.Parameter]:
        return {"oft_blocks": self.oft_blocks}

    def export(self) -> Layer:
        """With alpha 0, which bounds nothing."""
        return Layer({"oft_blocks": self.oft_blocks.detach()}, 0.0)


class Ia3Layer(OutputAdapter):
    """(IA)³ (Liu et al. 2022): every output row times 1 + w."""

    def __init__(self, base_layer: Any, rank_dropout: float = 0.0, module_dropout: float = 0.0) -> None:
        super().__init__(base_layer, rank_dropout, module_dropout)
        weight = base_layer.weight
        shape = (weight.shape[0], *[1] * (weight.ndim - 1))
        self.ia3_scale = nn.Parameter(torch.zeros(shape, device=weight.device, dtype=torch.float32))
        self.eval()

    def change(self, own: torch.Tensor) -> torch.Tensor:
        return own * self.apply_dropout(self.ia3_scale).flatten()

    def trainable(self) -> dict[str, nn.Parameter]:
        return {"ia3": self.ia3_scale}

    def export(self) -> Layer:
        """In LyCORIS's shapes: [out], or [1, out, 1, 1] for a convolution."""
        scale = self.ia3_scale.detach().flatten()
        return Layer({"ia3": scale.view(1, -1, 1, 1) if self.wide else scale, "ia3_in": torch.zeros(())}, 1.0)
