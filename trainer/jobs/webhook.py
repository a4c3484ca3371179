"""Tells another program, at the address a person gave, that a run has ended or needs somebody: a small JSON by POST.

Sent by the trainer process, so that it matters not whether a page is open; by the supervisor where the trainer was killed.
In a thread of its own: a slow or absent receiver holds up no training. Set on the Settings page or by `launch.py notify`.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from trainer.core.problem import Problem
from trainer.core.texts import t
from trainer.jobs.ledger.run_store import RunRow, Store

SETTING = "webhook"
SECONDS = 4.0
"""How long the receiver may take to answer."""
LONGEST = 2000


def checked(address: str) -> str:
    """An http or https address, or empty for none; else Problem."""
    address = address.strip()
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None and parts.port != 0
        good = good and all("!" <= letter <= "~" for letter in address) and len(address) <= LONGEST
    except ValueError:  # a port that is no number, a bracket left open
        good = False
    if address and not good:
        raise Problem("webhook_address", field="webhook")
    return address


def message(row: RunRow) -> dict[str, Any]:
    """What is told of a run: name, state, why (a code) and times in Unix seconds. Nothing of pictures, words or folders.

    `text` and `content` are the same in a sentence, under the names Slack and Discord look for.
    """
    said = t("notes_jobs.webhook_disk" if row.why == "disk" else f"states.{row.state}")
    sentence = f"LoRA Atelier: {row.name}: {said}"
    told = {"run": row.id, "name": row.name, "state": row.state, "why": row.why, "started": row.started, "ended": row.ended}
    return {"program": "LoRA Atelier", **told, "text": sentence, "content": sentence}


def trial() -> dict[str, Any]:
    """What is sent to see whether an address works."""
    sentence = f"LoRA Atelier: {t('notes_jobs.webhook_trial')}"
    return {"program": "LoRA Atelier", "state": "trial", "text": sentence, "content": sentence}


def send(address: str, told: dict[str, Any]) -> None:
    """POST, and wait for the answer. Problem with the reason where it does not come or is not a yes. No redirect is
    followed: what was meant for one address goes to no other."""
    body = json.dumps(told, ensure_ascii=False).encode()
    head = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "LoRA-Atelier"}
    request = urllib.request.Request(address, body, head, method="POST")
    try:
        with urllib.request.build_opener(_Here).open(request, timeout=SECONDS):
            pass
    except (OSError, http.client.HTTPException, ValueError) as error:
        where = urlsplit(address).hostname or ""  # an address may hold a secret: its host alone is told
        raise Problem("webhook_failed", field="webhook", host=where, detail=str(error)[:200]) from error


class _Here(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for the refusal it is."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Webhook:
    """The teller of one process. Reads the address each time, so that a change holds at once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._threads: list[threading.Thread] = []
        self._failed = False

    def tell(self, row: RunRow) -> None:
        """Send what became of `row` on its way; does not wait."""
        address = self.store.setting(SETTING, "")
        if address:
            thread = threading.Thread(target=self._send, args=(address, message(row)), name="webhook", daemon=True)
            thread.start()
            self._threads.append(thread)

    def wait(self) -> None:
        """Give what is on its way the time it may take, before the process ends."""
        for thread in self._threads:
            thread.join(SECONDS + 1)

    def _send(self, address: str, told: dict[str, Any]) -> None:
        try:
            send(address, told)
        except Problem as problem:
            if not self._failed:  # once is enough for the log
                print(problem, file=sys.stderr, flush=True)
            self._failed = True
