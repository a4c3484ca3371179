"""What a page's address asks for, and what a button told."""

from __future__ import annotations

import gradio as gr
import pytest
from starlette.requests import Request

from app.pages.address import asked, signal_value


def _request(query: str = "", referer: str = "") -> gr.Request:
    headers = [(b"referer", referer.encode())] if referer else []
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": query.encode(), "headers": headers}
    return gr.Request(request=Request(scope))


@pytest.mark.parametrize(
    ("query", "referer", "found"),
    [
        ("run=abc", "", "abc"),
        ("", "http://127.0.0.1:7860/ja/runs?run=%E5%A2%A8&x=1", "墨"),
        ("run=abc", "http://127.0.0.1/en/runs?run=other", "abc"),
        ("", "http://127.0.0.1/en/runs", None),
        ("run=", "", None),
        ("", "", None),
    ],
)
def test_the_address_of_the_page_is_found_wherever_gradio_leaves_it(query: str, referer: str, found: str | None) -> None:
    assert asked(_request(query, referer), "run") == found


@pytest.mark.parametrize(
    ("said", "value"), [('{"value": "墨", "at": 1}', "墨"), ("{}", None), ("nonsense", None), ("[]", None), ("", None)]
)
def test_what_a_button_told(said: str, value: str | None) -> None:
    assert signal_value(said) == value
