"""Builds the picture pack: every chosen thing in every style, drawn once with its transparency, in one compact file.

`python -m tools.mini_base data` calls `build`; every later stage reads the pack through `Pack`. It is a safetensors
file of WebP bytes whose header holds the index, small enough to travel to another machine.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from . import mascot
from .concepts import Concept, choose, first_few, icon_names, slug_of
from .looks import LOOKS
from .poses import other_pose
from .render import ink_share, rasterise, svg_of_icon
from .sources import HANDS, STYLES, WORDS, Hand, Style, check_licence, fetch, read_json

PACK_PIXELS = 192  # half as much again as the base draws, so that turned and scaled views stay sharp
MASCOT_POSES = 320  # for the judge alone: poses and props the example set does not hold
_QUALITY = 88


@dataclass(frozen=True)
class Drawing:
    """One picture of the pack: a thing in a style, and which parts of the recipe may learn from it."""

    slug: str
    style: str  # the key of a style, or of a hand that has no word
    taught: bool  # the VAE and the UNet learn it; False: the example style, or a combination kept back for the table
    judge_learns: bool  # False: kept back to measure the judge


def _chance(*parts: str) -> float:
    """A number in 0..1 that depends on the words alone, the same on every machine."""
    return int.from_bytes(hashlib.sha256("/".join(parts).encode()).digest()[:4], "big") / 2**32


def split(slug: str, style: Style) -> Drawing:
    """Keep back a tenth of the combinations from the base and a twenty-fifth of the drawings from the judge."""
    combination_kept_back = _chance("combination", slug, style.key) < 0.10
    return Drawing(
        slug=slug,
        style=style.key,
        taught=style.taught and not combination_kept_back,
        judge_learns=_chance("judge", slug, style.key) >= 0.04,
    )


def chosen_concepts(npm: Path) -> list[Concept]:
    """The things to learn, from the two word lists."""
    by_emoji, keywords = WORDS
    for package in WORDS:
        check_licence(package, npm, "MIT")
    return choose(read_json(by_emoji, npm, "data-by-emoji.json"), read_json(keywords, npm, "en/data.json"))


def _icon_names(pack: dict[str, Any]) -> dict[str, str]:
    """Slug -> icon name, plain aliases included."""
    names = {slug_of(name): name for name in pack["icons"]}
    for alias, entry in pack.get("aliases", {}).items():
        if set(entry) == {"parent"} and entry["parent"] in pack["icons"]:
            names.setdefault(slug_of(alias), entry["parent"])
    return names


def draw_all(concepts: list[Concept], npm: Path, pixels: int) -> Iterator[tuple[Drawing, Image.Image]]:
    """Every thing in every style that has it; an empty drawing is skipped."""
    for style in STYLES:
        check_licence(style.package, npm, style.licence)
        pack = read_json(style.package, npm, "icons.json")
        names = _icon_names(pack)
        wanted = [c.slug for c in concepts if c.slug in names]
        svgs = [svg_of_icon(pack, names[slug]) for slug in wanted]
        with ThreadPoolExecutor(4) as pool:
            pictures = pool.map(lambda svg: rasterise(svg, pixels), svgs)
            for slug, picture in zip(wanted, pictures, strict=True):
                if ink_share(picture) > 0.02:
                    yield split(slug, style), LOOKS[style.look](picture) if style.look else picture


def draw_hands(concepts: list[Concept], npm: Path, pixels: int) -> Iterator[tuple[Drawing, Image.Image]]:
    """The same things by other hands, where those have an icon of that name: for the judge alone."""
    for hand in HANDS:
        check_licence(hand.package, npm, hand.licence)
        pack = read_json(hand.package, npm, "icons.json")
        wanted = icons_of(hand, _icon_names(pack), concepts)
        svgs = [svg_of_icon(pack, icon) for icon in wanted.values()]
        with ThreadPoolExecutor(4) as pool:
            pictures = pool.map(lambda svg: rasterise(svg, pixels), svgs)
            for (slug, _), picture in zip(wanted, pictures, strict=True):
                if ink_share(picture) > 0.02:
                    yield Drawing(slug, hand.key, taught=False, judge_learns=True), picture


def icons_of(hand: Hand, names: dict[str, str], concepts: list[Concept]) -> dict[tuple[str, str], str]:
    """Icon names by (slug, ending): the first of a thing's spellings that the set has, none of them for two things."""
    found: dict[tuple[str, str], str] = {}
    for concept in concepts:
        for ending in hand.endings:
            icons = [names[spelling + ending] for spelling in icon_names(concept.slug) if spelling + ending in names]
            if icons and icons[0] not in found.values():
                found[concept.slug, ending] = icons[0]
    return found


def mascot_pictures(count: int) -> Iterator[tuple[str, Image.Image]]:
    """Background word and picture of `count` poses of the mascot, the same every time."""
    chance = random.Random(11)
    for _ in range(count):
        pose = other_pose(chance)
        yield pose.background, rasterise(mascot.svg(pose), 128).convert("RGB")


def build(npm: Path, file: Path, pixels: int = PACK_PIXELS) -> None:
    """Fetch, check, draw and write the pack."""
    fetch(list(dict.fromkeys([*(s.package for s in (*STYLES, *HANDS)), *WORDS])), npm)
    concepts = chosen_concepts(npm)
    drawings = chain(draw_all(concepts, npm, pixels), draw_hands(concepts, npm, pixels))
    write_pack(file, concepts, drawings, mascot_pictures(MASCOT_POSES), pixels)


def write_pack(
    file: Path,
    concepts: list[Concept],
    drawings: Iterable[tuple[Drawing, Image.Image]],
    poses: Iterable[tuple[str, Image.Image]],
    pixels: int,
) -> None:
    """Write concepts, drawings and the mascot's poses as one safetensors file."""
    from safetensors.numpy import save_file

    rows, blobs = _compressed(drawings)
    grounds, posed = _compressed(poses)
    index = {
        "pixels": pixels,
        "concepts": [asdict(c) for c in concepts],
        "drawings": [asdict(r) for r in rows],
        "poses": grounds,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    half_written = file.with_suffix(".part")
    tensors = {**_joined("drawings", blobs), **_joined("poses", posed)}
    save_file(tensors, half_written, metadata={"index": json.dumps(index)})
    half_written.replace(file)
    print(f"{len(rows)} drawings of {len(concepts)} things, {file.stat().st_size / 1e6:.1f} MB: {file}", flush=True)


def _compressed(pairs: Iterable[tuple[Any, Image.Image]]) -> tuple[list[Any], list[bytes]]:
    facts, blobs = [], []
    for fact, picture in pairs:
        stream = io.BytesIO()
        picture.save(stream, "WEBP", quality=_QUALITY, alpha_quality=90, method=6)
        facts.append(fact)
        blobs.append(stream.getvalue())
    return facts, blobs


def _joined(name: str, blobs: list[bytes]) -> dict[str, np.ndarray]:
    return {
        f"{name}.webp": np.frombuffer(b"".join(blobs), dtype=np.uint8),
        f"{name}.ends": np.cumsum([len(b) for b in blobs], dtype=np.int64),
    }


class Pack:
    """The pack in memory: the concepts, the drawings, and their pixels as one uint8 array (N, H, W, 4)."""

    def __init__(self, file: Path, things: int | None = None) -> None:
        """`things` keeps only so many, favourites first."""
        from safetensors import safe_open

        with safe_open(str(file), "numpy") as stream:
            index = json.loads(stream.metadata()["index"])
            self.pixels = _unpacked(stream, "drawings", "RGBA")
            self.poses = _unpacked(stream, "poses", "RGB")  # (K, 128, 128, 3): the mascot, for the judge
        self.size: int = index["pixels"]
        self.concepts = [Concept(c["slug"], c["group"], tuple(c["names"])) for c in index["concepts"]]
        self.drawings = [Drawing(**row) for row in index["drawings"]]
        if things is not None:
            self._keep(first_few(self.concepts, things))
        self.place_of = {c.slug: i for i, c in enumerate(self.concepts)}
        self.pose_grounds: list[str] = index["poses"]

    def first(self, things: int | None) -> Pack:
        """A pack of only so many of these things, favourites first; without a number this one."""
        if things is None:
            return self
        fewer = copy(self)
        fewer._keep(first_few(self.concepts, things))
        fewer.place_of = {c.slug: i for i, c in enumerate(fewer.concepts)}
        return fewer

    def _keep(self, concepts: list[Concept]) -> None:
        slugs = {c.slug for c in concepts}
        kept = [i for i, d in enumerate(self.drawings) if d.slug in slugs]
        self.concepts, self.drawings, self.pixels = concepts, [self.drawings[i] for i in kept], self.pixels[kept]

    def concept(self, drawing: Drawing) -> Concept:
        """What a drawing shows."""
        return self.concepts[self.place_of[drawing.slug]]

    def where(self, **wanted: Any) -> list[int]:
        """Places of the drawings whose fields are as wanted, for example `where(taught=True, style="noto")`."""
        return [i for i, d in enumerate(self.drawings) if all(getattr(d, k) == v for k, v in wanted.items())]

    def kept_back(self) -> list[int]:
        """Combinations of a taught style and a taught thing that the base never sees."""
        taught = {s.key for s in STYLES if s.taught}
        return [i for i in self.where(taught=False) if self.drawings[i].style in taught]


def _unpacked(stream: Any, name: str, mode: str) -> np.ndarray:
    webp, ends = stream.get_tensor(f"{name}.webp"), stream.get_tensor(f"{name}.ends").tolist()
    pieces = [webp[a:b].tobytes() for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(lambda data: np.asarray(Image.open(io.BytesIO(data)).convert(mode)), pieces)))
