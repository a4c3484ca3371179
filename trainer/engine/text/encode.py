"""What the text encoders are given and give: captions longer than one piece, and the layer they are read at.

Used by the step, the judge, the recipe and drawing; a family says only how one piece of 77 tokens is encoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from trainer.bases.families import ModelComponents
from trainer.core.problem import Problem
from trainer.engine.text import embeddings
from trainer.prompts import weights as prompt_weights

_BREAK = re.compile(r"\s*\bBREAK\b\s*")
PIECE = 75
"""Tokens in a piece; the two that frame it come on top."""


def encode(
    parts: ModelComponents, captions: list[str], limit: int = PIECE, weighted: bool = False, restore: bool = True
) -> dict[str, torch.Tensor]:
    """The conditioning of `captions`, reading `limit` tokens of each, with `weighted` brackets as weights (`emphasise`, which
    `restore`s the mean).

    Beyond 75, each piece of 75 is framed and encoded by itself and the hidden states `[batch, 77, width]` are laid side
    by side, `[batch, pieces · 77, width]`, as AUTOMATIC1111, Forge and ComfyUI draw; shorter captions get empty pieces.
    A pooled `[batch, width]` state is the first piece's, whatever its words weigh.
    """
    captions = embeddings.spelt(parts, captions)
    if limit <= PIECE and not weighted:
        with embeddings.placed(parts, parts.family.tokens(parts, captions)) as tokens:
            return parts.family.encode(parts, tokens)
    count = limit // PIECE
    read = {name: pieces(tokenizer, captions, count, weighted) for name, tokenizer in parts.tokenizers.items()}
    flat = {name: ids.flatten(0, 1).to(parts.device, non_blocking=True) for name, (ids, _) in read.items()}
    with embeddings.placed(parts, flat) as tokens:
        made = parts.family.encode(parts, tokens)
    if any((weights != 1).any() for _, weights in read.values()):
        widths = [parts.text_encoders[part].config.hidden_size for part in parts.family.text_parts]
        states = zip(made["hidden"].split(widths, dim=-1), parts.family.text_parts, strict=True)
        weighed = [emphasise(state, read[part][1].flatten(0, 1), restore) for state, part in states]
        made["hidden"] = torch.cat(weighed, dim=-1)
    return {name: _joined(state, len(captions), count) for name, state in made.items()}


def pieces(tokenizer: Any, captions: list[str], count: int, weighted: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and their weights, each `[batch, count, 77]`: start, up to 75 tokens, end, padding; what is beyond `count`
    pieces is cut. Frames and padding weigh 1, and without `weighted` everything."""
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    rows, weights = [], []
    for caption in captions:
        told = _pieces(tokenizer, caption, weighted)
        for part in [*told, *[[]] * (count - len(told))][:count]:
            rest = PIECE - len(part)
            rows.append([start, *(token for token, _ in part), end, *[pad] * rest])
            weights.append([1.0, *(weight for _, weight in part), 1.0, *[1.0] * rest])
    shape = (len(captions), count, PIECE + 2)
    return torch.tensor(rows).view(shape), torch.tensor(weights).view(shape)


def emphasise(hidden: torch.Tensor, weights: torch.Tensor, restore: bool = True) -> torch.Tensor:
    """Hidden states `[pieces, 77, width]` of one encoder, each token's times its weight `[pieces, 77]`.

    Without `restore` that is all, as in sd-scripts since its strategies for text encoders (`encode_tokens_with_weights`).
    With it the mean of each piece is then made what it was, as AUTOMATIC1111's own emphasis does it:
    z · w · mean(z) / mean(z · w). Where the mean is less than a hundredth of the spread there is none to restore and the
    quotient would be chance, so it is left; otherwise it is held between a half and two.
    """
    before = hidden.float()
    after = before * weights.to(before.device)[..., None]
    if not restore:
        return after.to(hidden.dtype)
    mean, weighed = before.mean((1, 2)), after.mean((1, 2))
    there = (mean.abs() > 0.01 * before.detach().std((1, 2))) & (weighed != 0)
    kept = (mean / torch.where(there, weighed, 1.0)).clamp(0.5, 2.0)
    return (after * torch.where(there, kept, 1.0)[:, None, None]).to(hidden.dtype)


def count_long(parts: ModelComponents, captions: list[str], limit: int, weighted: bool = False) -> int:
    """How many of `captions` have more tokens than are read."""
    return sum(_length(parts, caption, weighted) > limit for caption in captions)


def pieces_of(parts: ModelComponents, captions: list[str], weighted: bool = False) -> int:
    """How many pieces the longest of `captions` fills; at least one."""
    return max(1, *(-(-_length(parts, caption, weighted) // PIECE) for caption in captions))


def read_at(parts: ModelComponents, clip_skip: int) -> None:
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
def reading_at(parts: ModelComponents, clip_skip: int) -> Iterator[None]:
    """As `read_at`, inside the block only, with every layer staying where LoRAs find it. At least one layer reads."""
    whole = {encoder: encoder.encoder.layers for encoder in parts.text_encoders.values()} if clip_skip > parts.clip_skip else {}
    for encoder, layers in whole.items():
        encoder.encoder.layers = layers[: max(1, len(layers) - clip_skip + parts.clip_skip)]
    try:
        yield
    finally:
        for encoder, layers in whole.items():
            encoder.encoder.layers = layers


def _pieces(tokenizer: Any, caption: str, weighted: bool) -> list[list[tuple[int, float]]]:
    """(token, weight) of the whole caption without frames, in pieces of at most 75; at least one. Words of one weight are
    read together. Where brackets are weights, BREAK ends a piece, as in AUTOMATIC1111."""
    if not weighted:
        told = tokenizer(caption, truncation=False, add_special_tokens=False).input_ids
        return _cut([(token, 1.0) for token in told])
    found: list[list[tuple[int, float]]] = [[]]
    for said, weight in prompt_weights.read(caption):
        for number, part in enumerate(_BREAK.split(said)):
            if number:
                found.append([])
            told = tokenizer(part, truncation=False, add_special_tokens=False).input_ids
            found[-1] += [(token, weight) for token in told]
    return [piece for whole in found for piece in _cut(whole)]


def _cut(told: list[tuple[int, float]]) -> list[list[tuple[int, float]]]:
    return [told[start : start + PIECE] for start in range(0, max(1, len(told)), PIECE)]


def _length(parts: ModelComponents, caption: str, weighted: bool) -> int:
    """How many tokens have to be read to reach a caption's last: every piece before it counts in full."""
    (caption,) = embeddings.spelt(parts, [caption])
    told = (_pieces(tokenizer, caption, weighted) for tokenizer in parts.tokenizers.values())
    return max(PIECE * (len(found) - 1) + len(found[-1]) for found in told)


def _joined(state: torch.Tensor, batch: int, count: int) -> torch.Tensor:
    state = state.unflatten(0, (batch, count))
    return state[:, 0] if state.ndim == 3 else state.flatten(1, 2)
