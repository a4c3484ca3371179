"""Trains the autoencoder: pictures of 128 x 128 to a latent of 16 x 16 cells and back.

`python -m tools.mini_base vae` calls `train`. Losses: L1, L1 on gradients at three scales, a linear colour probe, and a
small KL term that comes in slowly.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from .data import Pack
from .progress import Loop, device_for, grid, layout, mixed
from .shapes import Shapes, make_vae
from .views import STILL, Views, Wobble, to_pictures


def train(
    pack: Pack,
    work: Path,
    shapes: Shapes,
    *,
    minutes: float,
    sitting: float | None = None,
    batch: int | None = None,
    rate: float = 1.2e-3,
    device: str | None = None,
    crop: int | None = None,
    faster: bool | None = None,
    seed: int = 0,
) -> float:
    """Train within the time given, write `work/vae/model`, and return the PSNR on kept-back drawings.

    `crop` trains on smaller cut-outs at the same pixel size (on a CPU: 64), four times cheaper than whole pictures.
    """
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    where = device_for(device)
    torch.manual_seed(seed)
    batch = batch or (96 if where.type == "cuda" else 12)
    vae = make_vae(shapes)
    _start_awake(vae, shapes.latent_channels)
    vae.to(where, memory_format=layout(where)).train()
    # A 1 x 1 map from latent to the mean colour of its 8 x 8 pixels. Without it one colour axis gets lost.
    probe = torch.nn.Conv2d(shapes.latent_channels, 3, 1).to(where)
    loop = Loop("vae", work, {"vae": vae, "probe": probe}, minutes=minutes, sitting=sitting, rate=rate)
    crop = crop or (shapes.pixels if where.type == "cuda" else shapes.pixels // 2)
    zoom = shapes.pixels / crop
    wide = Wobble(smallest=0.5 * zoom, largest=1.6 * zoom, shift=0.2 + 0.25 * (zoom - 1), turn=20.0, still=0.0)
    views = Views(pack, where, crop)
    taught = torch.tensor(pack.where(taught=True), device=where)
    chance = torch.Generator(where).manual_seed(seed + loop.steps)
    encoder, decoder = vae.encoder, vae.decoder
    if where.type == "cuda" if faster is None else faster:
        encoder, decoder = torch.compile(encoder), torch.compile(decoder)
    for _ in loop.run(batch):
        places = taught[torch.randint(len(taught), (batch,), generator=chance, device=where)]
        pictures = views.draw(places, _grounds(views, batch, chance), chance, wide)
        pictures = pictures.contiguous(memory_format=layout(where))
        with mixed(where):
            posterior = DiagonalGaussianDistribution(vae.quant_conv(encoder(pictures)).float())
            latent = posterior.sample()
            drawn = decoder(vae.post_quant_conv(latent))
            colours = probe(latent)
        drawn, latent_cells = drawn.float(), latent[0].numel()
        level = (drawn - pictures).abs().mean() + 2 * F.mse_loss(drawn, pictures)
        edges = _gradient_loss(drawn, pictures)
        colour = F.mse_loss(colours.float(), F.avg_pool2d(pictures, 8))
        kl = posterior.kl().float().mean() / latent_cells
        kl_weight = 3e-4 * min(1.0, 3 * loop.share)
        psnr = 10 * torch.log10(4 / F.mse_loss(drawn.detach(), pictures))
        loop.learn(level + 0.5 * edges + colour + kl_weight * kl, psnr=psnr, kl=kl)
    with loop.averaged():
        return _finish(vae, loop, Views(pack, where, shapes.pixels), pack)


def _start_awake(vae: Any, channels: int) -> None:
    """Begin with almost no sampling noise; from the usual start the posterior collapses and PSNR stays at 9.5 dB."""
    with torch.no_grad():
        vae.encoder.conv_out.weight.mul_(2)
        vae.quant_conv.bias[channels:] = -6.0
        vae.quant_conv.weight[channels:].mul_(0.1)


def _grounds(views: Views, count: int, chance: torch.Generator) -> torch.Tensor:
    """Grounds (B, 3, H, W): named colours, any colour, or a slope between two colours."""
    named = views.colours[views.backgrounds(count, chance)]
    first, second = (torch.rand(count, 3, generator=chance, device=views.device) for _ in range(2))
    roll = torch.rand(count, 1, generator=chance, device=views.device)
    first = torch.where(roll < 0.7, named, first)
    second = torch.where(roll < 0.85, first, second)
    slope = torch.linspace(0, 1, views.size, device=views.device).view(1, 1, -1, 1)
    tall = first[:, :, None, None] * (1 - slope) + second[:, :, None, None] * slope
    return tall.expand(-1, -1, -1, views.size)


def _gradient_loss(drawn: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """L1 between horizontal and vertical differences at full, half and quarter size: edges in their place."""
    error, total = drawn - wanted, drawn.new_zeros(())
    for _ in range(3):
        total = total + (error[..., 1:] - error[..., :-1]).abs().mean()
        total = total + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        error = F.avg_pool2d(error, 2)
    return total


@torch.no_grad()
def encode_means(vae: Any, pictures: torch.Tensor) -> torch.Tensor:
    """The posterior's mean, unscaled."""
    return vae.encode(pictures.contiguous(memory_format=layout(pictures.device))).latent_dist.mean


@torch.no_grad()
def reconstruction_psnr(vae: Any, views: Views, places: list[int]) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Mean PSNR in dB over drawings seen straight on, half of them on white; with the pictures and their copies."""
    chance = torch.Generator(views.device).manual_seed(1)
    ground = views.colours[views.backgrounds(len(places), chance, white=0.5)]
    pictures = views.draw(torch.tensor(places, device=views.device), ground, chance, STILL)
    copies = torch.cat([vae.decode(encode_means(vae, part)).sample.clamp(-1, 1) for part in pictures.split(16)])
    each = 10 * torch.log10(4 / (copies - pictures).pow(2).mean((1, 2, 3)).clamp(min=1e-9))
    return each.mean().item(), pictures, copies


def _centre(vae: Any, latents: torch.Tensor) -> None:
    """Give every latent channel mean 0 by moving the offset into the two 1 x 1 maps; decoded pictures stay the same."""
    offset = latents.mean((0, 2, 3))
    with torch.no_grad():
        vae.quant_conv.bias[: len(offset)] -= offset
        vae.post_quant_conv.bias += vae.post_quant_conv.weight[:, :, 0, 0] @ offset


def _finish(vae: Any, loop: Loop, views: Views, pack: Pack) -> float:
    """Centre and scale the latents, save the model, measure it, and draw a grid. The loop's weights stay."""
    before = {k: v.clone() for k, v in vae.state_dict().items()}
    taught = pack.where(taught=True)
    sample = torch.tensor(taught[:: max(1, len(taught) // 256)], device=views.device)
    chance = torch.Generator(views.device).manual_seed(2)
    pictures = views.draw(sample, views.colours[views.backgrounds(len(sample), chance)], chance)
    latents = torch.cat([encode_means(vae, part) for part in pictures.split(16)])
    _centre(vae, latents)
    latents = latents - latents.mean((0, 2, 3), keepdim=True)
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    spread = ", ".join(f"{s:.2f}" for s in (latents.std((0, 2, 3)) * vae.config.scaling_factor).tolist())
    places = pack.kept_back() or taught
    psnr, wanted, copies = reconstruction_psnr(vae, views, places[:256])
    print(f"vae: {psnr:.2f} dB on {len(wanted)} kept-back drawings; latent spread by channel {spread}", flush=True)
    vae.save_pretrained(loop.folder / "model")
    originals, redrawn = to_pictures(wanted[:36]), to_pictures(copies[:36])
    pairs = [p for i in range(0, len(originals), 12) for p in originals[i : i + 12] + redrawn[i : i + 12]]
    grid(pairs, 12, loop.folder / "grid.png")
    vae.load_state_dict(before)
    return psnr if math.isfinite(psnr) else 0.0


def load(work: Path, device: torch.device) -> Any:
    """The finished autoencoder, frozen."""
    from diffusers import AutoencoderKL  # pyright: ignore[reportPrivateImportUsage]

    vae: Any = AutoencoderKL.from_pretrained(work / "vae" / "model", dtype=torch.float32)
    return vae.to(device, memory_format=layout(device)).eval().requires_grad_(False)
