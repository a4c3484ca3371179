"""Acts in the library, each killed before one of its operations on files: afterwards it has happened or it has not."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image

from tests.chaos.scene import Scene
from trainer.adapters import file as lora_file
from trainer.core import files
from trainer.formats.header import read_header
from trainer.library.library import Library, register

LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def make(path: Path, number: int) -> Path:
    """A small LoRA that can be told from others by what it holds."""
    tensors = {
        f"{LAYER}.lora_down.weight": np.full((2, 8), number, np.float32),
        f"{LAYER}.lora_up.weight": np.ones((8, 2), np.float32),
        f"{LAYER}.alpha": np.float32(2),
    }
    return lora_file.write_tensors(path, tensors, {"atelier.version": "1", "ss_output_name": path.stem, "mark": str(number)})


def library(scene: Scene, rng: random.Random, kills: int) -> None:
    """Rename, trash, undo, notes and import, `kills` of them killed; the library is opened anew after each."""
    home, numbers = scene.home, range(3)
    for number in numbers:
        path = make(home.loras / f"l{number}.safetensors", number)
        picture = scene.folder / "picture.png"
        Image.new("RGB", (8, 8), (number, 0, 0)).save(picture)
        register(path, picture)
    taken = 3
    while scene.kills < kills:
        library = Library(home)
        names = sorted(card.name for card in library.cards())
        acts = ["undo", "import"] + (["rename", "trash", "set"] if names else [])
        act, name = rng.choice(acts), rng.choice(names or [""])
        new = f"n{rng.randint(0, 99)}"
        if act == "import":
            new = str(make(scene.folder / "incoming.safetensors", 100 + taken))
        done, failed = scene.folder / "act-done", scene.folder / "act-failed"
        scene.wait("library", act, name, new, fault={"at": rng.randint(1, 14)})
        if failed.exists():
            scene.unexpected(f"{act}: {failed.read_text()[-300:]}")
            failed.unlink()
        if done.exists():
            done.unlink()
            taken += act == "import"
            continue
        scene.kills += 1
        judge(
            scene,
            act,
            set(numbers) | {100 + number for number in range(3, taken + 1)},
            {100 + taken} if act == "import" else set(),
        )
        taken = max(taken, _imported(scene) - 100 + 1)


def _imported(scene: Scene) -> int:
    return max((int(read_header(path).metadata["mark"]) for path in _all(scene)), default=0)


def _all(scene: Scene) -> list[Path]:
    return [*scene.home.loras.glob("*.safetensors"), *scene.home.trash.rglob("*.safetensors")]


def judge(scene: Scene, act: str, known: set[int], perhaps: set[int]) -> None:
    """Every LoRA is there once, with what belongs to it, and what is in the trash comes back."""
    library = Library(scene.home)
    library.cards()
    found = sorted(int(read_header(path).metadata["mark"]) for path in _all(scene))
    if len(found) != len(set(found)):
        scene.count("acts broken", f"{act}: twice there: {found}")
    expected = {mark for mark in known if mark < 100 or mark in found or mark not in perhaps}
    if not {mark for mark in expected if mark < 100} <= set(found):
        scene.count("acts broken", f"{act}: gone: {known - set(found)}")
    for path in _all(scene):
        if not path.with_suffix(".json").exists():
            scene.count("acts broken", f"{act}: {path.name} without its card")
        if int(read_header(path).metadata["mark"]) < 100 and not path.with_suffix(".png").exists():
            scene.count("acts broken", f"{act}: {path.name} without its picture")
    stems = {path.stem for path in scene.home.loras.glob("*.safetensors")}
    strays = [
        path.name
        for path in scene.home.loras.iterdir()
        if path.is_file() and not path.name.startswith(".") and path.stem not in stems
    ]
    if strays:
        scene.count("acts broken", f"{act}: orphans {strays}")
    if any(path.suffix == ".json" and files.read_json(path) is None for path in scene.home.loras.iterdir()):
        scene.count("half files", act)
