"""Standard error that leads to a full disk: what cannot be said is left unsaid, and no training ends for it."""

from __future__ import annotations

import errno
import io
import sys
from contextlib import contextmanager

from trainer.core import files
from trainer.jobs import recovery, webhook
from trainer.jobs.trainer import attempt
from trainer.library.publication import Publication


class Full(io.TextIOBase):
    def __init__(self):
        self.tried = 0

    def write(self, text):
        self.tried += 1
        raise OSError(errno.ENOSPC, "No space left on device")


def refuse(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@contextmanager
def full_log(monkeypatch):
    """Standard error as a full disk would have it; something is said meanwhile, in vain."""
    stream = Full()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        yield patch
    assert stream.tried


def test_an_attempt_begins(store, config, monkeypatch):
    run = store.run_dir(store.create(config, "a"))
    with full_log(monkeypatch) as patch:
        patch.setattr(files, "write_json", refuse)
        attempt.begin(run, 1)
    assert attempt.read(run) is None


def test_the_end_of_a_killed_run_is_recorded(store, config, monkeypatch):
    id_ = store.create(config, "a")
    assert store.start_next(id_) and store.claim(id_) == 1
    with full_log(monkeypatch) as patch:
        patch.setattr(Publication, "complete", refuse)
        recovery.record_outcome(store, store.get(id_), None)
    assert store.get(id_).state == "interrupted"
    store.mark(id_, pid=None)


def test_a_receiver_that_is_not_there_is_passed_over(store, config, monkeypatch):
    store.remember(webhook.SETTING, "http://127.0.0.1:9/hook")
    row, notifications = store.get(store.create(config, "a")), webhook.Webhook(store)
    with full_log(monkeypatch):
        notifications.notify(row)
        notifications.wait()
    assert notifications._failed
