"""`export`, `merge`, `resize`, `extract` and `bake`: files from files, without a browser. Called by `python -m trainer`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from trainer.adapters.export import export as export_file
from trainer.bases import catalog
from trainer.commands.sample import lora_use
from trainer.core.home import Home
from trainer.core.texts import t


def export(argv: list[str]) -> int:
    """`export FILE --to kohya|diffusers --out FILE`."""
    parser = _parser("export")
    parser.add_argument("file", help=t("commands.lora_files.file"))
    parser.add_argument("--to", required=True, help=t("commands.lora_files.to"))
    args = parser.parse_args(argv)
    file = lora_use(args.file, Home.find(args.home)).path
    return _done(export_file(file, args.to, args.out, partial=args.partial, note=_note))


def merge(argv: list[str]) -> int:
    """`merge LORA[:unet[:te]] … --out FILE [--rank N] [--energy X] [--base BASE]`."""
    from trainer.adapters.tools.merge import merge as make

    parser = _sized(_parser("merge"))
    parser.add_argument("--base", help=t("commands.lora_files.their_base"))
    parser.add_argument("loras", nargs="+", metavar="LORA[:unet[:te]]", help=t("commands.sample.loras"))
    args = parser.parse_args(argv)
    home = Home.find(args.home)
    uses = [lora_use(word, home) for word in args.loras]
    base = catalog.find(home, args.base) if args.base is not None else None
    return _done(
        make(
            uses,
            args.out,
            rank=args.rank,
            energy=args.energy,
            dtype=args.dtype,
            base=base,
            partial=args.partial,
            note=_note,
        )
    )


def resize(argv: list[str]) -> int:
    """`resize FILE --rank N | --energy X --out FILE [--base BASE]`."""
    from trainer.adapters.tools.merge import resize as make

    parser = _sized(_parser("resize"))
    parser.add_argument("--base", help=t("commands.lora_files.their_base"))
    parser.add_argument("file", help=t("commands.lora_files.file"))
    args = parser.parse_args(argv)
    home = Home.find(args.home)
    path = lora_use(args.file, home).path
    base = catalog.find(home, args.base) if args.base is not None else None
    return _done(
        make(
            path,
            args.out,
            rank=args.rank,
            energy=args.energy,
            dtype=args.dtype,
            base=base,
            partial=args.partial,
            note=_note,
        )
    )


def extract(argv: list[str]) -> int:
    """`extract BASE TUNED --rank N | --energy X --out FILE [--targets attention|attention_mlp|all]`."""
    from trainer.adapters.targets import GROUPS
    from trainer.adapters.tools.extract import extract as make

    parser = _sized(_parser("extract"))
    parser.add_argument("base", help=t("commands.lora_files.base"))
    parser.add_argument("tuned", help=t("commands.lora_files.tuned"))
    parser.add_argument("--targets", default="attention", choices=list(GROUPS), help=t("commands.lora_files.targets"))
    args = parser.parse_args(argv)
    home = Home.find(args.home)
    base, tuned = catalog.find(home, args.base), catalog.find(home, args.tuned)
    return _done(
        make(
            base,
            tuned,
            args.out,
            rank=args.rank,
            energy=args.energy,
            targets=args.targets,
            dtype=args.dtype,
            progress=_progress,
            partial=args.partial,
            note=_note,
        )
    )


def bake(argv: list[str]) -> int:
    """`bake BASE LORA[:unet[:te]] … --out NEW`."""
    from trainer.adapters.tools.bake import bake as make

    parser = _parser("bake")
    parser.add_argument("base", help=t("commands.lora_files.base"))
    parser.add_argument("loras", nargs="+", metavar="LORA[:unet[:te]]", help=t("commands.sample.loras"))
    args = parser.parse_args(argv)
    home = Home.find(args.home)
    uses = [lora_use(word, home) for word in args.loras]
    return _done(make(catalog.find(home, args.base), uses, args.out, _progress, partial=args.partial, note=_note))


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"launch.py {name}", description=t(f"commands.lora_files.{name}"))
    parser.add_argument("--out", type=Path, required=True, help=t("commands.lora_files.out"))
    parser.add_argument("--partial", action="store_true", help=t("commands.partial"))
    parser.add_argument("--home", help=t("commands.home"))
    return parser


def _sized(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--rank", type=int, help=t("commands.lora_files.rank"))
    parser.add_argument("--energy", type=float, help=t("commands.lora_files.energy"))
    parser.add_argument("--dtype", default="fp16", choices=("fp16", "bf16", "fp32"), help=t("commands.lora_files.dtype"))
    return parser


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done}/{of}", end="\n" if done == of else "", file=sys.stderr, flush=True)


def _note(code: str, params: dict[str, Any]) -> None:
    print(t(f"notes.{code}", **params), file=sys.stderr)


def _done(path: Path) -> int:
    print(path)
    return 0
