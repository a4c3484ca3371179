"""docs/reliability.md names the test of every fault; each of them must exist."""

from __future__ import annotations

import ast
import re

from trainer.core.home import PROJECT

PAGE = PROJECT / "docs" / "reliability.md"


def test_every_fault_has_its_tests_and_they_exist() -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, 70))
    names: dict[str, set[str]] = {}
    missing = []
    for row in rows:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert tests, row
        for path, name in tests:
            if path not in names:
                tree = ast.parse((PROJECT / path).read_text("utf-8")) if (PROJECT / path).exists() else ast.Module([], [])
                names[path] = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            if name not in names[path]:
                missing.append(f"{path}::{name}")
    assert missing == []
