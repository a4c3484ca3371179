"""Makes a small home with everything a person may leave in one, and what becomes of it. Run in a checkout of the version
whose homes are to be kept: `PYTHONPATH=. OMP_NUM_THREADS=1 python …/tests/homes/make.py NEW.tar.xz` (see README.md).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from archive import machine, pack, unpack
from PIL import Image

from trainer.config import load
from trainer.core import events
from trainer.core.home import PROJECT, Home
from trainer.images.captions import captions
from trainer.images.set.image_set import ImageSet
from trainer.jobs.jobs import Jobs
from trainer.jobs.supervisor import Supervisor, Timeouts
from trainer.library.library import Library

PROMPT = "a blob"


def base(folder: Path) -> None:
    """A Stable Diffusion 1.x folder of the real classes with 150,000 random numbers."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(16, 32),
        norm_num_groups=4,
        cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=4,
    )
    levels: dict[str, Any] = {  # diffusers annotates these as tuples of one
        "block_out_channels": (8, 8, 8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    vae = AutoencoderKL(
        **levels,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=64,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=4096,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=4094,
            eos_token_id=4095,
            pad_token_id=4095,
        )
    )
    scheduler: Any = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        timestep_spacing="trailing",
    )
    absent: Any = None  # diffusers takes None for these, its annotations do not
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=CLIPTokenizer.from_pretrained(PROJECT / "models" / "mini" / "tokenizer"),
        unet=unet,
        scheduler=scheduler,
        safety_checker=absent,
        feature_extractor=absent,
        requires_safety_checker=False,
    ).to(dtype=torch.float16).save_pretrained(folder)
    said = {"native_resolution": 64, "licence": "CC0-1.0", "steps": 4, "title": {"en": "Tiny", "ja": "タイニー"}}
    (folder / "atelier.json").write_text(json.dumps(said, ensure_ascii=False), "utf-8")


def pictures(home: Home, title: str, count: int, seed: int) -> ImageSet:
    """A set of small drawings with captions."""
    found = ImageSet.create(home, title)
    numbers = np.random.default_rng(seed)
    for index in range(count):
        size = (64, 64) if index < count - 1 else (96, 64)
        noise = numbers.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(found.folder / f"{index + 1:04d}.png")
        (found.folder / f"{index + 1:04d}.txt").write_text(f"blob {index + 1}, 赤い, round\n", "utf-8")
    return found


def sets(home: Home) -> None:
    """Two sets with masks, notes, deleted pictures and edited captions; a third in the trash."""
    foxes = pictures(home, "Foxes 狐", 6, 0)
    Image.new("L", (64, 64), 255).save(foxes.folder / "0002.mask.png")
    foxes.update(kind="character", trigger="blobby", licence="drawn by me")
    foxes.set_picture("0003", repeats=2, weight=0.5, focus=(0.25, 0.5))
    foxes.delete(["0005"])
    ferns = pictures(home, "Ferns", 3, 1)
    ferns.edit(captions.adding("fern", front=True))
    pictures(home, "Thrown away", 2, 2).discard(home)


def tree(home: Home, name: str, **sections: Any) -> load.Tree:
    """The settings of a run of a few cheap steps."""
    folder = next(found.folder for found in (ImageSet(f) for f in home.datasets.iterdir()) if found.meta.trigger)
    small = {
        "model": {"base": "tiny"}, "images": {"folder": str(folder), "resolution": 64}, "run": {"steps": 12, "seed": 3},
        "lora": {"rank": 1, "alpha": 1.0}, "captions": {"trigger": "blobby"}, "memory": {"base_dtype": "fp32"},
        "optimizer": {"lr": 1e-3}, "samples": {"steps": 1, "prompts": [PROMPT], "every": 6},
        "save": {"name": name, "every": 6, "dtype": "fp32"}, "rights": {"pictures_ok": True, "pictures_licence": "drawn by me"},
    }  # fmt: skip
    return load.merge(small, sections)


class Studio:
    """Jobs of a home, looked after while something is waited for."""

    def __init__(self, home: Home) -> None:
        self.jobs = Jobs(home)
        self.watch = Supervisor(home, self.jobs.store, timeouts=Timeouts(tick=0.05))

    def until(self, reached: Callable[[], bool], seconds: float = 300) -> None:
        """Look after the runs until it is so."""
        end = time.monotonic() + seconds
        while not reached():
            self.watch.tick()
            assert time.monotonic() < end, [(row.name, row.state, row.reason) for row in self.jobs.rows()]
            time.sleep(0.02)

    def ended(self, id_: str) -> bool:
        row = self.jobs.row(id_)
        return row.state in ("succeeded", "stopped", "failed", "interrupted") and row.pid is None

    def told(self, id_: str, kind: type) -> list[Any]:
        return [event for event in events.read(self.jobs.run_dir(id_).events)[0] if isinstance(event, kind)]

    def kill(self, id_: str) -> None:
        """End the trainer the hard way once a checkpoint is there."""
        self.until(lambda: bool(self.told(id_, events.Saved)) and self.jobs.row(id_).state == "running")
        os.kill(self.jobs.row(id_).pid or 0, signal.SIGKILL)

    def run(self, wanted: load.Tree) -> str:
        id_ = self.jobs.submit(load.build(wanted))
        self.until(lambda: self.ended(id_))
        assert self.jobs.row(id_).state == "succeeded", self.jobs.row(id_)
        return id_


def runs(home: Home) -> dict[str, str]:
    """Runs in every state they rest in, and what they left in the library and the trash; their ids."""
    studio, library = Studio(home), Library(home)
    ids = {"done": studio.run(tree(home, "Fox 狐"))}
    library.set(library.cards()[0].name, notes="よくできた", recommended=[0.4, 0.9, 1.2], state="in_use")
    other = studio.run(tree(home, "Thrown"))
    library.trash("Thrown")
    ids["deleted"] = studio.jobs.delete(other)
    stopped = ids["stopped"] = studio.jobs.submit(load.build(tree(home, "Rest", run={"steps": 100000})))
    studio.until(lambda: bool(studio.told(stopped, events.Step)))
    studio.jobs.stop(stopped)
    studio.until(lambda: studio.ended(stopped))
    broken = ids["interrupted"] = studio.jobs.submit(load.build(tree(home, "Broken off")))
    studio.kill(broken)
    studio.until(lambda: studio.jobs.row(broken).requeues == 1)
    studio.kill(broken)
    studio.until(lambda: studio.ended(broken))
    assert studio.jobs.row(broken).state == "interrupted", studio.jobs.row(broken)
    studio.jobs.store.back_up()
    studio.jobs.close()
    studio.jobs.store.close()
    return ids


def drafts(home: Home) -> None:
    """What was typed on the Train page and not started: for a set, and before anything was dropped."""
    from app.forms import training
    from app.ui.services import Services

    services = Services(home)
    for found in (next(found for found in services.sets() if found.meta.trigger), None):
        wanted = training.opened(services, found)
        for name, value in (("save.name", "下書き" if found else "Not begun"), ("lora.rank", 5), ("run.kind", "character")):
            load.put(wanted, name, value)
        training.keep(services, found, wanted)


def expected(archive: Path, place: Path, ids: dict[str, str], target: Path) -> None:
    """What this version makes of the home: the resumed run's end and a picture, with the machine they were made on."""
    from trainer.commands import sample

    home = Home(unpack(archive, place))
    studio, id_ = Studio(home), ids["interrupted"]
    before = len(studio.told(id_, events.Step))
    studio.jobs.resume(id_)
    studio.until(lambda: studio.ended(id_))
    assert studio.jobs.row(id_).state == "succeeded", studio.jobs.row(id_)
    steps = studio.told(id_, events.Step)[before:]
    target.mkdir()
    shutil.copy(studio.jobs.run_dir(id_).checkpoint(12) / "adapter.safetensors", target)
    studio.jobs.close()
    lora = next(card.name for card in Library(home).cards() if card.purpose is not None and card.notes)
    words = [lora, "--prompt", PROMPT, "--base", "tiny", "--steps", "2", "--seed", "1", "--out", str(place / "drawn")]
    assert sample.main([*words, "--home", str(home.root)]) == 0
    shutil.copy(next((place / "drawn").glob("*.png")), target / "drawn.png")
    facts = {
        "machine": machine(),
        "ids": ids,
        "lora": lora,
        "losses": {event.step: event.loss for event in steps},
        "prompt": PROMPT,
    }
    (target / "facts.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1), "utf-8")


def main(archive: Path) -> None:
    """Make, end, record, pack."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "made"
        home = Home(folder / "home").create()
        base(home.models / "tiny")
        sets(home)
        ids = runs(home)
        drafts(home)
        pack(folder, archive)
        expected(archive, Path(place) / "seen", ids, folder / "expected")
        pack(folder, archive)
    print(f"{archive}: {archive.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
