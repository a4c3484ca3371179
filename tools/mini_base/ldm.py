"""Trains the text encoder and the UNet together on latents of many views of every drawing.

`python -m tools.mini_base ldm` calls `train`. v-prediction with zero terminal SNR, weights (min(SNR, 5) + 1) /
(SNR + 1), timesteps stratified over the batch, a tenth of the captions empty, averaged weights.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import vae as vae_stage
from .data import Pack
from .progress import Loop, device_for, grid, layout, mixed
from .shapes import Shapes, make_scheduler, make_text_encoder, make_unet
from .sources import style
from .tokenizer import load as load_tokenizer
from .tokenizer import token_ids
from .views import BACKGROUND_NAMES, CALM, Views, Wobble
from .words import varied_caption

LOOK_AT = (
    "a red apple, flat style, white background",
    "a fox, flat style, white background",
    "a fox, cartoon style, white background",
    "a fox, glossy 3d style, white background",
    "a fox, poster style, blue background",
    "a fox, retro style, yellow background",
    "a rocket, cartoon style, blue background",
    "a sunflower, glossy 3d style, white background",
    "a penguin, sticker style, yellow background",
    "a castle, cartoon style, pink background",
    "a hamburger, glossy 3d style, green background",
    "a robot, poster style, white background",
    "an owl",
    "a red heart, glossy 3d style, black background",
    "a car, retro style, white background",
    "a cactus, sticker style, orange background",
)

TAUGHT = "things.json"  # how many things the model was taught, favourites first


@dataclass(frozen=True)
class Lesson:
    """What is taught up to a share of the stage's time: so many things, of which the first `known` come from the lesson
    before and are shown half as often as new ones."""

    things: int | None = None
    known: int = 0
    until: float = 1.0
    new_styles: tuple[str, ...] = ()
    """Keys of styles that were not taught before: shown twice as often as the others."""


# A processor has no time for everything at once: few things until they have shapes, then more.
CPU_LESSONS = (Lesson(16, 0, 0.15), Lesson(64, 0, 0.26), Lesson(200, 64))


class LatentBank:
    """Latents of many views of every taught drawing, each with some captions, ready on the device.

    A background is part of the picture the VAE sees, so it is chosen here: every view has its own. Encoding once and
    training on the bank costs a fraction of encoding inside the loop; every sitting makes a fresh bank.
    """

    def __init__(
        self,
        pack: Pack,
        views: Views,
        vae: Any,
        tokenizer: Any,
        *,
        per_drawing: int,
        captions: int,
        seed: int,
        wobble: Wobble = Wobble(),
        known: int = 0,
        new_styles: Sequence[str] = (),
    ) -> None:
        device = views.device
        started = time.monotonic()
        places = torch.tensor(_places(pack, per_drawing, known, new_styles), device=device)
        chance = torch.Generator(device).manual_seed(seed)
        grounds = views.backgrounds(len(places), chance)
        kept = []
        for part, ground in zip(places.split(64), grounds.split(64), strict=True):
            with mixed(device):
                latent = vae_stage.encode_means(vae, views.draw(part, views.colours[ground], chance, wobble))
            kept.append((latent.float() * vae.config.scaling_factor).half())
        self.latents = torch.cat(kept)  # (M, C, 16, 16)
        words = random.Random(seed)
        lines = [
            self._caption(pack, place, ground, words)
            for place, ground in zip(places.tolist(), grounds.tolist(), strict=True)
            for _ in range(captions)
        ]
        ids = torch.from_numpy(token_ids(tokenizer, lines))
        self.captions = ids.view(len(places), captions, -1).to(device)  # (M, captions, 77)
        self.empty = torch.from_numpy(token_ids(tokenizer, [""])).to(device).long()  # (1, 77)
        self.device = device
        print(f"ldm: {len(places)} latents, {time.monotonic() - started:.0f} s", flush=True)

    @staticmethod
    def _caption(pack: Pack, place: int, ground: int, words: random.Random) -> str:
        drawing = pack.drawings[place]
        names = list(pack.concept(drawing).names)
        return varied_caption(names, style(drawing.style).words, BACKGROUND_NAMES[ground], words, no_style_share=0.1)

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (B, C, 16, 16) and token ids (B, 77); a tenth of the captions is empty, for guidance."""
        rows = torch.randint(len(self.latents), (size,), device=self.device)
        which = torch.randint(self.captions.shape[1], (size,), device=self.device)
        ids = self.captions[rows, which].long()
        without = torch.rand(size, 1, device=self.device) < 0.1
        return self.latents[rows].float(), torch.where(without, self.empty, ids)


def _places(pack: Pack, per_drawing: int, known: int, new_styles: Sequence[str] = ()) -> list[int]:
    """Every taught drawing `per_drawing` times; half as often where its thing is among the first `known`, or its style
    was taught before while others were not."""
    taught = pack.where(taught=True)
    drawn = [(place, pack.drawings[place]) for place in taught]
    new = [p for p, d in drawn if pack.place_of[d.slug] >= known and (not new_styles or d.style in new_styles)]
    often = max(1, per_drawing // 2) if known or new_styles else per_drawing
    return taught * often + new * (per_drawing - often)


def train(
    pack: Pack,
    work: Path,
    shapes: Shapes,
    *,
    minutes: float,
    since: float = 0.0,
    sitting: float | None = None,
    batch: int | None = None,
    rate: float | None = None,
    device: str | None = None,
    per_drawing: int | None = None,
    lessons: Sequence[Lesson] = (Lesson(),),
    faster: bool | None = None,
    seed: int = 0,
) -> Path:
    """Train within the time given and write `work/ldm/model`, a plain diffusers folder."""
    where = device_for(device)
    on_gpu = where.type == "cuda"
    torch.manual_seed(seed)
    batch = batch or (512 if on_gpu else 16)
    rate = rate or (1e-3 if on_gpu else 8e-4)
    tokenizer = load_tokenizer(work / "tokenizer")
    vae = vae_stage.load(work, where)
    unet = make_unet(shapes).to(where, memory_format=layout(where)).train()
    text_encoder = make_text_encoder(shapes, tokenizer).to(where).train()
    if not on_gpu:  # torch's own attention is slow backwards on a processor
        from diffusers.models.attention_processor import AttnProcessor

        unet.set_attn_processor(AttnProcessor())
        text_encoder.set_attn_implementation("eager")
    parts = {"unet": unet, "text_encoder": text_encoder}
    averaging = 0.9995 if on_gpu else 0.998
    loop = Loop("ldm", work, parts, minutes=minutes, since=since, sitting=sitting, rate=rate, averaging=averaging)
    predict = torch.compile(unet) if (on_gpu if faster is None else faster) else unet

    def look(file: Path) -> None:
        draw_grid(assemble(vae, text_encoder, tokenizer, unet), file)

    for lesson in lessons:
        taught = pack.first(lesson.things)
        if loop.share >= lesson.until:
            continue
        views = Views(taught, where, shapes.pixels)
        bank = LatentBank(
            taught,
            views,
            vae,
            tokenizer,
            per_drawing=per_drawing or (40 if on_gpu else 16),
            captions=4,
            wobble=Wobble() if on_gpu else CALM,
            known=lesson.known,
            new_styles=lesson.new_styles,
            seed=seed + loop.steps,
        )
        del views
        (loop.folder / TAUGHT).write_text(json.dumps(len(taught.concepts)) + "\n", encoding="utf-8")
        _learn(loop, predict, text_encoder, bank, batch, lesson.until, look)
        if loop.share < lesson.until:
            break  # the sitting is over
    with loop.averaged():
        look(loop.folder / "grid.png")
        assemble(vae, text_encoder, tokenizer, unet).save_pretrained(loop.folder / "model")
    return loop.folder / "model"


def _learn(
    loop: Loop,
    predict: Any,
    text_encoder: Any,
    bank: LatentBank,
    batch: int,
    until: float,
    look: Callable[[Path], None],
) -> None:
    """Learn from `bank` up to the share `until` of the time; on a GPU `look` draws a grid every few minutes."""
    where = bank.device
    kept = _kept_signal().to(where)
    next_look, look_every = loop.spent + 90, 150.0
    for _ in loop.run(batch, until):
        latent, ids = bank.batch(batch)
        strata = torch.arange(batch, device=where) + torch.rand(batch, device=where)
        moment = (strata / batch * 1000).long().clamp(max=999)
        noise = torch.randn_like(latent)
        loss, clean_error = diffusion_loss(predict, text_encoder, kept, latent, ids, moment, noise)
        loop.learn(loss, clean=clean_error)
        if where.type == "cuda" and loop.spent > next_look:
            next_look += look_every
            with loop.averaged():
                look(loop.folder / f"grid-{loop.spent / 60:04.1f}min.png")


def _kept_signal() -> torch.Tensor:
    """alpha-bar by timestep, (1000,), exactly as the scheduler draws with it; the last entry is 0."""
    from diffusers import DDPMScheduler  # pyright: ignore[reportPrivateImportUsage]

    scheduler: Any = DDPMScheduler.from_config(make_scheduler().config)
    return scheduler.alphas_cumprod


def diffusion_loss(
    unet: Any,
    text_encoder: Any,
    kept: torch.Tensor,
    latent: torch.Tensor,
    ids: torch.Tensor,
    moment: torch.Tensor,
    noise: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted v-prediction loss, and the squared error of the clean latent it implies.

    z_t = sqrt(a) z + sqrt(1 - a) e;  v = sqrt(a) e - sqrt(1 - a) z;  z = sqrt(a) z_t - sqrt(1 - a) v
    (Salimans & Ho 2022). SNR = a / (1 - a); the weight stays above 0 at SNR = 0, where drawing starts.
    """
    share = kept[moment]
    signal, rest = share.sqrt()[:, None, None, None], (1 - share).sqrt()[:, None, None, None]
    noisy = signal * latent + rest * noise
    with mixed(latent.device):
        words = text_encoder(ids).last_hidden_state
        predicted = unet(noisy.contiguous(memory_format=layout(noisy.device)), moment, words).sample
    predicted = predicted.float()
    error = (predicted - (signal * noise - rest * latent)).pow(2).mean((1, 2, 3))
    snr = share / (1 - share).clamp(min=1e-8)
    weight = (snr.clamp(max=5) + 1) / (snr + 1)
    with torch.no_grad():
        clean = (signal * noisy - rest * predicted - latent).pow(2).mean()
    return (error * weight).mean(), clean


def things_taught(work: Path) -> int | None:
    """How many things `work/ldm` was taught; None: all of them."""
    file = work / "ldm" / TAUGHT
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def assemble(vae: Any, text_encoder: Any, tokenizer: Any, unet: Any) -> Any:
    """The parts as diffusers' own pipeline."""
    from diffusers import StableDiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]

    absent: Any = None  # diffusers takes None for the checker and its extractor, its annotations do not
    pipe = StableDiffusionPipeline(
        vae, text_encoder, tokenizer, unet, make_scheduler(), absent, absent, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: Any, prompts: list[str], *, seed: int = 1, steps: int = 20, guidance: float = 3.0, together: int = 16) -> list:
    """One picture per prompt; the seed of prompt k is `seed + k`, its noise made on the CPU."""
    pictures: list = []
    for start in range(0, len(prompts), together):
        part = prompts[start : start + together]
        chances = [torch.Generator().manual_seed(seed + start + k) for k in range(len(part))]
        side = pipe.unet.config.sample_size * 8
        drawn = pipe(part, num_inference_steps=steps, guidance_scale=guidance, height=side, width=side, generator=chances)
        pictures += drawn.images
    return pictures


def draw_grid(pipe: Any, file: Path) -> None:
    """The same prompts every time, so that grids can be laid side by side."""
    grid(draw(pipe, list(LOOK_AT)), 8, file, [p.replace(" background", "") for p in LOOK_AT])
