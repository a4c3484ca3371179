"""What is shown of a run: read on from where the last look ended, half lines left, losses smoothed and thinned out."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.core import events
from trainer.core.run_dir import RunDir
from trainer.jobs.run_reader import POINTS, RunReader, downsample, log_tail
from trainer.jobs.trainer.progress import ExponentialMean, Progress


@pytest.fixture
def run(tmp_path):
    run_ = RunDir(tmp_path / "20260101-000000-abcdef")
    run_.path.mkdir()
    return run_


NO_ROW: Any = None
"""What is read from a run folder needs no row."""


def step(number, loss: float | None = 1.0, total=100, seconds=0.1):
    return events.Step(step=number, total=total, loss=loss, seconds=seconds)


def test_half_a_line_is_left_for_the_next_look(run):
    line = step(1).model_dump_json().encode() + b"\n"
    reader = RunReader(run)
    run.events.write_bytes(line + line[:20])
    assert len(reader.read(NO_ROW).losses) == 1
    assert len(reader.read(NO_ROW).losses) == 1
    with open(run.events, "ab") as file:
        file.write(line.replace(b'"step":1', b'"step":2')[20:])
    assert [p[0] for p in reader.read(NO_ROW).losses] == [1, 2]


def test_a_broken_line_costs_only_itself(run):
    run.events.write_bytes(b"\xff\xfe{not json\n" + step(4).model_dump_json().encode() + b"\n{}\n")
    assert [p[0] for p in RunReader(run).read(NO_ROW).losses] == [4]


def test_steps_made_again_after_a_resume_count_once(run):
    log = events.EventLog(run.events)
    for number in range(1, 16):
        log.write(step(number, 1.0))
    log.write(events.Started(step=10, total=100, attempt=2, pid=1, facts={"device": "cpu"}))
    for number in range(11, 21):
        log.write(step(number, 2.0))
    view = RunReader(run).read(NO_ROW)
    assert [p[0] for p in view.losses] == list(range(1, 21))
    assert [p[1] for p in view.losses] == [1.0] * 10 + [2.0] * 10 and view.facts == {"device": "cpu"}
    log.write(step(16, 3.0))  # back to a checkpoint within one attempt
    assert [p[0] for p in RunReader(run).read(NO_ROW).losses] == list(range(1, 17))


def test_skipped_steps_have_no_point_and_samples_and_notes_are_kept_once(run):
    log = events.EventLog(run.events)
    log.write(step(1, None))
    log.write(step(2, 0.5))
    for _ in range(2):
        log.write(events.Sample(step=2, index=0, prompt="a", file="samples/000002_p0.png"))
        log.write(events.Note(code="step_skipped", params={"count": 1}))
    log.write(events.Saved(step=2, file="checkpoints/000002/lora.safetensors"))
    log.write(events.Stage(name="saving"))
    view = RunReader(run).read(NO_ROW)
    assert [p[0] for p in view.losses] == [2] and len(view.samples) == 1 and len(view.saved) == 1
    assert view.note_texts("en") == ["1 steps were skipped because of NaN or infinite values."]
    assert view.stage and view.stage.name == "saving"


def test_judgements_are_kept_and_those_made_again_count_once(run):
    log = events.EventLog(run.events)
    for number in (1, 2, 3):
        log.write(step(number))
        log.write(events.Validated(step=number, loss=0.5, base=1.0, ratio=0.5, best=1))
    log.write(events.Started(step=2, total=100, attempt=2, pid=1))
    log.write(step(3))
    log.write(events.Validated(step=3, loss=0.4, base=1.0, ratio=0.4, best=3))
    assert [(event.step, event.ratio) for event in RunReader(run).read(NO_ROW).judged] == [(1, 0.5), (2, 0.5), (3, 0.4)]


def test_ten_thousand_losses_become_four_hundred_points_that_keep_the_mean():
    losses = [(n, float(n % 7), float(n)) for n in range(1, 10_001)]
    line = downsample(losses)
    assert line[-1][2] == 10_000.0
    assert len(line) == POINTS and line[-1][0] == 10_000 and line[0][0] == 25
    assert sum(p[1] for p in line) / POINTS == pytest.approx(sum(loss for _, loss, _ in losses) / 10_000, rel=1e-9)
    assert [p[0] for p in line] == sorted({p[0] for p in line})


def test_the_smoothed_loss_begins_at_the_first_and_stays_within_what_was_seen():
    smooth = ExponentialMean()
    assert smooth.add(3.0) == pytest.approx(3.0)
    values = [smooth.add(v) for v in (1.0, 5.0, 2.0)]
    assert all(1.0 < v < 5.0 for v in values)


def test_the_log_hides_tokens_and_shows_a_progress_bar_once(run):
    bar = "\r".join(f"loading {n}%" for n in range(101))
    run.log.write_text("x" * 9000 + "\nuse hf_AbCdEfGhIjKl now\n" + bar + "\nend\n")
    tail = log_tail(run.log)
    assert tail.splitlines() == ["use hf_… now", "loading 100%", "end"]
    assert log_tail(run.path / "none.txt") == ""


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_time_left_is_a_range_around_the_median_of_pure_steps_with_saves_on_top():
    clock = Clock()
    progress = Progress(clock)
    progress.update(events.Started(step=0, total=100, attempt=1, pid=1))
    for number in range(1, 21):
        clock.now += 2.0 + (10.0 if number % 10 == 0 else 0.0)  # a save of 10 s before every tenth
        progress.update(step(number, seconds=30.0 if number == 5 else 2.0))  # one slow step does not move the median
    summary = progress.summary()
    assert summary["rate"] == 2.0 and summary["step"] == 20
    assert summary["eta_low"] == pytest.approx(80 * 2.0 * 0.95)
    assert summary["eta_high"] >= 80 * 2.0 * 1.05
    clock.now += 7
    assert progress.summary()["quiet"] == pytest.approx(7.0)


def test_saves_and_samples_lengthen_only_the_far_end_of_the_range():
    clock = Clock()
    progress = Progress(clock)
    for number in range(1, 21):
        clock.now += 2.0 + (10.0 if number % 10 == 0 else 0.0)
        progress.update(step(number, seconds=2.0))
    summary = progress.summary()
    besides = 20.0 / 19
    assert summary["eta_low"] == pytest.approx(80 * 1.9) and summary["eta_high"] == pytest.approx(80 * (2.1 + besides))


def test_waiting_and_pausing_do_not_count_as_work():
    clock = Clock()
    progress = Progress(clock)
    for number in range(1, 11):
        clock.now += 2.0
        progress.update(step(number, seconds=2.0))
        clock.now += 3600
        progress.update(events.Stage(name="waiting") if number % 2 else events.Paused(step=number))
    assert progress.summary()["eta_high"] == pytest.approx(90 * 2.1)


def test_losses_told_in_batches_do_not_look_like_pauses():
    clock = Clock()
    progress = Progress(clock)
    for batch in range(5):
        clock.now += 20.0
        for number in range(1, 11):
            progress.update(step(batch * 10 + number, seconds=2.0))
    assert progress.summary()["eta_high"] == pytest.approx(50 * 2.1)
