"""Sends a LoRA with its model card to a model hub: private unless asked otherwise. Called by `card --send`.

The token is the one huggingface_hub finds: HF_TOKEN, or what `hf auth login` left. It is neither kept nor shown here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.bases import hub
from trainer.core.problem import Problem
from trainer.library import model_card
from trainer.library.cards import Card


def send(card: Card, repo_id: str, *, public: bool = False, update: bool = False, language: str | None = None) -> str:
    """Make the repository `repo_id` (`owner/name`) and put README.md, the file and its picture into it; returns its address.

    With `update` it may be there already and gets a new version; its privacy stays as it is. Problem for what is in the way.
    """
    from huggingface_hub import HfApi

    parsed = hub.parse(repo_id)
    if parsed is None or parsed[1] is not None:
        raise Problem("hub_send_name", given=repo_id[:200])
    name, _ = parsed
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "send"
        model_card.write(card, folder, language)
        api = HfApi(endpoint=hub.endpoint())
        with _hub_problems(name):
            url = api.create_repo(name, private=None if update else not public, exist_ok=update)
            api.upload_folder(repo_id=name, folder_path=folder, commit_message=card.title or card.name)
    return str(url)


@contextmanager
def _hub_problems(name: str) -> Iterator[None]:
    """Turn what the hub's client raises into one clear sentence."""
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except (errors.OfflineModeIsEnabled, httpx2.TransportError) as error:
        raise Problem("hub_send_offline") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 0)
        code = {401: "hub_send_no_token", 403: "hub_send_forbidden", 409: "hub_send_taken"}.get(status, "hub_send_answer")
        raise Problem(code, name=name, status=status) from error
    except errors.LocalTokenNotFoundError as error:
        raise Problem("hub_send_no_token", name=name) from error
