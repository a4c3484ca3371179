"""What the Images page answers: a method for each event. Wired in page.py.

The set itself (trainer/images) does everything, its HTML is in app/views/{sets,images}.py.
"""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from app.forms import training
from app.pages.address import asked, signal_data
from app.pages.answer import Answer, Values
from app.pages.images.job_handlers import JobHandlers
from app.pages.images.layout import ImagesParts
from app.ui.html import leave
from app.ui.html import problem as problem_line
from app.ui.services import Ui
from app.views import images, sets
from app.views import train as train_view
from trainer.config import load
from trainer.config.lines import MAX_WEIGHT
from trainer.core.files import is_name
from trainer.core.problem import Problem
from trainer.images.captions import captions
from trainer.images.geometry.masks import mask_file
from trainer.images.set.image_set import ImageSet, restore_set
from trainer.images.set.picture import Picture


class ImagesHandlers:
    """Each method answers with parts that are among its event's outputs. `captions` and `masks` are those of the folds in
    which a machine works on the set."""

    def __init__(self, ui: Ui, parts: ImagesParts) -> None:
        self.ui, self.parts = ui, parts
        self.captions = JobHandlers(ui, parts.captions, parts, self.show)
        self.masks = JobHandlers(ui, parts.masks, parts, self.show)

    def opened(self, set_name: str, request: gr.Request) -> Answer:
        """The page as it is opened: with the set and the picture its address asks for, else with the set last worked on."""
        return self.show(asked(request, "set") or set_name, asked(request, "picture") or "")

    def set_chosen(self, signal: str) -> Answer:
        """Another set, or none."""
        return self.show(signal_data(signal).get("set"))

    def dropped(self, set_name: str, signal: str) -> Answer:
        """Pictures have arrived."""
        upload = signal_data(signal)
        return self.show(upload.get("set") or set_name, message=train_view.upload_result(self.ui, upload))

    def page_turned(self, set_name: str, signal: str) -> Answer:
        """An earlier or a later page of the pictures."""
        return self.show(set_name, page=int(signal_data(signal).get("page", 0)))

    def picked(self, set_name: str, page: int, signal: str) -> Answer:
        """Another picture."""
        return self._choose(set_name, str(signal_data(signal).get("id", "")), page)

    def previous(self, set_name: str, picture_id: str, page: int) -> Answer:
        """The picture before; before the first stands the last."""
        return self._step(set_name, picture_id, page, -1)

    def next(self, set_name: str, picture_id: str, page: int) -> Answer:
        """The picture after; after the last stands the first."""
        return self._step(set_name, picture_id, page, 1)

    def cut_moved(self, set_name: str, page: int, signal: str) -> Answer:
        """Another part of the picture is trained."""
        image_set, cut = self._own(set_name), signal_data(signal)
        if image_set is None:
            return gr.skip()
        try:
            focus = float(cut.get("x", 0.5)), float(cut.get("y", 0.5))
            image_set.set_picture(str(cut.get("id", "")), focus=focus)
        except Problem:
            return gr.skip()
        return self._choose(set_name, str(cut["id"]), page)

    def caption_typed(self, set_name: str, picture_id: str, text: str, page: int) -> Answer:
        """Save a caption while it is being typed."""
        image_set, parts = self._own(set_name), self.parts
        if image_set is None or not picture_id:
            return {parts.picture.saved: ""}
        try:
            image_set.set_caption(picture_id, text)
        except Problem as problem:
            return {parts.picture.saved: problem_line(problem.sentence(self.ui.lang))}
        return {
            parts.picture.saved: images.saved(self.ui),
            parts.picture.tokens: self._tokens(image_set, text),
            parts.grid: images.grid(self.ui, image_set, image_set.pictures(), page, picture_id),
        }

    def weight_typed(self, set_name: str, picture_id: str, weight: float | None) -> Answer:
        """Save how much the chosen picture counts; nothing while the field is empty."""
        return {self.parts.picture.saved: self._weigh(self._own(set_name), picture_id, weight)}

    def _weigh(self, image_set: ImageSet | None, picture_id: str, weight: float | None) -> str:
        if image_set is None or not picture_id or weight is None:
            return ""
        if not 0 < weight <= MAX_WEIGHT:
            return problem_line(self.ui.t("page.images.weight_bad", most=f"{MAX_WEIGHT:g}"))
        try:
            image_set.set_picture(picture_id, weight=weight)
        except Problem as problem:
            return problem_line(problem.sentence(self.ui.lang))
        return images.saved(self.ui)

    def named(self, set_name: str, title: str, trigger: str) -> None:
        """Keep the set's title and trigger word while they are being typed."""
        image_set = self._own(set_name)
        if image_set:
            image_set.update(title=title.strip() or image_set.meta.title, trigger=trigger.strip())

    def removed(self, set_name: str, picture_id: str, page: int) -> Answer:
        """Take the chosen picture out of the set; the one after it is chosen then."""
        image_set, t = self.ui.services.set(set_name), self.ui.t
        if image_set is None or not picture_id:
            return self.show(set_name)
        if self.ui.services.is_example(image_set):
            return self.show(set_name, picture_id, page, t("page.images.example"))
        ids = [picture.id for picture in image_set.pictures()]
        place = ids.index(picture_id) if picture_id in ids else len(ids)
        following = (ids[place + 1 :] or ids[:place][-1:] or [""])[0]
        try:
            self.ui.services.refuse_if_used(image_set.folder)
            image_set.delete([picture_id])
        except Problem as problem:
            return self.show(set_name, "", page, problem.sentence(self.ui.lang))
        return self.show(set_name, following, page, t("page.train.removed", count=1), undo=True)

    def mask_removed(self, set_name: str, picture_id: str, page: int) -> Answer:
        """Take the chosen picture's mask away."""
        image_set = self._own(set_name)
        if image_set is None or not picture_id:
            return self.show(set_name, picture_id, page)
        try:
            token = image_set.take_mask(picture_id)
        except Problem as problem:
            return self.show(set_name, picture_id, page, problem.sentence(self.ui.lang))
        message = self.ui.t("page.images.mask.removed") if token else ""
        return self.show(set_name, picture_id, page, message, undo=token is not None)

    def fixed(self, set_name: str, picture_id: str, page: int, signal: str) -> Answer:
        """The button of a finding, or one that takes something back."""
        image_set, fix = self.ui.services.set(set_name), signal_data(signal)
        action = fix.get("action")
        if action == "restore":
            return self._restored(str(fix.get("place", "")))
        if image_set is None:
            return self.show(set_name)
        if action == "discard":
            return self._discarded(image_set, picture_id, page)
        message = training.mend(self.ui, image_set, fix)
        undo = action not in ("undo", "reading_right") and not self.ui.services.is_example(image_set)
        return self.show(set_name, picture_id, page, message, undo=undo)

    def edit_typed(self, values: Values) -> Answer:
        """What an edit of many captions would do."""
        image_set, edit = self.ui.services.set(values[self.parts.set_name]), self._edit(values)
        bulk, way = self.parts.bulk, values[self.parts.bulk.way]
        return {
            bulk.preview: images.changes(self.ui, image_set.preview(edit)) if image_set and edit else "",
            bulk.replacement: gr.update(visible=way == "replace"),
            bulk.in_front: gr.update(visible=way == "add"),
        }

    def edited(self, values: Values) -> Answer:
        """Change many captions at once."""
        set_name, picture_id, page = (values[part] for part in self.parts.place)
        image_set, edit, preview = self.ui.services.set(set_name), self._edit(values), self.parts.bulk.preview
        if image_set is None or edit is None:
            nothing = problem_line(self.ui.t("page.images.bulk.nothing"))
            return {**self.show(set_name, picture_id, page), preview: nothing}
        count = len(image_set.preview(edit))
        image_set.edit(edit)
        message = self.ui.t("page.train.edited", count=count)
        return {**self.show(set_name, picture_id, page, message, undo=count > 0), preview: ""}

    def train_pressed(self, set_name: str) -> Answer:
        """To the Train page, with this set."""
        return {self.parts.leaving: leave(self.ui.href("train", set=set_name or None))}

    def show(
        self, set_name: str | None, picture_id: str = "", page: int = 0, message: str = "", *, undo: bool = False
    ) -> Answer:
        """Everything about a set and the picture chosen in it; `undo` offers to take back what `message` says was done."""
        image_set, parts = self.ui.services.set(set_name), self.parts
        if image_set is None:
            return self._without_set(images.note(message))
        pictures, own = image_set.pictures(), not self.ui.services.is_example(image_set)
        picture = next((one for one in pictures if one.id == picture_id), pictures[0] if pictures else None)
        page = pictures.index(picture) // images.PER_PAGE if picture and picture_id else page
        meta = image_set.meta_in(self.ui.lang)
        links = [(self.ui.t("page.images.other"), sets.tell("choose", set=""))]
        links += [(self.ui.t("page.images.trash"), sets.tell("fix", action="discard"))] if own else []
        note = images.note(message, sets.undo(self.ui) if undo else "")
        return {
            parts.set_name: image_set.folder.name,
            parts.head: sets.heading(self.ui, image_set, len(pictures), links),
            parts.about: gr.update(visible=own),
            parts.title: meta.title,
            parts.trigger: meta.trigger,
            parts.note: note + (images.readings(self.ui, image_set, pictures) if own else ""),
            parts.drop: sets.drop(self.ui, image_set, names=True) if own else "",
            parts.findings: sets.report(self.ui, image_set, training.report(self.ui.services, image_set)),
            **self._picture(image_set, pictures, picture, page),
            **{fold: gr.update(visible=own and bool(pictures)) for fold in self._folds()},
            **self._following(image_set),
        }

    def _without_set(self, note: str) -> Answer:
        """The sets to choose from."""
        parts, hidden = self.parts, gr.update(visible=False)
        return {
            parts.set_name: "",
            parts.head: images.lead(self.ui),
            parts.about: hidden,
            parts.title: "",
            parts.trigger: "",
            parts.note: note,
            parts.drop: sets.drop(self.ui, None, names=True),
            parts.findings: "",
            **self._no_picture("", 0),
            parts.grid: sets.choices(self.ui, self.ui.services.sets(), 60, "page.images.sets"),
            parts.picture.pane: hidden,
            parts.picture.remove_mask: hidden,
            **dict.fromkeys(self._folds(), hidden),
        }

    def _choose(self, set_name: str, picture_id: str, page: int) -> Answer:
        """Only what changes with another picture."""
        image_set = self.ui.services.set(set_name)
        pictures = image_set.pictures() if image_set else []
        picture = next((one for one in pictures if one.id == picture_id), None)
        if image_set is None or picture is None:
            return self._no_picture(picture_id, page)
        page = pictures.index(picture) // images.PER_PAGE
        answer = self._picture(image_set, pictures, picture, page)
        answer.pop(self.parts.picture.pane)
        return {**answer, self.parts.picture.saved: ""}

    def _step(self, set_name: str, picture_id: str, page: int, by: int) -> Answer:
        image_set = self.ui.services.set(set_name)
        ids = [picture.id for picture in image_set.pictures()] if image_set else []
        return self._choose(set_name, ids[(ids.index(picture_id) + by) % len(ids)] if picture_id in ids else picture_id, page)

    def _picture(self, image_set: ImageSet, pictures: list[Picture], picture: Picture | None, page: int) -> Answer:
        """The pictures, and the chosen one beside them."""
        parts, own, id_ = self.parts.picture, not self.ui.services.is_example(image_set), picture.id if picture else ""
        caption = picture.caption if picture else ""
        return {
            self.parts.picture_id: id_,
            self.parts.page: page,
            self.parts.grid: images.grid(self.ui, image_set, pictures, page, id_ or None),
            parts.pane: gr.update(visible=picture is not None),
            parts.large: self._large(image_set, picture) if picture else "",
            parts.caption: gr.update(value=caption, interactive=own),
            parts.tokens: self._tokens(image_set, caption),
            parts.weight: gr.update(value=picture.weight if picture else None, interactive=own),
            parts.saved: "" if own else images.example(self.ui),
            parts.remove_mask: gr.update(visible=own and picture is not None and mask_file(picture).is_file()),
        }

    def _no_picture(self, picture_id: str, page: int) -> Answer:
        parts = self.parts.picture
        place: Answer = {self.parts.picture_id: picture_id, self.parts.page: page}
        return {**place, parts.large: "", parts.caption: "", parts.tokens: "", parts.weight: None, parts.saved: ""}

    def _large(self, image_set: ImageSet, picture: Picture) -> str:
        """The picture with its cut, as the settings of the set's draft would cut it."""
        tree = training.opened(self.ui.services, image_set)
        upscale = load.get(tree, "images.upscale") is not False
        step = int(load.get(tree, "images.bucket_resolution_step") or 64)
        side, formats = training.side(self.ui.services, tree), training.formats(tree)
        return images.large(self.ui, image_set, picture, side, step, upscale, formats)

    def _tokens(self, image_set: ImageSet, caption: str) -> str:
        """How long a caption is, as the settings of the set's draft would read it."""
        tree = training.opened(self.ui.services, image_set)
        limit = load.get(tree, "captions.max_token_length")
        text = captions.with_trigger(caption, str(load.get(tree, "captions.trigger") or ""))
        return images.tokens(self.ui, captions.estimate_tokens(text), limit if isinstance(limit, int) else 75)

    def _edit(self, values: Values) -> Callable[[str], str] | None:
        """The change of a caption that is asked for; None while there is no text."""
        bulk = self.parts.bulk
        way, text = values[bulk.way], values[bulk.text] or ""
        if not text.strip():
            return None
        if way == "add":
            return captions.adding(text, front=values[bulk.in_front])
        return captions.removing(text) if way == "remove" else captions.replacing(text, values[bulk.replacement] or "")

    def _discarded(self, image_set: ImageSet, picture_id: str, page: int) -> Answer:
        """Put the set into the trash, from where one press brings it back."""
        name, services = image_set.folder.name, self.ui.services
        if services.is_example(image_set):
            return self.show(name, picture_id, page, self.ui.t("page.images.example"))
        message = self.ui.t("page.images.trashed", name=image_set.meta_in(self.ui.lang).title)
        try:
            services.refuse_if_used(image_set.folder)
        except Problem as problem:
            return self.show(name, picture_id, page, problem.sentence(self.ui.lang))
        place = image_set.discard(services.home)
        return self._without_set(images.note(message, sets.restore(self.ui, place.name)))

    def _restored(self, place: str) -> Answer:
        """Bring a set back from the trash."""
        folder = self.ui.services.home.trash / "sets" / place
        if not is_name(place) or not folder.is_dir():
            return self.show(None, message=self.ui.t("page.images.not_in_trash"))
        image_set = restore_set(self.ui.services.home, folder)
        return self.show(image_set.folder.name, message=self.ui.t("page.images.restored"))

    def _following(self, image_set: ImageSet) -> Answer:
        """This page follows the jobs that run on the set."""
        answer: Answer = {}
        for panel in (self.parts.captions, self.parts.masks):
            job = panel.job.of(self.ui, image_set)
            if job is not None and not job.ended:
                answer |= {panel.timer: gr.update(active=True), panel.watched: id(job)}
        return answer

    def _folds(self) -> list[gr.Accordion]:
        return [self.parts.bulk.fold, self.parts.captions.fold, self.parts.masks.fold]

    def _own(self, set_name: str) -> ImageSet | None:
        """A set that a person may change: none of the examples."""
        image_set = self.ui.services.set(set_name)
        return None if image_set is None or self.ui.services.is_example(image_set) else image_set
