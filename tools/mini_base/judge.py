"""Trains the judge: a small CLIP that tells which thing, which style and which background a picture shows.

`python -m tools.mini_base judge` calls `train`. Unlike the base it also learns the example style and the mascot (on
other things and poses than the example sets hold), so that it can say what a LoRA has learnt. It names the thing, the
style and the background each by itself, and finds a picture's whole caption among those of its lesson.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from .data import Pack
from .disguises import bent, in_ink, in_one_colour, in_other_colours
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
from .sources import HANDS, STYLES
from .tokenizer import load as load_tokenizer
from .tokenizer import token_ids
from .views import BACKGROUND_NAMES, STILL, Views, Wobble, on_ground
from .words import article, full_caption

_STYLE_PLACE = {s.key: i for i, s in enumerate(STYLES)}
_COLOURED = {s.key for s in STYLES if s.taught} | {h.key for h in HANDS if h.coloured}
_NO_STYLE = -1  # the mascot, other hands and what is disguised
_HELD_BACK_POSES = 40
_WOBBLE = Wobble(smallest=0.6, largest=1.1, shift=0.08, turn=15.0, still=0.1)


class Shown(NamedTuple):
    """Pictures (B, 3, H, W) and, by number, what they show (B,)."""

    pictures: torch.Tensor
    things: torch.Tensor
    styles: torch.Tensor
    grounds: torch.Tensor
    hands: torch.Tensor
    """The style of the drawing, also where a disguise hides it."""


class Lessons:
    """Pictures with the right answers: thing, style and background by number.

    Every drawing is cut out `views_each` times at the start, half of the views bent, those of hands without a word half
    as often; a lesson lays them on fresh grounds, so that no step waits for turning and scaling. A third of what has a
    style and most of the rest is disguised. A sixth of a lesson went through the autoencoder, as what the base draws does.
    """

    def __init__(self, pack: Pack, views: Views, vae: Any | None, views_each: int = 0, through_vae: int = 2048) -> None:
        """Without `views_each` there is nothing to draw, only what `measure` needs."""
        device = views.device
        self.pack, self.views = pack, views
        self.things = torch.tensor([pack.place_of[d.slug] for d in pack.drawings], device=device)
        self.styles = torch.tensor([_STYLE_PLACE.get(d.style, _NO_STYLE) for d in pack.drawings], device=device)
        self.coloured = torch.tensor([d.style in _COLOURED for d in pack.drawings], device=device)
        # The example set's own pictures stay unseen, so that the judge cannot reward a LoRA for copying them.
        own = {(slug, "inkstamp") for slug in STYLE_THINGS}
        example = [i for i, d in enumerate(pack.drawings) if (d.slug, d.style) in own]
        self.example = torch.tensor(example, dtype=torch.long, device=device)
        learns = [i for i in pack.where(judge_learns=True) if i not in example]
        self.held_back = torch.tensor(pack.where(judge_learns=False), dtype=torch.long, device=device)
        self.poses = torch.from_numpy(pack.poses).permute(0, 3, 1, 2).contiguous().to(device)
        self.pose_grounds = torch.tensor([BACKGROUND_NAMES.index(g) for g in pack.pose_grounds], device=device)
        self.mascot = len(pack.concepts)  # its number among the things
        # What is kept back of a style would be learnt as "never that": of such things nothing is said (last row: any).
        self.told = torch.ones(len(STYLES) + 1, self.mascot + 1, dtype=torch.bool, device=device)
        silent = torch.cat([self.held_back, self.example])
        self.told[self.styles[silent], self.things[silent]] = False
        self.softened: Shown | None = None
        if views_each:
            chance = torch.Generator(device).manual_seed(1)
            styled = [i for i in learns if pack.drawings[i].style in _STYLE_PLACE]
            others = [i for i in learns if pack.drawings[i].style not in _STYLE_PLACE]
            self.shown = torch.tensor(styled * views_each + others * max(1, views_each // 2), device=device)
            parts = [self._cut_out(part, chance) for part in self.shown.split(64)]
            self.cut_outs = torch.cat([(part * 255).round().byte() for part in parts])
            if vae is not None:
                lessons = [self._through(vae, self._posed(64, chance), chance) for _ in range(through_vae // 64)]
                self.softened = Shown(*(torch.cat(column) for column in zip(*lessons, strict=True)))

    def draw(self, size: int, chance: torch.Generator) -> Shown:
        """A lesson of `size` pictures; a fiftieth shows the mascot."""
        shown = self._posed(size, chance)
        if self.softened is not None:
            few = max(1, size // 6)
            row = torch.randint(len(self.softened.things), (few,), generator=chance, device=self.views.device)
            soft = Shown(*(column[row] for column in self.softened))
            soft = soft._replace(pictures=soft.pictures.float() / 127.5 - 1)
            for column, part in zip(shown, soft, strict=True):
                column[-few:] = part
        return shown._replace(pictures=self._in_other_light(shown.pictures, chance))

    def _cut_out(self, places: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
        cut_outs = self.views.cut_out(places, chance, _WOBBLE)
        half = len(places) // 2
        return torch.cat([bent(cut_outs[:half], chance), cut_outs[half:]])

    def _posed(self, size: int, chance: torch.Generator) -> Shown:
        device = self.views.device
        rows = torch.randint(len(self.shown), (size,), generator=chance, device=device)
        places = self.shown[rows]
        grounds = self.views.backgrounds(size, chance, white=0.3)
        cut_outs, disguised = self._disguised(self.cut_outs[rows].float() / 255, places, chance)
        pictures = on_ground(cut_outs, self.views.colours[grounds])
        things, hands = self.things[places], self.styles[places]
        styles = torch.where(disguised, _NO_STYLE, hands)
        few = max(1, size // 50)
        if len(self.poses) > _HELD_BACK_POSES:
            chosen = torch.randint(len(self.poses) - _HELD_BACK_POSES, (few,), generator=chance, device=device)
            posed = self.poses[chosen].float() / 127.5 - 1
            mirrored = torch.rand(few, 1, 1, 1, generator=chance, device=device) < 0.5
            posed = F.interpolate(posed, size=(self.views.size,) * 2, mode="bilinear", antialias=True, align_corners=False)
            pictures[:few] = torch.where(mirrored, posed.flip(3), posed)
            things[:few], grounds[:few] = self.mascot, self.pose_grounds[chosen]
            styles[:few] = hands[:few] = _NO_STYLE
        return Shown(pictures, things, styles, grounds, hands)

    def _disguised(
        self, cut_outs: torch.Tensor, places: torch.Tensor, chance: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The cut-outs, some of them disguised, and which: with colours by other colours or ink, without by a colour."""
        roll = torch.rand(len(places), generator=chance, device=places.device)
        share = torch.where(self.styles[places] >= 0, 0.33, 0.67)
        ways = {
            in_other_colours: self.coloured[places] & (roll < share / 2),
            in_ink: self.coloured[places] & (roll >= share / 2) & (roll < share),
            in_one_colour: ~self.coloured[places] & (roll < share),
        }
        for way, which in ways.items():
            if which.any():
                cut_outs[which] = way(cut_outs[which], chance)
        return cut_outs, roll < share

    @torch.no_grad()
    def _through(self, vae: Any, lesson: Shown, chance: torch.Generator) -> Shown:
        """A lesson whose pictures (as bytes) the autoencoder has encoded, with some noise, and decoded."""
        pictures, device = lesson.pictures, self.views.device
        with mixed(device):
            latent = vae.encode(pictures.contiguous(memory_format=layout(device))).latent_dist.mean
            noise = torch.randn(latent.shape, generator=chance, device=device)
            rough = 0.4 * torch.rand(len(latent), 1, 1, 1, generator=chance, device=device)
            latent = latent + rough * latent.std() * noise
            decoded = vae.decode(latent).sample.float().clamp(-1, 1)
        return lesson._replace(pictures=((decoded + 1) * 127.5).round().byte())

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


def captions(pack: Pack, shown: Shown) -> list[str]:
    """What a person would ask for to get each picture: the thing, its style unless it has none, the background."""
    names = [*(c.name for c in pack.concepts), MASCOT_NAME]
    lines = []
    for thing, style, ground in zip(shown.things.tolist(), shown.styles.tolist(), shown.grounds.tolist(), strict=True):
        name, on = names[thing], BACKGROUND_NAMES[ground]
        plain = f"{article(name)}{name}, {background_sentence(on)}"
        lines.append(plain if style == _NO_STYLE else full_caption(name, STYLES[style].words, on))
    return lines


def _once(whole: torch.Tensor, caption_ids: torch.Tensor) -> torch.Tensor:
    """Logits (B, B) of pictures and captions, without those of another picture's caption that says the same."""
    same = (caption_ids[:, None] == caption_ids[None]).all(2)
    return whole.masked_fill(same & ~torch.eye(len(same), dtype=torch.bool, device=same.device), -30.0)


def train(
    pack: Pack,
    work: Path,
    shapes: Shapes,
    *,
    minutes: float,
    since: float = 0.0,
    sitting: float | None = None,
    batch: int | None = None,
    rate: float = 2e-3,
    device: str | None = None,
    seed: int = 0,
    words_from: Path | None = None,
) -> dict[str, float]:
    """Train within the time given, write `work/judge/model` and return its own accuracy on held-back drawings.

    A judge that begins takes the words' half of the finished judge in `words_from`, where that reads with the same
    vocabulary: the eye then has something to aim at from the first step.
    """
    where = device_for(device)
    torch.manual_seed(seed)
    batch = batch or (512 if where.type == "cuda" else 96)
    tokenizer = load_tokenizer(work / "tokenizer")
    model = make_judge(shapes, tokenizer).to(where, memory_format=torch.channels_last).train()
    if where.type == "cpu":  # torch's own attention is slow backwards on a processor
        model.text_model.set_attn_implementation("eager")
    if words_from is not None and _takes_words(model, words_from, work / "tokenizer"):
        print(f"judge: its words are those of {words_from}", flush=True)
    loop = Loop("judge", work, {"judge": model}, minutes=minutes, since=since, sitting=sitting, rate=rate)
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
        shown = lessons.draw(batch, chance)
        caption_ids = ids(captions(pack, shown))
        with mixed(where):
            seen = picture_embeddings(model, shown.pictures.contiguous(memory_format=torch.channels_last))
            said = text_embeddings(model, torch.cat([thing_ids, fixed, caption_ids]))
        scale = model.logit_scale.exp().clamp(max=100)
        parts = [len(thing_ids), len(STYLES), len(BACKGROUND_NAMES), len(caption_ids)]
        thing, style, ground, whole = (scale * seen @ said.T).split(parts, 1)
        thing = thing.masked_fill(~lessons.told[shown.hands], -30.0)
        known = (shown.styles != _NO_STYLE).sum().clamp(min=1)
        loss = F.cross_entropy(thing, shown.things, label_smoothing=0.05)
        loss = loss + F.cross_entropy(style, shown.styles, ignore_index=_NO_STYLE, reduction="sum") / known
        loss = loss + 0.3 * F.cross_entropy(ground, shown.grounds)
        loss = loss + 0.3 * F.cross_entropy(_once(whole, caption_ids), torch.arange(len(whole), device=where))
        loop.learn(loss, top1=(thing.argmax(1) == shown.things).float().mean())
    with loop.averaged():
        accuracy = measure(model, lessons, ids)
        _save(model, tokenizer, loop.folder / "model")
    print(
        f"judge: {count(model) / 1e6:.2f} M parameters, " + ", ".join(f"{k} {v:.1%}" for k, v in accuracy.items()),
        flush=True,
    )
    (loop.folder / "accuracy.json").write_text(json.dumps(accuracy, indent=2) + "\n", encoding="utf-8")
    return accuracy


def _takes_words(model: Any, finished: Path, vocabulary: Path) -> bool:
    """Give `model` the words' half of a finished judge with the same vocabulary; False where there is none."""
    from transformers import AutoModel

    read = [folder / "tokenizer.json" for folder in (finished, vocabulary)]
    if not all(file.is_file() for file in read) or read[0].read_bytes() != read[1].read_bytes():
        return False
    theirs = AutoModel.from_pretrained(finished, dtype=torch.float32)
    for part in ("text_model", "text_projection"):
        getattr(model, part).load_state_dict(getattr(theirs, part).state_dict())
    model.logit_scale.data.copy_(theirs.logit_scale)
    return True


def _autoencoder(work: Path, where: torch.device) -> Any | None:
    if not (work / "vae" / "model").is_dir():
        return None
    from . import vae

    return vae.load(work, where)


@torch.no_grad()
def measure(model: Any, lessons: Lessons, ids: Any) -> dict[str, float]:
    """Accuracy on drawings and poses the judge never learnt, each seen straight on, on a random background. `in_ink` is
    the share of the example style's own pictures whose thing it names among five."""
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
    if len(lessons.example):
        pictures = views.draw(lessons.example, views.colours[:1].expand(len(lessons.example), 3), chance, STILL)
        among = (picture_embeddings(model, pictures) @ thing_words.T).topk(5, dim=1).indices
        result["in_ink"] = (among == lessons.things[lessons.example][:, None]).any(1).float().mean().item()
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
