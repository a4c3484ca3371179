"""Somebody from kohya, diffusers or PEFT finds a thing by its usual name: by the names in the code and the first lines of
modules, classes and functions. One word, one file."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache

import pytest

from trainer.core.home import PROJECT

WHERE = [
    ("min-SNR", "trainer/engine/objective/noise.py"),
    ("block swap", "trainer/engine/speed/offload.py"),
    ("prompt field", "app/pages/preview/layout.py"),
    ("fuse", "trainer/adapters/fold.py"),
    ("crop", "trainer/images/geometry/buckets.py"),
    ("epochs", "trainer/config/plan.py"),
    ("CFG", "trainer/engine/inference/sampling.py"),
    ("negative prompt", "trainer/engine/inference/sampling.py"),
    ("LR scheduler", "trainer/config/strategies/schedules.py"),
    ("sampler", "trainer/config/strategies/samplers.py"),
    ("gradient accumulation", "trainer/engine/objective/step.py"),
    ("textual inversion", "trainer/engine/text/embeddings.py"),
    ("regularization", "trainer/engine/data/regularization.py"),
    ("EMA", "trainer/engine/optim/ema.py"),
    ("DoRA", "trainer/engine/networks/dora.py"),
    ("LoKr", "trainer/engine/networks/types.py"),
    ("bucket", "trainer/engine/data/batches.py"),
    ("caption dropout", "trainer/images/captions/captions.py"),
    ("latent cache", "trainer/engine/data/latents.py"),
    ("quantize", "trainer/engine/speed/quantize.py"),
    ("gradient checkpointing", "trainer/engine/speed/gradient_checkpointing.py"),
    ("CLIP score", "trainer/scoring/clip.py"),
    ("resume", "trainer/engine/output/checkpoint.py"),
    ("masked training", "trainer/engine/data/masks.py"),
    ("prompt editing", "trainer/prompts/scheduling.py"),
    ("data augmentation", "trainer/images/geometry/augment.py"),
]


@cache
def words_of(file: str) -> str:
    """Every name a file defines and the first line of each of its docstrings, split into plain lower-case words."""
    tree = ast.parse((PROJECT / file).read_text("utf-8"))
    parts = [file]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            parts.append((ast.get_docstring(node) or "").split("\n\n")[0])
            parts.append(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", getattr(node, "name", "")))
    return f" {plain(' '.join(parts))} "


def plain(word: str) -> str:
    """A word as it is searched: `min-SNR` is `min snr`."""
    return " ".join(re.sub(r"[^A-Za-z0-9]+", " ", word).lower().split())


@pytest.mark.parametrize(("word", "file"), WHERE, ids=[word for word, _ in WHERE])
def test_the_usual_word_leads_to_its_file(word: str, file: str) -> None:
    assert plain(word) in words_of(file), f"{file} does not say {word!r} where one looks first"


def test_every_file_the_documents_name_is_there() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=False).stdout.split()
    documents = [PROJECT / name for name in tracked if re.fullmatch(r"(docs/[\w-]+|README|SECURITY)\.md", name)]
    paths = {
        (document.name, path)
        for document in documents
        for path in re.findall(
            r"(?:(?<=\.\./)|(?<![\w/-]))((?:tests|trainer|app|bench|tools)/[\w/]+\.py)", document.read_text("utf-8")
        )
    }
    assert len(paths) > 100
    assert not {(name, path) for name, path in paths if not (PROJECT / path).exists()}


FOREIGN = {
    "Blocks",
    "Callable",
    "FastAPI",
    "Iterator",
    "Path",
    "Row",
    "Timer",
    "True",
    "False",
    "None",
    "Atelier",
    "LoRA",
    "NumPy",
}
"""Names of Python's, Gradio's and others that the documents use."""


def test_every_class_the_contracts_name_is_there() -> None:
    known: set[str] = set(FOREIGN)
    for folder in ("trainer", "app", "bench", "tests"):
        for path in (PROJECT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ClassDef):
                    known.add(node.name)
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    known.add(node.id)
    for document in ("architecture", "contracts", "adding-a-family"):
        text = re.sub(r"```.*?```", "", (PROJECT / "docs" / f"{document}.md").read_text("utf-8"), flags=re.DOTALL)
        code = re.findall(r"`([^`]+)`", text)
        named = {name for part in code for name in re.findall(r"\b[A-Z][a-z]+(?:[A-Z][a-z]*)*\b", part)}
        assert named <= known, f"{document}.md: {sorted(named - known)}"
