"""`export`, `merge`, `resize`, `extract` and `bake`: files from files, without a browser. Called by `python -m trainer`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from trainer.adapters import export as layouts
from trainer.bases import catalog
from trainer.commands.sample import lora_use
from trainer.core.home import Home
from trainer.core.texts import t


def export(argv: list[str]) -> int:
    """`export FILE --to kohya|diffusers --out FILE`."""
    words = _parser("export")
    words.add_argument("file", help=t("commands.lora_files.file"))
    words.add_argument("--to", required=True, help=t("commands.lora_files.to"))
    given = words.parse_args(argv)
    file = lora_use(given.file, Home.find(given.home)).path
    return _done(layouts.export(file, given.to, given.out, partial=given.partial, note=_note))


def merge(argv: list[str]) -> int:
    """`merge LORA[:unet[:te]] … --out FILE [--rank N] [--energy X] [--base BASE]`."""
    from trainer.adapters.tools.merge import merge as make

    words = _sized(_parser("merge"))
    words.add_argument("--base", help=t("commands.lora_files.their_base"))
    words.add_argument("loras", nargs="+", metavar="LORA[:unet[:te]]", help=t("commands.sample.loras"))
    given = words.parse_args(argv)
    home = Home.find(given.home)
    uses = [lora_use(word, home) for word in given.loras]
    base = catalog.find(home, given.base) if given.base is not None else None
    return _done(
        make(
            uses,
            given.out,
            rank=given.rank,
            energy=given.energy,
            dtype=given.dtype,
            base=base,
            partial=given.partial,
            note=_note,
        )
    )


def resize(argv: list[str]) -> int:
    """`resize FILE --rank N | --energy X --out FILE [--base BASE]`."""
    from trainer.adapters.tools.merge import resize as make

    words = _sized(_parser("resize"))
    words.add_argument("--base", help=t("commands.lora_files.their_base"))
    words.add_argument("file", help=t("commands.lora_files.file"))
    given = words.parse_args(argv)
    home = Home.find(given.home)
    path = lora_use(given.file, home).path
    base = catalog.find(home, given.base) if given.base is not None else None
    return _done(
        make(
            path,
            given.out,
            rank=given.rank,
            energy=given.energy,
            dtype=given.dtype,
            base=base,
            partial=given.partial,
            note=_note,
        )
    )


def extract(argv: list[str]) -> int:
    """`extract BASE TUNED --rank N | --energy X --out FILE [--targets attention|attention_mlp|all]`."""
    from trainer.adapters.targets import GROUPS
    from trainer.adapters.tools.extract import extract as make

    words = _sized(_parser("extract"))
    words.add_argument("base", help=t("commands.lora_files.base"))
    words.add_argument("tuned", help=t("commands.lora_files.tuned"))
    words.add_argument("--targets", default="attention", choices=list(GROUPS), help=t("commands.lora_files.targets"))
    given = words.parse_args(argv)
    home = Home.find(given.home)
    base, tuned = catalog.find(home, given.base), catalog.find(home, given.tuned)
    return _done(
        make(
            base,
            tuned,
            given.out,
            rank=given.rank,
            energy=given.energy,
            targets=given.targets,
            dtype=given.dtype,
            tell=_tell,
            partial=given.partial,
            note=_note,
        )
    )


def bake(argv: list[str]) -> int:
    """`bake BASE LORA[:unet[:te]] … --out NEW`."""
    from trainer.adapters.tools.bake import bake as make

    words = _parser("bake")
    words.add_argument("base", help=t("commands.lora_files.base"))
    words.add_argument("loras", nargs="+", metavar="LORA[:unet[:te]]", help=t("commands.sample.loras"))
    given = words.parse_args(argv)
    home = Home.find(given.home)
    uses = [lora_use(word, home) for word in given.loras]
    return _done(make(catalog.find(home, given.base), uses, given.out, _tell, partial=given.partial, note=_note))


def _parser(name: str) -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(prog=f"launch.py {name}", description=t(f"commands.lora_files.{name}"))
    words.add_argument("--out", type=Path, required=True, help=t("commands.lora_files.out"))
    words.add_argument("--partial", action="store_true", help=t("commands.partial"))
    words.add_argument("--home", help=t("commands.home"))
    return words


def _sized(words: argparse.ArgumentParser) -> argparse.ArgumentParser:
    words.add_argument("--rank", type=int, help=t("commands.lora_files.rank"))
    words.add_argument("--energy", type=float, help=t("commands.lora_files.energy"))
    words.add_argument("--dtype", default="fp16", choices=("fp16", "bf16", "fp32"), help=t("commands.lora_files.dtype"))
    return words


def _tell(done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done}/{of}", end="\n" if done == of else "", file=sys.stderr, flush=True)


def _note(code: str, params: dict[str, Any]) -> None:
    print(t(f"notes.{code}", **params), file=sys.stderr)


def _done(path: Path) -> int:
    print(path)
    return 0
