"""A run that goes on notices another base and another set, in the recipe itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from tests.trainer.engine.test_train import tensors
from trainer.core import events
from trainer.core.problem import Problem
from trainer.engine.output import checkpoint
from trainer.images import provenance
from trainer.images.set.image_set import ImageSet

OPTIONS = ("run.steps=6", "save.every=2")


def stop_at(step: int):
    def tell(event, run):
        if isinstance(event, events.Step) and event.step == step:
            run.ask("stop")

    return tell


@pytest.fixture
def broken_off(bench, tmp_path, monkeypatch):
    """A run stopped at step 3, on a base of its own that may be changed."""
    import shutil

    bench.base = shutil.copytree(bench.base, tmp_path / "base")
    assert bench.train(bench.config(*OPTIONS), "one", stop_at(3)) is None
    return bench


def test_weights_exchanged_behind_its_back_are_refused_before_the_base_is_loaded(broken_off):
    bench = broken_off
    file = next((bench.base / "unet").glob("*.safetensors"))
    save_file({name: value[::-1].copy() for name, value in load_file(file).items()}, file)
    with pytest.raises(Problem) as refused:
        bench.train(bench.config(*OPTIONS), "one")
    assert refused.value.code == "resume_base_changed" and file.name in refused.value.sentence("en")
    assert [event.name for event in bench.events if isinstance(event, events.Stage)] == ["loading"]
    assert checkpoint.steps(bench.run("one"))[-1] == 3


def test_a_picture_gone_asks_and_goes_on_by_choice_and_the_next_checkpoint_knows_the_new_set(broken_off):
    bench = broken_off
    ImageSet(bench.folder).delete(["0001"])
    with pytest.raises(Problem) as asked:
        bench.train(bench.config(*OPTIONS), "one")
    assert asked.value.code == "resume_set_changed" and "0001.png" in asked.value.sentence("ja")
    assert bench.losses() == []

    run = bench.run("one")
    now = provenance.Sources(bench.config(*OPTIONS), bench.home)
    provenance.agree(run, now)
    assert bench.train(bench.config(*OPTIONS), "one", stop_at(4)) is None
    (note,) = [event for event in bench.events if isinstance(event, events.Note) and event.code == "set_changed"]
    assert "0001.png" in str(note.params)
    run.agreed.unlink()
    assert bench.train(bench.config(*OPTIONS), "one")
    assert not [event for event in bench.events if isinstance(event, events.Note) and event.code == "set_changed"]


def test_an_older_checkpoint_taken_for_a_damaged_one_is_compared_too(broken_off):
    bench = broken_off
    ImageSet(bench.folder).delete(["0001"])
    run = bench.run("one")
    now = provenance.Sources(bench.config(*OPTIONS), bench.home)
    provenance.agree(run, now)
    assert bench.train(bench.config(*OPTIONS), "one", stop_at(4)) is None
    assert checkpoint.steps(run)[-2:] == [3, 4]
    run.agreed.unlink()
    (run.checkpoint(4) / "adapter.safetensors").write_bytes(b"broken")
    with pytest.raises(Problem) as asked:
        bench.train(bench.config(*OPTIONS), "one")
    assert asked.value.code == "resume_set_changed"


def test_a_checkpoint_of_a_version_that_noted_nothing_goes_on_to_the_same_bytes(broken_off):
    bench = broken_off
    straight = tensors(bench.train(bench.config(*OPTIONS), "straight"))
    for step in checkpoint.steps(bench.run("one")):
        manifest = bench.run("one").checkpoint(step) / "manifest.json"
        told = json.loads(manifest.read_text())
        assert told.pop("sources")["pictures"]["0000.png"]["content"]
        manifest.write_text(json.dumps(told))
    assert tensors(bench.train(bench.config(*OPTIONS), "one")) == straight


def test_another_vae_is_another_base(bench, tmp_path):
    import shutil

    vae = shutil.copytree(bench.base / "vae", tmp_path / "vae")
    options = (*OPTIONS, f"model.vae={vae}")
    assert bench.train(bench.config(*options), "one", stop_at(3)) is None
    file = next(vae.glob("*.safetensors"))
    save_file({name: value * np.float32(1.01) for name, value in load_file(file).items()}, file)
    with pytest.raises(Problem) as refused:
        bench.train(bench.config(*options), "one")
    assert refused.value.code == "resume_base_changed" and f"vae/{file.name}" in refused.value.params["files"]


def test_a_new_mask_is_said(broken_off):
    bench = broken_off
    Image.new("L", (64, 64), 255).save(bench.folder / "0002.mask.png")
    with pytest.raises(Problem) as asked:
        bench.train(bench.config(*OPTIONS), "one")
    assert [key for key, _ in asked.value.params["changes"]] == ["set_changes.masks"]
