"""What the Settings page answers: the diagnosis, which runs in the background, and the webhook. Wired in page.py."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.pages.answer import Answer
from app.pages.settings.layout import SettingsParts
from app.ui.format import esc
from app.ui.html import problem
from app.ui.services import Ui
from app.views import settings
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.jobs import webhook

if TYPE_CHECKING:
    from trainer.hardware.doctor import Check


class SettingsHandlers:
    """Each method answers with parts that are among its event's outputs."""

    def __init__(self, ui: Ui, parts: SettingsParts) -> None:
        self.ui, self.parts, self.doctor = ui, parts, Doctor.of(ui.services.home)

    def opened(self) -> Answer:
        """The diagnosis where there is one; else it begins."""
        self.doctor.begin(afresh=False)
        return self.look()

    def checked(self) -> Answer:
        """The diagnosis begins anew."""
        self.doctor.begin(afresh=True)
        return self.look()

    def look(self) -> Answer:
        """The diagnosis as far as it is."""
        html = settings.health(self.doctor.checks(self.ui.lang), self.ui.t)
        return {self.parts.health: html, self.parts.timer: gr.Timer(active=self.doctor.busy())}

    def webhook_opened(self) -> Answer:
        """The address that is set; from now on it can be changed."""
        address = self.ui.services.jobs.store.setting(webhook.SETTING, "")
        return {self.parts.webhook: gr.update(value=address, interactive=True)}

    def webhook_saved(self, address: str) -> Answer:
        """Keep the address, or none."""
        try:
            self.ui.services.jobs.store.remember(webhook.SETTING, webhook.parse_address(address or ""))
        except Problem as error:
            return self._refused(error)
        return self._message("page.settings.hook_kept" if (address or "").strip() else "page.settings.hook_off")

    def webhook_tried(self, address: str) -> Answer:
        """Send a message there now."""
        try:
            checked = webhook.parse_address(address or "")
            if not checked:
                raise Problem("webhook_none", field="webhook")
            webhook.send(checked, webhook.test_payload())
        except Problem as error:
            return self._refused(error)
        return self._message("page.settings.hook_sent")

    def _message(self, key: str) -> Answer:
        return {self.parts.webhook_message: f"<p class='a-note' role='status'>{esc(self.ui.t(key))}</p>"}

    def _refused(self, error: Problem) -> Answer:
        return {self.parts.webhook_message: problem(error.sentence(self.ui.lang))}


class Doctor:
    """The diagnosis in a thread: loading torch in its child takes seconds. One for both languages."""

    _one: Doctor | None = None

    def __init__(self, home: Home) -> None:
        self.home = home
        self.thread: threading.Thread | None = None
        self.facts: dict[str, Any] | None = None

    @classmethod
    def of(cls, home: Home) -> Doctor:
        """The doctor of this home."""
        if cls._one is None or cls._one.home != home:
            cls._one = cls(home)
        return cls._one

    def begin(self, afresh: bool) -> None:
        """Start looking, unless that is going on or was done."""
        if self.busy() or (self.facts is not None and not afresh):
            return
        self.facts = None
        self.thread = threading.Thread(target=self._look, name="doctor", daemon=True)
        self.thread.start()

    def busy(self) -> bool:
        """Whether the diagnosis is still on."""
        return self.thread is not None and self.thread.is_alive()

    def checks(self, lang: str) -> list[Check] | None:
        """The diagnosis in the page's language; None while it is on."""
        from trainer.hardware.doctor import diagnose

        return None if self.facts is None else diagnose(self.home, lang, facts=self.facts)

    def _look(self) -> None:
        from trainer.hardware.facts import collect

        self.facts = collect(self.home, "ready")
