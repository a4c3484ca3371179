"""Pictures are encoded once, ahead of time: the same latents as one by one, and nothing anew at the second start."""

from __future__ import annotations

import pytest
import torch

from trainer.core import events
from trainer.core.problem import Problem
from trainer.engine.base import load_base
from trainer.engine.data import batches
from trainer.engine.data import latents as cache
from trainer.images.set.examples import View


@pytest.mark.parametrize("together", [1, 3])
def test_prepared_ahead_equals_one_by_one_and_the_second_start_encodes_nothing(bench, tmp_path, monkeypatch, together):
    config = bench.config()
    parts = load_base(config, bench.home)
    items = batches.load_examples(config, 64)
    alone = cache.LatentCache(parts, tmp_path / "alone")
    if together > 1:  # as on a GPU
        monkeypatch.setattr(cache, "TOGETHER", together)
        monkeypatch.setattr(cache, "_one_by_one", lambda device: False)
    ahead = cache.LatentCache(parts, tmp_path / "ahead")
    told = []
    assert ahead.prepare(items, True, lambda done, of: told.append((done, of))) == items
    assert told[0] == (0, 6) and told[-1] == (6, 6) and told == sorted(told)
    for item in items:
        for flipped in (False, True):
            one, other = (latents.posterior(View(item, flipped)) for latents in (alone, ahead))
            torch.testing.assert_close(other.mean, one.mean, rtol=0, atol=0 if together == 1 else 1e-5)
    again = cache.LatentCache(parts, tmp_path / "ahead")
    monkeypatch.setattr(again, "_encode", lambda pixels: pytest.fail("encoded again"))
    assert again.prepare(items, True, lambda done, of: None) == items


@pytest.mark.parametrize("keep", ["true", "false"])
def test_a_picture_that_encodes_to_nan_is_named_and_left_out_and_the_rest_is_trained_on(bench, monkeypatch, keep):
    pixels = cache._pixels
    monkeypatch.setattr(cache, "_pixels", lambda look: pixels(look) * (float("nan") if look.item.picture.id == "0002" else 1))
    assert bench.train(bench.config("run.steps=2", "samples.steps=1", f"memory.cache_latents={keep}")) is not None
    dropped = [event.params for event in bench.events if isinstance(event, events.Note) and event.code == "picture_dropped"]
    assert [params["picture"] for params in dropped] == ["0002.png"]
    assert len(bench.losses()) == 2 and all(loss is not None for loss in bench.losses())


def test_a_vae_that_encodes_every_picture_to_nan_is_refused_with_advice(bench, monkeypatch):
    pixels = cache._pixels
    monkeypatch.setattr(cache, "_pixels", lambda look: pixels(look) * float("nan"))
    with pytest.raises(Problem) as caught:
        bench.train(bench.config("run.steps=2"))
    assert caught.value.code == "latents_broken" and "VAE" in caught.value.sentence("en")
