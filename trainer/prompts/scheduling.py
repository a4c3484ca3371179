"""Prompt editing as in AUTOMATIC1111: words that change while a picture is drawn, read where brackets are weights.

`[a:b:0.5]` is a for half the steps, then b; `[b:0.5]` nothing, then b; `[a::0.5]` a, then nothing; a whole number is a step
instead of a share. `[a|b]` is a and b in turn. Pure text; used by engine/inference/sampling.py.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*")
_MARK = re.compile(r"\\.|[\[\]()|:]", re.DOTALL)


def prompt_at(text: str, step: int, steps: int) -> str:
    """The prompt at `step`, from 0, of `steps`. Brackets that say nothing of steps stay as they are. Never raises."""
    prompt, rest = "", 0
    while (start := _opening(text, rest)) is not None:
        end = _closing(text, start)
        if end is None:
            break
        prompt += text[rest:start] + _chosen(text[start + 1 : end], step, steps)
        rest = end + 1
    return prompt + text[rest:]


def prompt_schedule(text: str, steps: int) -> list[tuple[int, str]]:
    """(step, prompt) wherever the prompt becomes another one; the first is of step 0."""
    schedule: list[tuple[int, str]] = []
    for step in range(max(1, steps)):
        now = prompt_at(text, step, steps)
        if not schedule or schedule[-1][1] != now:
            schedule.append((step, now))
    return schedule


def _chosen(inside: str, step: int, steps: int) -> str:
    parts = _split(inside, ":")
    if len(parts) in (2, 3) and (number := _NUMBER.fullmatch(parts[-1])):
        when = float(number[1])
        before, after = ("", parts[0]) if len(parts) == 2 else (parts[0], parts[1])
        share = when < 1 or (when == 1 and "." in number[1])
        return prompt_at(before if step < int(when * steps if share else when) else after, step, steps)
    turns = _split(inside, "|")
    if len(turns) > 1:
        return prompt_at(turns[step % len(turns)], step, steps)
    return f"[{prompt_at(inside, step, steps)}]"


def _opening(text: str, start: int) -> int | None:
    return next((mark.start() for mark in _MARK.finditer(text, start) if mark[0] == "["), None)


def _closing(text: str, start: int) -> int | None:
    depth = 0
    for mark in _MARK.finditer(text, start):
        depth += (mark[0] == "[") - (mark[0] == "]")
        if depth == 0 and mark[0] == "]":
            return mark.start()
    return None


def _split(text: str, separator: str) -> list[str]:
    """`text` at every `separator` that stands in no brackets."""
    cuts, depth = [-1], 0
    for mark in _MARK.finditer(text):
        depth += (mark[0] in "[(") - (mark[0] in "])") if len(mark[0]) == 1 else 0
        if mark[0] == separator and depth == 0:
            cuts.append(mark.start())
    return [text[a + 1 : b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]
