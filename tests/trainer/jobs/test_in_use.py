"""What a training or a drawing needs is not taken away from under it."""

from __future__ import annotations

import threading

import pytest

from tests.trainer.jobs.workers.test_preview import client, draw  # noqa: F401
from trainer.config import load
from trainer.core.problem import Problem
from trainer.jobs import in_use


@pytest.fixture
def things(home):
    """A further folder, class pictures and a LoRA beside the set."""
    for name in ("more", "class", "other"):
        (home.datasets / name).mkdir()
    (home.loras / "first.safetensors").write_bytes(b"x")
    return {
        "images.folder": home.datasets / "set",
        "images.subsets": home.datasets / "more",
        "preservation.regularization_folder": home.datasets / "class",
        "lora.continue_from": home.loras / "first.safetensors",
    }


@pytest.mark.parametrize("state", ["queued", "running", "paused"])
def test_what_a_run_reads_stays_until_it_has_ended(home, store, config, things, state):
    tree = load.dump(config)
    load.put(tree, "images.subsets", ["more = 1"])
    load.put(tree, "preservation.regularization_folder", str(things["preservation.regularization_folder"]))
    load.put(tree, "lora.continue_from", "first")
    id_ = store.create(load.build(tree), "a")
    store.mark(id_, state=state)
    for path in things.values():
        with pytest.raises(Problem, match="“red” needs this") as caught:
            in_use.refuse(store, home, path)
        assert caught.value.code == "in_use_run"
    with pytest.raises(Problem):  # a folder above it as well
        in_use.refuse(store, home, home.datasets)
    in_use.refuse(store, home, home.datasets / "other")
    store.mark(id_, state="stopped")
    for path in things.values():
        in_use.refuse(store, home, path)


def test_a_lora_is_in_use_from_the_asking_to_the_end_of_its_drawing(home, client, things):  # noqa: F811
    file = things["lora.continue_from"]
    seen, go_on = [], threading.Event()

    def drawing():
        request = {"prompt": "a", "steps": 3, "loras": [{"path": str(file), "unet": 1.0}]}
        for _ in client.draw("mini", request, home.previews / "x"):
            seen.append(client.uses(file))
            go_on.wait(5)

    thread = threading.Thread(target=drawing)
    thread.start()
    go_on.set()
    thread.join(20)
    assert seen and all(seen) and not client.uses(file)
    list(draw(client))
    assert not client.uses(home.loras / "second.safetensors")
