"""What the address of a page asks for (`?run=…`) and what a button sends. Used by the pages that can be linked to."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import gradio as gr


def asked(request: gr.Request | None, name: str) -> str | None:
    """The value of `name` in the address of the page the request came from, or None."""
    if request is None:
        return None
    value = dict(request.query_params).get(name) if request.query_params else None
    if value is None:
        referer = request.headers.get("referer", "")
        value = parse_qs(urlsplit(referer).query).get(name, [None])[0]
    return value or None


def signal_data(signal: str) -> dict[str, Any]:
    """The JSON object a button or an upload sends; an empty one where it is none."""
    try:
        data = json.loads(signal or "{}")
    except json.JSONDecodeError:
        return {}
    return data if isinstance(data, dict) else {}


def signal_value(signal: str) -> str | None:
    """What a button sends (`data-says`, `data-said`), out of the JSON of app/static/tell.js; None where it is none."""
    try:
        return str(json.loads(signal)["value"])
    except (ValueError, KeyError, TypeError):
        return None
