"""Images: one set on the light table. Captions are saved as typed, the cut is shown, many captions change at once.

Layout and wiring only; the set itself (trainer/images) does everything, its HTML is in app/views/{sets,images}.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import gradio as gr

from app.forms import training
from app.pages.address import asked
from app.pages.images import caption_writing, mask_making
from app.ui.format import esc
from app.ui.html import EVENT_DEFAULTS, TYPING_EVENTS, leave, markup, on_load, remembered, signal
from app.ui.html import problem as problem_line
from app.ui.services import Ui
from app.views import images, sets
from app.views import train as view
from trainer.config import load
from trainer.config.lines import MAX_WEIGHT
from trainer.core.files import is_name
from trainer.core.problem import Problem
from trainer.images.captions import captions
from trainer.images.geometry.masks import mask_file
from trainer.images.set.image_set import ImageSet, restore_set
from trainer.images.set.picture import Picture


def build(ui: Ui) -> None:
    """The set's own fields above, pictures in the middle, the chosen one beside them."""
    t = ui.t
    with gr.Column(elem_classes="a-page i-page"):
        head = markup(elem_id="images-head")
        with gr.Row(elem_classes="i-about", visible=False) as about:
            title = gr.Textbox(label=t("page.images.title_field"), max_lines=1, elem_id="images-title")
            trigger = gr.Textbox(label=t("page.images.trigger"), max_lines=1, elem_id="images-trigger")
        note = markup(elem_id="images-note")
        with gr.Row(elem_classes="i-table"):
            with gr.Column(scale=7, elem_classes="i-main"):
                grid = markup(elem_id="images-grid")
                with gr.Column(elem_id="field-images"):
                    drop = markup()
                found = markup(elem_id="images-findings")
            with gr.Column(scale=5, elem_classes="i-pane a-sheet", visible=False) as pane:
                large = markup(elem_id="images-large")
                caption = gr.Textbox(
                    label=t("page.images.caption"), info=t("page.images.caption_hint"), lines=3, max_lines=8,
                    elem_id="images-caption",
                )  # fmt: skip
                weight = gr.Number(
                    label=t("page.images.weight"), info=t("page.images.weight_hint"), step=0.1, elem_id="images-weight"
                )
                saved = markup(elem_id="images-saved")
                with gr.Row(elem_classes="i-ways"):
                    back = gr.Button(t("page.images.previous"), size="sm", elem_id="images-previous")
                    on = gr.Button(t("page.images.next"), size="sm", elem_id="images-next")
                    again = gr.Button(t("page.images.write.again"), size="sm", elem_id="images-again")
                    out = gr.Button(t("page.images.remove"), size="sm", elem_id="images-remove")
                unmask = gr.Button(t("page.images.mask.remove"), size="sm", visible=False, elem_id="images-unmask")
        writing = caption_writing.build(ui)
        making = mask_making.build(ui)
        with gr.Accordion(t("page.images.bulk.title"), open=False, visible=False, elem_classes="t-more") as bulk:
            ways = [(t(f"page.images.bulk.{way}"), way) for way in ("add", "remove", "replace")]
            way = gr.Radio(ways, value="add", show_label=False, elem_classes="a-segments", elem_id="bulk-way")
            with gr.Row(elem_classes="a-fields"):
                what = gr.Textbox(label=t("page.images.bulk.what"), max_lines=1, elem_id="bulk-what")
                by = gr.Textbox(label=t("page.images.bulk.by"), max_lines=1, visible=False, elem_id="bulk-by")
                front = gr.Checkbox(label=t("page.images.bulk.front"), elem_id="bulk-front")
            would = markup(elem_id="bulk-would")
            apply = gr.Button(t("page.images.bulk.apply"), size="sm", elem_id="bulk-apply")
        with gr.Row(elem_classes="a-action"):
            markup(f"<p class='a-quiet'>{esc(t('page.images.kept'))}</p>")
            go = gr.Button(t("page.images.train"), variant="primary", elem_id="images-train")
        gone = markup()
        current, chosen, leaf = remembered(), gr.State(""), gr.State(0)
        picture, page, focus = signal("picture"), signal("leaf"), signal("focus")
        choose, fix, dropped = signal("choose"), signal("fix"), signal("dropped")

    whole = [
        current,
        chosen,
        leaf,
        head,
        about,
        title,
        trigger,
        note,
        grid,
        drop,
        found,
        pane,
        large,
        caption,
        weight,
        saved,
        bulk,
        writing.whole,
        making.whole,
        unmask,
    ]

    def show(
        name: str | None, id_: str = "", number: int = 0, said: str = "", *, undo: bool = False, trashed: str = ""
    ) -> list[Any]:
        """Everything about a set and the picture chosen in it."""
        here = ui.services.set(name)
        if here is None:
            lead = f"<h1>{esc(t('page.images.title'))}</h1><p class='a-lead'>{esc(t('page.images.lead'))}</p>"
            hidden = gr.update(visible=False)
            told = _note(ui, said, back=sets.tell("fix", action="restore", place=trashed) if trashed else "")
            offer = sets.choices(ui, ui.services.sets(), 60, "page.images.sets")
            return ["", "", 0, lead, hidden, "", "", told, offer, sets.drop(ui, None, names=True), "", hidden, "", "", None, "",
                    hidden, hidden, hidden, hidden]  # fmt: skip
        pictures = here.pictures()
        p = next((one for one in pictures if one.id == id_), pictures[0] if pictures else None)
        number = pictures.index(p) // images.PER_PAGE if p and id_ else number
        meta = here.meta_in(ui.lang)
        own = not ui.services.is_example(here)
        links = [(t("page.images.other"), sets.tell("choose", set=""))]
        told = _note(ui, said, sets.undo(ui) if undo else "") + (images.readings(ui, here, pictures) if own else "")
        links += [(t("page.images.trash"), sets.tell("fix", action="discard"))] if own else []
        return [
            here.folder.name, p.id if p else "", number, sets.heading(ui, here, len(pictures), links),
            gr.update(visible=own), meta.title, meta.trigger, told,
            images.grid(ui, here, pictures, number, p.id if p else None), sets.drop(ui, here, names=True) if own else "",
            _findings(ui, here), gr.update(visible=p is not None), _large(ui, here, p),
            gr.update(value=p.caption if p else "", interactive=own), gr.update(value=p.weight if p else None, interactive=own),
            "" if own else f"<p class='a-note'>{esc(t('page.images.example'))}</p>",
            *[gr.update(visible=own and bool(pictures))] * 3, _unmasks(p, own),
        ]  # fmt: skip

    def opened(name: str, request: gr.Request) -> list[Any]:
        return show(asked(request, "set") or name, asked(request, "picture") or "")

    def heard(text: str) -> dict[str, Any]:
        try:
            said = json.loads(text or "{}")
        except json.JSONDecodeError:
            return {}
        return said if isinstance(said, dict) else {}

    def pick(name: str, number: int, text: str) -> list[Any]:
        return look(name, str(heard(text).get("id", "")), number)

    def look(name: str, id_: str, number: int) -> list[Any]:
        """Only what changes with another picture."""
        here = ui.services.set(name)
        pictures = here.pictures() if here else []
        p = next((one for one in pictures if one.id == id_), None)
        if here is None or p is None:
            return [id_, number, gr.skip(), "", "", None, "", gr.skip()]
        number = pictures.index(p) // images.PER_PAGE
        return [p.id, number, images.grid(ui, here, pictures, number, p.id), _large(ui, here, p), p.caption, p.weight, "",
                _unmasks(p, not ui.services.is_example(here))]  # fmt: skip

    def step(by_: int) -> Callable[[str, str, int], list[Any]]:
        def move(name: str, id_: str, number: int) -> list[Any]:
            here = ui.services.set(name)
            ids = [p.id for p in here.pictures()] if here else []
            return look(name, ids[(ids.index(id_) + by_) % len(ids)] if id_ in ids else id_, number)

        return move

    def typed(name: str, id_: str, text: str, number: int) -> list[Any]:
        """Save a caption while it is being typed."""
        here = ui.services.set(name)
        if here is None or not id_ or ui.services.is_example(here):
            return ["", gr.skip()]
        try:
            here.set_caption(id_, text)
        except Problem as problem:
            return [problem_line(problem.sentence(ui.lang)), gr.skip()]
        return [_saved(ui), images.grid(ui, here, here.pictures(), number, id_)]

    def weighed(name: str, id_: str, value: float | None) -> str:
        """Save how much the chosen picture counts; nothing while the field is empty."""
        here = ui.services.set(name)
        if here is None or not id_ or value is None or ui.services.is_example(here):
            return ""
        if not 0 < value <= MAX_WEIGHT:
            return problem_line(t("page.images.weight_bad", most=f"{MAX_WEIGHT:g}"))
        try:
            here.set_picture(id_, weight=value)
        except Problem as problem:
            return problem_line(problem.sentence(ui.lang))
        return _saved(ui)

    def named(name: str, text: str, word: str) -> None:
        here = ui.services.set(name)
        if here and not ui.services.is_example(here):
            here.update(title=text.strip() or here.meta.title, trigger=word.strip())

    def removed(name: str, id_: str, number: int) -> list[Any]:
        here = ui.services.set(name)
        if here is None or not id_:
            return show(name)
        if ui.services.is_example(here):
            return show(name, id_, number, t("page.images.example"))
        ids = [p.id for p in here.pictures()]
        after = (ids[ids.index(id_) + 1 :] or ids[: ids.index(id_)][-1:] or [""])[0] if id_ in ids else ""
        try:
            ui.services.refuse_if_used(here.folder)
            here.delete([id_])
        except Problem as problem:
            return show(name, "", number, problem.sentence(ui.lang))
        return show(name, after, number, t("page.train.removed", count=1), undo=True)

    def unmasked(name: str, id_: str, number: int) -> list[Any]:
        here = ui.services.set(name)
        if here is None or not id_ or ui.services.is_example(here):
            return show(name, id_, number)
        try:
            token = here.take_mask(id_)
        except Problem as problem:
            return show(name, id_, number, problem.sentence(ui.lang))
        return show(name, id_, number, t("page.images.mask.removed") if token else "", undo=token is not None)

    def mended(name: str, id_: str, number: int, text: str) -> list[Any]:
        here, said = ui.services.set(name), heard(text)
        if said.get("action") == "restore":
            return show(*_restored(ui, str(said.get("place", ""))))
        if here is None:
            return show(name)
        if said.get("action") == "discard":
            return discarded(here, id_, number)
        words = training.mend(ui, here, said)
        done_ = said.get("action") not in ("undo", "reading_right") and not ui.services.is_example(here)
        return show(name, id_, number, words, undo=done_)

    def discarded(here: ImageSet, id_: str, number: int) -> list[Any]:
        if ui.services.is_example(here):
            return show(here.folder.name, id_, number, t("page.images.example"))
        title_ = here.meta_in(ui.lang).title
        try:
            ui.services.refuse_if_used(here.folder)
        except Problem as problem:
            return show(here.folder.name, id_, number, problem.sentence(ui.lang))
        place = here.discard(ui.services.home)
        return show(None, said=t("page.images.trashed", name=title_), trashed=place.name)

    def aimed(name: str, number: int, text: str) -> list[Any]:
        here, said = ui.services.set(name), heard(text)
        if here is None or ui.services.is_example(here):
            return [gr.skip()] * 8
        try:
            here.set_picture(str(said.get("id", "")), focus=(float(said.get("x", 0.5)), float(said.get("y", 0.5))))
        except Problem:
            return [gr.skip()] * 8
        return look(name, str(said["id"]), number)

    def edit(way_: str, what_: str, by_: str, front_: bool) -> Callable[[str], str] | None:
        if not what_.strip():
            return None
        if way_ == "add":
            return captions.adding(what_, front=front_)
        return captions.removing(what_) if way_ == "remove" else captions.replacing(what_, by_)

    def tried(name: str, way_: str, what_: str, by_: str, front_: bool) -> list[Any]:
        here, change = ui.services.set(name), edit(way_, what_, by_, front_)
        lines = images.changes(ui, here.preview(change)) if here and change else ""
        return [lines, gr.update(visible=way_ == "replace"), gr.update(visible=way_ == "add")]

    def done(name: str, id_: str, number: int, way_: str, what_: str, by_: str, front_: bool) -> list[Any]:
        here, change = ui.services.set(name), edit(way_, what_, by_, front_)
        if here is None or change is None:
            return [*show(name, id_, number), problem_line(t("page.images.bulk.nothing"))]
        count = len(here.preview(change))
        here.edit(change)
        return [*show(name, id_, number, t("page.train.edited", count=count), undo=count > 0), ""]

    on_load(opened, [current], whole)
    mask_making.wire(ui, making, (current, chosen, leaf), whole, show)
    unmask.click(unmasked, [current, chosen, leaf], whole, **EVENT_DEFAULTS)
    caption_writing.wire(ui, writing, (current, chosen, leaf), whole, caption, again, show)
    chosen_parts = [chosen, leaf, grid, large, caption, weight, saved, unmask]
    picture.input(pick, [current, leaf, picture], chosen_parts, **EVENT_DEFAULTS)
    focus.input(aimed, [current, leaf, focus], chosen_parts, **EVENT_DEFAULTS)
    back.click(step(-1), [current, chosen, leaf], chosen_parts, **EVENT_DEFAULTS)
    on.click(step(1), [current, chosen, leaf], chosen_parts, **EVENT_DEFAULTS)
    page.input(
        lambda name, id_, text: show(name, "", int(heard(text).get("page", 0))),
        [current, chosen, page],
        whole,
        **EVENT_DEFAULTS,
    )
    caption.input(typed, [current, chosen, caption, leaf], [saved, grid], **TYPING_EVENTS)
    weight.input(weighed, [current, chosen, weight], [saved], **TYPING_EVENTS)
    gr.on([title.input, trigger.input], named, [current, title, trigger], None, **TYPING_EVENTS)
    out.click(removed, [current, chosen, leaf], whole, **EVENT_DEFAULTS)
    fix.input(mended, [current, chosen, leaf, fix], whole, **EVENT_DEFAULTS)
    choose.input(lambda text: show(heard(text).get("set")), [choose], whole, **EVENT_DEFAULTS)
    dropped.input(lambda name, text: show(heard(text).get("set") or name, said=view.told(ui, heard(text))),
                  [current, dropped], whole, **EVENT_DEFAULTS)  # fmt: skip
    asked_for = [way, what, by, front]
    gr.on([one.input for one in asked_for], tried, [current, *asked_for], [would, by, front], **TYPING_EVENTS)
    apply.click(done, [current, chosen, leaf, *asked_for], [*whole, would], **EVENT_DEFAULTS)
    go.click(lambda name: leave(ui.href("train", set=name or None)), [current], [gone], **EVENT_DEFAULTS)


def _large(ui: Ui, here: ImageSet, p: Picture | None) -> str:
    """The chosen picture with its cut, as the settings of the set's draft would cut it."""
    if p is None:
        return ""
    tree = training.opened(ui.services, here)
    upscale = load.get(tree, "images.upscale")
    step = load.get(tree, "images.bucket_resolution_step") or 64
    return images.large(ui, here, p, training.side(ui.services, tree), int(step), upscale is not False, training.formats(tree))


def _unmasks(p: Picture | None, own: bool) -> Any:
    """The button that takes the chosen picture's mask away, where there is a mask file."""
    return gr.update(visible=own and p is not None and mask_file(p).is_file())


def _findings(ui: Ui, here: ImageSet) -> str:
    return sets.report(ui, here, training.report(ui.services, here))


def _saved(ui: Ui) -> str:
    words = ui.t("page.images.saved", clock=f"{datetime.now():%H:%M}")
    return f"<p class='i-saved' role='status'>{esc(words)}</p>"


def _restored(ui: Ui, place: str) -> tuple[str | None, str, int, str]:
    """Bring a set back from the trash: what to show then."""
    lies = ui.services.home.trash / "sets" / place
    if not is_name(place) or not lies.is_dir():
        return None, "", 0, ui.t("page.images.not_in_trash")
    return restore_set(ui.services.home, lies).folder.name, "", 0, ui.t("page.images.restored")


def _note(ui: Ui, said: str, button: str = "", *, back: str = "") -> str:
    """What was done, with the button that takes it back; `back` are the attributes of the one that brings a set back."""
    if not said:
        return ""
    if back:
        button = f'<button type="button" class="a-small" {back}>{esc(ui.t("page.runs.undo"))}</button>'
    return f"<div class='t-told'><p class='t-said' role='status'>{esc(said)}</p>{button}</div>"
