"""Words that name nothing, such as `told` or `found`, may only become fewer as names in the code: a noun says what is held.

`python -m tests.test_names` prints the table of the present counts, to be pasted over COUNTS.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from trainer.core.home import PROJECT

PACKAGES = ("trainer", "app")
WORDS = ("tell", "told", "said", "heard", "found", "here", "words")
COUNTS = {
    "trainer": {"tell": 79, "told": 56, "said": 14, "heard": 0, "found": 81, "here": 4, "words": 56},
    "app": {"tell": 16, "told": 9, "said": 38, "heard": 0, "found": 43, "here": 4, "words": 11},
}  # fmt: skip
"""How often each word occurs as a name now, by package; it may be lowered, never raised."""


def names_in(source: str) -> Iterator[str]:
    """Every name in Python source: variables, parameters, attributes, functions; a leading underscore does not count."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name):
                yield name.strip("_")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name.strip("_")


def count(package: str) -> dict[str, int]:
    """How often each of WORDS is a name in the files of a package."""
    counts: Counter[str] = Counter()
    for file in sorted(Path(PROJECT / package).rglob("*.py")):
        counts.update(names_in(file.read_text("utf-8")))
    return {word: counts[word] for word in WORDS}


def table() -> str:
    """COUNTS as it should be written now."""
    rows = (", ".join(f'"{word}": {number}' for word, number in count(package).items()) for package in PACKAGES)
    return "\n".join(f'    "{package}": {{{row}}},' for package, row in zip(PACKAGES, rows, strict=True))


def test_names_are_found_wherever_python_has_them():
    source = "async def told(said, *, here=1):\n    self.words = [found for found in _heard]\n    tell(said='told')\n"
    assert Counter(names_in(source)) == Counter(["told", "said", "here", "self", "words", "found", "found", "heard", "tell"])


def test_words_that_name_nothing_only_become_fewer():
    """More of them: choose the noun (record, metadata, text, path, kwargs, emit). Fewer: lower the table."""
    assert {package: count(package) for package in PACKAGES} == COUNTS, f"the counts now:\n{table()}"


if __name__ == "__main__":
    print(table())
