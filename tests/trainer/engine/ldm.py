"""Writes a diffusers pipeline as the single .safetensors file people download: the original names of Stable Diffusion 1.x."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import save_file

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
          "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}
TOP = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
       "conv_norm_out": "out.0", "conv_out": "out.2"}


def unet_name(name: str) -> str:
    """`down_blocks.1.resnets.0.conv1.weight` -> `input_blocks.4.0.in_layers.2.weight`."""
    for ours, theirs in TOP.items():
        if name.startswith(ours + "."):
            return theirs + name[len(ours) :]
    if found := re.match(r"down_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.+)", name):
        i, kind, j, rest = int(found[1]), found[2], int(found[3]), found[4]
        return f"input_blocks.{3 * i + j + 1}.{int(kind == 'attentions')}.{_inner(kind, rest)}"
    if found := re.match(r"down_blocks\.(\d)\.downsamplers\.0\.conv\.(.+)", name):
        return f"input_blocks.{3 * (int(found[1]) + 1)}.0.op.{found[2]}"
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        place = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"middle_block.{place}.{_inner(found[1], found[3])}"
    if found := re.match(r"up_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.+)", name):
        i, kind, j, rest = int(found[1]), found[2], int(found[3]), found[4]
        return f"output_blocks.{3 * i + j}.{int(kind == 'attentions')}.{_inner(kind, rest)}"
    if found := re.match(r"up_blocks\.(\d)\.upsamplers\.0\.conv\.(.+)", name):
        i = int(found[1])
        return f"output_blocks.{3 * i + 2}.{1 if i == 0 else 2}.conv.{found[2]}"
    raise KeyError(name)


def _inner(kind: str, rest: str) -> str:
    if kind == "attentions":
        return rest
    head, _, tail = rest.partition(".")
    return f"{RESNET[head]}.{tail}"


def vae_name(name: str) -> str:
    """`decoder.up_blocks.0.resnets.1.conv1.weight` -> `decoder.up.3.block.1.conv1.weight`."""
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.(\d)", r"encoder.down.\1.block.\2", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"decoder.up.{3 - int(m[1])}.block.{m[2]}", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)\.upsamplers\.0", lambda m: f"decoder.up.{3 - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0.", "mid.attn_1.").replace("conv_norm_out", "norm_out")
    name = name.replace("conv_shortcut", "nin_shortcut")
    if ".attn_1." in name:
        for ours, theirs in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
            name = name.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
    return name


def save_single_file(unet, vae, text_encoder, path: Path) -> Path:
    """Write all three under the original names, in fp16."""
    tensors = {f"model.diffusion_model.{unet_name(k)}": v for k, v in unet.state_dict().items()}
    for key, value in vae.state_dict().items():
        name = vae_name(key)
        if re.search(r"attn_1\.(q|k|v|proj_out)\.weight$", name):
            value = value[:, :, None, None]
        tensors[f"first_stage_model.{name}"] = value
    for key, value in text_encoder.state_dict().items():
        tensors[f"cond_stage_model.transformer.text_model.{key.removeprefix('text_model.')}"] = value
    save_file({k: v.to(torch.float16).contiguous() if v.is_floating_point() else v for k, v in tensors.items()}, path)
    return path
