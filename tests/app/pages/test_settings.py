"""What the Settings page answers, asked without a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.pages.settings import handlers as settings_handlers
from app.pages.settings import page
from app.ui.services import Services, Ui
from tests.helpers.events import Events
from trainer.core.home import Home
from trainer.hardware import facts


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Events:
    monkeypatch.setattr(settings_handlers.Doctor, "_one", None)
    return Events(page, Ui.of(Services(Home.find(tmp_path).create()), "en"))


def test_a_webhook_is_checked_kept_and_shown_again(events: Events) -> None:
    handlers, parts = events.handlers, events.parts
    wrong = events.ask(handlers.webhook_saved, {parts.webhook: "not an address"})
    assert "a-problem" in wrong[parts.webhook_message]
    assert events.ask(handlers.webhook_opened) == {parts.webhook: {"value": "", "interactive": True, "__type__": "update"}}
    address = "https://127.0.0.1:9/hook"
    assert "a-note" in events.ask(handlers.webhook_saved, {parts.webhook: address})[parts.webhook_message]
    assert events.ask(handlers.webhook_opened)[parts.webhook]["value"] == address
    assert "a-note" in events.ask(handlers.webhook_saved, {parts.webhook: ""})[parts.webhook_message]
    assert "a-problem" in events.ask(handlers.webhook_tried, {parts.webhook: ""})[parts.webhook_message]


def test_the_diagnosis_is_asked_for_once_and_anew_when_pressed(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    handlers, parts, looks = events.handlers, events.parts, []
    monkeypatch.setattr(facts, "collect", lambda home, environment: looks.append(home) or {})
    monkeypatch.setattr("trainer.hardware.doctor.diagnose", lambda home, lang, facts: [])
    assert events.ask(handlers.look)[parts.timer].active is False
    for count, handler in enumerate((handlers.opened, handlers.checked), 1):
        events.ask(handler)
        handlers.doctor.thread.join(30)
        assert len(looks) == count
    answer = events.ask(handlers.opened)
    assert len(looks) == 2 and "g-checks" in answer[parts.health] and answer[parts.timer].active is False
