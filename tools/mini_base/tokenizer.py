"""Learns the small vocabulary: byte-level BPE in CLIP's own form, from our captions and words people type beside them.

`python -m tools.mini_base tokenizer` calls `learn`. The files suit transformers' CLIPTokenizer and other programs.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from .concepts import Concept
from .render import BACKGROUNDS
from .sources import STYLES
from .words import full_caption, listed, varied_caption

# Words a prompt for a trained style or character may hold although no caption of ours does.
EXTRA_WORDS = listed(
    """a an the of in on with and at by for to from under over near photo picture drawing painting icon sticker logo
    style background black white gray grey brown light dark bright pale cute small big tiny huge simple detailed
    realistic watercolor pixel art sketch ink pencil silhouette neon vintage portrait mascot character hero
    zibbo inkstamp sks ohwx new my your holding wearing smiling waving running jumping sitting standing sleeping
    asleep walking reading dancing looking tired sad surprised happy angry front side view left right top bottom
    center close up far away two three four five many high low quality bad blurry best paper glass gold silver
    metal wooden stone water ice boy girl striped spotted round square plain pattern texture soft sharp line
    outline shape colorful monochrome"""
)


def sentences(concepts: list[Concept], seed: int = 0) -> list[str]:
    """What the vocabulary is learnt from: captions, every name and keyword, and the extra words, weighted by use."""
    chance = random.Random(seed)
    lines: list[str] = []
    for concept in concepts:
        for style in STYLES:
            for background in chance.sample(list(BACKGROUNDS), 3):
                lines.append(full_caption(concept.name, style.words, background))
                lines.append(varied_caption(list(concept.names), style.words, background, chance))
        lines.extend(concept.names * 4)
    return lines + EXTRA_WORDS * 12


def _byte_alphabet() -> list[str]:
    """The 256 printable stand-ins for bytes, in the order of CLIP's vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def learn(lines: list[str], folder: Path, size: int = 4096) -> Any:
    """Train, write `vocab.json`, `merges.txt` and transformers' files into `folder`, and return the tokenizer."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    learner.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pieces = Regex(r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""")
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pieces, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        end_of_word_suffix="</w>",
        min_frequency=1,
        show_progress=False,
    )
    learner.train_from_iterator(lines, trainer)
    learnt = json.loads(learner.to_str())["model"]["merges"]

    # CLIP's order: bytes, bytes that end a word, merges, the two marks.
    alphabet = _byte_alphabet()
    vocabulary = alphabet + [letter + "</w>" for letter in alphabet]
    known = set(vocabulary)
    merges: list[tuple[str, str]] = []
    for merge in learnt:
        left, right = merge if isinstance(merge, list) else merge.split(" ")
        if len(vocabulary) >= size - 2:
            break
        merges.append((left, right))
        if left + right not in known:
            vocabulary.append(left + right)
            known.add(left + right)
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]

    folder.mkdir(parents=True, exist_ok=True)
    numbered = {piece: number for number, piece in enumerate(vocabulary)}
    (folder / "vocab.json").write_text(json.dumps(numbered, ensure_ascii=False), encoding="utf-8")
    lines_of_merges = "\n".join(f"{left} {right}" for left, right in merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{lines_of_merges}\n", encoding="utf-8")
    tokenizer = CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token="<|endoftext|>", model_max_length=77
    )
    tokenizer.save_pretrained(folder)
    return load(folder)


def load(folder: Path) -> Any:
    """The tokenizer as every program loads it."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)


def token_ids(tokenizer: Any, lines: list[str], length: int = 77) -> Any:
    """Captions as an int16 array (N, length), padded; fast for hundreds of thousands of lines."""
    import numpy as np

    ids = np.full((len(lines), length), tokenizer.pad_token_id, dtype=np.int16)
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    distinct = sorted(set(lines))
    encoded = {line: e.ids[:length] for line, e in zip(distinct, backend.encode_batch(distinct), strict=True)}
    for row, line in enumerate(lines):
        pieces = encoded[line]
        ids[row, : len(pieces)] = pieces
    ids[:, -1] = tokenizer.eos_token_id
    return ids
