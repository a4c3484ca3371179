"""Stable Diffusion 2.x: 768 px with v-prediction, 512 px ("base") with ε-prediction."""

from __future__ import annotations

from trainer.bases.families.sd1 import StableDiffusion1


class StableDiffusion2(StableDiffusion1):
    """The shape of SD 1.x around OpenCLIP ViT-H.

    What the UNet reads is the last layer but one with the final norm over it. The files leave the last of the 24 layers
    out, so that is the output of the 23 they hold, as in SD 1.x. Short captions are filled up with token 0, "!".
    """

    name = "sd2"
    pads = ("!",)
