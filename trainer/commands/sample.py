"""`sample`: pictures from LoRA files without a browser. Called by `python -m trainer`."""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path

from trainer.adapters.fold import LoraStrength
from trainer.adapters.weights import check_made_for
from trainer.bases import catalog
from trainer.config.strategies.samplers import SAMPLERS
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.texts import t
from trainer.formats.header import read_header
from trainer.prompts import lora_tags, prompt_line


def parser() -> argparse.ArgumentParser:
    """The arguments of `sample`."""
    parser = argparse.ArgumentParser(prog="launch.py sample", description=t("commands.sample.about"))
    parser.add_argument("loras", nargs="*", metavar="LORA[:unet[:te]]", help=t("commands.sample.loras"))
    parser.add_argument("--prompt", action="append", help=t("commands.sample.prompt"))
    parser.add_argument("--negative", default="", help=t("commands.sample.negative"))
    parser.add_argument("--weights", action="store_true", help=t("commands.sample.weights"))
    parser.add_argument("--strengths", help=t("commands.sample.strengths"))
    parser.add_argument("--seed", type=int, default=0, help=t("commands.sample.seed"))
    parser.add_argument("--steps", type=int, help=t("commands.sample.steps"))
    parser.add_argument("--guidance", type=float, help=t("commands.sample.guidance"))
    parser.add_argument("--sampler", default="base", help=t("commands.sample.sampler", known=", ".join(SAMPLERS)))
    parser.add_argument("--width", type=int, help=t("commands.sample.width"))
    parser.add_argument("--height", type=int, help=t("commands.sample.height"))
    parser.add_argument("--base", help=t("commands.sample.base"))
    parser.add_argument("--out", type=Path, help=t("commands.sample.out"))
    parser.add_argument("--device", default="auto", help=t("commands.sample.device"))
    parser.add_argument("--partial", action="store_true", help=t("commands.partial"))
    parser.add_argument("--home", help=t("commands.home"))
    return parser


def main(argv: list[str]) -> int:
    """Draw and write `p{k}_s{strength:.2f}.png` (`p{k}_base.png` without a LoRA) into --out."""
    args = parser().parse_args(argv)
    home = Home.find(args.home)
    if args.out is None:
        raise Problem("out_missing", field="out")
    if args.base == "":
        raise Problem("option_empty", field="base")
    uses = tuple(lora_use(word, home) for word in args.loras)
    strengths = read_strengths(args.strengths)
    lines = [read_prompt(text, uses, home) for text in args.prompt or [""]]
    named = {use.path: use for _, own in lines for use in own}
    facts = catalog.find(home, _base_of(tuple(named.values())) or "mini" if args.base is None else args.base)
    for path in named:
        check_made_for(path, facts.family, facts.title, partial=args.partial)

    from trainer.engine.inference.sampling import GenerateRequest, ImageSampler
    from trainer.engine.speed import device

    requests = []
    for line, own in lines:
        plain = GenerateRequest(
            line.prompt,
            args.negative,
            args.seed,
            facts.steps,
            facts.guidance,
            facts.resolution,
            facts.resolution,
            own,
            strengths,
            args.weights,
            args.sampler,
            args.partial,
        )
        chosen = {
            name: value for name in ("steps", "guidance", "width", "height") if (value := getattr(args, name)) is not None
        }
        chosen |= {name: value for name, value in vars(line).items() if value is not None}
        requests.append(replace(plain, **chosen).checked())
    device.silence_libraries()
    where = device.choose_device(args.device)
    studio = ImageSampler.load(facts, where, device.choose_dtype("auto", where), home)
    for index, request in enumerate(requests):
        for drawn in studio.draw(request):
            strength = 1.0 if drawn.strength is None else drawn.strength
            name = f"p{index}_s{strength:.2f}.png" if request.loras else f"p{index}_base.png"
            print(drawn.save(args.out / name), flush=True)
        whole = [
            ("layers_read", {"name": path.stem, "read": matched, "total": total})
            for path, matched, total in studio.fits
            if index == 0 and matched == total
        ]
        for code, params in whole + studio.notes:
            print(t(f"notes.{code}", **params), file=sys.stderr)
    return 0


def read_prompt(
    text: str, uses: tuple[LoraStrength, ...], home: Home
) -> tuple[prompt_line.PromptLine, tuple[LoraStrength, ...]]:
    """A prompt as it was typed, with its switches read, and the LoRAs to draw it with: `uses` and those it names itself as
    `<lora:name:0.8>`, whose strength there counts. Problem for a name that is none."""
    line = prompt_line.read(text)
    library = {path.stem: path for path in sorted(home.loras.glob("*.safetensors"))}
    parsed = lora_tags.parse(line.prompt, library)
    if parsed.broken:
        raise Problem("prompt_tag", field="prompt", tag=parsed.broken[0])
    resolved = lora_tags.resolve(parsed.tags, library)
    for name, _ in resolved.unknown:
        raise _no_lora(name, home, "prompt")
    own = {use.path: use for use in uses}
    own |= {library[tag.name]: LoraStrength(library[tag.name], tag.unet, tag.text_encoder) for tag in resolved.tags}
    return replace(line, prompt=parsed.prompt), tuple(own.values()) if resolved.tags else uses


def lora_use(word: str, home: Home) -> LoraStrength:
    """`FILE[:unet[:te]]`, split from the right so that `C:\\x.safetensors:0.8` works; a bare name is one of the library.

    A name that is there as it was typed counts before its end is taken for a strength.
    """
    rest, numbers = word, []
    while len(numbers) < 2 and (match := re.fullmatch(r"(.+):([-+]?[\w.+-]+)", rest)) and _number(match[2]) is not None:
        if home.lora(rest).is_file():
            break
        rest, numbers = match[1], [float(match[2]), *numbers]
    path = home.lora(rest)
    if not path.is_file():
        raise _no_lora(rest, home, "loras")
    unet = numbers[0] if numbers else 1.0
    return LoraStrength(path, unet, numbers[1] if len(numbers) > 1 else unet)


def _no_lora(name: str, home: Home, field: str) -> Problem:
    """That there is no LoRA of this name, with the nearest ones of the library."""
    near = lora_tags.nearest(Path(name).name, [path.stem for path in home.loras.glob("*.safetensors")])
    return Problem("lora_no_such_near" if near else "lora_no_such", field=field, name=name, near=", ".join(near))


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


def _base_of(uses: tuple[LoraStrength, ...]) -> str | None:
    """The base the first LoRA names, where it is one of ours here."""
    for use in uses:
        name = read_header(use.path).metadata.get("ss_sd_model_name")
        if name == "mini":
            return name
    return None
