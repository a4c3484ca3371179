"""`sample`: pictures from LoRA files without a browser. Called by `python -m trainer`."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from trainer import bases
from trainer.adapters.fold import Use
from trainer.adapters.header import read_header
from trainer.adapters.weights import check_made_for
from trainer.home import Home
from trainer.problem import Problem
from trainer.strategies.samplers import SAMPLERS
from trainer.texts import t


def parser() -> argparse.ArgumentParser:
    """The words of `sample`."""
    words = argparse.ArgumentParser(prog="launch.py sample", description=t("commands.sample.about"))
    words.add_argument("loras", nargs="*", metavar="LORA[:unet[:te]]", help=t("commands.sample.loras"))
    words.add_argument("--prompt", action="append", help=t("commands.sample.prompt"))
    words.add_argument("--negative", default="", help=t("commands.sample.negative"))
    words.add_argument("--weights", action="store_true", help=t("commands.sample.weights"))
    words.add_argument("--strengths", help=t("commands.sample.strengths"))
    words.add_argument("--seed", type=int, default=0, help=t("commands.sample.seed"))
    words.add_argument("--steps", type=int, help=t("commands.sample.steps"))
    words.add_argument("--guidance", type=float, help=t("commands.sample.guidance"))
    words.add_argument("--sampler", default="base", help=t("commands.sample.sampler", known=", ".join(SAMPLERS)))
    words.add_argument("--width", type=int, help=t("commands.sample.width"))
    words.add_argument("--height", type=int, help=t("commands.sample.height"))
    words.add_argument("--base", help=t("commands.sample.base"))
    words.add_argument("--out", type=Path, help=t("commands.sample.out"))
    words.add_argument("--device", default="auto", help=t("commands.sample.device"))
    words.add_argument("--home", help=t("commands.home"))
    return words


def main(argv: list[str]) -> int:
    """Draw and write `p{k}_s{strength:.2f}.png` (`p{k}_base.png` without a LoRA) into --out."""
    given = parser().parse_args(argv)
    home = Home.find(given.home)
    if given.out is None:
        raise Problem("out_missing", field="out")
    uses = tuple(lora_use(word, home) for word in given.loras)
    strengths = read_strengths(given.strengths)
    facts = bases.find(home, given.base or _base_of(uses) or "mini")
    for use in uses:
        check_made_for(use.path, facts.family, facts.title)

    from trainer.engine import device
    from trainer.engine.sampling import DrawRequest, Studio

    requests = [
        DrawRequest(
            prompt, given.negative, given.seed, given.steps or facts.steps, given.guidance or facts.guidance,
            given.width or facts.resolution, given.height or facts.resolution, uses, strengths, given.weights, given.sampler,
        ).checked()
        for prompt in given.prompt or [""]
    ]
    device.quiet()
    where = device.choose_device(given.device)
    studio = Studio.load(facts, where, device.choose_dtype("auto", where), home)
    for index, request in enumerate(requests):
        for drawn in studio.draw(request):
            strength = 1.0 if drawn.strength is None else drawn.strength
            name = f"p{index}_s{strength:.2f}.png" if uses else f"p{index}_base.png"
            print(drawn.save(given.out / name), flush=True)
        for code, params in studio.notes:
            print(t(f"notes.{code}", **params), file=sys.stderr)
    return 0


def lora_use(word: str, home: Home) -> Use:
    """`FILE[:unet[:te]]`, split from the right so that `C:\\x.safetensors:0.8` works; a bare name is one of the library."""
    rest, numbers = word, []
    while len(numbers) < 2 and (found := re.fullmatch(r"(.+):([-+]?[\w.+-]+)", rest)) and _number(found[2]) is not None:
        if Path(rest).exists():
            break
        rest, numbers = found[1], [_number(found[2]), *numbers]
    path = home.lora(rest)
    if not path.is_file():
        raise Problem("file_missing", field="loras", file=rest)
    unet = numbers[0] if numbers else 1.0
    text = numbers[1] if len(numbers) > 1 else unet
    return Use(path, float(unet or 0), float(text or 0))


def read_strengths(text: str | None) -> tuple[float, ...] | None:
    """`0,0.5,1` as numbers."""
    if text is None:
        return None
    numbers = [_number(part.strip()) for part in text.split(",") if part.strip()]
    if not numbers or None in numbers:
        raise Problem("strength_range", field="strengths", given=text)
    return tuple(float(n) for n in numbers if n is not None)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _base_of(uses: tuple[Use, ...]) -> str | None:
    """The base the first LoRA names, where it is one of ours here."""
    for use in uses:
        name = read_header(use.path).metadata.get("ss_sd_model_name")
        if name == "mini":
            return name
    return None
