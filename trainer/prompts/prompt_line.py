"""Prompts that say how they are drawn: `a cat --n blurry --w 768 --h 512 --d 7 --l 5 --s 28`, as in kohya's sd-scripts.

Pure text. Read for the test pictures of a run and by `sample`; values in the line win over those given for all lines.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from trainer.core.problem import Problem
from trainer.prompts.lora_tags import parse

STEPS, GUIDANCE, SIDES, SEEDS = (1, 1000), (0.0, 100.0), (64, 2048), (0, 2**32 - 1)
"""The least and the most of each that can be drawn with, here and wherever else a picture is asked for."""
_SWITCH = re.compile(r"(?:^|(?<=\s))--([A-Za-z]+)(?=\s|$)")
_NAMES = {"n": "negative", "w": "width", "h": "height", "d": "seed", "l": "guidance", "s": "steps", "ss": "sampler"}
_SAMPLERS = {
    "ddim": "ddim", "euler": "euler", "k_euler": "euler", "euler_a": "euler_a", "k_euler_a": "euler_a",
    "dpmsolver++": "dpmpp_2m",
}  # fmt: skip
"""kohya's samplers by ours; those not named here are not ours."""


@dataclass(frozen=True)
class PromptLine:
    """A prompt and what its switches say; None where they say nothing."""

    prompt: str
    negative: str | None = None
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    guidance: float | None = None
    steps: int | None = None
    sampler: str | None = None


def read(text: str, field: str = "prompt") -> PromptLine:
    """`text` taken apart. Problem, beside `field`, for a switch that is not known or a value it cannot have.

    Two hyphens with a blank behind them, or inside a word, are words like any other.
    """
    switches = list(_SWITCH.finditer(text))
    if not switches:
        return PromptLine(text)
    values: dict[str, int | float | str] = {}
    for switch, after in zip(switches, [*switches[1:], None], strict=True):
        name = _NAMES.get(switch[1].lower())
        value = text[switch.end() : after.start() if after else len(text)].strip()
        if name is None:
            known = " ".join(f"--{each}" for each in _NAMES)
            raise Problem("prompt_switch", field=field, switch=switch[0], known=known)
        values[name] = _value(name, value, f"{switch[0]} {value}".strip(), field)
    return PromptLine(text[: switches[0].start()].strip(), **values)  # pyright: ignore[reportArgumentType]


def without_switches(text: str) -> str:
    """The words of a prompt alone, without switches; as it is where it cannot be read. Never raises."""
    try:
        return read(text).prompt
    except Problem:
        return text


def check(lines: Iterable[str], field: str) -> None:
    """Problem, beside `field`, for the first of `lines` that could not be drawn as it asks: a switch, or a `<lora:…>`, which a
    training's own pictures do not read."""
    for text in lines:
        line = read(text, field)
        parsed = parse(line.prompt)
        if parsed.tags or parsed.broken:
            tag = parsed.broken[0] if parsed.broken else str(parsed.tags[0])
            raise Problem("prompt_lora_here", field=field, tag=tag)


def _value(name: str, text: str, typed: str, field: str) -> int | float | str:
    if name == "negative":
        return text
    if name == "sampler":
        if text.lower() not in _SAMPLERS:
            raise Problem("sampler_unknown", field=field, given=text, known=", ".join(_SAMPLERS))
        return _SAMPLERS[text.lower()]
    try:
        value = float(text) if name == "guidance" else int(text)
    except ValueError:
        raise Problem("prompt_switch_value", field=field, given=typed) from None
    in_range(name, value, field)
    return value


def in_range(name: str, value: float, field: str) -> None:
    """Problem, beside `field`, where `value` is none that `steps`, `guidance`, `seed`, `width` or `height` can have."""
    if name in ("width", "height"):
        if not SIDES[0] <= value <= SIDES[1] or value % 8:
            raise Problem("size_bad", field=field, low=SIDES[0], high=SIDES[1])
        return
    low, high = {"steps": STEPS, "guidance": GUIDANCE, "seed": SEEDS}[name]
    if not math.isfinite(value) or not low <= value <= high:
        typed = f"{value:g}" if name == "guidance" else value
        raise Problem(f"{name}_range", field=field, given=typed, low=f"{low:g}", high=f"{high:.0f}")


__all__ = ["PromptLine", "check", "in_range", "read", "without_switches"]
