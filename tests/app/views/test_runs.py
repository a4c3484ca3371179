"""What the Runs page says of a run: words, numbers, pictures, buttons, from real rows of a real ledger."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest

from app.views import runs
from tests.helpers import studio
from trainer.core import events
from trainer.core.home import Home
from trainer.core.texts import LANGUAGES, t
from trainer.jobs.jobs import Jobs
from trainer.jobs.ledger.states import LEGAL, STATES, State

en, ja = partial(t, language="en"), partial(t, language="ja")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.find(tmp_path).create()


def href(page: str, **params: str) -> str:
    return f"/en/{page}?" + "&".join(f"{key}={value}" for key, value in params.items())


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_words_a_colour_and_only_buttons_that_can_work(state: State) -> None:
    for lang in LANGUAGES:
        assert not t(f"page.runs.state.{state}", language=lang).startswith("page.")
    assert runs.TONES[state] in ("quiet", "wait", "work", "good", "bad")
    goes = {"pause": {"pausing"}, "resume": {"running", "queued"}, "stop": {"stopping", "stopped"}}
    for what, targets in goes.items():
        if what in runs.actions(state):
            assert targets & LEGAL[state], f"{what} leads nowhere from {state}"
    assert ("delete" in runs.actions(state)) == (state in ("draft", "stopped", "succeeded", "failed", "interrupted"))


def test_a_running_training_says_how_far_how_long_and_how_fast(home: Home) -> None:
    id_ = studio.run(home, "Ink", "running", 20, 40, eta_low=190.0, eta_high=290.0, stage="sampling", stage_done=1, stage_of=2)
    said = runs.head(Jobs(home).row(id_), en, "en")
    for words in ("20 of 40", "about 3–5 min left", "2.0 steps a second", "900 MB", "Drawing test pictures, 1 of 2"):
        assert words in said
    assert 'aria-valuenow="20"' in said and "width:50.00%" in said


def test_a_queue_tells_the_place_and_what_goes_first(home: Home) -> None:
    studio.run(home, "First", "running")
    id_ = studio.run(home, "Second", "queued", 0)
    row = Jobs(home).row(id_)
    assert runs.state_words(row, en) == "waiting, no. 1 in line" and runs.state_words(row, ja) == "順番待ち(1 番目)"
    assert "Starts by itself when “First” is done." in runs.head(row, en, "en", ahead="First")


def test_a_failed_run_says_why_and_what_to_do(home: Home) -> None:
    id_ = studio.run(home, "Ink", "failed", 20, 40, why="nan_stop", params='{"step": 20}')
    row = Jobs(home).row(id_)
    said = runs.head(row, en, "en")
    assert "NaN or infinite" in said and "learning rate" in said and "Resume goes on from there" in said
    assert "学習率" in runs.head(row, ja, "ja") and "resume" in runs.actions(row.state)


def test_an_interrupted_run_without_a_reason_still_gets_a_sentence(home: Home) -> None:
    said = runs.head(Jobs(home).row(studio.run(home, "Ink", "interrupted", 0)), en, "en")
    assert "cut off" in said and "begins again from the start" in said


def test_pictures_stand_in_rows_by_prompt_and_columns_by_step(home: Home) -> None:
    view = Jobs(home).follow(studio.run(home, "Ink"))
    said = runs.timeline(view.samples, lambda name: f"/files/{name}", en)
    assert said.count('class="r-row"') == 2 and said.count("<img") == 6
    assert re.findall(r"<figcaption>([^<]+)<", said) == ["before", "step 20", "step 40"] * 2
    assert "<b>red" not in said and "&lt;b&gt;red" in said


def test_loss_notes_and_log_of_a_real_run(home: Home) -> None:
    view = Jobs(home).follow(studio.run(home, "Ink"))
    chart = runs.loss(view.losses, 40, en)
    assert 'data-points="40"' in chart and "Judge by the pictures" in chart
    assert f'data-last="{view.losses[-1][2]:.5g}"' in chart
    assert "2 captions are longer than 75 tokens" in runs.notes(view.note_texts("en"), en)
    assert "<script>" not in runs.log(view.log_tail, en) and "&lt;script&gt;" in runs.log(view.log_tail, en)


def test_pictures_kept_back_speak_in_words() -> None:
    def judged(*ratios: float) -> list[events.Validated]:
        return [events.Validated(step=10 * i, loss=r, base=1.0, ratio=r, best=0) for i, r in enumerate(ratios, 1)]

    losses = [(1, 1.0, 1.0), (2, 1.0, 1.0)]
    assert "12.5 % closer" in (said := runs.loss(losses, 40, en, judged(0.9, 0.875))) and "best so far." in said
    said = runs.loss(losses, 40, en, judged(0.8, 1.1))
    assert "10.0 % further" in said and "at step 10" in said
    assert "ステップ 10" in runs.loss(losses, 40, ja, judged(0.8, 1.1))
    assert "Validation loss" not in runs.loss(losses, 40, en)


def test_the_list_is_newest_first_and_marks_the_chosen_one(home: Home) -> None:
    first, second = studio.run(home, "Old <i>one</i>"), studio.run(home, "New one", "running", 20)
    said = runs.listing(Jobs(home).rows(), first, {first: "/files/a.png"}, en, href)
    assert said.index("New one") < said.index("Old &lt;i&gt;one") and said.count("aria-current") == 1
    assert f"/en/runs?run={second}" in said and 'src="/files/a.png"' in said
    assert said.count('role="progressbar"') == 1
