"""The Train page's HTML: the set in work, what a training will cost, the lines that follow the form.

Used by pages/train/handlers.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.forms import options, training
from app.ui.format import duration, esc, size
from app.ui.services import Ui
from app.views import sets
from trainer.config import load
from trainer.config.load import ConfigProblems, Tree
from trainer.config.options import help_text, label, option
from trainer.config.plan import draws
from trainer.config.ready import check_slider
from trainer.config.sections.slider import NEEDED
from trainer.core.problem import Problem
from trainer.hardware import memory
from trainer.hardware.doctor import plan_text
from trainer.images.set.image_set import ImageSet
from trainer.jobs.workers.forecaster import NoForecast

if TYPE_CHECKING:
    from trainer.bases.catalog import BaseFacts
    from trainer.config.train import TrainConfig

REAL_BASE = 1_000_000_000
"""Bytes on disk from which a base has its family's real size; the embedded one is far smaller."""


def about(ui: Ui, image_set: ImageSet | None, tree: Tree, note: str) -> dict[str, str]:
    """The left side by part: `head`, `drop` (the drop zone), `message`, `sheet` (the pictures), `findings` (which are looked
    for afterwards)."""
    note_html = f"<p class='t-said' role='status'>{esc(note)}</p>" if note else ""
    kind = load.get(tree, "run.kind") or "style"
    title = f"<h1>{esc(ui.t('page.train.title'))}</h1>"
    if draws(tree):
        lead = f"{title}<p class='a-lead'>{esc(ui.t('page.train.slider.lead'))}</p>"
        return {"head": lead, "drop": "", "message": note_html, "sheet": slider_steps(ui), "findings": ""}
    if image_set is None:
        lead = f"{title}<p class='a-lead'>{esc(ui.t('page.train.lead'))}</p>"
        choices = sets.choices(ui, ui.services.sets())
        return {"head": lead, "drop": sets.drop(ui, None, kind), "message": note_html, "sheet": choices, "findings": ""}
    pictures = image_set.pictures()
    links = [
        (ui.t("page.train.captions"), f'href="{esc(ui.href("images", set=image_set.folder.name))}"'),
        (ui.t("page.train.other"), sets.tell("choose", set="")),
    ]
    undo = sets.undo(ui) if note and image_set.undoable() else ""
    looking = f"<p class='a-quiet' role='status'>{esc(ui.t('page.train.looking'))}</p>" if pictures else ""
    return {
        "head": sets.heading(ui, image_set, len(pictures), links),
        "drop": "" if ui.services.is_example(image_set) else sets.drop(ui, image_set, kind),
        "message": f"<div class='t-told'>{note_html}{undo}</div>" if note_html else "",
        "sheet": sets.sheet(ui, image_set, pictures),
        "findings": looking,
    }


def slider_steps(ui: Ui) -> str:
    """What stands in the pictures' place for a slider: what to say, and why."""
    texts = [(label(option(name), ui.lang), help_text(option(name), ui.lang).replace("`", "")) for name in NEEDED]
    rows = "".join(f"<li><b>{esc(name)}</b><span>{esc(text)}</span></li>" for name, text in texts)
    return f"<ul class='t-slider'>{rows}</ul><p class='a-note'>{esc(ui.t('page.train.slider.how'))}</p>"


def lines(ui: Ui, image_set: ImageSet | None, tree: Tree) -> dict[str, str]:
    """What follows the form: `licence` of the base, the effective `rate`, `save_as` (the address of the settings as a file),
    and `costs`."""
    base = training.base_of(ui.services, tree)
    licence = about_base(ui, base, str(load.get(tree, "model.prediction_type") or "auto")) if base else ""
    name = image_set.folder.name if image_set else ""
    save = f"<a class='a-small' download href='/settings.toml?set={esc(name)}'>{esc(ui.t('page.train.toml.save'))}</a>"
    return {
        "licence": licence,
        "rate": options.effective_rate(ui, tree),
        "save_as": save,
        "cost": cost(ui, image_set, tree),
        "memory": smaller(ui, image_set, tree),
    }


def about_base(ui: Ui, base: BaseFacts, prediction: str = "auto") -> str:
    """What a base is (family, prediction type, size, version), and its licence. A hub base says so once it is fetched.
    `prediction` is the prediction type set by hand."""
    facts = ""
    if base.path is not None:
        zero = [ui.t("bases.zero_snr")] if base.zero_snr else []
        by_hand = [ui.t("bases.by_hand")] if prediction != "auto" else []
        warned = ""
        if base.stated and prediction not in ("auto", base.stated):
            types = {"stated": ui.t(f"bases.{base.stated}"), "chosen": ui.t(f"bases.{prediction}")}
            warned = f"<p class='a-warned'>{esc(ui.t('page.train.prediction_by_hand', **types))}</p>"
        base = base.with_prediction(prediction)
        traits = [base.family_name, ui.t(f"bases.{base.prediction}"), *by_hand, *zero, f"{base.resolution} px", base.version]
        facts = f"<p class='a-quiet' id='train-base'>{esc(' · '.join(traits))}</p>{warned}"
    return f"{facts}<p class='a-quiet'>{esc(base.licence_summary(ui.lang))}</p>"


def cost(ui: Ui, image_set: ImageSet | None, tree: Tree) -> str:
    """Steps, minutes as a range, megabytes; what of it is known."""
    if image_set is None and not draws(tree):
        return f"<p class='a-quiet'>{esc(ui.t('page.train.cost.none'))}</p>"
    if any(problem.field in NEEDED for problem in training.missing(image_set, tree)):
        return f"<p class='a-quiet'>{esc(ui.t('page.train.cost.none_slider'))}</p>"
    try:
        config = training.config_of(ui.services, image_set, tree)
        length = length_words(*training.length(config))
        check_slider(config)
    except (ConfigProblems, Problem):
        return f"<p class='a-quiet'>{esc(ui.t('page.train.cost.wrong'))}</p>"
    forecast = ui.services.jobs.forecast(config)
    if forecast is None:
        return f"<p class='a-quiet'>{esc(ui.t('page.train.cost.measuring', **length))}</p>"
    if isinstance(forecast, NoForecast):
        sizes = {"needed": f"{forecast.needed / 1e9:.1f}", "free": f"{forecast.free / 1e9:.1f}"}
        key = ("short" if forecast.needed else "killed") if forecast.short else "unknown"
        return f"<p class='a-warned'>{esc(ui.t(f'page.train.cost.{key}', **length, **sizes))}</p>"
    low, high = forecast.seconds * 0.9, forecast.seconds * 1.35
    sizes = {"file": size(forecast.file_bytes), "cache": size(forecast.cache_bytes)}
    key = "known_kept" if forecast.cache_bytes else "known"
    return f"<p>{esc(ui.t(f'page.train.cost.{key}', **length, time=span(ui, low, high), **sizes))}</p>"


def length_words(steps: int, epochs: float) -> dict[str, str]:
    """The parameters of a sentence about a training's length: whole epochs as a whole number, others with one decimal."""
    return {"steps": str(steps), "epochs": f"{epochs:.1f}".removesuffix(".0")}


def costs(ui: Ui, image_set: ImageSet | None) -> dict[str, str]:
    """`cost` and `memory` (settings that fit the card), looked at again while the trial is on."""
    tree = training.opened(ui.services, image_set)
    return {"cost": cost(ui, image_set, tree), "memory": smaller(ui, image_set, tree)}


def smaller(ui: Ui, image_set: ImageSet | None, tree: Tree) -> str:
    """Where the settings take more than is free on the card, or ran out of memory when they were tried: the quickest ones
    that fit, and a button for them."""
    base, free = training.base_of(ui.services, tree), ui.services.card_free()
    if base is None or base.family not in memory.counted():
        return ""
    try:
        config = training.config_of(ui.services, image_set, tree)
    except ConfigProblems:
        return ""
    side = training.side(ui.services, tree)
    now = memory.of_config(config, base.family, side)
    if not free or now.bytes <= free or base.size_bytes < REAL_BASE:
        return _tried(ui, config, base.family, side) if image_set else ""
    sizes = config.run.batch_size, config.run.gradient_accumulation
    plan, fit = memory.suggest(base.family, side, free, config.lora, *sizes, config.captions.endless)
    sizes = {"needed": f"{now.bytes / 1e9:.1f}", "free": f"{free / 1e9:.1f}", "size": f"{plan.bytes / 1e9:.1f}"}
    sentence = ui.t(f"page.train.memory.{'over' if fit else 'least'}", rung=plan_text(plan, ui.lang), **sizes)
    return _proposal(ui, sentence, plan)


def _tried(ui: Ui, config: TrainConfig, family: str, side: int) -> str:
    """The proposal where no counting foresaw it, but the trial of these settings ran out of memory."""
    tried = ui.services.jobs.forecast(config)
    if not isinstance(tried, NoForecast) or not tried.short:
        return ""
    plan = memory.cheaper_than(config, family, side, tried.free / tried.needed if tried.needed else 1.0)
    if plan is None:
        return f"<p class='a-note'>{esc(ui.t('page.train.memory.nothing'))}</p>"
    return _proposal(ui, ui.t("page.train.memory.tried", rung=plan_text(plan, ui.lang)), plan)


def _proposal(ui: Ui, sentence: str, plan: memory.MemoryPlan) -> str:
    button = f"<button type='button' class='a-small' {sets.tell('smaller', options=plan.options())}>"
    return f"<p class='a-note'>{esc(sentence)}</p>{button}{esc(ui.t('page.train.memory.use'))}</button>"


def span(ui: Ui, low: float, high: float) -> str:
    """`3 min – 5 min`, or one of them where they read the same."""
    a, b = duration(low, ui.t), duration(high, ui.t)
    return a if a == b else ui.t("ago.range", a=a, b=b)


def upload_result(ui: Ui, upload: dict[str, Any]) -> str:
    """What became of a drop, in sentences."""
    first = ui.t("page.train.arrived", count=int(upload.get("accepted", 0)))
    return " ".join([first, *(str(sentence) for sentence in upload.get("sentences", []))])
