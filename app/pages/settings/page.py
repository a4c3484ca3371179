"""Settings: language, where things are, limits, what works on this machine, versions. Words from `page.settings`."""

from __future__ import annotations

import platform
import sys
import threading
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import gradio as gr

from app.ui.format import esc, size
from app.ui.html import PRIVATE, markup, on_load, plain, problem, title
from app.ui.services import Ui
from app.views import parts
from trainer.core.problem import Problem
from trainer.core.texts import LANGUAGES
from trainer.images.set.limits import LIMITS
from trainer.jobs import webhook

if TYPE_CHECKING:
    from trainer.hardware.doctor import Check

SHOWN = ("torch", "diffusers", "transformers", "peft", "safetensors", "gradio", "pillow")
PLACES = ("datasets", "models", "loras", "runs", "previews", "trash")
POLL = 1.5


def build(ui: Ui) -> None:
    """Plain facts, one sheet each; the diagnosis runs in the background and fills its sheet when it is there."""
    t = ui.t
    with gr.Column(elem_classes="a-page g-page"):
        title(ui, "settings")
        markup(_sheet(t("page.settings.language"), _languages(ui)))
        health = markup(_health(ui, None))
        _messages(ui)
        markup(_sheet(t("page.settings.places"), _places(ui)))
        markup(_sheet(t("page.settings.limits"), _limits(ui)))
        markup(_sheet(t("page.settings.versions"), parts.facts(versions())))
        with gr.Row(elem_classes="a-action"):
            markup(f"<p class='a-quiet'>{esc(t('page.settings.check_hint'))}</p>")
            again = gr.Button(t("page.settings.check"), variant="primary", elem_id="settings-check")
        timer = gr.Timer(POLL, active=False)
    doctor = Doctor.of(ui)

    def look(afresh: bool) -> list[object]:
        doctor.begin(afresh)
        return [_health(ui, doctor.checks(ui)), gr.Timer(active=doctor.busy())]

    on_load(lambda: look(False), [], [health, timer])
    again.click(lambda: look(True), None, [health, timer], **PRIVATE)
    timer.tick(lambda: [_health(ui, doctor.checks(ui)), gr.Timer(active=doctor.busy())], None, [health, timer], **PRIVATE)


def _messages(ui: Ui) -> None:
    """Where a webhook goes when a training ends (trainer/jobs/webhook.py)."""
    t = ui.t
    with gr.Column(elem_classes="a-sheet g-sheet", elem_id="settings-hook"):
        markup(f"<h2>{esc(t('page.settings.hook'))}</h2><p class='a-note'>{esc(t('page.settings.hook_help'))}</p>")
        address = gr.Textbox(label=t("page.settings.hook_label"), max_lines=1, interactive=False,
                             elem_id="hook-address")  # fmt: skip
        with gr.Row(elem_classes="g-hook"):
            keep = gr.Button(t("page.settings.hook_save"), size="sm", elem_id="hook-save", elem_classes="a-small", scale=0)
            trial = gr.Button(t("page.settings.hook_try"), size="sm", elem_id="hook-try", elem_classes="a-small", scale=0)
        said = plain(elem_id="hook-said")

    def kept(typed: str) -> str:
        ui.services.jobs.store.remember(webhook.SETTING, webhook.parse_address(typed or ""))
        return t("page.settings.hook_kept" if typed.strip() else "page.settings.hook_off")

    def tried(typed: str) -> str:
        address = webhook.parse_address(typed or "")
        if not address:
            raise Problem("webhook_none", field="webhook")
        webhook.send(address, webhook.test_payload())
        return t("page.settings.hook_sent")

    def answer(act: Callable[[str], str], typed: str) -> str:
        try:
            return f"<p class='a-note' role='status'>{esc(act(typed))}</p>"
        except Problem as error:
            return problem(error.sentence(ui.lang))

    # not to be typed into before what is set has arrived
    on_load(lambda: gr.update(value=ui.services.jobs.store.setting(webhook.SETTING, ""), interactive=True), [], [address])
    keep.click(lambda typed: answer(kept, typed), [address], [said], **PRIVATE)
    trial.click(lambda typed: answer(tried, typed), [address], [said], **PRIVATE)


class Doctor:
    """The diagnosis in a thread: loading torch in its child takes seconds. One for both languages."""

    _one: Doctor | None = None

    def __init__(self, ui: Ui) -> None:
        self.home = ui.services.home
        self.thread: threading.Thread | None = None
        self.seen: dict[str, object] | None = None

    @classmethod
    def of(cls, ui: Ui) -> Doctor:
        """The doctor of this home."""
        if cls._one is None or cls._one.home != ui.services.home:
            cls._one = cls(ui)
        return cls._one

    def begin(self, afresh: bool) -> None:
        """Start looking, unless that is going on or was done."""
        if self.busy() or (self.seen is not None and not afresh):
            return
        self.seen = None
        self.thread = threading.Thread(target=self._look, name="doctor", daemon=True)
        self.thread.start()

    def busy(self) -> bool:
        """Whether the diagnosis is still on."""
        return self.thread is not None and self.thread.is_alive()

    def checks(self, ui: Ui) -> list[Check] | None:
        """What was found, in the page's words; None while it is being looked for."""
        from trainer.hardware.doctor import diagnose

        return None if self.seen is None else diagnose(self.home, ui.lang, seen=self.seen)

    def _look(self) -> None:
        from trainer.hardware.facts import look

        self.seen = look(self.home, "ready")


def versions() -> list[tuple[str, str]]:
    """Python and the packages that matter, from their metadata alone."""
    found = [("Python", f"{platform.python_version()} ({sys.platform})")]
    for name in SHOWN:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found


def _sheet(heading: str, inside: str) -> str:
    return f"<section class='a-sheet g-sheet'><h2>{esc(heading)}</h2>{inside}</section>"


def _languages(ui: Ui) -> str:
    links = "".join(
        f"<a class='a-small' href='/{lang}/settings' lang='{lang}'{' aria-current=true' if lang == ui.lang else ''}>"
        f"{esc(ui.t('nav.own_name', language=lang) if lang == ui.lang else _own_name(lang))}</a>"
        for lang in LANGUAGES
    )
    return f"<p class='g-languages'>{links}</p>"


def _own_name(lang: str) -> str:
    from trainer.core.texts import t

    return t("nav.own_name", language=lang)


def _places(ui: Ui) -> str:
    home = ui.services.home
    rows = [(ui.t(f"page.settings.place.{name}"), str(getattr(home, name))) for name in PLACES]
    return parts.facts(rows) + f"<p class='a-note'>{esc(ui.t('page.settings.places_hint'))}</p>"


def _limits(ui: Ui) -> str:
    rows = [
        (ui.t("page.settings.limit.pictures"), f"{LIMITS.pictures:,}"),
        (ui.t("page.settings.limit.file"), size(LIMITS.file_bytes)),
        (ui.t("page.settings.limit.set"), size(LIMITS.set_bytes)),
        (ui.t("page.settings.limit.zip"), f"{LIMITS.zip_entries:,}"),
        (
            ui.t("page.settings.limit.pixels"),
            ui.t("page.settings.limit.pixels_value", millions=LIMITS.pixels // 1_000_000),
        ),
        (ui.t("page.settings.limit.side"), ui.t("page.settings.limit.side_value", side=f"{LIMITS.side:,}")),
        (
            ui.t("page.settings.limit.ratio"),
            ui.t("page.settings.limit.ratio_value", told=f"{LIMITS.ratio_finding:g}", refused=f"{LIMITS.ratio_refused:g}"),
        ),
        (ui.t("page.settings.limit.tokens"), ui.t("page.settings.limit.tokens_value", count=LIMITS.caption_tokens)),
    ]
    return parts.facts(rows)


def _health(ui: Ui, checks: list[Check] | None) -> str:
    if checks is None:
        inside = f"<p class='a-note' role='status'>{esc(ui.t('page.settings.checking'))}</p>"
    else:
        inside = "<ul class='g-checks'>" + "".join(_check(ui, check) for check in checks) + "</ul>"
    return _sheet(ui.t("page.settings.health"), inside)


def _check(ui: Ui, check: Check) -> str:
    how = {True: "good", False: "bad", None: "open"}[check.ok]
    remedy = f"<span class='g-remedy'>{esc(check.remedy)}</span>" if check.remedy else ""
    return (
        f"<li class='g-{how}'><b>{esc(check.title)}</b><span class='g-mark' role='img' "
        f"aria-label='{esc(ui.t(f'page.settings.state.{how}'))}'></span><span>{esc(check.detail)}{remedy}</span></li>"
    )
