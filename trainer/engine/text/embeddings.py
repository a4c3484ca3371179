"""Textual inversion: words with token embeddings of their own, trained by a run or brought along by LoRA files.

The base stays untouched: such a word stands in the caption as placeholders; their ids become an id the base knows, and at
their places its vectors are swapped for the word's. Called by adapter.py, encode.py and sampling.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch

from trainer.adapters import embedding
from trainer.core.problem import Problem
from trainer.images.captions.captions import swapped

if TYPE_CHECKING:
    from trainer.bases.families import ModelComponents

POOL = 512
"""Placeholders a tokenizer is taught: the vectors of all words in one prompt."""
KNOWN = 0
"""The id that stands for them in what the base is given: below the end mark's, which some encoders find as the highest."""


@dataclass
class TokenEmbedding:
    """`vectors` by text encoder, each `[N, width]` float32 on the device."""

    name: str
    vectors: Mapping[str, torch.Tensor]

    @property
    def count(self) -> int:
        return len(next(iter(self.vectors.values())))


@dataclass
class TokenEmbeddings:
    """The words read now; none while `on` is False."""

    words: list[TokenEmbedding]
    on: bool = True


def begin(parts: ModelComponents, name: str, count: int, start: str) -> TokenEmbedding:
    """A word to learn, its vectors those of the words `start` in turn (of `name` itself where it is empty)."""
    if not name.strip():
        raise Problem("embedding_no_trigger", field="captions.trigger")
    vectors = {}
    for part, tokenizer in parts.tokenizers.items():
        ids = tokenizer(start.strip() or name, add_special_tokens=False).input_ids
        table = _table(parts, part).weight
        rows = [ids[number % len(ids)] for number in range(count)]
        vectors[part] = torch.nn.Parameter(table.detach()[rows].float().clone().to(parts.device))
    return TokenEmbedding(name.strip(), vectors)


def of_files(parts: ModelComponents, paths: Sequence[Path]) -> list[TokenEmbedding]:
    """The words LoRA files bring along that fit this base; the first of a name counts."""
    found: dict[str, TokenEmbedding] = {}
    for path in paths:
        for one in embedding.read_embeddings(path):
            fits = all(
                part in one.vectors and one.vectors[part].shape[1] == _table(parts, part).embedding_dim
                for part in parts.tokenizers
            )
            if fits and one.name not in found:
                given = {part: torch.from_numpy(one.vectors[part].copy()).to(parts.device) for part in parts.tokenizers}
                found[one.name] = TokenEmbedding(one.name, given)
    return list(found.values())


@contextmanager
def lent(parts: ModelComponents, words: list[TokenEmbedding]) -> Iterator[None]:
    """Read `words` and no others inside the block."""
    before, parts.token_embeddings = parts.token_embeddings, TokenEmbeddings(words)
    try:
        yield
    finally:
        parts.token_embeddings = before


@contextmanager
def switched_off(parts: ModelComponents) -> Iterator[None]:
    """No word of its own inside the block."""
    with lent(parts, []):
        yield


def spelt(parts: ModelComponents, captions: Sequence[str]) -> list[str]:
    """`captions` with every word of its own as its placeholders; unchanged where there is none."""
    words = active(parts)
    if not words:
        return list(captions)
    for tokenizer in parts.tokenizers.values():
        _teach(tokenizer)
    at, marks = 0, {}
    for word in words:
        marks[word.name] = f" {''.join(_mark(number) for number in range(at, at + word.count))} "
        at += word.count
    return [_spelt(caption, marks) for caption in captions]


@contextmanager
def placed(parts: ModelComponents, tokens: dict[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    """`tokens` as the base knows them; while the block encodes them, its text encoders read the words' vectors there."""
    words = active(parts)
    if not words:
        yield tokens
        return
    clean, tables = {}, []
    for part, ids in tokens.items():
        own = ids - parts.tokenizers[part].convert_tokens_to_ids(_mark(0))  # [batch, 77]: which vector, below 0 none
        clean[part] = torch.where(own >= 0, KNOWN, ids)
        table = _table(parts, part)
        table.reading = own, torch.cat([word.vectors[part] for word in words])
        table.forward = MethodType(_read, table)
        tables.append(table)
    try:
        yield clean
    finally:
        for table in tables:
            del table.reading, table.forward


def active(parts: ModelComponents) -> list[TokenEmbedding]:
    """The words read now, as many as there are placeholders for."""
    if parts.token_embeddings is None or not parts.token_embeddings.on:
        return []
    kept, room = [], POOL
    for word in parts.token_embeddings.words:
        room -= word.count
        if room >= 0:
            kept.append(word)
    return kept


def _read(table: Any, ids: torch.Tensor) -> torch.Tensor:
    """What an embedding gives for `ids` `[batch, 77]`, with the words' vectors at their places: `[batch, 77, width]`."""
    own, vectors = table.reading
    known = torch.nn.Embedding.forward(table, ids)
    return torch.where((own >= 0)[..., None], vectors[own.clamp(min=0)].to(known.dtype), known)


def _table(parts: ModelComponents, part: str) -> Any:
    """The token embedding of a text encoder."""
    return parts.text_encoders[part].get_input_embeddings()


def _teach(tokenizer: Any) -> None:
    """Let a tokenizer know the placeholders, once."""
    if tokenizer.convert_tokens_to_ids(_mark(POOL - 1)) in (None, tokenizer.unk_token_id):
        from tokenizers import AddedToken

        tokenizer.add_tokens([AddedToken(_mark(number), normalized=False) for number in range(POOL)])


def _mark(number: int) -> str:
    return f"<|word-{number}|>"


def _spelt(caption: str, marks: dict[str, str]) -> str:
    for name in sorted(marks, key=len, reverse=True):
        caption = swapped(caption, name, marks[name])
    return caption
