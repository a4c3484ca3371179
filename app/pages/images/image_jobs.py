"""What a machine can do with a set's pictures: write captions, make masks. Each says what its fold on the page holds, how
it begins and what has come of it; job_panel.py draws the fold, job_handlers.py answers for both.

The work is done by processes of their own (trainer/images/{captioners,masking}/job.py); this only starts and looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import gradio as gr

from app.ui.html import Field, markup
from app.ui.html import problem as problem_line
from app.ui.services import Ui
from app.views import captioning, masking
from trainer.images import captioners
from trainer.images import masking as maskers
from trainer.images.captioners.job import CaptionJob
from trainer.images.captioners.writing import to_caption
from trainer.images.masking.job import MaskJob
from trainer.images.set.image_set import ImageSet
from trainer.images.set.picture import Picture

Fields = dict[str, Any]
"""What the fields of a fold hold, by name."""


class ImageJob(Protocol):
    """One thing a machine can do with a set's pictures."""

    name: str
    """Begins the ids of its elements; its texts are `page.images.<name>`."""
    in_fold: bool
    """Whether its progress is seen in the fold alone; else it is below, seen while the fold is closed too."""

    def build(self, ui: Ui) -> tuple[gr.HTML, dict[str, Field]]:
        """Draw what stands in the fold above the buttons: what is said about it, and the fields a start reads."""
        ...

    def of(self, ui: Ui, image_set: ImageSet) -> Any:
        """The job of a set, running or the last that ended; None where there is none."""
        ...

    def to_do(self, image_set: ImageSet, fields: Fields) -> list[str]:
        """The ids of the pictures there is something to do with."""
        ...

    def start(self, ui: Ui, image_set: ImageSet, ids: Sequence[str], fields: Fields, *, again: bool) -> Any:
        """Begin with the pictures `ids`; with `again`, one picture is to get something else than last time. Problem where it
        cannot begin."""
        ...

    def caption(self, job: Any, picture: Picture) -> str | None:
        """The caption the job gave a picture, where that has it still."""
        ...

    def changed(self, job: Any) -> bool:
        """Whether there is anything to take back."""
        ...

    def summary(self, ui: Ui, job: Any) -> str:
        """What was done, as a sentence above the pictures."""
        ...

    def details(self, ui: Ui, image_set: ImageSet, job: Any) -> str:
        """What stays in the place of the progress after the end, as HTML."""
        ...


class CaptionWriting:
    """Captions by machine: only where there is none, or over all where a person ticks that."""

    name, in_fold = "write", False  # one picture may be asked about while the fold is closed

    def build(self, ui: Ui) -> tuple[gr.HTML, dict[str, Field]]:
        t, choices = ui.t, [(one.title(ui.lang), one.name) for one in captioners.CAPTIONERS]
        captioner = gr.Radio(
            choices,
            value=choices[0][1],
            label=t("page.images.write.which"),
            elem_classes="a-segments",
            elem_id="write-which",
        )
        about = markup(captioning.about(ui, captioners.CAPTIONERS[0]), elem_id="write-about")
        with gr.Row(elem_classes="a-fields"):
            prefix = gr.Textbox(
                label=t("page.images.write.prefix"),
                info=t("page.images.write.prefix_hint"),
                max_lines=1,
                elem_id="write-prefix",
            )
            overwrite = gr.Checkbox(label=t("page.images.write.overwrite"), elem_id="write-overwrite")
        return about, {"captioner": captioner, "prefix": prefix, "overwrite": overwrite}

    def of(self, ui: Ui, image_set: ImageSet) -> CaptionJob | None:
        return ui.services.captions.of(image_set)

    def to_do(self, image_set: ImageSet, fields: Fields) -> list[str]:
        return [picture.id for picture in to_caption(image_set.pictures(), fields["overwrite"])]

    def start(self, ui: Ui, image_set: ImageSet, ids: Sequence[str], fields: Fields, *, again: bool) -> CaptionJob:
        return ui.services.captions.start(image_set, fields["captioner"], ids, prefix=fields["prefix"] or "", again=again)

    def caption(self, job: CaptionJob, picture: Picture) -> str | None:
        return picture.caption if job.written.get(picture.id) == picture.caption else None

    def changed(self, job: CaptionJob) -> bool:
        return bool(job.written)

    def summary(self, ui: Ui, job: CaptionJob) -> str:
        return captioning.ended(ui, job)

    def details(self, ui: Ui, image_set: ImageSet, job: CaptionJob) -> str:
        return problem_line(job.problem.sentence(ui.lang)) if job.problem else ""


class MaskMaking:
    """Masks by machine: never in the place of one a person brought or changed."""

    name, in_fold = "mask", True

    def build(self, ui: Ui) -> tuple[gr.HTML, dict[str, Field]]:
        t = ui.t
        about = markup(f"<p class='a-note'>{t('page.images.mask.about')}</p>")
        with gr.Row(elem_classes="a-fields"):
            masker = gr.Textbox(
                value=maskers.PLAIN,
                label=t("page.images.mask.which"),
                info=t("page.images.mask.which_hint"),
                max_lines=1,
                elem_id="mask-which",
            )
            word = gr.Textbox(
                label=t("page.images.mask.word"), info=t("page.images.mask.word_hint"), max_lines=1, elem_id="mask-word"
            )
        overwrite = gr.Checkbox(label=t("page.images.mask.again"), elem_id="mask-again")
        gr.Checkbox(value=True, label=t("page.images.mask.film"), interactive=True, elem_id="mask-film")  # read by CSS
        return about, {"masker": masker, "word": word, "overwrite": overwrite}

    def of(self, ui: Ui, image_set: ImageSet) -> MaskJob | None:
        return ui.services.masks.of(image_set)

    def to_do(self, image_set: ImageSet, fields: Fields) -> list[str]:
        return [picture.id for picture in image_set.unmasked(fields["overwrite"])]

    def start(self, ui: Ui, image_set: ImageSet, ids: Sequence[str], fields: Fields, *, again: bool) -> MaskJob:
        masker = fields["masker"].strip()
        maskers.find(ui.services.home, masker)
        return ui.services.masks.start(image_set, masker, ids, (fields["word"] or "").strip())

    def caption(self, job: MaskJob, picture: Picture) -> str | None:
        return None

    def changed(self, job: MaskJob) -> bool:
        return bool(job.made)

    def summary(self, ui: Ui, job: MaskJob) -> str:
        return masking.ended(ui, job)

    def details(self, ui: Ui, image_set: ImageSet, job: MaskJob) -> str:
        return masking.refused(ui, image_set, job)
