"""Times and sizes as people say them, in both languages."""

from __future__ import annotations

from datetime import datetime
from functools import partial

import pytest

from app.ui import format as words
from trainer.core.texts import t

en, ja = partial(t, language="en"), partial(t, language="ja")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(59.4, "59 s"), (59.6, "1 min"), (200, "3 min"), (3599, "1 h"), (4800, "1 h 20 min"), (40_000, "11 h")],
)
def test_spans_are_rounded_as_people_do(seconds, said):
    assert words.duration(seconds, en) == said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (190, 290, "about 3–5 min left"),
        (290, 190, "about 3–5 min left"),
        (170, 179, "about 3 min left"),
        (22, 41, "about 20–45 s left"),
        (1, 4, "a few seconds left"),
        (3000, 5000, "about 50 min to 1 h 23 min left"),
        (None, 5, ""),
        (float("inf"), 5, ""),
        (5, float("nan"), ""),
    ],
)
def test_time_left_is_a_range(low, high, said):
    assert words.time_left(low, high, en) == said


def test_time_left_in_japanese():
    assert words.time_left(190, 290, ja) == "残りおよそ 3〜5 分"


def test_moments():
    now = datetime(2026, 11, 23, 18, 0).timestamp()
    assert words.ago(now - 5, en, now) == "just now"
    assert words.ago(now - 300, en, now) == "5 min ago"
    assert words.ago(now - 4 * 3600, en, now) == "today 14:00"
    assert words.ago(now - 20 * 3600, ja, now) == "昨日 22:00"
    assert words.ago(now - 5 * 86400, en, now) == "18 Nov"
    assert words.ago(now - 5 * 86400, ja, now) == "11月18日"
    assert words.ago(now - 400 * 86400, en, now) == "19 Oct 2025"
    assert words.ago(None, en, now) == ""


@pytest.mark.parametrize(
    ("count", "said"),
    [(12, "12 B"), (820_400, "820 KB"), (3_400_000, "3.4 MB"), (999_600_000, "1.0 GB"), (12e9, "12 GB")],
)
def test_sizes(count, said):
    assert words.size(count) == said


@pytest.mark.parametrize(
    ("rate", "said"),
    [(2.5, "2.5 steps a second"), (25, "25 steps a second"), (0.4, "2.5 s a step"), (0.05, "20 s a step"), (0, "")],
)
def test_speed(rate, said):
    assert words.speed(rate, en) == said


def test_markup_in_a_name_stays_text():
    assert words.esc('<img onerror="x">') == "&lt;img onerror=&quot;x&quot;&gt;"
