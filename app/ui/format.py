"""Numbers and times as people say them, in the page's language. Pure; the views pass the page's own `t`."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Callable
from datetime import datetime

Translate = Callable[..., str]
"""`t(key, **params)` of one language."""


def esc(text: object) -> str:
    """Anything as text inside HTML or an attribute."""
    return html.escape(str(text), quote=True)


def duration(seconds: float, t: Translate) -> str:
    """`45 s`, `3 min`, `1 h 20 min`."""
    if seconds < 59.5:
        return t("ago.seconds", n=max(0, round(seconds)))
    minutes = round(seconds / 60)
    if minutes < 60:
        return t("ago.minutes", n=minutes)
    hours, minutes = divmod(minutes, 60)
    return t("ago.hours_minutes", h=hours, m=minutes) if minutes and hours < 10 else t("ago.hours", n=hours)


def time_left(low: float | None, high: float | None, t: Translate) -> str:
    """`about 3–5 min left`: a range, because nobody knows better. Empty where there is nothing to go by."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)) or high < 0:
        return ""
    low, high = sorted((max(0.0, low), max(0.0, high)))
    if high < 10:
        return t("ago.left_moment")
    if high < 90:
        a, b = math.floor(low / 5) * 5, math.ceil(high / 5) * 5
        span = t("ago.seconds", n=b) if b - a <= 5 or a == 0 else t("ago.seconds_range", a=a, b=b)
    elif high < 3600:
        a, b = math.floor(low / 60), math.ceil(high / 60)
        span = t("ago.minutes", n=b) if b - a <= 1 or a == 0 else t("ago.minutes_range", a=a, b=b)
    else:
        a, b = duration(low, t), duration(high, t)
        span = b if a == b else t("ago.range", a=a, b=b)
    return t("ago.left", span=span)


def ago(when: float | None, t: Translate, now: float | None = None) -> str:
    """`just now`, `5 min ago`, `today 14:02`, `yesterday 09:10`, `3 Nov`, `3 Nov 2025`."""
    if not when:
        return ""
    now = time.time() if now is None else now
    passed = now - when
    if passed < 60:
        return t("ago.now")
    if passed < 3600:
        return t("ago.minutes_ago", n=int(passed // 60))
    then, today = datetime.fromtimestamp(when), datetime.fromtimestamp(now)
    clock = f"{then:%H:%M}"
    days = (today.date() - then.date()).days
    if days == 0:
        return t("ago.today", clock=clock)
    if days == 1:
        return t("ago.yesterday", clock=clock)
    return date(when, t) if then.year != today.year else t("ago.day", d=then.day, m=then.month, month=_month(then, t))


def date(when: float, t: Translate) -> str:
    """The day alone, with its year."""
    then = datetime.fromtimestamp(when)
    return t("ago.date", d=then.day, m=then.month, month=_month(then, t), y=then.year)


def size(count: float) -> str:
    """Bytes as `820 KB`, `3.4 MB`, `12 GB` (powers of ten, as shops and disks count)."""
    value = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if value >= 10 or unit in ("B", "KB") else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.0f} TB" if value >= 10 else f"{value:.1f} TB"


def speed(rate: float | None, t: Translate) -> str:
    """Steps a second, or seconds a step where that reads better."""
    if not rate or rate <= 0 or not math.isfinite(rate):
        return ""
    if rate >= 1:
        return t("ago.per_second", n=f"{rate:.1f}" if rate < 10 else f"{rate:.0f}")
    return t("ago.each", n=f"{1 / rate:.1f}" if rate > 0.1 else f"{1 / rate:.0f}")


def _month(then: datetime, t: Translate) -> str:
    return t("ago.months").split()[then.month - 1]
