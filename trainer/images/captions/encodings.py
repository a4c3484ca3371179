"""Which characters the bytes of caption files mean, decided for all files of a set together.

UTF-8 is always read as UTF-8, also with single bytes broken. What is left is read in the encoding whose reading of the whole
set is likeliest (letters.py); a file that plainly does not fit is judged with the others that do not. charset-normalizer adds
encodings that are not in the table.
"""

from __future__ import annotations

import codecs
import hashlib
import math
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainer.core.encodings import normal
from trainer.core.problem import Problem
from trainer.core.texts import t
from trainer.images.captions.letters import Script, cost, strange

NAMED: dict[str, Script] = {
    "cp932": "japanese", "euc_jp": "japanese", "gb18030": "simplified", "cp950": "traditional", "cp949": "korean",
    "cp1251": "russian", "koi8_r": "russian", "cp1252": "latin", "utf_16_le": "any", "utf_16_be": "any",
}  # fmt: skip
"""Python's names of the encodings that captions come in, and the writing they are for."""
SPOKEN = (*NAMED, "utf-8", "iso2022_jp_ext")
"""The encodings that have a name for people (`encodings` in the texts)."""
_FURTHER = frozenset([
    "big5hkscs", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp437", "cp850", "cp852", "cp866",
    "cp874", "iso8859_2", "iso8859_5", "iso8859_7", "mac_cyrillic", "mac_roman",
])  # fmt: skip
"""What charset-normalizer may propose besides."""
_UNTYPED = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
UNLIKELY = 15.0
"""Bits that speak against an encoding outside the table, and against UTF-16 without a mark."""
DIFFERS = 40.0
"""By so many bits a file must be likelier in another encoding than in that of the set to be read in it."""
SAMPLE = 200_000
"""Bytes of a set that are looked at; never less than 64 of a file."""
MANY, LIKELY = 100, 3
"""In a set of more files than this, encodings without a table of letters are judged on so many, and the likeliest go on."""
_SEQUENCE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_AMONG_UTF8 = 8.0
"""How much likelier a broken UTF-8 file is where the set has sound ones that are not plain ASCII."""


@dataclass(frozen=True)
class Reading:
    """One caption file as text. `encoding` is Python's name of it."""

    text: str
    encoding: str
    damaged: bool = False
    """Whether bytes were replaced that are not in the encoding."""


def requested(name: str | None, field: str | None = None) -> str | None:
    """The encoding a person asked for; None for "auto" or nothing. Problem where there is no such encoding."""
    if not name or name.strip().lower() == "auto":
        return None
    encoding = normal(name)
    if encoding is None:
        raise Problem("encoding_unknown", field=field, given=name[:60])
    return encoding


def certain(data: bytes) -> Reading | None:
    """The reading of a file that says itself what it is: UTF-8, a byte-order mark, or the escapes of ISO-2022-JP."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf_16_le"), (codecs.BOM_UTF16_BE, "utf_16_be")):
        if data.startswith(mark):
            text = data[2:].decode(encoding, "replace")
            return Reading(text, encoding, "\ufffd" in text)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            return Reading(data.decode("utf-8-sig", "surrogatepass"), "utf-8", damaged=True)
        except UnicodeDecodeError:
            return None
    if _UNTYPED.search(text) and _wide(data, text):
        return None
    if "\x1b$" in text:
        try:
            return Reading(data.decode("iso2022_jp_ext"), "iso2022_jp_ext")
        except UnicodeDecodeError:
            pass
    return Reading(text, "utf-8")


def decode(data: bytes, encoding: str) -> str:
    """The text of a file known to be in `encoding`; what is not in it is replaced, a byte-order mark taken out."""
    sure = certain(data)
    return sure.text if sure is not None and sure.encoding == encoding else _decoded(data, encoding)


def _decoded(data: bytes, encoding: str) -> str:
    return data.decode("utf-8-sig" if encoding == "utf-8" else encoding, "replace").removeprefix("\ufeff")


def label(name: str, language: str | None = None) -> str:
    """An encoding as a person reads it: "Japanese (Shift_JIS)"."""
    return t(f"encodings.{name}", language=language) if name in SPOKEN else name.replace("_", "-")


def excerpt(text: str, limit: int = 40) -> str:
    """The first words of a reading, for showing."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit].rstrip()}…"


def read_all(files: Sequence[bytes], encoding: str | None = None) -> list[Reading]:
    """Every file of a set as text, in order. With `encoding` (as `normal` gives it) all that is not UTF-8 is read in it. Never
    fails."""
    readings = [certain(data) for data in files]
    unsure = [index for index, reading in enumerate(readings) if reading is None]
    rest = [files[index] for index in unsure]
    if encoding:
        names = [encoding] * len(rest)
    else:
        names = _remembered("judge", rest, "", lambda: _choose(rest, False)) if rest else []
        moved, common = _utf8_by_chance(files, readings, names)
        if not moved and rest and any(r is not None and r.encoding == "utf-8" and not r.text.isascii() for r in readings):
            names = _remembered("judge", rest, "sound", lambda: _choose(rest, True))
        unsure, names = [*unsure, *moved], [*names, *[common] * len(moved)]
    for index, name in zip(unsure, names, strict=True):
        text = _decoded(files[index], name)
        readings[index] = Reading(text, name, "\ufffd" in text)
    return [reading for reading in readings if reading is not None]


def next_best(files: Sequence[bytes], chosen: str) -> str | None:
    """The likeliest other encoding that reads these files otherwise than `chosen` does, if possible without strange
    characters; None where there is none."""
    name = _remembered("next", files, chosen, lambda: [_next_best(files, chosen)])[0]
    return name or None


def _utf8_by_chance(files: Sequence[bytes], readings: Sequence[Reading | None], names: Sequence[str]) -> tuple[list[int], str]:
    """The files that are UTF-8 by chance, and the encoding of the set they are in: one or two of its characters can be (the cat
    of GBK is an accented e). None where a file of the set is UTF-8 beyond doubt."""
    others = [name for name in names if name != "utf-8"]
    utf8 = {index: r.text for index, r in enumerate(readings) if r is not None and r.encoding == "utf-8"}
    short = {index: text for index, text in utf8.items() if not text.isascii()}
    if not others or not all(by_chance(text) for text in short.values()):
        return [], ""
    common = Counter(others).most_common(1)[0][0]
    script = NAMED.get(common, "any")
    return [i for i, text in short.items() if cost(_decoded(files[i], common), script) < cost(text, "any")], common


def by_chance(text: str) -> bool:
    """Whether text read as UTF-8 has so little beyond ASCII that it may be something else."""
    beyond = [letter for letter in text if letter > "\x7f"]
    return 0 < len(beyond) <= 3 and max(beyond) < "\u0800"


_memory: OrderedDict[bytes, list[str]] = OrderedDict()
_lock = threading.Lock()


def _remembered(what: str, files: Sequence[bytes], word: str, work: Callable[[], list[str]]) -> list[str]:
    """`work()`, remembered for the last few sets: a page looks at the same files again and again."""
    digest = hashlib.sha256(repr((what, word, [hashlib.sha256(data).digest() for data in files])).encode()).digest()
    with _lock:
        if digest in _memory:
            _memory.move_to_end(digest)
            return list(_memory[digest])
    done = work()
    with _lock:
        _memory[digest] = done
        while len(_memory) > 32:
            _memory.popitem(last=False)
    return list(done)


def _choose(files: list[bytes], sound: bool) -> list[str]:
    """The encoding of each file."""
    samples, table = _table(files)
    names = ["utf-8" if _broken_utf8(sample, sound) <= min(costs.values()) else ""
             for sample, costs in zip(samples, table, strict=True)]  # fmt: skip
    while left := [index for index, name in enumerate(names) if not name]:
        chosen = _ranking([table[index] for index in left])[0]
        fit = [index for index in left if table[index][chosen] - min(table[index].values()) <= DIFFERS]
        for index in fit or left:
            names[index] = chosen
    return names


def _next_best(files: Sequence[bytes], chosen: str) -> str:
    files = list(files)[:200]
    texts = [_decoded(data, chosen) for data in files]
    differing = []
    for name in _ranking(_table(files)[1]):
        read = [_decoded(data, name) for data in files]
        if name != chosen and read != texts:
            if not any(map(strange, read)):
                return name
            differing.append(name)
    return differing[0] if differing else ""


def _table(files: Sequence[bytes]) -> tuple[list[bytes], list[dict[str, float]]]:
    """The telling part of each file, and what it costs in each encoding that is possible for the set."""
    length = min(4000, max(64, SAMPLE // len(files)))
    samples = [_sample(data, length) for data in files]
    priors = dict.fromkeys(_proposed(samples), UNLIKELY) | dict.fromkeys(NAMED, 0.0)
    if len(samples) > MANY:  # what leads nowhere in a part of them is not tried on all
        some = samples[:: len(samples) // MANY]
        likely = _ranking([_costs(sample, priors) for sample in some])[:LIKELY]
        priors = {name: prior for name, prior in priors.items() if name in likely or NAMED.get(name, "any") != "any"}
    return samples, [_costs(sample, priors) for sample in samples]


def _ranking(table: list[dict[str, float]]) -> list[str]:
    """The encodings, likeliest first, for files together; one file alone cannot outweigh all others."""
    total = {name: sum(min(costs[name] - min(costs.values()), DIFFERS) for costs in table) for name in table[0]}
    whole = {name: sum(costs[name] for costs in table) for name in table[0]}
    return sorted(total, key=lambda name: (total[name], whole[name]))


def _broken_utf8(sample: bytes, sound: bool) -> float:
    """What a file costs as UTF-8 with broken bytes; sound characters must be in it, or in other files of the set (`sound`)."""
    sequences = sum(len(sequence) for sequence in _SEQUENCE.findall(sample))
    if not sound and 3 * sequences < sum(byte > 0x7F for byte in sample):
        return math.inf
    text = _partly(sample, "utf-8")
    if not sound and all(letter <= "\x7f" or letter == "\ufffd" for letter in text):
        return math.inf
    return cost(text, "any") - (_AMONG_UTF8 if sound else 0.0)


def _sample(data: bytes, length: int) -> bytes:
    """The part of a file that tells: from shortly before its first byte beyond ASCII."""
    first = re.search(rb"[\x00-\x08\x80-\xff]", data)
    start = max(0, first.start() - 2) & ~1 if first else 0
    return data[start : start + length]


def _costs(sample: bytes, priors: dict[str, float]) -> dict[str, float]:
    return {
        name: prior + (UNLIKELY if name.startswith("utf_16") else 0.0) + cost(_partly(sample, name), NAMED.get(name, "any"))
        for name, prior in priors.items()
    }


def _partly(sample: bytes, encoding: str) -> str:
    """A sample as text; a character cut off at its end is left out."""
    reader = codecs.getincrementaldecoder(encoding)("replace")
    text = reader.decode(sample)
    return text if len(sample) >= 64 else text + reader.decode(b"", True)


def _wide(data: bytes, text: str) -> bool:
    """Whether text with control characters in it is UTF-16 without a byte-order mark rather than UTF-8."""
    plain = cost(text[:2000], "any")
    return any(UNLIKELY + cost(_partly(data[:4000], name), "any") < plain for name in ("utf_16_le", "utf_16_be"))


def _proposed(samples: list[bytes]) -> list[str]:
    """Encodings charset-normalizer takes for possible."""
    from charset_normalizer import from_bytes

    joined = b"\n".join(samples)[:8000]
    return [match.encoding for match in from_bytes(joined) if match.encoding in _FURTHER]
