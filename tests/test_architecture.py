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


FLOORS = {
    "trainer.core": (),
    "trainer.prompts": ("trainer.core",),
    "trainer.config": ("trainer.core",),
    "trainer.formats": ("trainer.core",),
    "trainer.bases": ("trainer.core", "trainer.formats"),
    "trainer.images": ("trainer.core", "trainer.prompts", "trainer.config", "trainer.bases"),
    "trainer.adapters": ("trainer.core", "trainer.config", "trainer.formats", "trainer.bases", "trainer.images"),
    "trainer.library": ("trainer.core", "trainer.config", "trainer.formats", "trainer.bases", "trainer.adapters"),
    "trainer.scoring": ("trainer.core", "trainer.prompts", "trainer.config", "trainer.bases", "trainer.images"),
    "trainer.hardware": ("trainer.core", "trainer.config", "trainer.formats", "trainer.adapters"),
    "trainer.engine": (
        "trainer.core", "trainer.prompts", "trainer.config", "trainer.formats", "trainer.bases", "trainer.images",
        "trainer.adapters", "trainer.library", "trainer.scoring", "trainer.hardware",
    ),
    "trainer.jobs": (
        "trainer.core", "trainer.prompts", "trainer.config", "trainer.bases", "trainer.images", "trainer.adapters",
        "trainer.library", "trainer.engine",
    ),
    "trainer.commands": (
        "trainer.core", "trainer.prompts", "trainer.config", "trainer.formats", "trainer.bases", "trainer.images",
        "trainer.adapters", "trainer.library", "trainer.scoring", "trainer.engine", "trainer.jobs",
    ),
    "trainer.__main__": ("trainer.core",),
    "app.ui": (
        "trainer.core", "trainer.config", "trainer.bases", "trainer.images", "trainer.library", "trainer.hardware",
        "trainer.jobs",
    ),
    "app.forms": (
        "trainer.core", "trainer.prompts", "trainer.config", "trainer.formats", "trainer.bases", "trainer.images", "app.ui",
    ),
    "app.views": (
        "trainer.core", "trainer.prompts", "trainer.config", "trainer.bases", "trainer.images", "trainer.adapters",
        "trainer.library", "trainer.hardware", "trainer.jobs", "app.ui", "app.forms",
    ),
    "app.actions": (
        "trainer.core", "trainer.bases", "trainer.adapters", "trainer.library", "app.ui", "app.forms", "app.views",
    ),
    "app.pages": (
        "trainer.core", "trainer.config", "trainer.images", "trainer.adapters", "trainer.library", "trainer.hardware",
        "trainer.jobs", "app.ui", "app.forms", "app.views", "app.actions",
    ),
    "app.server": (
        "trainer.core", "trainer.config", "trainer.images", "trainer.jobs", "app.ui", "app.forms", "app.pages",
    ),
    "app.bootstrap": ("trainer.core", "trainer.hardware", "app.server"),
}  # fmt: skip
"""Package -> the packages it may import, each of which stands above it in this table. Imports for type checkers count too."""
MOST_FILES = 14
"""The longest listing of one folder."""


def module_of(path: Path) -> str:
    """The dotted name of a file of ours."""
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def import_graph() -> dict[str, set[str]]:
    """{module: the modules of ours it imports}, type-only imports and those inside functions included."""
    paths = {module_of(path): path for folder in ("trainer", "app") for path in modules(folder)}
    graph: dict[str, set[str]] = {}
    for name, path in paths.items():
        targets: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                full = {f"{node.module}.{alias.name}" for alias in node.names}
                targets |= {target if target in paths else node.module for target in full}
        graph[name] = (targets & set(paths)) - {name}
    return graph


def floor_of(module: str) -> str:
    """`trainer.engine` for `trainer.engine.data.batches`."""
    return ".".join(module.split(".")[:2])


def test_a_package_imports_only_what_the_table_allows():
    floors = list(FLOORS)
    for floor, below in FLOORS.items():
        assert all(floors.index(other) < floors.index(floor) for other in below), f"{floor} would import upward"
    wrong = [
        f"{module} imports {target}"
        for module, targets in import_graph().items()
        for target in sorted(targets)
        if floor_of(module) != floor_of(target) and floor_of(target) not in FLOORS.get(floor_of(module), ())
    ]
    assert not wrong, "\n".join(wrong)


def test_the_table_allows_nothing_that_is_not_used():
    used = {(floor_of(module), floor_of(target)) for module, targets in import_graph().items() for target in targets}
    assert {(floor, below) for floor, allowed in FLOORS.items() for below in allowed} <= used


def test_no_circle_of_imports_exists_between_files():
    left = import_graph()
    while free := [module for module, targets in left.items() if not targets & set(left)]:
        for module in free:
            del left[module]
    assert not left, "in a circle, or importing one: " + ", ".join(sorted(left))


def test_no_listing_is_longer_than_a_person_reads():
    folders = {path.parent for folder in ("trainer", "app") for path in modules(folder)}
    long = {folder: len(list(folder.glob("*.py"))) for folder in folders}
    assert not {folder: count for folder, count in long.items() if count > MOST_FILES}
    assert {path.name for path in (PROJECT / "trainer").glob("*.py")} == {"__init__.py", "__main__.py"}
    assert {path.name for path in (PROJECT / "app").glob("*.py")} == {"__init__.py"}


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


MOST_LINES, LONGEST = 350, 80
"""Lines of a file, and of a function. Tables (theme.py) do not count."""


def test_a_file_and_a_function_are_read_in_one_sitting():
    long = []
    for path in [*modules("trainer"), *modules("app"), *modules("bench"), *modules("tools"), PROJECT / "launch.py"]:
        text = path.read_text("utf-8")
        if text.count("\n") > MOST_LINES:
            long.append(f"{path.name}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and path.name != "theme.py":
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST:
                    long.append(f"{path.name}: {node.name} has {lines} lines")
    assert not long
