"""Notifies another program, at the address a person gave, that a run has ended or needs somebody: a small JSON by POST.

Sent by the trainer process, so that it matters not whether a page is open; by the supervisor where the trainer was killed.
In a thread of its own: a slow or absent receiver holds up no training. Set on the Settings page or by `launch.py notify`.
"""

from __future__ import annotations

import http.client
import json
import threading
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from trainer.core import files
from trainer.core.problem import Problem
from trainer.core.texts import t
from trainer.jobs.ledger.run_row import RunRow
from trainer.jobs.ledger.run_store import Store

SETTING = "webhook"
TIMEOUT = 4.0
"""How long the receiver may take to answer."""
MAX_LENGTH = 2000


def parse_address(address: str) -> str:
    """An http or https address, or empty for none; else Problem."""
    address = address.strip()
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None and parts.port != 0
        good = good and all("!" <= letter <= "~" for letter in address) and len(address) <= MAX_LENGTH
    except ValueError:  # a port that is no number, a bracket left open
        good = False
    if address and not good:
        raise Problem("webhook_address", field="webhook")
    return address


def payload(row: RunRow) -> dict[str, Any]:
    """What is sent of a run: name, state, why (a code) and times in Unix seconds. Nothing of pictures, words or folders.

    `text` and `content` are the same in a sentence, under the names Slack and Discord look for.
    """
    state = t("notes_jobs.webhook_disk" if row.reason == "disk" else f"states.{row.state}")
    sentence = f"LoRA Atelier: {row.name}: {state}"
    facts = {"run": row.id, "name": row.name, "state": row.state, "why": row.reason, "started": row.started, "ended": row.ended}
    return {"program": "LoRA Atelier", **facts, "text": sentence, "content": sentence}


def test_payload() -> dict[str, Any]:
    """What is sent to see whether an address works."""
    sentence = f"LoRA Atelier: {t('notes_jobs.webhook_trial')}"
    return {"program": "LoRA Atelier", "state": "trial", "text": sentence, "content": sentence}


def send(address: str, body_: dict[str, Any]) -> None:
    """POST, and wait for the answer. Problem with the reason where it does not come or is not a yes. No redirect is
    followed: what was meant for one address goes to no other."""
    body = json.dumps(body_, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "LoRA-Atelier"}
    request = urllib.request.Request(address, body, headers, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT):
            pass
    except (OSError, http.client.HTTPException, ValueError) as error:
        host = urlsplit(address).hostname or ""  # an address may hold a secret: its host alone is named
        raise Problem("webhook_failed", field="webhook", host=host, detail=str(error)[:200]) from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for the refusal it is."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Webhook:
    """The notifications of one process. Reads the address each time, so that a change holds at once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._threads: list[threading.Thread] = []
        self._failed = False

    def notify(self, row: RunRow) -> None:
        """Send what became of `row` on its way; does not wait."""
        address = self.store.setting(SETTING, "")
        if address:
            thread = threading.Thread(target=self._send, args=(address, payload(row)), name="webhook", daemon=True)
            thread.start()
            self._threads.append(thread)

    def wait(self) -> None:
        """Give what is on its way the time it may take, before the process ends."""
        for thread in self._threads:
            thread.join(TIMEOUT + 1)

    def _send(self, address: str, body: dict[str, Any]) -> None:
        try:
            send(address, body)
        except Problem as problem:
            if not self._failed:  # once is enough for the log
                files.complain(str(problem))
            self._failed = True
