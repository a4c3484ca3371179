"""A home to train in: a tiny base of the real classes, a folder of pictures, runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainer.config import load
from trainer.core import events
from trainer.core.home import PROJECT, Home
from trainer.core.run_dir import RunDir
from trainer.engine.output.control import Control
from trainer.engine.train import train


def make_tiny(folder: Path, prediction: Any = "epsilon") -> Path:
    """Write a tiny real-class pipeline to `folder`."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32, 64),
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
    )
    levels: dict[str, Any] = {  # diffusers annotates these as tuples of one
        "block_out_channels": (8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    vae = AutoencoderKL(
        **levels,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=32,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=4096,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=4094,
            eos_token_id=4095,
            pad_token_id=4095,
        )
    )
    tokenizer = CLIPTokenizer.from_pretrained(PROJECT / "models" / "mini" / "tokenizer")
    scheduler: Any = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        prediction_type=prediction,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=prediction != "epsilon",
    )
    absent: Any = None  # diffusers takes None for these, its annotations do not
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=absent,
        feature_extractor=absent,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    (folder / "atelier.json").write_text(json.dumps({"native_resolution": 64, "licence": "CC0-1.0", "steps": 4}))
    return folder


@dataclass
class Bench:
    """A home with a tiny base and a set, and the means to train on them."""

    home: Home
    base: Path
    folder: Path
    events: list[events.Event] = field(default_factory=list)

    def config(self, *overrides: str, **layers: Any):
        tree = {
            "model": {"base": str(self.base)},
            "images": {"folder": str(self.folder), "resolution": 64},
            "save": {"name": "blob"},
            "run": {"steps": 6},
            "lora": {"rank": 4, "alpha": 2.0},
            "samples": {"steps": 2, "prompts": ["a blob"], "every": 1000},
            "captions": {"trigger": "blobby"},
            "memory": {"base_dtype": "fp32"},
            "optimizer": {"lr": 1e-2},
        }
        return load.build(tree, layers, overrides=overrides)

    def run(self, name: str = "one") -> RunDir:
        run = RunDir(self.home.runs / name)
        run.path.mkdir(parents=True, exist_ok=True)
        return run

    def train(self, config, name: str = "one", tell=None, control=None):
        run = self.run(name)
        self.events = []

        def told(event):
            self.events.append(event)
            if tell:
                tell(event, run)

        return train(run, config, self.home, told, control or Control(run))

    def losses(self) -> list[float | None]:
        return [e.loss for e in self.events if isinstance(e, events.Step)]
