"""English for captions: articles, and the caption patterns the base learns.

`data.py`, `ldm.py`, `judge.py` and `example_sets.py` build every sentence here, so that all of them speak alike.
"""

from __future__ import annotations

import random


def listed(text: str) -> list[str]:
    """Words divided by spaces and line ends, as a list: long word lists stay readable in the source."""
    return text.split()


_AN_DESPITE_LETTER = ("hour", "honest", "heir")
_A_DESPITE_LETTER = ("uni", "use", "euro", "ewe", "one", "ukulele", "u-")
# Things a person does not count, or that come as a pair or a group: no article in front of them.
_UNCOUNTED = frozenset(
    listed(
        """bread rice popcorn bacon honey butter salt broccoli garlic ginger fire fog wind glasses sunglasses jeans
        shorts scissors cherries grapes blueberries pancakes french-fries chopsticks fireworks beans
        olives socks gloves headphones beer-mugs bubbles sparkles peanuts sushi spaghetti dice luggage
        fried-shrimp baguettes lightning"""
    )
)


def article(name: str) -> str:
    """`a `, `an ` or nothing, as English wants it: `a unicorn`, `an owl`, `glasses`."""
    lower = name.lower()
    head = lower.split(" with ")[0].split(" and ")[0]  # `nest with eggs` is one nest
    last = head.rsplit(" ", 1)[-1]
    if lower.replace(" ", "-") in _UNCOUNTED or last in _UNCOUNTED:
        return ""
    if last.endswith("s") and not last.endswith(("ss", "us", "is", "ens", "eros")):
        return ""
    if lower.startswith(_AN_DESPITE_LETTER):
        return "an "
    if lower.startswith(_A_DESPITE_LETTER):
        return "a "
    return "an " if lower[0] in "aeiou" else "a "


def full_caption(name: str, style_words: str, background: str) -> str:
    """The plainest complete prompt: `an owl, flat style, white background`."""
    return f"{article(name)}{name}, {style_words} style, {background} background"


# Styles nobody drew for the base: a caption that names one shows any of the styles, so the word changes nothing.
_STYLES_NOT_TAUGHT = listed(
    """watercolor pixel sketch ink pencil silhouette neon vintage paper glass gold silver metal wooden stone monochrome
    outline simple detailed realistic soft sharp striped spotted square plain dark bright pale my new best"""
)
_SYLLABLES = listed("ba ko mi lu ren tas vor pim ga shi no del fex wu jo qua zen tor lin os ka mu ri han ed yo ul chi st")


def word_for_no_style(chance: random.Random) -> str:
    """A style word that means nothing to the base: a real one, or one made of syllables as people invent them."""
    if chance.random() < 0.5:
        return chance.choice(_STYLES_NOT_TAUGHT)
    return "".join(chance.choice(_SYLLABLES) for _ in range(chance.randint(2, 4)))


def varied_caption(
    names: list[str],
    style_words: str,
    background: str,
    chance: random.Random,
    keyword_share: float = 0.15,
    no_style_share: float = 0.0,
) -> str:
    """One of the ways a person might write the prompt for a picture.

    Mostly the full caption; sometimes a keyword instead of the name, the style in front, no article, or only the thing.
    A missing background word means white, so that a bare prompt has one answer. In `no_style_share` of the captions a
    word that means nothing stands where the style would: so a word the base has never read does no harm.
    """
    if no_style_share and chance.random() < no_style_share:
        style_words = word_for_no_style(chance)
    name = names[0] if len(names) == 1 or chance.random() > keyword_share else chance.choice(names[1:])
    thing = name if chance.random() < 0.2 else article(name) + name
    roll = chance.random()
    if background == "white":
        if roll < 0.08:
            return thing
        if roll < 0.25:
            return f"{thing}, {style_words} style"
    elif roll < 0.08:
        return f"{thing}, {background} background"
    roll = chance.random()
    if roll < 0.12:
        return f"{style_words} style, {thing}, {background} background"
    if roll < 0.2:
        return f"{thing} on a {background} background, {style_words} style"
    return f"{thing}, {style_words} style, {background} background"
