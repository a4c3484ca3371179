"""How large every part of the model is, in one place: `FULL` is what ships, `TINY` is for tests.

`vae.py`, `ldm.py` and `judge.py` build their networks here. Sizes were chosen for a folder of at most 40 MB in fp16.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Shapes:
    """Widths and depths. Parameters at full size: VAE 3.4 M, text encoder 2.4 M, UNet 11.6 M, judge 1.8 M."""

    pixels: int = 128
    vocabulary: int = 4096
    latent_channels: int = 8
    vae_widths: tuple[int, ...] = (32, 64, 96, 128)  # three halvings: one latent cell for 8 x 8 pixels, as in SD
    vae_groups: int = 16
    text_width: int = 192
    text_layers: int = 4
    unet_widths: tuple[int, ...] = (96, 160, 192)  # attention at 16 x 16, at 8 x 8 and in the middle, at 4 x 4
    unet_layers: int = 1
    unet_groups: int = 16
    heads: int = 4
    judge_text: tuple[int, int] = (96, 2)  # width, layers
    judge_vision: tuple[int, ...] = (32, 64, 128, 256)  # widths of a residual network's stages
    judge_space: int = 128  # width of the space where pictures and sentences meet


FULL = Shapes()
TINY = Shapes(
    vae_widths=(8, 8, 16, 16),
    vae_groups=4,
    vocabulary=768,
    text_width=32,
    text_layers=1,
    unet_widths=(16, 32, 32),
    unet_groups=4,
    heads=2,
    judge_text=(16, 1),
    judge_vision=(8, 16),
    judge_space=16,
)
SMALL = replace(FULL, vae_widths=(16, 32, 64, 128), vae_groups=4)  # what two CPU cores can train in an evening
NAMED = {"full": FULL, "small": SMALL, "tiny": TINY}


def make_vae(s: Shapes) -> Any:
    """AutoencoderKL, f8."""
    from diffusers import AutoencoderKL  # pyright: ignore[reportPrivateImportUsage]

    depth = len(s.vae_widths)
    levels: dict[str, Any] = {  # diffusers annotates these as tuples of one
        "down_block_types": ("DownEncoderBlock2D",) * depth,
        "up_block_types": ("UpDecoderBlock2D",) * depth,
        "block_out_channels": s.vae_widths,
    }
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        **levels,
        layers_per_block=1,
        latent_channels=s.latent_channels,
        norm_num_groups=s.vae_groups,
        sample_size=s.pixels,
    )


def make_unet(s: Shapes) -> Any:
    """UNet2DConditionModel with cross-attention on every level but the innermost, and in the middle, as in SD.

    The innermost level is where words become a layout: at 4 x 4 every cell sees the border. (`attention_head_dim` is the
    number of heads there.)
    """
    from diffusers import UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]

    depth = len(s.unet_widths) - 1
    return UNet2DConditionModel(
        sample_size=s.pixels // 8,
        in_channels=s.latent_channels,
        out_channels=s.latent_channels,
        layers_per_block=s.unet_layers,
        block_out_channels=s.unet_widths,
        down_block_types=("CrossAttnDownBlock2D",) * depth + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * depth,
        cross_attention_dim=s.text_width,
        attention_head_dim=s.heads,
        norm_num_groups=s.unet_groups,
    )


def _special(tokenizer: Any) -> dict[str, Any]:
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def make_text_encoder(s: Shapes, tokenizer: Any) -> Any:
    """CLIPTextModel over the project's own vocabulary."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=s.text_width,
            intermediate_size=4 * s.text_width,
            num_hidden_layers=s.text_layers,
            num_attention_heads=s.heads,
            max_position_embeddings=77,
            projection_dim=s.text_width,
            **_special(tokenizer),
        )
    )


def make_judge(s: Shapes, tokenizer: Any) -> Any:
    """A small CLIP sharing the tokenizer, with a residual network for the eye as the first CLIPs had (Radford et al. 2021,
    RN50): from a few thousand drawings it learns shapes ten times as fast as patches of a transformer do."""
    from transformers import CLIPTextConfig, ResNetConfig, VisionTextDualEncoderConfig, VisionTextDualEncoderModel

    text_width, text_layers = s.judge_text
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=text_width,
        intermediate_size=4 * text_width,
        num_hidden_layers=text_layers,
        num_attention_heads=s.heads,
        max_position_embeddings=77,
        **_special(tokenizer),
    )
    widths = list(s.judge_vision)
    size: dict[str, Any] = {"image_size": s.pixels, "hidden_size": widths[-1]}  # kept in the config beside its own fields
    vision = ResNetConfig(
        embedding_size=widths[0],
        hidden_sizes=widths,
        depths=[1] * len(widths),
        layer_type="basic",
        **size,
    )
    both = VisionTextDualEncoderConfig.from_vision_text_configs(vision, text, projection_dim=s.judge_space)
    return VisionTextDualEncoderModel(both)


def make_scheduler() -> Any:
    """Drawing: DDIM with v-prediction and zero terminal SNR (Lin et al. 2023), so that black is reachable."""
    from diffusers import DDIMScheduler  # pyright: ignore[reportPrivateImportUsage]

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def count(module: Any) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())
