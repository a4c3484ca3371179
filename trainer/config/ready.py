"""What a training lacks before it can start: judged in one place for the page, the queue and the engine."""

from __future__ import annotations

from trainer.config.load import Tree
from trainer.config.plan import draws, is_slider, setting
from trainer.config.sections.slider import NEEDED
from trainer.config.train import TrainConfig
from trainer.core.problem import Problem

NOT_FOR_SLIDER = (
    "captions.trigger", "lora.embedding_tokens", "preservation.base_prior", "preservation.regularization_folder",
    "validation.split", "validation.images",
)  # fmt: skip
"""Options that are defined by captions, by a trigger word or by images of one's own."""


def lacks(settings: TrainConfig | Tree, images: int) -> list[Problem]:
    """What is not filled in yet, field by field: images, a name, a slider's prompts, the right to use the images. `images`
    counts those of the training's folders; a tree need not be valid."""
    problems: list[Problem] = []
    if not draws(settings) and not images:
        problems.append(Problem("job_no_pictures", field="images.folder"))
    if not _text(settings, "save.name"):
        problems.append(Problem("job_name_missing", field="save.name"))
    if is_slider(settings):
        problems += [Problem("slider_words", field=name) for name in NEEDED if not _text(settings, name)]
    if not draws(settings) and not setting(settings, "rights.pictures_ok"):
        problems.append(Problem("job_rights_missing", field="rights.pictures_ok"))
    return problems


def slider_problems(settings: TrainConfig | Tree) -> list[Problem]:
    """What a slider lacks, or is asked for and cannot have; empty for other trainings."""
    if not is_slider(settings):
        return []
    problems = [Problem("slider_words", field=name) for name in NEEDED if not _text(settings, name)]
    if not problems and _text(settings, "slider.positive") == _text(settings, "slider.negative"):
        problems.append(Problem("slider_same", field="slider.negative"))
    return problems + [Problem("not_for_slider", field=name) for name in NOT_FOR_SLIDER if _is_asked(settings, name)]


def check_slider(config: TrainConfig) -> None:
    """Raise the first of `slider_problems`."""
    for problem in slider_problems(config):
        raise problem


def _text(settings: TrainConfig | Tree, name: str) -> str:
    return str(setting(settings, name) or "").strip()


def _is_asked(settings: TrainConfig | Tree, name: str) -> bool:
    value = setting(settings, name)
    return bool(value.strip() if isinstance(value, str) else value)
