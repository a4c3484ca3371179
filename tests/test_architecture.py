"""The arrows of docs/architecture.md: who may import whom, by reading the code and by starting processes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.core.home import PROJECT

HEAVY = {"torch", "diffusers", "transformers", "peft", "accelerate", "xformers"}


def modules(folder: str) -> list[Path]:
    return sorted((PROJECT / folder).rglob("*.py"))


def imports(path: Path, top_level_only: bool) -> set[str]:
    """The dotted names a file imports; at module level only, or anywhere. Imports for type checkers do not count."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                found.add(child.module)
            if not (top_level_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
                walk(child)

    walk(ast.parse(path.read_text("utf-8")))
    return found


def tops(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", modules("trainer"), ids=lambda p: str(p.relative_to(PROJECT)))
def test_the_trainer_knows_no_page_and_its_light_half_nothing_heavy(path):
    assert not tops(imports(path, False)) & {"gradio", "app"}
    if "engine" not in path.parts:
        assert not tops(imports(path, True)) & HEAVY
        assert not any(name.startswith("trainer.engine") for name in imports(path, True))


@pytest.mark.parametrize("path", modules("app"), ids=lambda p: str(p.relative_to(PROJECT)))
def test_the_page_knows_nothing_heavy(path):
    names = imports(path, False)
    assert not tops(names) & HEAVY
    assert not any(name.startswith("trainer.engine") for name in names)


def test_launch_needs_nothing_but_the_standard_library():
    for path in [PROJECT / "launch.py", *modules("app/bootstrap")]:
        foreign = tops(imports(path, True)) - set(sys.stdlib_module_names) - {"app", "trainer", "__future__"}
        assert not foreign, path


def _loaded(work: str) -> set[str]:
    code = f"import sys; {work}; print('modules:', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    return tops(set(done.stdout.split("modules:")[1].split()))


def test_opening_the_page_loads_no_torch(tmp_path):
    loaded = _loaded(
        f"from pathlib import Path; from app.server.main import create_app; create_app(Path({str(tmp_path)!r}), None)"
    )
    assert "gradio" in loaded and not loaded & HEAVY


def test_the_engine_loads_no_gradio():
    loaded = _loaded("import trainer.engine.train")
    assert "torch" in loaded and not loaded & {"gradio", "app", "fastapi"}


def test_no_module_stands_in_the_folder_of_image_sets():
    assert not list((PROJECT / "datasets").rglob("*.py"))
