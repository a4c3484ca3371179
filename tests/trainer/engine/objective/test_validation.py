"""Judging on held-out pictures: which, how, what is suggested, when a run ends by itself; boards beside it."""

from __future__ import annotations

import sys

import pytest

from trainer.config.sections.learning import Validation
from trainer.core import events
from trainer.core.problem import Problem
from trainer.engine.data import batches as data
from trainer.engine.objective import validation
from trainer.engine.objective.validation import Judgement, Validator
from trainer.engine.output import checkpoint


def test_pictures_are_kept_back_by_share_or_by_name(bench):
    def parted(*words):
        config = bench.config(*words)
        return validation.held_out(config, data.load_examples(config, 64))

    held, rest = parted("validation.split=0.34", "images.extra_resolutions=128")
    assert len(held) == 4 and len(rest) == 8  # two of six pictures, in both sizes
    assert not {i.picture.id for i in held} & {i.picture.id for i in rest}
    assert parted("validation.split=0.34", "images.extra_resolutions=128")[0] == held
    assert [i.picture.id for i in parted("validation.images=0002.png\n0004")[0]] == ["0002", "0004"]
    assert parted()[0] == []
    for words, code in (
        (["validation.images=nobody"], "validation_name"),
        (["validation.images=" + "\n".join(f"{i:04d}" for i in range(6))], "validation_all"),
    ):
        with pytest.raises(Problem) as problem:
            parted(*words)
        assert (problem.value.code, problem.value.field) == (code, "validation.images")


def judge(*ratios: float, patience: int = 0) -> Validator:
    made = Validator(Validation(every=10, patience=patience), [], None, 100, lambda event: None)  # type: ignore[arg-type]
    made.seen = [Judgement(10 * i, ratio) for i, ratio in enumerate(ratios, 1)]
    return made


def test_the_best_checkpoint_is_suggested_with_its_reason():
    kept = [10, 20, 30, 40]
    note = judge(0.9, 0.8, 0.85, 0.88).suggest(kept)
    assert (
        note is not None
        and note.code == "judged_earlier"
        and note.params == {"step": 20, "percent": "20.0", "last": 40, "last_percent": "12.0"}
    )
    note = judge(0.9, 0.8, 0.85, 0.88).suggest([10, 30, 40])
    assert note is not None and note.params["step"] == 30
    note = judge(0.9, 0.7, 0.701).suggest(kept)
    assert note is not None and note.code == "judged_last"
    note = judge(1.1, 1.2).suggest(kept)
    assert note is not None and note.code == "judged_none"
    assert judge().suggest(kept) is None


def test_a_plateau_is_so_many_judgements_in_turn_without_a_better_one():
    assert not judge(0.9, 0.8, 0.85, patience=2).settled()
    assert judge(0.9, 0.8, 0.85, 0.81, patience=2).settled()
    assert not judge(0.9, 0.8, 0.85, 0.81).settled()
    asked = judge(0.9, 0.8, 0.85, patience=2)
    asked.seen.append(Judgement(33, 0.9))  # a checkpoint asked for in between
    assert not asked.settled()


def test_a_run_is_judged_says_which_checkpoint_is_best_and_goes_on_the_same(bench, monkeypatch):
    """Also: the boards get the numbers, and one that is missing is told and left out."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    words = (
        "run.steps=8",
        "save.every=4",
        "validation.split=0.2",
        "validation.every=2",
        "save.tensorboard=true",
        "run.ema_decay=0.5",
        "optimizer.name=lion",
        "optimizer.lr=0.003",
        "save.wandb=atelier",
    )
    bench.train(bench.config(*words), "straight")
    told = [(e.step, e.ratio) for e in bench.events if isinstance(e, events.Validated)]
    assert [step for step, _ in told] == [2, 4, 6, 8]
    assert all(0.2 < ratio < 5 for _, ratio in told) and len({ratio for _, ratio in told}) == 4
    notes = [e.code for e in bench.events if isinstance(e, events.Note)]
    assert any(code.startswith("judged_") for code in notes)
    assert notes.count("board_missing") == 1
    assert next(e for e in bench.events if isinstance(e, events.Started)).facts["held_out"] == 1
    file = next((bench.run("straight").path / "tensorboard").glob("events.out.tfevents.*"))
    data = file.read_bytes()
    assert data.count(b"loss/train") == 8 and data.count(b"loss/against_base") == 4 and b"rate/unet" in data

    def stop(event, run):
        if isinstance(event, events.Step) and event.step == 5:
            run.ask("stop")

    assert bench.train(bench.config(*words), "broken", stop) is None
    first = [(e.step, e.ratio) for e in bench.events if isinstance(e, events.Validated)]
    bench.train(bench.config(*words), "broken")
    again = first + [(e.step, e.ratio) for e in bench.events if isinstance(e, events.Validated)]
    assert [one for one in again if one[0] != 5] == told
    one, two = (checkpoint.newest(bench.run(name), bench.config(*words), print) for name in ("straight", "broken"))
    assert one and two and all(bool((one.adapter[key] == two.adapter[key]).all()) for key in one.adapter)


def test_a_run_that_no_longer_gets_better_ends_by_itself(bench):
    bench.train(
        bench.config(
            "run.steps=40",
            "validation.split=0.2",
            "validation.every=1",
            "validation.patience=2",
            "optimizer.lr=1",
            "schedule.name=constant",
            "schedule.warmup=0",
            "save.every=100",
        )
    )
    notes = {e.code: e.params for e in bench.events if isinstance(e, events.Note)}
    ended = bench.events[-1]
    assert isinstance(ended, events.Finished) and ended.step < 40
    assert notes["settled"]["step"] == ended.step and notes["settled"]["best"] == ended.step - 2
