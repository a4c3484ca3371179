"""Plots of the cases that grow, as SVG beside their JSON: cost by size of set, memory by steps. The axis starts at nought, so
that flat looks flat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 240, 16, 40, 16, 44


def plot(told: dict[str, Any]) -> str | None:
    """The plot of a result; None where its case has none."""
    if told["case"].startswith("growth"):
        by = told["step_milliseconds_by_pictures"]
        return line("Milliseconds of a step, by pictures in the set", [f"{int(n):,}" for n in by], list(by.values()), "{:.1f}")
    if told["case"].startswith("steady"):
        sizes = told["resident_megabytes_by_tenth"]
        steps = [f"{told['steps'] * (tenth + 1) // len(sizes):,}" for tenth in range(len(sizes))]
        return line("Megabytes in memory, by steps", steps, sizes, "{:.0f}")
    return None


def line(title: str, names: Sequence[str], values: Sequence[float], form: str) -> str:
    """One line through `values`, evenly spaced, each with its figure above and its name below; dark on white."""
    most = 1.25 * max(values)
    across = (WIDTH - LEFT - RIGHT) / len(values)
    floor = HEIGHT - BOTTOM
    points = [(LEFT + across * (i + 0.5), floor - (floor - TOP) * value / most) for i, value in enumerate(values)]
    marks = []
    for (x, y), name, value in zip(points, names, values, strict=True):
        marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#b4412e"/>')
        marks.append(f'<text x="{x:.1f}" y="{y - 10:.1f}">{form.format(value)}</text>')
        marks.append(f'<text x="{x:.1f}" y="{floor + 20}" fill="#6b6560">{name}</text>')
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="12" text-anchor="middle" fill="#2b2724" role="img" aria-label="{title}">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        f'<text x="{LEFT}" y="22" text-anchor="start" font-size="14">{title}</text>'
        f'<line x1="{LEFT}" y1="{floor}" x2="{WIDTH - RIGHT}" y2="{floor}" stroke="#c9c2ba"/>'
        f'<polyline points="{path}" fill="none" stroke="#b4412e" stroke-width="2"/>{"".join(marks)}</svg>\n'
    )
