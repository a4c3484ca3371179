"""LoRAs named inside a prompt: `<lora:name:0.8>` and `<lora:name:te:unet>`, as AUTOMATIC1111 writes them.

Pure text. The preview page and `sample` read prompts through here; the page also writes such tags to be copied.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

MAX_LORAS = 10
"""The most LoRAs one picture is drawn with, whoever asks for it."""
_TAG = re.compile(r"<\s*(?:lora|lyco)\s*:([^<>]*)>", re.IGNORECASE)
_KEYS = {"unet": "unet", "te": "text_encoder"}


@dataclass(frozen=True)
class Tag:
    """One LoRA asked for in a prompt, with a strength for the UNet and one for the text encoder."""

    name: str
    unet: float = 1.0
    text_encoder: float = 1.0

    def __str__(self) -> str:
        if self.unet == self.text_encoder:
            return f"<lora:{self.name}:{number(self.unet)}>"
        return f"<lora:{self.name}:{number(self.text_encoder)}:{number(self.unet)}>"


@dataclass(frozen=True)
class Parsed:
    """A prompt without its tags, the tags, and those tags that could not be read, as they were typed."""

    prompt: str
    tags: tuple[Tag, ...] = ()
    broken: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resolved:
    """Tags whose LoRA is there (under its real name), and the names that are not, each with the nearest one or None."""

    tags: tuple[Tag, ...] = ()
    unknown: tuple[tuple[str, str | None], ...] = ()


def parse(prompt: str, names: Iterable[str] = ()) -> Parsed:
    """Take the tags out of `prompt`. Never raises; a prompt without tags comes back unchanged.

    One number counts for both parts; of two the first is the text encoder's, the second the UNet's; `te=` and `unet=`
    say which. A LoRA named twice gets the sum of its strengths. Of the library's `names` those that hold a colon are
    known by it: with a LoRA `ink:2`, `<lora:ink:2:0.8>` is that one at 0.8, or broken where `ink` is one too.
    """
    existing = {_loose(name) for name in names}
    with_colon = {name for name in existing if ":" in name}
    tags: dict[str, Tag] = {}
    broken: list[str] = []
    rest, end = "", 0
    for match in _TAG.finditer(prompt):
        rest, end = _join(rest, prompt[end : match.start()], first=end == 0), match.end()
        tag = _tag(match[1], with_colon, existing - with_colon)
        if tag is None:
            broken.append(match[0])
        elif tag.name in tags:
            before = tags[tag.name]
            tags[tag.name] = Tag(tag.name, before.unet + tag.unet, before.text_encoder + tag.text_encoder)
        else:
            tags[tag.name] = tag
    if end == 0:
        return Parsed(prompt)
    text = _join(rest, prompt[end:], first=False)
    return Parsed(text.strip().rstrip(",").rstrip(), tuple(tags.values()), tuple(broken))


def resolve(tags: Iterable[Tag], names: Iterable[str]) -> Resolved:
    """Find each tag among the library's `names`: exactly, then without regard to case and without `.safetensors`."""
    existing = list(names)
    loose = {_loose(name): name for name in reversed(existing)}
    resolved: dict[str, Tag] = {}
    unknown: list[tuple[str, str | None]] = []
    for tag in tags:
        name = tag.name if tag.name in existing else loose.get(_loose(tag.name))
        if name is None:
            unknown.append((tag.name, next(iter(nearest(tag.name, existing, 1)), None)))
        elif name in resolved:
            before = resolved[name]
            resolved[name] = Tag(name, before.unet + tag.unet, before.text_encoder + tag.text_encoder)
        else:
            resolved[name] = Tag(name, tag.unet, tag.text_encoder)
    return Resolved(tuple(resolved.values()), tuple(unknown))


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` of `names` that look like `name`, the likest first."""
    loose = {_loose(each): each for each in names}
    return [loose[match] for match in get_close_matches(_loose(name), loose, count, 0.5)]


def number(value: float) -> str:
    """A strength as a person types it: 0.8, 1, -0.25."""
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _join(left: str, right: str, *, first: bool) -> str:
    """Close the gap a tag leaves: one space at most, and never two commas in a row."""
    if first:
        return right
    open_end = not left.strip() or left.rstrip().endswith(",")
    if open_end and right.lstrip().startswith(","):
        right = right.lstrip()[1:]
    if left and right and left[-1].isspace() and right[0].isspace():
        right = right.lstrip(" \t")
    return left + right if left.strip() else right.lstrip()


def _tag(inside: str, with_colon: set[str], others: set[str]) -> Tag | None:
    name, *parts = (part.strip() for part in inside.split(":"))
    readings = [n for n in range(len(parts), 0, -1) if _loose(":".join((name, *parts[:n]))) in with_colon]
    if readings and _loose(name) in others:
        return None
    if readings:
        name, parts = ":".join((name, *parts[: readings[0]])), parts[readings[0] :]
    if not name or len(parts) > 3:
        return None
    named: dict[str, float] = {}
    plain: list[float] = []
    for part in parts:
        key, equals, text = part.partition("=")
        value = _number(text if equals else part)
        if value is None or (equals and key.strip().lower() not in _KEYS):
            return None
        if equals:
            named[_KEYS[key.strip().lower()]] = value
        else:
            plain.append(value)
    if len(plain) == 1:
        plain = plain * 2
    text_encoder, unet = (plain[0], plain[1]) if plain else (1.0, 1.0)
    return Tag(name, named.get("unet", unet), named.get("text_encoder", text_encoder))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) <= 100 else None


def _loose(name: str) -> str:
    return name.casefold().removesuffix(".safetensors")
