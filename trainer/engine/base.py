"""The frozen base a run trains on: fetched, loaded on its device, in its precision. Called by setup.py, previews and probes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainer.bases import catalog
from trainer.bases.families import ModelComponents, family, loading
from trainer.config.train import TrainConfig
from trainer.core import events
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.engine.objective import noise
from trainer.engine.speed import device, offload
from trainer.engine.text import encode

Emit = Callable[[events.Event], None]


def load_base(config: TrainConfig, home: Home, tell: Emit = lambda event: None) -> ModelComponents:
    """The frozen base on the chosen device in the chosen number format; what is to be held in few bits, or partly in main
    memory, lies there whole until `place_base`."""
    facts = fetched(home, config.model.base, config.model.revision, tell)
    chosen = config.model.prediction_type
    facts.check(chosen, config.model.vae)
    if facts.stated and chosen not in ("auto", facts.stated):
        tell(events.Note(code="prediction_by_hand", params={"stated": facts.stated, "chosen": chosen}))
    facts = facts.with_prediction(chosen)
    where = device.choose_device(config.run.device)
    vae = catalog.find_vae(home, config.model.vae) if config.model.vae else None
    dtype = device.choose_dtype(config.memory.base_dtype, where)
    first = offload.MAIN if config.memory.quantize_base != "full" or config.memory.offload_fraction else where
    parts = loading.load(family(facts.family, facts.title), facts, first, dtype, vae)
    parts.device, parts.vae = where, parts.vae.to(where)
    encode.read_at(parts, config.captions.clip_skip)
    parts.scheduler = noise.predicting(parts.scheduler, facts.prediction)
    if config.noise.zero_terminal_snr:
        parts.scheduler = noise.stretched_to_zero(parts.scheduler)
    return parts


def main_size(config: TrainConfig, parts: ModelComponents) -> int:
    """The side of the square whose area pictures are trained at."""
    return config.images.resolution or parts.facts.resolution


def existing_lora(home: Home, name: str) -> Path | None:
    """The LoRA to go on from: a file, or one of the library by its name; None where none is asked for."""
    if not name:
        return None
    path = home.lora(name)
    if not path.is_file():
        raise Problem("file_missing", field="lora.continue_from", file=name)
    return path


def fetched(home: Home, base: str, revision: str | None, tell: Emit) -> catalog.BaseFacts:
    """The facts of a base that lies on this disk: a hub id is fetched first, going on where an earlier try broke off."""
    facts = catalog.find(home, base, revision)
    if facts.path is None:
        catalog.download(facts, home, progress=lambda done, of: tell(events.Stage(name="downloading", done=done, of=of)))
        facts = catalog.find(home, base, revision)
    return facts
