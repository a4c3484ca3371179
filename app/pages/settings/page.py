"""Settings: language, where things are, limits, what works on this machine, versions. Wiring: one line an event."""

from __future__ import annotations

from app.pages.settings import layout
from app.pages.settings.handlers import SettingsHandlers
from app.ui.html import EVENT_DEFAULTS, on_load
from app.ui.services import Ui

SECONDS = 1.5


def build(ui: Ui) -> SettingsHandlers:
    """The page, and what answers on it."""
    parts = layout.build(ui, SECONDS)
    handlers = SettingsHandlers(ui, parts)
    diagnosis, webhook = [parts.health, parts.timer], [parts.webhook]
    on_load(handlers.webhook_opened, [], webhook)
    parts.save_webhook.click(handlers.webhook_saved, webhook, [parts.webhook_message], **EVENT_DEFAULTS)
    parts.try_webhook.click(handlers.webhook_tried, webhook, [parts.webhook_message], **EVENT_DEFAULTS)
    on_load(handlers.opened, [], diagnosis)
    parts.check.click(handlers.checked, None, diagnosis, **EVENT_DEFAULTS)
    parts.timer.tick(handlers.look, None, diagnosis, **EVENT_DEFAULTS)
    return handlers
