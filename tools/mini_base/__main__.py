"""The recipe's commands: `python -m tools.mini_base data|tokenizer|vae|ldm|judge|evaluate|export|all …`."""

from __future__ import annotations

import argparse
import logging
import platform
import warnings
from dataclasses import replace
from pathlib import Path

from . import carry
from .shapes import NAMED

ROOT = Path(__file__).resolve().parents[2]

# Minutes of the whole stage on a data-centre GPU, and on one CPU core (an honest, weaker model of 200 things).
MINUTES = {"cuda": {"vae": 5.0, "ldm": 14.0, "judge": 2.5}, "cpu": {"vae": 15.0, "ldm": 252.0, "judge": 45.0}}


def main(words: list[str] | None = None) -> int:
    """Parse the command line and run the stages asked for."""
    asked = _parser().parse_args(words)
    _quieten()
    work: Path = asked.work
    stages = ["data", "tokenizer", "vae", "judge", "ldm", "export"] if asked.stage == "all" else [asked.stage]
    if stages == ["carry-out"]:
        carry.carry_out(work, asked.out)
    elif stages == ["carry-in"]:
        carry.carry_in(asked.out, work)
    elif stages == ["take-up"]:
        carry.take_up(asked.model, work)
    elif stages == ["sitting"]:
        _sitting(asked)
    elif stages == ["examples"]:
        from .example_sets import write_character_set, write_style_set

        write_style_set(work / "npm", ROOT / "datasets" / "example-style")
        write_character_set(ROOT / "datasets" / "example-character")
    else:
        for stage in stages:
            _stage(stage, asked)
    return 0


def _stage(stage: str, asked: argparse.Namespace) -> None:
    from . import data, tokenizer

    work: Path = asked.work
    pack_file = work / "pack.safetensors"
    if stage == "data":
        if not pack_file.is_file():
            data.build(work / "npm", pack_file)
        return
    shapes = replace(NAMED[asked.size], latent_channels=asked.channels)
    if stage == "tokenizer":
        pack = data.Pack(pack_file)
        if not (work / "tokenizer" / "vocab.json").is_file():
            tokenizer.learn(tokenizer.sentences(pack.concepts), work / "tokenizer", shapes.vocabulary)
        return
    import torch

    from .progress import device_for

    torch.set_float32_matmul_precision("high")
    where = device_for(asked.device)
    from .ldm import CPU_LESSONS, Lesson, things_taught

    one = (Lesson(asked.things, asked.known, new_styles=tuple(asked.new_style)),)
    lessons = one if asked.things or where.type != "cpu" else CPU_LESSONS
    things = None  # the VAE sees everything, and the lessons choose for themselves
    if stage == "judge":
        things = lessons[-1].things
    elif stage in ("evaluate", "lora", "export"):
        things = asked.things or things_taught(work)
    pack = data.Pack(pack_file, things)
    common = {"sitting": asked.sitting, "device": asked.device, "batch": asked.batch, "seed": asked.seed}
    if stage in MINUTES["cpu"]:
        common["minutes"] = asked.minutes if asked.minutes is not None else MINUTES[where.type][stage]
        if asked.rate is not None:
            common["rate"] = asked.rate
    if stage == "vae":
        from . import vae

        vae.train(pack, work, shapes, faster=asked.compile, **common)
    elif stage == "ldm":
        from . import ldm

        more = {"faster": asked.compile, "per_drawing": asked.views, "lessons": lessons, "since": asked.since}
        ldm.train(pack, work, shapes, **more, **common)
    elif stage == "judge":
        from . import judge

        judge.train(pack, work, shapes, words_from=asked.model / "judge", since=asked.since, **common)
    elif stage == "evaluate":
        from .evaluate import evaluate

        evaluate(asked.model, pack, work / "evaluation", many=asked.prompts, device=asked.device)
    elif stage == "lora":
        from .lora_eval import KINDS, STRENGTHS, run

        strengths = [float(s) for s in asked.strengths.split(",")] if asked.strengths else STRENGTHS
        what = {"kinds": asked.kind or KINDS, "strengths": strengths, "many": asked.many}
        run(asked.model, pack, work / "home", work / "evaluation", asked.override, **what)
    elif stage == "export":
        from .card import read_figures
        from .export import export

        export(work, pack, asked.model, machine=asked.machine, figures=read_figures(work / "evaluation"))


def _sitting(asked: argparse.Namespace) -> None:
    from .progress import device_for
    from .sitting import sit

    def run(stage: str, minutes: float, sitting: float) -> None:
        _stage(stage, argparse.Namespace(**{**vars(asked), "minutes": minutes, "sitting": sitting}))

    plan = dict(MINUTES[device_for(asked.device).type])
    for wish in asked.plan:
        stage, _, minutes = wish.partition("=")
        if stage not in plan or not minutes:
            raise SystemExit(f"--plan wants STAGE=MINUTES with a stage of {', '.join(plan)}: {wish}")
        plan[stage] = float(minutes)
    sit(asked, plan, run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.mini_base", description=__doc__)
    stages = ["data", "tokenizer", "vae", "judge", "ldm", "export", "all", "evaluate", "lora", "examples"]
    parser.add_argument("stage", choices=[*stages, "sitting", "carry-out", "carry-in", "take-up"])
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "mini_base", help="where what is half-made lies")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "mini", help="the finished model")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "carry", help="folder of carry.000 …")
    parser.add_argument("--hand-back", type=Path, help="sitting: write carry.000 … here instead of --out")
    parser.add_argument("--plan", action="append", default=[], help="sitting: minutes of a stage, as ldm=12")
    parser.add_argument("--minutes", type=float, help="time of the whole stage, over all sittings")
    parser.add_argument("--since", type=float, default=0.0, help="ldm, judge: the rate begins anew after these minutes")
    parser.add_argument("--sitting", type=float, help="stop after this many minutes and go on another time")
    parser.add_argument("--device", help="cuda or cpu; the best one there is without this")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rate", type=float, help="highest learning rate")
    parser.add_argument("--views", type=int, help="views of every drawing in the latent bank")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="compile the UNet (on a GPU: yes)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", choices=list(NAMED), default="full")
    parser.add_argument("--channels", type=int, default=8, help="channels of the latent")
    parser.add_argument("--things", type=int, help="so many things, favourites first")
    parser.add_argument("--known", type=int, default=0, help="ldm: so many of them were taught before: half the views")
    parser.add_argument("--new-style", action="append", default=[], help="ldm: key of a style taught for the first time")
    parser.add_argument("--prompts", type=int, default=200, help="evaluate: how many prompts")
    parser.add_argument("--override", action="append", default=[], help="lora: an option, as lora.rank=16")
    parser.add_argument("--machine", default=platform.machine(), help="export: what the model card calls the machine")
    parser.add_argument("--kind", action="append", choices=["style", "character"], help="lora: only this example")
    parser.add_argument("--strengths", help="lora: as 0,0.5,1")
    parser.add_argument("--many", type=int, default=40, help="lora: things that are drawn")
    return parser


def _quieten() -> None:
    """Libraries' notes about optional parts and half-finished loads say nothing a reader of the log can use."""
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    for name in ("transformers", "diffusers"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    raise SystemExit(main())
