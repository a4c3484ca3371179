"""Pure functions on captions: cleaning, tags, trigger, tag shuffling, caption dropout. Used by engine, page and report.

A caption is one line of text. Comma-separated parts are tags; a sentence is simply one tag.
"""

from __future__ import annotations

import math
import random
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from trainer.images.set.limits import LIMITS
from trainer.prompts import weights as prompt_weights

_BREAKS = re.compile(r"[\s\x1c-\x1f\x85\u2028\u2029]+")
_PIECES = re.compile(r"[^\W\d_]+|\d|[^\w\s]|_")
_DENSE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_COMMON_TEXT = """
a an and anime animal art baby background bear beautiful bird black blue body boy bright brown building car cartoon cat
character child city clothes color concept cute dark day design dog drawing dress eyes face fantasy figure fish flower
food forest girl glass gold gray green hair hand happy hat head home horse house human illustration image ink japanese
key kid landscape light line logo long love man manga me men model monster moon mountain my name new night object of old
orange paint painting paper pencil people person photo picture pink plant portrait pose princess purple rabbit realistic
red river robot room rose school sea short sketch sky small star stone street style sun test the toy tree warm water
watercolor white wolf woman women wood world yellow young
犬 猫 人 女 男 花 空 海 山 絵 顔 子供 女の子 男の子 写真 イラスト キャラ キャラクター スタイル
"""
_COMMON = frozenset(_COMMON_TEXT.split())


class Rules(Protocol):
    """What `training_caption` needs to know; the section `captions` of TrainConfig fits as it is."""

    @property
    def trigger(self) -> str: ...
    @property
    def shuffle_tags(self) -> bool: ...
    @property
    def keep_tokens(self) -> int: ...
    @property
    def dropout(self) -> float: ...
    @property
    def keep_tokens_separator(self) -> str: ...
    @property
    def tag_dropout(self) -> float: ...
    @property
    def tag_dropout_only(self) -> tuple[str, ...]: ...
    @property
    def tag_dropout_never(self) -> tuple[str, ...]: ...
    @property
    def prefix(self) -> str: ...
    @property
    def suffix(self) -> str: ...
    @property
    def wildcards(self) -> bool: ...
    @property
    def weighted(self) -> bool: ...


@dataclass(frozen=True)
class CaptionRules:
    """Rules without a TrainConfig around them."""

    trigger: str = ""
    shuffle_tags: bool = False
    keep_tokens: int = 1
    dropout: float = 0.0
    keep_tokens_separator: str = ""
    tag_dropout: float = 0.0
    """The share of single tags left out (never the kept ones)."""
    tag_dropout_only: tuple[str, ...] = ()
    tag_dropout_never: tuple[str, ...] = ()
    prefix: str = ""
    suffix: str = ""
    wildcards: bool = False
    weighted: bool = False


def clean(text: str) -> str:
    """`text` as one NFC line without NUL, control characters and lone surrogates; every run of white space one blank.

    Nothing else is touched: markup, braces and right-to-left text are words like any other here.
    """
    text = text.removeprefix("\ufeff").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = _BREAKS.sub(" ", text)
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cs"))
    return re.sub(" +", " ", unicodedata.normalize("NFC", text)).strip()


def shorten(text: str, limit: int = LIMITS.caption_chars) -> tuple[str, bool]:
    """`text` within `limit` characters, cut at the last comma or blank near the end, and whether it was cut."""
    if len(text) <= limit:
        return text, False
    head = text[:limit]
    cut = max(head.rfind(","), head.rfind(" "))
    return head[: cut if cut > limit * 0.8 else limit].rstrip(" ,"), True


def tags(text: str) -> list[str]:
    """The parts of a caption, trimmed, empty ones left out."""
    return [part for part in (piece.strip() for piece in text.split(",")) if part]


def join(parts: list[str]) -> str:
    """The parts as one caption again."""
    return ", ".join(parts)


def has(text: str, word: str) -> bool:
    """Whether `word` stands in `text` as a word of its own (case does not count)."""
    if not word.strip():
        return False
    pattern = r"(?<!\w)" + re.escape(word.strip()) + r"(?!\w)"
    if _DENSE.search(word):  # Japanese and the like put no blanks between words
        pattern = re.escape(word.strip())
    return re.search(pattern, text, re.IGNORECASE) is not None


def with_trigger(text: str, trigger: str) -> str:
    """`text` with the trigger in front, unless it is in there already."""
    trigger = trigger.strip()
    if not trigger or has(text, trigger):
        return text.strip()
    return f"{trigger}, {text.strip()}".rstrip(" ,")


def without_trigger(text: str, trigger: str, word: str = "") -> str:
    """`text` with the trigger replaced by `word`, or left out with its comma."""
    trigger = trigger.strip()
    if not trigger:
        return text
    return join(tags(re.sub(" +", " ", swapped(text, trigger, word.strip()))))


def swapped(text: str, trigger: str, word: str) -> str:
    """`text` with `word` wherever the trigger stands as a word, however it is capitalised; nothing else is touched."""
    edge = ("", "") if _DENSE.search(trigger) else (r"(?<!\w)", r"(?!\w)")
    return re.sub(edge[0] + re.escape(trigger) + edge[1], lambda _: word, text, flags=re.IGNORECASE)


def shuffle(parts: list[str], keep: int, rng: random.Random) -> list[str]:
    """The parts in a new order, the first `keep` in their places."""
    head, tail = parts[:keep], parts[keep:]
    rng.shuffle(tail)
    return head + tail


def drop(parts: list[str], rules: Rules, keep: int, rng: random.Random) -> list[str]:
    """Each part behind the first `keep` left out with probability `tag_dropout`: of those named in `tag_dropout_only`
    (any where it is empty), never one of `tag_dropout_never`."""
    only, never = ({word.casefold() for word in tags_} for tags_ in (rules.tag_dropout_only, rules.tag_dropout_never))

    def stays(part: str) -> bool:
        name = (prompt_weights.plain(part) if rules.weighted else part).casefold()
        return name in never or bool(only and name not in only) or rng.random() >= rules.tag_dropout

    return parts[:keep] + [part for part in parts[keep:] if stays(part)]


def choose(text: str, rng: random.Random) -> str:
    """`{red|blue}` as one of its parts, drawn with `rng`; the inner braces of `{a|{b|c}}` first."""
    while match := re.search(r"\{([^{}]*\|[^{}]*)\}", text):
        text = text[: match.start()] + rng.choice(match[1].split("|")).strip() + text[match.end() :]
    return text


def training_caption(text: str, rules: Rules, rng: random.Random) -> str:
    """What the text encoder is given at one look: the same for the same text, rules and state of `rng`.

    Order: whole caption dropped -> `{a|b}` chosen -> trigger in front -> what stands outside the separators set aside ->
    parts shuffled -> parts dropped -> prefix and suffix around it. The draws are made only where a rule asks for them.
    """
    if rules.dropout > 0 and rng.random() < rules.dropout:
        return ""
    if rules.wildcards:
        text = choose(text, rng)
    around = f"{rules.prefix}, {rules.suffix}"
    text = text.strip() if has(around, rules.trigger) else with_trigger(text, rules.trigger)
    text = _changed(text, rules, rng)
    return ", ".join(part for part in (rules.prefix.strip(" ,"), text, rules.suffix.strip(" ,")) if part)


def _changed(text: str, rules: Rules, rng: random.Random) -> str:
    """The parts shuffled and dropped; `text` itself where no rule asks for it."""
    mark, keep = rules.keep_tokens_separator, rules.keep_tokens
    head, _, rest = text.partition(mark) if mark and mark in text else ("", "", text)
    middle, _, tail = rest.partition(mark) if mark and mark in rest else (rest, "", "")
    if not (rules.shuffle_tags or rules.tag_dropout > 0 or (mark and mark in text)):
        return text
    split = prompt_weights.parts if rules.weighted else tags
    parts, keep = split(middle), 0 if head else keep
    if rules.shuffle_tags:
        parts = shuffle(parts, keep, rng)
    if rules.tag_dropout > 0:
        parts = drop(parts, rules, keep, rng)
    return join(split(head) + parts + split(tail))


def estimate_tokens(text: str) -> int:
    """About how many CLIP tokens `text` takes, without loading a tokenizer.

    Short words one, long words more, each digit and mark one, Japanese about one and a half a character.
    """
    total = 0.0
    for piece in _PIECES.findall(text):
        dense = len(_DENSE.findall(piece))
        total += 1.5 * dense + (math.ceil((len(piece) - dense) / 7) if len(piece) > dense else 0)
    return math.ceil(total)


def adding(tag: str, *, front: bool = False) -> Callable[[str], str]:
    """An edit for `ImageSet.edit`: put `tag` at the end (or the front) of captions that do not have it."""

    def change(text: str) -> str:
        parts = tags(text)
        return text if has(text, tag) else join([tag.strip(), *parts] if front else [*parts, tag.strip()])

    return change


def removing(tag: str) -> Callable[[str], str]:
    """An edit: take the tag out wherever it is one."""
    return lambda text: join([part for part in tags(text) if part.casefold() != tag.strip().casefold()])


def replacing(old: str, new: str) -> Callable[[str], str]:
    """An edit: the text `old` becomes `new`, inside words too (case does not count); parts left empty vanish."""
    pattern = re.compile(re.escape(old), re.IGNORECASE)
    return lambda text: join(tags(pattern.sub(lambda _: new, text))) if old else text


def trigger_problem(trigger: str) -> Literal["empty", "common", "spaces"] | None:
    """What speaks against a trigger word: nothing typed, a word that means something already, several words."""
    parts = trigger.split()
    if not parts:
        return "empty"
    if all(word.casefold() in _COMMON for word in parts):
        return "common"
    return "spaces" if len(parts) > 1 else None


def propose_trigger(name: str) -> str:
    """A word made from a name that means nothing else yet: `Ink Stamp` -> `inkstamp`, `Cat` -> `catxq`."""
    word = "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())[:24]
    if not word:
        return "xqlook"
    return f"{word}xq" if word in _COMMON or word.isdigit() or len(word) < 3 else word


_LONGEST_TO_TRY = 200


def trial_prompts(kind: str, trigger: str, suggested: Iterable[str], captions: Iterable[str] = ()) -> tuple[str, ...]:
    """Two prompts to try a LoRA with: the base's `suggested` ones with the trigger in.

    A character is first asked for as its set does: by the first of the `captions` with the trigger, or the trigger alone.
    """
    prompts = tuple(with_trigger(prompt, trigger) for prompt in suggested)
    if kind != "character" or not trigger:
        return prompts[:2]
    with_it = (caption for caption in captions if trigger in caption and len(caption) <= _LONGEST_TO_TRY)
    return (next(with_it, trigger), *prompts)[:2]
