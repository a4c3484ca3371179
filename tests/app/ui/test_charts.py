"""The loss line: the numbers in the drawing are the numbers of the run."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ui import charts


def _points(svg: str, name: str) -> list[tuple[float, float]]:
    text = re.search(rf'class="{name}" points="([^"]*)"', svg)
    assert text
    return [(float(a), float(b)) for a, b in (pair.split(",") for pair in text[1].split())]


def test_fewer_than_two_steps_draw_nothing():
    assert charts.loss_chart([], 10, label="x") == ""
    assert charts.loss_chart([(1, 0.5, 0.5), (2, math.nan, 0.5)], 10, label="x") == ""


def test_a_falling_loss_falls_on_the_page_and_ends_where_the_run_is():
    svg = charts.loss_chart([(i, 1.2 - i / 100, 1 - i / 100) for i in range(1, 51)], 100, label="Loss")
    line = _points(svg, "ch-line")
    assert all(later[1] > earlier[1] for earlier, later in pairwise(line))
    assert line[-1][0] == pytest.approx(60 + 0.5 * (640 - 60 - 12), abs=0.1)
    assert 'data-points="50"' in svg and 'data-last="0.5"' in svg and ">100<" in svg


def test_a_constant_loss_is_a_level_line():
    svg = charts.loss_chart([(i, 0.25, 0.25) for i in range(20)], 20, label="Loss")
    assert len({y for _, y in _points(svg, "ch-line")}) == 1 and 'data-last="0.25"' in svg


def test_one_jump_does_not_flatten_the_rest():
    losses = [(i, 0.1 + 0.001 * i, 0.1 + 0.001 * i) for i in range(200)]
    losses[100] = (100, 50.0, 0.2)
    svg = charts.loss_chart(losses, 200, label="x")
    label = re.search(r'text-anchor="end">([\d.]+)<', svg)
    assert label is not None
    top = float(label[1])
    assert 0.29 < top < 1
    assert min(y for _, y in _points(svg, "ch-faint")) == 14


def test_a_run_longer_than_foretold_still_ends_inside():
    assert _points(charts.loss_chart([(1, 1.0, 1.0), (50, 2.0, 1.5)], 10, label="x"), "ch-line")[-1][0] == 628


def test_a_label_with_markup_stays_text():
    assert 'aria-label="&lt;b&gt;"' in charts.loss_chart([(0, 1.0, 1.0), (1, 2.0, 1.5)], 5, label="<b>")


_loss = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(st.lists(st.tuples(st.integers(0, 10**6), _loss, _loss), max_size=60), st.integers(0, 10**6))
def test_any_losses_give_a_drawing_inside_its_frame(losses, total):
    svg = charts.loss_chart(losses, total, label="Loss")
    if svg:
        ET.fromstring(svg)
        for x, y in _points(svg, "ch-line") + _points(svg, "ch-faint"):
            assert 0 <= x <= charts.WIDTH and 0 <= y <= charts.HEIGHT
