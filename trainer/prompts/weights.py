"""Words that count more or less, as AUTOMATIC1111 writes them: `(a word:1.2)`, `(more)`, `[less]`, `\\(` for a bracket itself.

Pure text: captions at training, prompts when drawing and the splitting of captions into parts are all read here.
"""

from __future__ import annotations

import re

STEP = 1.1
"""What a pair of round brackets multiplies by, and a pair of square ones divides by."""
_MARKS = re.compile(r"\\[()\[\]\\]|:\s*([+-]?(?:[0-9]{1,3}(?:\.[0-9]*)?|\.[0-9]+))\s*\)|[^\\()\[\]:]+|.", re.DOTALL)


def read(text: str) -> list[tuple[str, float]]:
    """`text` as pieces with their weights, neighbours of one weight together.

    Brackets multiply: `((a))` weighs 1.21. One that is not closed reaches to the end; one that was not opened is a word
    like any other. Never raises.
    """
    pieces: list[tuple[str, float]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def multiply(start: int, by: float) -> None:
        pieces[start:] = [(chunk, weight * by) for chunk, weight in pieces[start:]]

    for match in _MARKS.finditer(text):
        mark, number = match[0], match[1]
        if mark in opened:
            opened[mark].append(len(pieces))
        elif number is not None and opened["("]:
            multiply(opened["("].pop(), float(number))
        elif mark == ")" and opened["("]:
            multiply(opened["("].pop(), STEP)
        elif mark == "]" and opened["["]:
            multiply(opened["["].pop(), 1 / STEP)
        else:
            pieces.append((mark[1] if len(mark) == 2 and mark[0] == "\\" else mark, 1.0))
    for bracket, by in (("(", STEP), ("[", 1 / STEP)):
        for start in opened[bracket]:
            multiply(start, by)
    return _together(pieces)


def plain(text: str) -> str:
    """The words of `text` without brackets and weights."""
    return "".join(chunk for chunk, _ in read(text))


def parts(text: str) -> list[str]:
    """The comma-separated parts of a caption, trimmed, empty ones left out; what stands in brackets stays together."""
    texts, depth = [""], 0
    for mark in _MARKS.finditer(text):
        depth += mark[0] in "([" if len(mark[0]) == 1 else 0
        depth -= depth > 0 and (mark[1] is not None or mark[0] in (")", "]"))
        first, *rest = mark[0].split(",") if depth == 0 and mark[1] is None else [mark[0]]
        texts[-1] += first
        texts += rest
    return [part for part in (piece.strip() for piece in texts) if part]


def _together(pieces: list[tuple[str, float]]) -> list[tuple[str, float]]:
    merged: list[tuple[str, float]] = []
    for chunk, weight in pieces:
        if merged and merged[-1][1] == weight:
            chunk = merged.pop()[0] + chunk
        merged.append((chunk, weight))
    return merged
