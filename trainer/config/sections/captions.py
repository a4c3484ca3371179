"""The options of captions: how they are read and varied. Part of the tree in train.py."""

from __future__ import annotations

from pydantic import Field

from trainer.core.schema import Section


class Captions(Section):
    trigger: str = ""
    """The trigger word that calls up what was learned. It is put in front of every caption that lacks it. Choose a word
    that does not mean anything to the base yet."""
    shuffle_tags: bool = False
    """Shuffles the comma-separated tags each time an image is seen, so that their order carries no meaning. For tag lists,
    not for sentences."""
    keep_tokens: int = Field(default=1, ge=0, le=20)
    """How many tags at the front keep their place when tags are shuffled: usually one, the trigger."""
    dropout: float = Field(default=0.05, ge=0, le=1)
    """Caption dropout: how often an image is seen without its caption, as a fraction. A little (0.05 to 0.1) lets a style
    work without its trigger and keeps classifier-free guidance effective; too much makes the model forget the words."""
    keep_tokens_separator: str = Field(default="", max_length=10)
    """A mark such as ||| in the captions: tags before the first one stay in front, tags behind a second one stay at the
    end, whatever is shuffled or dropped in between. The mark itself is removed."""
    tag_dropout: float = Field(default=0.0, ge=0, le=1)
    """Tag dropout: the fraction of tags left out each time an image is seen, so that the others do not depend on them. 0.1
    is a lot for short captions. Tags that stay in front are never dropped."""
    tag_dropout_only: tuple[str, ...] = ()
    """Drops only these tags, one per line. Left empty, any tag may be dropped."""
    tag_dropout_never: tuple[str, ...] = ()
    """Never drops these tags, one per line: what must not be learned without its name."""
    prefix: str = ""
    """Text in front of every caption, before anything that is shuffled. Not needed for the trigger, which is added
    automatically."""
    suffix: str = ""
    """Text behind every caption, after anything that is shuffled."""
    one_per_line: bool = False
    """Treats each line of a caption file as a separate caption and picks one of them each time the image is seen. For files
    written by hand; captions written on this page have one line."""
    wildcards: bool = False
    """Reads {red|blue} in captions as a choice that is made anew each time the image is seen. Off, braces are ordinary
    text."""
    weighted: bool = False
    """Reads (a word:1.2), (more) and [less] in captions as prompt weights, as AUTOMATIC1111 does; write a literal bracket
    as \\( or \\). Prompts for this LoRA are then read the same way. Off, brackets are ordinary text; switch it on only for
    captions written so."""
    max_token_length: int = Field(default=75, ge=75, le=225, multiple_of=75)
    """The longest caption that is read, in tokens: 75, 150 or 225, encoded in chunks of 75 as image generators do. More
    takes longer even for short captions, so use the smallest value that fits."""
    clip_skip: int = Field(default=1, ge=1, le=4)
    """CLIP skip: uses the output of this layer, counted from the end of the text encoder. 2 for bases trained that way,
    such as most anime bases of Stable Diffusion 1.x, and then the same value when generating; 1 for all others."""

    @property
    def endless(self) -> bool:
        """Whether captions differ nearly every time they are seen, so that caching their encodings saves nothing."""
        return self.shuffle_tags or self.wildcards or self.tag_dropout > 0
