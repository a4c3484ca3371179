"""A training on a base that lies on a hub: fetched from a small hub on loopback, trained, named in the file."""

from __future__ import annotations

from safetensors import safe_open

from tests.trainer.bases.test_hub import Hub, server
from trainer.core import events

__all__ = ["server"]


def test_a_hub_id_is_fetched_once_trained_on_and_written_down(bench, server: Hub):
    server.files = {p.relative_to(bench.base).as_posix(): p.read_bytes() for p in bench.base.rglob("*") if p.is_file()}
    config = bench.config("model.base=owner/name", "run.steps=1", "images.resolution=64")
    file = bench.train(config, "one")
    assert any(isinstance(e, events.Stage) and e.name == "downloading" for e in bench.events)
    with safe_open(file, "np") as lora:
        assert "owner/name" in lora.metadata()["ss_sd_model_name"]
    server.status = 503
    bench.train(config, "two")
    assert not any(isinstance(e, events.Stage) and e.name == "downloading" for e in bench.events)
