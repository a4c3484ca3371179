"""Where a picture is too large for the memory the VAE works on fewer at once, then in pieces; elsewhere nothing changes."""

from __future__ import annotations

import pytest
import torch

from tests.helpers import tiny
from trainer.engine.inference import vae


@pytest.fixture
def narrow(monkeypatch):
    """A VAE for whose memory more than `most` pixels at once are too many."""
    torch.manual_seed(0)
    model, most = tiny.vae().eval().requires_grad_(False), [10**9]
    encode, decode = model.encoder.forward, model.decoder.forward

    def refuse(work, pixels_of):
        def run(x):
            if pixels_of(x) > most[0]:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
            return work(x)

        return run

    monkeypatch.setattr(model.encoder, "forward", refuse(encode, lambda x: x.shape[0] * x[0, 0].numel()))
    monkeypatch.setattr(model.decoder, "forward", refuse(decode, lambda x: x.shape[0] * x[0, 0].numel() * 64))
    monkeypatch.setattr(vae, "TILE", 64)
    return model, most


def test_pictures_go_by_halves_and_then_in_pieces(narrow):
    model, most = narrow
    pixels = torch.rand(4, 3, 128, 96) * 2 - 1
    whole = vae.encode(model, pixels)
    most[0] = 128 * 96
    assert torch.allclose(vae.encode(model, pixels), whole, atol=1e-5) and not model.use_tiling
    most[0] = 64 * 64
    pieces = vae.encode(model, pixels)
    assert model.use_tiling and pieces.shape == whole.shape


def test_a_picture_too_large_to_decode_is_decoded_in_pieces_once_and_for_all(narrow):
    model, most = narrow
    latents = torch.randn(1, 4, 16, 12)
    whole = vae.decode(model, latents)
    assert torch.equal(whole, model.decode(latents).sample)
    most[0] = 64 * 64
    pieces = vae.decode(model, latents)
    assert model.use_tiling and pieces.shape == whole.shape
    assert torch.corrcoef(torch.stack([pieces.flatten(), whole.flatten()]))[0, 1] > 0.5
    most[0] = 10
    with pytest.raises(torch.OutOfMemoryError):
        vae.decode(model, latents)
