"""Trains the judge: a small CLIP that tells which thing, which style and which background a picture shows.

`python -m tools.mini_base judge` calls `train`. Unlike the base it also learns the example style and the mascot (on
other things and poses than the example sets hold), so that it can say what a LoRA has learnt.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from .data import Pack
from .example_sets import STYLE_THINGS
from .judging import (
    MASCOT_NAME,
    STYLE_SENTENCES,
    TEXT_LENGTH,
    background_sentence,
    picture_embeddings,
    text_embeddings,
)
from .progress import Loop, device_for, layout, mixed
from .shapes import Shapes, count, make_judge
from .sources import STYLES
from .tokenizer import load as load_tokenizer
from .tokenizer import token_ids
from .views import BACKGROUND_NAMES, STILL, Views, Wobble, on_ground
from .words import article

_STYLE_PLACE = {s.key: i for i, s in enumerate(STYLES)}
_NO_STYLE = -1  # the mascot has a look of its own
_HELD_BACK_POSES = 40
_WOBBLE = Wobble(smallest=0.6, largest=1.1, shift=0.08, turn=15.0, still=0.1)


class Lessons:
    """Pictures with the right answers: thing, style and background by number.

    Every drawing is cut out `views_each` times at the start; a lesson lays those on fresh grounds, so that no step
    waits for turning and scaling. A twelfth of a lesson went through the autoencoder, as what the base draws does.
    """

    def __init__(self, pack: Pack, views: Views, vae: Any | None, views_each: int = 0, through_vae: int = 2048) -> None:
        """Without `views_each` there is nothing to draw, only what `measure` needs."""
        device = views.device
        self.pack, self.views = pack, views
        self.things = torch.tensor([pack.place_of[d.slug] for d in pack.drawings], device=device)
        self.styles = torch.tensor([_STYLE_PLACE[d.style] for d in pack.drawings], device=device)
        # The example set's own pictures stay unseen, so that the judge cannot reward a LoRA for copying them.
        own = {(slug, "inkstamp") for slug in STYLE_THINGS}
        learns = [
            i for i in pack.where(judge_learns=True) if (pack.drawings[i].slug, pack.drawings[i].style) not in own
        ]
        self.learns = torch.tensor(learns, device=device)
        self.held_back = torch.tensor(pack.where(judge_learns=False), device=device)
        self.poses = torch.from_numpy(pack.poses).permute(0, 3, 1, 2).contiguous().to(device)
        self.pose_grounds = torch.tensor([BACKGROUND_NAMES.index(g) for g in pack.pose_grounds], device=device)
        self.mascot = len(pack.concepts)  # its number among the things
        self.softened: tuple[torch.Tensor, ...] | None = None
        if views_each:
            chance = torch.Generator(device).manual_seed(1)
            self.shown = self.learns.repeat(views_each)
            parts = [views.cut_out(part, chance, _WOBBLE) for part in self.shown.split(64)]
            self.cut_outs = torch.cat([(part * 255).round().byte() for part in parts])
            if vae is not None:
                lessons = [self._through(vae, self._posed(64, chance), chance) for _ in range(through_vae // 64)]
                self.softened = tuple(torch.cat(column) for column in zip(*lessons, strict=True))

    def draw(self, size: int, chance: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pictures (B, 3, H, W), things (B,), styles (B,), backgrounds (B,); a fiftieth shows the mascot."""
        pictures, things, styles, grounds = self._posed(size, chance)
        if self.softened is not None:
            few = max(1, size // 12)
            row = torch.randint(len(self.softened[1]), (few,), generator=chance, device=self.views.device)
            soft = [column[row] for column in self.softened]
            pictures[-few:], things[-few:], styles[-few:], grounds[-few:] = soft[0].float() / 127.5 - 1, *soft[1:]
        return self._in_other_light(pictures, chance), things, styles, grounds

    def _posed(self, size: int, chance: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        device = self.views.device
        rows = torch.randint(len(self.shown), (size,), generator=chance, device=device)
        grounds = self.views.backgrounds(size, chance, white=0.3)
        pictures = on_ground(self.cut_outs[rows].float() / 255, self.views.colours[grounds])
        things, styles = self.things[self.shown[rows]], self.styles[self.shown[rows]]
        few = max(1, size // 50)
        if len(self.poses) > _HELD_BACK_POSES:
            chosen = torch.randint(len(self.poses) - _HELD_BACK_POSES, (few,), generator=chance, device=device)
            posed = self.poses[chosen].float() / 127.5 - 1
            mirrored = torch.rand(few, 1, 1, 1, generator=chance, device=device) < 0.5
            posed = F.interpolate(
                posed, size=(self.views.size,) * 2, mode="bilinear", antialias=True, align_corners=False
            )
            pictures[:few] = torch.where(mirrored, posed.flip(3), posed)
            things[:few], styles[:few], grounds[:few] = self.mascot, _NO_STYLE, self.pose_grounds[chosen]
        return pictures, things, styles, grounds

    @torch.no_grad()
    def _through(self, vae: Any, lesson: tuple[torch.Tensor, ...], chance: torch.Generator) -> tuple[torch.Tensor, ...]:
        """A lesson whose pictures (as bytes) the autoencoder has encoded, with a little noise, and decoded."""
        pictures, device = lesson[0], self.views.device
        with mixed(device):
            latent = vae.encode(pictures.contiguous(memory_format=layout(device))).latent_dist.mean
            latent = latent + 0.15 * latent.std() * torch.randn(latent.shape, generator=chance, device=device)
            decoded = vae.decode(latent).sample.float().clamp(-1, 1)
        return ((decoded + 1) * 127.5).round().byte(), *lesson[1:]

    @staticmethod
    def _in_other_light(pictures: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
        """A third is blurred, all get a little noise and a change of light."""
        size, device = len(pictures), pictures.device
        smaller = F.interpolate(pictures, scale_factor=0.5, mode="area")
        soft = F.interpolate(smaller, size=pictures.shape[-2:], mode="bilinear", align_corners=False)
        roll = torch.rand(size, 1, 1, 1, generator=chance, device=device)
        pictures = torch.where(roll < 0.33, soft, pictures)
        light = 1 + 0.1 * torch.randn(size, 1, 1, 1, generator=chance, device=device)
        noise = 0.04 * torch.randn(pictures.shape, generator=chance, device=device)
        return (pictures * light + noise).clamp(-1.1, 1.1)


def thing_sentences(pack: Pack, words: random.Random | None = None) -> list[str]:
    """One sentence per thing and one for the mascot: the plain name, or with `words` any of its names."""
    lines = []
    for names in [*(c.names for c in pack.concepts), (MASCOT_NAME,)]:
        name = names[0] if words is None or words.random() < 0.7 else words.choice(names)
        lines.append(name if words is not None and words.random() < 0.3 else article(name) + name)
    return lines


def train(
    pack: Pack,
    work: Path,
    shapes: Shapes,
    *,
    minutes: float,
    sitting: float | None = None,
    batch: int | None = None,
    rate: float = 1e-3,
    device: str | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Train within the time given, write `work/judge/model` and return its own accuracy on held-back drawings."""
    where = device_for(device)
    torch.manual_seed(seed)
    batch = batch or (512 if where.type == "cuda" else 96)
    tokenizer = load_tokenizer(work / "tokenizer")
    model = make_judge(shapes, tokenizer).to(where).train()
    loop = Loop("judge", work, {"judge": model}, minutes=minutes, sitting=sitting, rate=rate)
    views = Views(pack, where, shapes.pixels)
    lessons = Lessons(pack, views, _autoencoder(work, where), views_each=40 if where.type == "cuda" else 12)
    chance = torch.Generator(where).manual_seed(seed + loop.steps)
    words = random.Random(seed + loop.steps)

    def ids(lines: list[str]) -> torch.Tensor:
        return torch.from_numpy(token_ids(tokenizer, lines, TEXT_LENGTH)).to(where).long()

    fixed = ids([*STYLE_SENTENCES, *(background_sentence(b) for b in BACKGROUND_NAMES)])
    thing_ids = ids(thing_sentences(pack))
    for step in loop.run(batch):
        if step % 20 == 0:
            thing_ids = ids(thing_sentences(pack, words))
        pictures, things, styles, grounds = lessons.draw(batch, chance)
        with mixed(where):
            seen = picture_embeddings(model, pictures)
            said = text_embeddings(model, torch.cat([thing_ids, fixed]))
        scale = model.logit_scale.exp().clamp(max=100)
        thing, style, ground = (scale * seen @ said.T).split([len(thing_ids), len(STYLES), len(BACKGROUND_NAMES)], 1)
        loss = F.cross_entropy(thing, things, label_smoothing=0.05)
        loss = loss + F.cross_entropy(style, styles, ignore_index=_NO_STYLE) + 0.3 * F.cross_entropy(ground, grounds)
        loop.learn(loss, top1=(thing.argmax(1) == things).float().mean())
    with loop.averaged():
        accuracy = measure(model, lessons, ids)
        _save(model, tokenizer, loop.folder / "model")
    print(
        f"judge: {count(model) / 1e6:.2f} M parameters, " + ", ".join(f"{k} {v:.1%}" for k, v in accuracy.items()),
        flush=True,
    )
    (loop.folder / "accuracy.json").write_text(json.dumps(accuracy, indent=2) + "\n", encoding="utf-8")
    return accuracy


def _autoencoder(work: Path, where: torch.device) -> Any | None:
    if not (work / "vae" / "model").is_dir():
        return None
    from . import vae

    return vae.load(work, where)


@torch.no_grad()
def measure(model: Any, lessons: Lessons, ids: Any) -> dict[str, float]:
    """Accuracy on drawings and poses the judge never learnt, each seen straight on, on a random background."""
    pack, views = lessons.pack, lessons.views
    chance = torch.Generator(views.device).manual_seed(5)
    places = lessons.held_back
    grounds = views.backgrounds(len(places), chance, white=0.3)
    pictures = views.draw(places, views.colours[grounds], chance, STILL)
    thing_words = text_embeddings(model, ids(thing_sentences(pack)))
    style_words = text_embeddings(model, ids(list(STYLE_SENTENCES)))
    ground_words = text_embeddings(model, ids([background_sentence(b) for b in BACKGROUND_NAMES]))
    seen = torch.cat([picture_embeddings(model, part) for part in pictures.split(64)])
    best = (seen @ thing_words.T).topk(5, dim=1).indices
    right = best == lessons.things[places][:, None]
    result = {
        "thing_top1": right[:, 0].float().mean().item(),
        "thing_top5": right.any(1).float().mean().item(),
        "style": ((seen @ style_words.T).argmax(1) == lessons.styles[places]).float().mean().item(),
        "background": ((seen @ ground_words.T).argmax(1) == grounds).float().mean().item(),
        "not_mascot": (best[:, 0] != lessons.mascot).float().mean().item(),
    }
    if len(lessons.poses) > _HELD_BACK_POSES:
        posed = lessons.poses[-_HELD_BACK_POSES:].float() / 127.5 - 1
        posed = F.interpolate(posed, size=(views.size,) * 2, mode="bilinear", antialias=True, align_corners=False)
        found = (picture_embeddings(model, posed) @ thing_words.T).argmax(1) == lessons.mascot
        result["mascot"] = found.float().mean().item()
    return {k: round(v, 4) for k, v in result.items()}


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    """The model, its tokenizer, and how pictures are prepared for it (128 px, -1..1)."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    side = model.config.vision_config.image_size
    how = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_convert_rgb": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(how, indent=2) + "\n", encoding="utf-8")
