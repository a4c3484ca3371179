"""The options of captions: how they are read and changed from view to view. Part of the tree in train.py."""

from __future__ import annotations

from pydantic import Field

from trainer.core.schema import Section


class Captions(Section):
    trigger: str = ""
    """The word that calls what was learnt. It is put in front of every caption that lacks it. Choose one that means
    nothing else yet."""
    shuffle_tags: bool = False
    """Change the order of the comma-separated parts at every look, so that none counts for its place. For tag lists, not
    for sentences."""
    keep_tokens: int = Field(default=1, ge=0, le=20)
    """How many parts at the front stay in place when shuffling: usually one, the trigger."""
    dropout: float = Field(default=0.05, ge=0, le=1)
    """The share of looks without any caption. A little (0.05 to 0.1) lets a style work without its trigger and keeps
    guidance healthy; much forgets the words."""
    keep_tokens_separator: str = Field(default="", max_length=10)
    """A mark such as ||| in the captions: what stands before the first one stays in front, what stands behind a second one
    stays at the end, whatever is shuffled or left out between. The mark itself is taken out."""
    tag_dropout: float = Field(default=0.0, ge=0, le=1)
    """The share of single parts left out at every look, so that the rest does not lean on them. 0.1 is much for short
    captions. Parts that stay in front are never left out."""
    tag_dropout_only: tuple[str, ...] = ()
    """Leave out only these parts, one a line. Left empty, any part may go."""
    tag_dropout_never: tuple[str, ...] = ()
    """Never leave out these parts, one a line: what must not be learnt without its name."""
    prefix: str = ""
    """Words in front of every caption, before anything that is shuffled. Not needed for the trigger: it comes by itself."""
    suffix: str = ""
    """Words behind every caption, after anything that is shuffled."""
    one_per_line: bool = False
    """Take each line of a caption file as a caption of its own and use one of them at every look. For files written by
    hand: the page itself keeps captions on one line."""
    wildcards: bool = False
    """Read {red|blue} in captions as a choice, drawn anew at every look. Off, braces are words like any other."""
    weighted: bool = False
    """Read (a word:1.2), (more) and [less] in captions as words that count more or less, as AUTOMATIC1111 does in prompts,
    and a bracket meant as one as \\( and \\). Drawing with the LoRA then reads prompts so too. Off, brackets are words like
    any other; switch on only for captions written so."""
    max_token_length: int = Field(default=75, ge=75, le=225, multiple_of=75)
    """How much of a caption is read: 75, 150 or 225 tokens, in pieces of 75 side by side as the drawing programs do it.
    More costs time even for short captions; take the least that fits."""
    clip_skip: int = Field(default=1, ge=1, le=4)
    """Read the words at this layer from the end of the text encoder. 2 for bases that were made so, such as most anime
    bases of Stable Diffusion 1.x, and then draw with the same value; 1 for all others."""

    @property
    def endless(self) -> bool:
        """Whether the words are new at nearly every look, so that keeping what they are encoded to saves nothing."""
        return self.shuffle_tags or self.wildcards or self.tag_dropout > 0
