"""The names of text encodings as a person may write them. Used by options and by what reads caption files."""

from __future__ import annotations

import codecs

ALIASES = {
    "shift_jis": "cp932", "sjis": "cp932", "gbk": "gb18030", "gb2312": "gb18030", "big5": "cp950", "euc_kr": "cp949",
    "latin_1": "cp1252", "iso8859_1": "cp1252", "utf_16": "utf_16_le",
}  # fmt: skip


_NO_LETTERS = frozenset(["idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "utf_7", "mbcs", "oem"])
"""Codecs of Python's that are not encodings of caption files."""


def normal(name: str) -> str | None:
    """Python's name for an encoding as a person may write it ("Shift_JIS", "GBK"); None where there is no such one for text."""
    try:
        codec = codecs.lookup(name.strip())
        "a".encode(codec.name)
    except (LookupError, ValueError, UnicodeError):
        return None
    python_name = codec.name.replace("-", "_")
    if python_name in _NO_LETTERS:
        return None
    return "utf-8" if python_name in ("utf_8", "utf_8_sig", "ascii") else ALIASES.get(python_name, python_name)
