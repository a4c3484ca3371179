"""The face of jobs: what is refused before it begins, what a run will cost, and a run at the command line."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.jobs import QUICK, command, wait_for
from trainer.adapters import file as lora_file
from trainer.core import events, process
from trainer.core.problem import Problem
from trainer.core.texts import LANGUAGES, lookup
from trainer.jobs import foreground
from trainer.jobs.jobs import Jobs
from trainer.jobs.ledger.run_store import Store
from trainer.jobs.ledger.states import STATES
from trainer.jobs.workers import forecaster as forecast
from trainer.jobs.workers.forecaster import Forecaster, NoForecast


def changed(config, section, **values):
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


@pytest.mark.parametrize(
    ("section", "values", "code", "field"),
    [
        ("save", {"name": "  "}, "job_name_missing", "save.name"),
        ("rights", {"pictures_ok": False}, "job_rights_missing", "rights.pictures_ok"),
        ("images", {"folder": ""}, "job_no_pictures", "images.folder"),
        ("images", {"folder": "/no/such/folder"}, "job_no_pictures", "images.folder"),
        ("model", {"base": "no such base"}, None, "model.base"),
        ("lora", {"continue_from": "nowhere"}, "file_missing", "lora.continue_from"),
        ("preservation", {"regularization_folder": "/no/such/folder"}, "folder_missing", "preservation.regularization_folder"),
        (
            "preservation",
            {"regularization_folder": "~no-such-account/x"},
            "folder_missing",
            "preservation.regularization_folder",
        ),
        (
            "preservation",
            {"regularization_folder": str(Path(__file__).parent)},
            "no_pictures",
            "preservation.regularization_folder",
        ),
        ("samples", {"prompts": ("a cat --s 0",)}, "steps_range", "samples.prompts"),
        ("samples", {"prompts": ("a cat <lora:ink:1>",)}, "prompt_lora_here", "samples.prompts"),
        ("model", {"base": "~no-such-account/x"}, "base_missing", "model.base"),
        ("loss", {"masked": True}, "masks_none", "loss.masked"),
        ("images", {"subsets": ("/no/such/folder = 1",)}, "folder_missing", "images.subsets"),
    ],
)
def test_what_cannot_begin_is_refused_beside_its_field(jobs, config, section, values, code, field):
    with pytest.raises(Problem) as caught:
        jobs.submit(changed(config, section, **values), "a")
    assert caught.value.field == field and code in (None, caught.value.code)
    assert jobs.rows() == [] and list(jobs.home.runs.iterdir()) == []


def test_a_file_that_cannot_be_gone_on_from_is_refused_before_anything_is_loaded(jobs, config, tmp_path):
    place = ("text_encoder_2", "encoder.layers.0.self_attn.q_proj")
    layer = (np.ones((4, 1280), np.float32), np.ones((1280, 4), np.float32), 4.0)
    other = lora_file.write(tmp_path / "xl.safetensors", {place: layer}, {}, family="sdxl")
    pickled = tmp_path / "old.pt"
    pickled.write_bytes(b"\x80\x02")
    for file, code in ((other, "lora_other_family"), (pickled, "lora_pickle")):
        with pytest.raises(Problem) as caught:
            jobs.submit(changed(config, "lora", continue_from=str(file)))
        assert (caught.value.code, caught.value.field) == (code, "lora.continue_from")
    assert jobs.rows() == []


def test_one_mask_or_one_transparent_picture_is_enough_to_learn_by_masks(jobs, config, home):
    for name, mask in (("file", True), ("clear", False)):
        folder = home.datasets / name
        folder.mkdir()
        Image.new("RGB", (64, 64), "red").save(folder / "a.png")
        other = Image.new("RGB" if mask else "RGBA", (64, 64), "blue")
        if mask:
            Image.new("L", (64, 64), 255).save(folder / "b-masklabel.png")
        else:
            other.putalpha(100)
        other.save(folder / "b.png")
        options = changed(changed(config, "images", folder=str(folder)), "loss", masked=True)
        assert jobs.check(options) is None


def test_folders_below_an_empty_one_are_enough(jobs, config, home):
    folder = home.datasets / "project" / "10_cat"
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 64), "red").save(folder / "a.png")
    options = changed(config, "images", folder=str(folder.parent), subsets=("10_cat = 1",))
    assert jobs.check(options) is None


def test_an_empty_folder_is_no_set(jobs, config, home):
    (home.datasets / "empty").mkdir()
    with pytest.raises(Problem) as caught:
        jobs.submit(changed(config, "images", folder=str(home.datasets / "empty")))
    assert caught.value.code == "job_no_pictures"


def test_a_nearly_full_disk_is_told_before_the_start(jobs, config, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12, 10**6))
    with pytest.raises(Problem) as caught:
        jobs.submit(config)
    assert caught.value.code == "job_disk_short" and "600 MB" in caught.value.sentence("en")


def test_an_unknown_run_is_answered_with_a_sentence(jobs):
    for ask in (jobs.row, jobs.follow, jobs.pause, jobs.resume, jobs.stop, jobs.save_now, jobs.sample_now, jobs.delete):
        with pytest.raises(Problem) as caught:
            ask("none")
        assert caught.value.code == "job_unknown"


def test_every_state_and_reason_has_words_in_both_languages():
    trainer = Path(__file__).parents[3] / "trainer"
    source = "".join(p.read_text("utf-8") for p in (*(trainer / "jobs").rglob("*.py"), trainer / "config" / "ready.py"))
    for language in LANGUAGES:
        assert all(lookup(f"states.{state}", language) for state in STATES)
        for code in ("disk", "killed", "crashed", "command_gone", "goes_on_by_itself", "no_heartbeat", "no_step"):
            assert code in source and lookup(f"notes_jobs.{code}", language)
        for code in [k for k in lookup("problems", language) if k.startswith("job_")]:
            assert f'"{code}"' in source


MEASURE = """
import json, sys, time
from pathlib import Path
home = Path({home!r})
with open(home / "measured.txt", "a") as f: f.write("x")
config = json.loads(Path(sys.argv[1]).read_text())
time.sleep({seconds})
print("a library says hello")
print(json.dumps({{"seconds_per_step": 0.5, "steps": config["run"]["steps"], "seconds": 10, "file_bytes": 1000,
                   "peak_bytes": 5, "load_seconds": 1, "encode_seconds": 2, "cache_bytes": 3}}))
"""


@pytest.fixture
def forecaster(home, store):
    forecasters = []

    def make(seconds=0.0, code=MEASURE):
        program = code.format(home=str(home.root), seconds=seconds)
        forecasters.append(Forecaster(home, store, lambda file, _: [sys.executable, "-c", program, str(file)]))
        return forecasters[-1]

    yield make
    for forecaster_ in forecasters:
        forecaster_.cancel()


def measured(home):
    file = home.root / "measured.txt"
    return len(file.read_text()) if file.exists() else 0


def test_a_forecast_is_measured_once_and_remembered(home, forecaster, config):
    ask, config = forecaster(), changed(config, "run", steps=40)
    assert ask.get(config) is None
    wait_for(lambda: ask.get(config) is not None)
    forecast_ = ask.get(config)
    assert (forecast_.seconds_per_step, forecast_.steps, forecast_.file_bytes) == (0.5, 40, 1000)
    assert forecaster().get(config) == forecast_ and measured(home) == 1
    assert ask.get(changed(config, "save", name="another")) == forecast_
    named = changed(config, "captions", trigger="zibbo")
    assert ask.key(named) == ask.key(changed(config, "captions", trigger="other")) != ask.key(config)
    assert ask.get(changed(config, "lora", rank=4)) is None


def test_other_settings_replace_the_measurement_that_is_on(home, forecaster, config):
    ask = forecaster(seconds=1.0)
    for rank in (1, 2, 3):
        assert ask.get(changed(config, "run", steps=rank)) is None
    last = changed(config, "run", steps=3)
    wait_for(lambda: ask.get(last) is not None)
    assert ask.get(last).steps == 3 and measured(home) <= 3
    wait_for(lambda: not ask.measuring())


def test_a_run_ends_the_measurement(home, store, forecaster, config):
    ask = forecaster(seconds=30)
    ask.get(config)
    wait_for(lambda: measured(home) == 1)
    store.start_next(store.create(config, "a"))
    wait_for(lambda: not ask.measuring())
    assert ask.get(config) is None and not ask.measuring() and measured(home) == 1


def test_a_measurement_that_fails_is_not_tried_for_ever(home, forecaster, config):
    ask = forecaster(code="raise SystemExit(1)")
    ask.get(config)
    wait_for(lambda: not ask.measuring())
    assert ask.get(config) == NoForecast() and not ask.measuring()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('hello'); print('{{\"needed\": 9000000000, \"free\": 4000000000}}')", NoForecast(True, 9 * 10**9, 4 * 10**9)),
        ("import os; os.kill(os.getpid(), 9)", NoForecast(True)),
    ],
)
def test_a_measurement_that_runs_out_of_memory_says_so_and_is_tried_again_later(forecaster, config, monkeypatch, code, reason):
    ask = forecaster(code=code)
    ask.get(config)
    wait_for(lambda: not ask.measuring())
    assert ask.get(config) == reason and not ask.measuring()
    monkeypatch.setattr(forecast, "AGAIN", 0.0)
    assert ask.get(config) is None and ask.measuring()


def test_a_run_at_the_command_line_shows_lines_and_ends_with_zero(home, config, plan):
    plan(steps=20)
    out, shown = io.StringIO(), []
    lines = foreground.ProgressPrinter(out, every=0.0)

    def show(event):
        shown.append(event)
        lines(event)

    status = foreground.run(config, home, show, timeouts=QUICK, command=command)
    assert status == 0
    assert out.getvalue().splitlines()[-1] == f"Finished: {home.loras / 'red.safetensors'}"
    assert "Step 20 of 20" in out.getvalue()
    assert [e.step for e in shown if isinstance(e, events.Step)] == list(range(1, 21))
    store = Store(home.database)
    assert store.list()[0].state == "succeeded" and store.list()[0].runner_pid == os.getpid()
    store.close()


def command_line(home, config):
    code = f"""
import sys, json
sys.path[:0] = {sys.path!r}
from tests.helpers.jobs import QUICK, command
from trainer.config.load import build
from trainer.core.home import Home
from trainer.jobs import foreground
config = build(json.loads({json.dumps(config.model_dump_json())}))
sys.exit(foreground.run(config, Home.find({str(home.root)!r}), foreground.ProgressPrinter(), timeouts=QUICK, command=command))
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_ctrl_c_at_the_command_line_stops_and_keeps(home, store, config, plan):
    plan(steps=1000)
    run = command_line(home, config)
    wait_for(lambda: store.list() and store.list()[0].step > 5)
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=20)
    row = store.list()[0]
    assert run.returncode == 130 and row.state == "stopped" and out.splitlines()[-1].startswith("Stopped")
    assert store.run_dir(row.id).checkpoint(row.step).is_dir()


def test_a_second_ctrl_c_ends_a_training_that_does_not_answer(home, store, config, plan):
    plan(steps=1000, fault="gate")
    run = command_line(home, config)
    wait_for(lambda: store.list() and store.list()[0].step == 4, 60)
    row = store.list()[0]
    run.send_signal(signal.SIGINT)
    wait_for(lambda: store.get(row.id).state == "stopping", 60)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode == 130 and not process.alive(row.pid, row.birth, row.boot)


def test_one_command_after_another_without_a_page(home, store, config, plan):
    plan(steps=5)
    for number in range(2):
        run = command_line(home, config)
        out, _ = run.communicate(timeout=40)
        assert run.returncode == 0, out
        row = store.list()[0]
        assert row.state == "succeeded" and row.pid is None and len(store.list()) == number + 1


def test_a_command_takes_the_device_from_a_process_that_died_with_its_command(home, store, config, plan):
    plan(steps=1000)
    first = command_line(home, config)
    wait_for(lambda: store.list() and store.list()[0].step > 5)
    row = store.list()[0]
    first.kill()
    first.communicate()
    os.kill(row.pid, signal.SIGKILL)
    wait_for(lambda: not process.alive(row.pid, row.birth, row.boot))
    plan(steps=5)
    second = command_line(home, config)
    out, _ = second.communicate(timeout=40)
    assert second.returncode == 0, out
    assert store.get(row.id).state in ("interrupted", "queued") and store.list()[0].state == "succeeded"


def test_a_command_waits_for_the_page_s_run_and_the_page_leaves_its_run_alone(home, store, jobs, supervisor, config, plan):
    plan(steps=10, fault="gate")
    first = jobs.submit(config, "a")
    wait_for(lambda: jobs.row(first).step == 4, 60)
    run = command_line(home, config)
    assert run.stdout and run.stdout.readline().startswith("Queued")
    second = store.list()[0].id
    assert len(store.list()) == 2 and jobs.row(second).position == 1
    (home.root / "gate").touch()
    run.communicate(timeout=120)
    assert run.returncode == 0
    assert jobs.row(first).state == "succeeded" and jobs.row(second).attempt == 1
    assert jobs.row(second).started >= jobs.row(first).ended


def test_a_command_that_is_gone_leaves_its_waiting_run_to_a_person(home, store, jobs, supervisor, config):
    id_ = jobs.submit(config, "a", runner=(os.getpid(), (process.birth(os.getpid()) or 0) - 9, process.boot_id()))
    wait_for(lambda: jobs.row(id_).state == "interrupted")
    assert "gone" in (jobs.row(id_).reason_text("en") or "")


def test_looking_at_a_long_run_is_cheap(jobs, config, monkeypatch):
    id_ = jobs.submit(config, "a")
    log = events.EventLog(jobs.run_dir(id_).events)
    with open(log.path, "a") as file:
        for number in range(1, 5001):
            file.write(events.Step(step=number, total=5001, loss=0.5).model_dump_json() + "\n")
    parse, parsed = events._parse, []
    monkeypatch.setattr(events, "_parse", lambda lines: parse(parsed.extend(lines) or lines))
    first = jobs.follow(id_)
    assert len(first.losses) == 400 and len(parsed) == 5000
    for _ in range(20):
        view = jobs.follow(id_)
    assert len(parsed) == 5000, "nothing is read twice"
    assert view.losses is first.losses, "and nothing thinned out again"
    log.write(events.Step(step=5001, total=5001, loss=0.5))
    assert jobs.follow(id_).losses[-1][0] == 5001 and len(parsed) == 5001


def test_many_threads_may_use_one_jobs_object(home, config):
    import threading

    jobs = Jobs(home)
    ids = [jobs.submit(config, str(n)) for n in range(3)]
    errors: list[Exception] = []

    def read():
        try:
            for _ in range(30):
                for id_ in ids:
                    jobs.follow(id_)
                jobs.rows()
                jobs.store.remember("x", 1)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    jobs.store.close()
