"""Writes a diffusers pipeline as the single .safetensors file people download: the original names of Stable Diffusion."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import save_file

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def unet_name(name: str, layers: int = 2, attends: tuple[bool, ...] = (False, True, True, True)) -> str:
    """`down_blocks.1.resnets.0.conv1.weight` -> `input_blocks.4.0.in_layers.2.weight`.

    `attends` says of each level on the way up whether it has attention.
    """
    step = layers + 1
    for ours, theirs in TOP.items():
        if name.startswith(ours + "."):
            return theirs + name[len(ours) :]
    if found := re.match(r"down_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.+)", name):
        i, kind, j, rest = int(found[1]), found[2], int(found[3]), found[4]
        return f"input_blocks.{step * i + j + 1}.{int(kind == 'attentions')}.{_inner(kind, rest)}"
    if found := re.match(r"down_blocks\.(\d)\.downsamplers\.0\.conv\.(.+)", name):
        return f"input_blocks.{step * (int(found[1]) + 1)}.0.op.{found[2]}"
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        place = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"middle_block.{place}.{_inner(found[1], found[3])}"
    if found := re.match(r"up_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.+)", name):
        i, kind, j, rest = int(found[1]), found[2], int(found[3]), found[4]
        return f"output_blocks.{step * i + j}.{int(kind == 'attentions')}.{_inner(kind, rest)}"
    if found := re.match(r"up_blocks\.(\d)\.upsamplers\.0\.conv\.(.+)", name):
        i = int(found[1])
        return f"output_blocks.{step * i + layers}.{2 if attends[i] else 1}.conv.{found[2]}"
    raise KeyError(name)


def _inner(kind: str, rest: str) -> str:
    if kind == "attentions":
        return rest
    head, _, tail = rest.partition(".")
    return f"{RESNET[head]}.{tail}"


def vae_name(name: str, top: int = 3) -> str:
    """`decoder.up_blocks.0.resnets.1.conv1.weight` -> `decoder.up.3.block.1.conv1.weight`."""
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.(\d)", r"encoder.down.\1.block.\2", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"decoder.up.{top - int(m[1])}.block.{m[2]}", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)\.upsamplers\.0", lambda m: f"decoder.up.{top - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0.", "mid.attn_1.").replace("conv_norm_out", "norm_out")
    name = name.replace("conv_shortcut", "nin_shortcut")
    if ".attn_1." in name:
        for ours, theirs in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
            name = name.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
    return name


def open_clip(model, prefix: str) -> dict[str, torch.Tensor]:
    """A CLIP text encoder under OpenCLIP's names: query, key and value in one matrix, the projection on its side."""
    state = {key.removeprefix("text_model."): value for key, value in model.state_dict().items()}
    found = {
        "positional_embedding": state.pop("embeddings.position_embedding.weight"),
        "token_embedding.weight": state.pop("embeddings.token_embedding.weight"),
        "ln_final.weight": state.pop("final_layer_norm.weight"),
        "ln_final.bias": state.pop("final_layer_norm.bias"),
    }
    if "text_projection.weight" in state:
        found["text_projection"] = state.pop("text_projection.weight").T
    for key, value in state.items():
        matched = re.match(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", key)
        if not matched:
            continue  # position_ids
        block, name, end = matched.groups()
        if name in OPEN_CLIP:
            found[f"transformer.resblocks.{block}.{OPEN_CLIP[name]}.{end}"] = value
        elif name == "self_attn.q_proj":
            three = [state[key.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            found[f"transformer.resblocks.{block}.attn.in_proj_{end}"] = torch.cat(three)
    return {prefix + key: value for key, value in found.items()}


def clip(model, prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}text_model.{key.removeprefix('text_model.')}": value for key, value in model.state_dict().items()}


def vae_file(vae, prefix: str = "first_stage_model.") -> dict[str, torch.Tensor]:
    """A VAE under its original names; the attention's linear layers are 1x1 convolutions there."""
    found = {}
    for key, value in vae.state_dict().items():
        name = vae_name(key, len(vae.config.block_out_channels) - 1)
        if re.search(r"attn_1\.(q|k|v|proj_out)\.weight$", name):
            value = value[:, :, None, None]
        found[prefix + name] = value
    return found


def unet_file(unet) -> dict[str, torch.Tensor]:
    attends = tuple("CrossAttn" in kind for kind in unet.config.up_block_types)
    layers = unet.config.layers_per_block
    return {f"model.diffusion_model.{unet_name(k, layers, attends)}": v for k, v in unet.state_dict().items()}


def save_single_file(unet, vae, text_encoder, path: Path, *, text_encoder_2=None, dtype=torch.float16, **more) -> Path:
    """Write everything under the original names: SDXL's where there are two text encoders, SD 2.x's where the one is an
    OpenCLIP model (`gelu`), else SD 1.x's. `more` are further tensors."""
    tensors = unet_file(unet) | vae_file(vae)
    if text_encoder_2 is not None:
        tensors |= clip(text_encoder, "conditioner.embedders.0.transformer.")
        tensors |= open_clip(text_encoder_2, "conditioner.embedders.1.model.")
    elif text_encoder.config.hidden_act == "gelu":
        tensors |= open_clip(text_encoder, "cond_stage_model.model.")
    else:
        tensors |= clip(text_encoder, "cond_stage_model.transformer.")
    tensors |= more
    save_file({k: v.to(dtype).contiguous() if v.is_floating_point() else v for k, v in tensors.items()}, path)
    return path
