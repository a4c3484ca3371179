"""`notify [ADDRESS|off] [--try]`: where a webhook is sent when a run ends or needs a person. Called by `python -m trainer`."""

from __future__ import annotations

import argparse

from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.core.texts import t
from trainer.jobs import webhook
from trainer.jobs.ledger.run_store import Store


def main(argv: list[str]) -> int:
    """Set or show the address; with --try, send a trial to it."""
    parser = argparse.ArgumentParser(prog="launch.py notify", description=t("commands.notify.about"))
    parser.add_argument("address", nargs="?", help=t("commands.notify.address"))
    parser.add_argument("--try", dest="trial", action="store_true", help=t("commands.notify.trial"))
    parser.add_argument("--home", help=t("commands.home"))
    args = parser.parse_args(argv)
    store = Store(Home.find(args.home).create().database)
    try:
        if args.address is not None:
            store.remember(webhook.SETTING, "" if args.address == "off" else webhook.parse_address(args.address))
        address = store.setting(webhook.SETTING, "")
    finally:
        store.close()
    if args.trial:
        if not address:
            raise Problem("webhook_none", field="webhook")
        webhook.send(address, webhook.test_payload())
    print(
        t("commands.notify.sent" if args.trial else "commands.notify.now", address=address)
        if address
        else t("commands.notify.nowhere")
    )
    return 0
