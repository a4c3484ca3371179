"""What the text encoders are given and give: captions longer than one piece, and the layer they are read at.

Used by the step, the judge, the recipe and drawing; a family says only how one piece of 77 tokens is encoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from trainer.engine import words
from trainer.families import Parts
from trainer.problem import Problem

PIECE = 75
"""Tokens in a piece; the two that frame it come on top."""


def encode(parts: Parts, captions: list[str], limit: int = PIECE) -> dict[str, torch.Tensor]:
    """The conditioning of `captions`, reading `limit` tokens of each.

    Beyond 75, each piece of 75 is framed and encoded by itself and the hidden states `[batch, 77, width]` are laid side
    by side, `[batch, pieces · 77, width]`, as AUTOMATIC1111, Forge and ComfyUI draw; shorter captions get empty pieces.
    A pooled `[batch, width]` state is the first piece's.
    """
    captions = words.spelt(parts, captions)
    if limit <= PIECE:
        with words.placed(parts, parts.family.tokens(parts, captions)) as tokens:
            return parts.family.encode(parts, tokens)
    count = limit // PIECE
    ids = {name: pieces(tokenizer, captions, count) for name, tokenizer in parts.tokenizers.items()}
    flat = {name: rows.flatten(0, 1).to(parts.device, non_blocking=True) for name, rows in ids.items()}
    with words.placed(parts, flat) as tokens:
        made = parts.family.encode(parts, tokens)
    return {name: _joined(state, len(captions), count) for name, state in made.items()}


def pieces(tokenizer: Any, captions: list[str], count: int) -> torch.Tensor:
    """Token ids `[batch, count, 77]`: start, up to 75 tokens, end, padding; what is beyond `count` pieces is cut."""
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    rows = []
    for caption in captions:
        ids = tokenizer(caption, truncation=False, add_special_tokens=False).input_ids
        parts = [ids[PIECE * i : PIECE * (i + 1)] for i in range(count)]
        rows.append([[start, *part, end, *[tokenizer.pad_token_id] * (PIECE - len(part))] for part in parts])
    return torch.tensor(rows)


def count_long(parts: Parts, captions: list[str], limit: int) -> int:
    """How many of `captions` have more tokens than are read."""
    return sum(_length(parts, caption) > limit for caption in captions)


def pieces_of(parts: Parts, captions: list[str]) -> int:
    """How many pieces the longest of `captions` fills; at least one."""
    return max(1, *(-(-_length(parts, caption) // PIECE) for caption in captions))


def read_at(parts: Parts, clip_skip: int) -> None:
    """Let the text encoder end `clip_skip - 1` layers early: its last hidden state, through the final norm, is then the
    one AUTOMATIC1111 reads at that clip skip. The layers behind it are neither computed nor taught.

    Raises Problem for families that read a layer of their own.
    """
    if clip_skip == 1:
        return
    if parts.family.name not in ("sd1", "sd2"):
        raise Problem("clip_skip_family", field="captions.clip_skip", base=parts.facts.title)
    for encoder in parts.text_encoders.values():
        layers = encoder.encoder.layers
        if clip_skip > len(layers):
            raise Problem("clip_skip_layers", field="captions.clip_skip", layers=len(layers))
        encoder.encoder.layers = layers[: len(layers) - clip_skip + 1]
        encoder.config.num_hidden_layers = len(encoder.encoder.layers)  # where an adapter looks for its layers
    parts.clip_skip = clip_skip


@contextmanager
def reading_at(parts: Parts, clip_skip: int) -> Iterator[None]:
    """As `read_at`, inside the block only, with every layer staying where LoRAs find it. At least one layer reads."""
    whole = {encoder: encoder.encoder.layers for encoder in parts.text_encoders.values()} if clip_skip > parts.clip_skip else {}
    for encoder, layers in whole.items():
        encoder.encoder.layers = layers[: max(1, len(layers) - clip_skip + parts.clip_skip)]
    try:
        yield
    finally:
        for encoder, layers in whole.items():
            encoder.encoder.layers = layers


def _length(parts: Parts, caption: str) -> int:
    (caption,) = words.spelt(parts, [caption])
    return max(len(t(caption, truncation=False, add_special_tokens=False).input_ids) for t in parts.tokenizers.values())


def _joined(state: torch.Tensor, batch: int, count: int) -> torch.Tensor:
    state = state.unflatten(0, (batch, count))
    return state[:, 0] if state.ndim == 3 else state.flatten(1, 2)
