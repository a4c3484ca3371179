"""These tests compute with torch."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def _threads(torch_threads: None) -> None:
    """See tests/trainer/conftest.py."""
