"""The sheets of the Settings page as HTML: languages, places, limits, versions, and what works on this machine."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from app.ui.format import Translate, esc, size
from app.views import parts
from trainer.core.home import Home
from trainer.core.texts import LANGUAGES
from trainer.core.texts import t as text
from trainer.images.set.limits import LIMITS

if TYPE_CHECKING:
    from trainer.hardware.doctor import Check

PACKAGES = ("torch", "diffusers", "transformers", "peft", "safetensors", "gradio", "pillow")
PLACES = ("datasets", "models", "loras", "runs", "previews", "trash")


def sheet(heading: str, html: str) -> str:
    """A sheet with a heading; `html` stands in it as it is."""
    return f"<section class='a-sheet g-sheet'><h2>{esc(heading)}</h2>{html}</section>"


def languages(lang: str) -> str:
    """A link to this page in each language, called as it calls itself."""
    links = "".join(
        f"<a class='a-small' href='/{other}/settings' lang='{other}'{' aria-current=true' if other == lang else ''}>"
        f"{esc(text('nav.own_name', language=other))}</a>"
        for other in LANGUAGES
    )
    return f"<p class='g-languages'>{links}</p>"


def places(home: Home, t: Translate) -> str:
    """Where a person's things are."""
    rows = [(t(f"page.settings.place.{name}"), str(getattr(home, name))) for name in PLACES]
    return parts.facts(rows) + f"<p class='a-note'>{esc(t('page.settings.places_hint'))}</p>"


def limits(t: Translate) -> str:
    """What is taken in at most."""
    megapixels, side = LIMITS.pixels // 1_000_000, f"{LIMITS.side:,}"
    ratios = {"told": f"{LIMITS.ratio_finding:g}", "refused": f"{LIMITS.ratio_refused:g}"}
    values = {
        "pictures": f"{LIMITS.pictures:,}",
        "file": size(LIMITS.file_bytes),
        "set": size(LIMITS.set_bytes),
        "zip": f"{LIMITS.zip_entries:,}",
        "pixels": t("page.settings.limit.pixels_value", millions=megapixels),
        "side": t("page.settings.limit.side_value", side=side),
        "ratio": t("page.settings.limit.ratio_value", **ratios),
        "tokens": t("page.settings.limit.tokens_value", count=LIMITS.caption_tokens),
    }
    return parts.facts([(t(f"page.settings.limit.{name}"), value) for name, value in values.items()])


def versions() -> list[tuple[str, str]]:
    """Python and the packages that matter, from their metadata alone."""
    rows = [("Python", f"{platform.python_version()} ({sys.platform})")]
    for name in PACKAGES:
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return rows


def health(checks: Sequence[Check] | None, t: Translate) -> str:
    """The diagnosis; None while it is on."""
    if checks is None:
        html = f"<p class='a-note' role='status'>{esc(t('page.settings.checking'))}</p>"
    else:
        html = "<ul class='g-checks'>" + "".join(_check(check, t) for check in checks) + "</ul>"
    return sheet(t("page.settings.health"), html)


def _check(check: Check, t: Translate) -> str:
    state = {True: "good", False: "bad", None: "open"}[check.ok]
    remedy = f"<span class='g-remedy'>{esc(check.remedy)}</span>" if check.remedy else ""
    return (
        f"<li class='g-{state}'><b>{esc(check.title)}</b><span class='g-mark' role='img' "
        f"aria-label='{esc(t(f'page.settings.state.{state}'))}'></span><span>{esc(check.detail)}{remedy}</span></li>"
    )
