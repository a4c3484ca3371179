"""Small drawings as SVG text: the loss line of a run. Colours are classes; the style sheet gives them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from app.ui.format import esc

WIDTH, HEIGHT = 640, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 12, 14, 28
Point = tuple[float, float]


def loss_chart(losses: Sequence[tuple[int, float, float]], total: int, *, label: str) -> str:
    """(step, loss, smoothed loss) by step: the steps faint, the smoothed line clear. What is not finite is left out.

    `label` is the sentence a screen reader says. Empty text where fewer than two steps are known.
    """
    known = sorted(point for point in losses if math.isfinite(point[1]) and math.isfinite(point[2]))
    if len(known) < 2:
        return ""
    faint = [(float(step), loss) for step, loss, _ in known]
    line = [(float(step), smooth) for step, _, smooth in known]
    low, high = _bounds([y for _, y in faint], [y for _, y in line])
    last = max(float(total), line[-1][0], 1.0)

    def place(point: Point) -> str:
        x = _LEFT + point[0] / last * (WIDTH - _LEFT - _RIGHT)
        share = (min(max(point[1], low), high) - low) / (high - low)
        return f"{x:.1f},{HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM):.1f}"

    ticks = "".join(
        f'<line class="ch-grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
        f'<text class="ch-word" x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{_number(value)}</text>'
        for value, y in ((high, _TOP), (low, HEIGHT - _BOTTOM))
    )
    end = line[-1]
    x, y = place(end).split(",")
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{esc(label)}" '
        f'data-points="{len(known)}" data-last="{end[1]:.5g}">{ticks}'
        f'<polyline class="ch-faint" points="{" ".join(map(place, faint))}"/>'
        f'<polyline class="ch-line" points="{" ".join(map(place, line))}"/>'
        f'<circle class="ch-now" cx="{x}" cy="{y}" r="4"/>'
        f'<text class="ch-word" x="{_LEFT}" y="{HEIGHT - 6}">0</text>'
        f'<text class="ch-word" x="{WIDTH - _RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{int(last)}</text></svg>'
    )


def _bounds(raw: list[float], line: list[float]) -> tuple[float, float]:
    """The middle 96 % of the steps and all of the smooth line, so that one jump does not flatten the rest."""
    ordered = sorted(raw)
    low = min(ordered[int(0.02 * (len(ordered) - 1))], *line)
    high = max(ordered[math.ceil(0.98 * (len(ordered) - 1))], *line)
    if high - low < 1e-9:
        pad = abs(high) * 0.1 or 0.1
        return low - pad, high + pad
    pad = (high - low) * 0.08
    return (max(0.0, low - pad) if low >= 0 else low - pad), high + pad


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 100 else f"{value:.3g}"
