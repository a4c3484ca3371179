"""How like its training set a picture is, how well it fits its prompt, and whether it copies. Light: a CLIP loads in `clip`.

Called by a run after it drew its test pictures (trainer/engine/output/saving.py) and by `score` (trainer/commands/score.py).
"""

from __future__ import annotations

from pathlib import Path

from trainer.bases.auxiliary import AuxiliaryModels
from trainer.bases.facts import BaseFacts
from trainer.core.home import Home

CLIPS = AuxiliaryModels("clips", "clip", ("clip", "vision-text-dual-encoder"))
KNOWN = {"clip": "openai/clip-vit-large-patch14@32bd64288804d66eefd0ccbe215aa642df71cc41"}
"""Names for what stands under a hub id; 1.7 GB."""
OFF, AUTO = "off", "auto"


def find(home: Home, model: str, base: BaseFacts | None = None) -> Path | None:
    """The folder of the CLIP meant by `model`: for `auto` the judge a base brings along, else the first in `models/clips`.
    None where there is none, for `off`, and where a hub id has to be fetched first (`fetch`). Problem for a
    folder that is none."""
    if model == OFF:
        return None
    if model != AUTO:
        return CLIPS.find(home, KNOWN.get(model, model))
    own = base.path / "judge" if base is not None and base.path is not None else None
    if own is not None and CLIPS.fits(own):
        return own
    return next(iter(CLIPS.installed(home)), None)
