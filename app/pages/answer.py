"""What a handler of a page takes and gives. Used by the `handlers.py` of every page."""

from __future__ import annotations

from typing import Any

Answer = dict[Any, Any]
"""{component: value} for what changes, its keys among the event's outputs, or `gr.skip()`. Never empty: Gradio 6 writes an
empty one into a single output as its value, and refuses it where there are more."""
Values = dict[Any, Any]
"""{component: value} of the components an event reads, where they were given to it as a set."""
