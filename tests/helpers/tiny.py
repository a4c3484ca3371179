"""Whole pipelines of Stable Diffusion 2.x and XL in the real classes made tiny, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from trainer.bases.families.base import ASSETS, END
from trainer.core.home import PROJECT

SD2_WIDTH, XL_WIDTHS = 48, (32, 48)
"""Widths of the text encoders; what the UNet reads is their sum."""


def make(folder: Path, family: str, prediction: Any = "epsilon", zero_snr: bool = False, words: int = 49408) -> Path:
    """Write a diffusers folder of `family` (`sd2` or `sdxl`) to `folder`: with the real vocabulary, or with the 4,096 words
    of the embedded base, which load faster."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline  # pyright: ignore[reportPrivateImportUsage]

    torch.manual_seed(0)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        prediction_type=prediction,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=zero_snr,
    )

    def read(width: int, layers: int, act: str, projected: bool = False) -> Any:
        return text_encoder(width, layers, act, words, projected)

    absent: Any = None  # diffusers takes None for these, its annotations do not
    other = "!" if words == 49408 else END
    shared = {"vae": vae(), "unet": unet(family), "scheduler": scheduler}
    if family == "sd2":
        pipe = StableDiffusionPipeline(
            text_encoder=read(SD2_WIDTH, 3, "gelu"),
            tokenizer=tokenizer(other, words),
            safety_checker=absent,
            feature_extractor=absent,
            requires_safety_checker=False,
            **shared,
        )
    else:
        pipe = StableDiffusionXLPipeline(
            text_encoder=read(XL_WIDTHS[0], 2, "quick_gelu"),
            tokenizer=tokenizer(END, words),
            text_encoder_2=read(XL_WIDTHS[1], 3, "gelu", projected=True),
            tokenizer_2=tokenizer(other, words),
            add_watermarker=False,
            **shared,
        )
    pipe.save_pretrained(folder)
    said = {"family": family, "native_resolution": 64, "licence": "CC0-1.0", "steps": 4}
    (folder / "atelier.json").write_text(json.dumps(said))
    return folder


def unet(family: str):
    """Two levels: attention on the outer one as in SD 2.x, or on the inner one, two blocks deep, as in SDXL."""
    from diffusers import UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]

    shared: dict[str, Any] = {
        "sample_size": 8,
        "layers_per_block": 1,
        "block_out_channels": (32, 64),
        "norm_num_groups": 8,
        "attention_head_dim": (4, 8),
        "use_linear_projection": True,
    }
    if family == "sd2":
        return UNet2DConditionModel(
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=SD2_WIDTH,
            **shared,
        )
    return UNet2DConditionModel(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=sum(XL_WIDTHS),
        transformer_layers_per_block=[1, 2],  # pyright: ignore[reportArgumentType]
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=XL_WIDTHS[1] + 6 * 8,
        **shared,
    )


def vae(scaling: float = 0.13025):
    """A VAE that shrinks by eight, as the real ones do."""
    from diffusers import AutoencoderKL  # pyright: ignore[reportPrivateImportUsage]

    levels: dict[str, Any] = {  # diffusers annotates these as tuples of one
        "block_out_channels": (8, 8, 8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    return AutoencoderKL(
        **levels,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=scaling,
    )


def text_encoder(width: int, layers: int, act: str, words: int, projected: bool = False):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=77,
        hidden_act=act,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def tokenizer(pad: str, words: int):
    from transformers import CLIPTokenizer

    folder = ASSETS / "tokenizer" if words == 49408 else PROJECT / "models" / "mini" / "tokenizer"
    return CLIPTokenizer.from_pretrained(folder, pad_token=pad)
