"""Going on with a run whose set or base is another one since: by a person's choice, on the page and on the command line."""

from __future__ import annotations

import os
import signal

import pytest
from PIL import Image

from tests.helpers.jobs import QUICK, command, wait_for
from trainer.core import files
from trainer.core.problem import Problem
from trainer.images import provenance
from trainer.images.provenance import Sources
from trainer.jobs import foreground
from trainer.jobs.ledger.states import ENDED


@pytest.fixture
def stopped(jobs, config, plan, home, supervisor):
    """A run that ended with a checkpoint which notes what it learnt from; the supervisor rests."""
    plan(steps=5000, seconds=0.01)
    id_ = jobs.submit(config, "one")
    wait_for(lambda: jobs.row(id_).step >= 3)
    jobs.stop(id_)
    wait_for(lambda: jobs.row(id_).state == "stopped" and jobs.row(id_).pid is None)
    supervisor.stop()
    note(jobs, id_, Sources(config, home))
    return id_


def note(jobs, id_, sources) -> None:
    """Write into the checkpoints of the tiny engine what the real one writes."""
    for manifest in jobs.run_dir(id_).checkpoints.glob("*/manifest.json"):
        files.write_json(manifest, {**files.read_json(manifest), "sources": sources.kept()})


def test_an_unchanged_run_goes_on_without_a_question(jobs, stopped):
    assert jobs.resume(stopped).state == "queued"


def test_a_changed_set_is_asked_about_and_goes_on_by_choice(jobs, stopped, home):
    Image.new("RGB", (64, 64), (1, 2, 3)).save(home.datasets / "set" / "0002.png")
    with pytest.raises(Problem) as question:
        jobs.resume(stopped)
    assert question.value.code == "resume_set_changed" and "new: 0002.png (1)" in question.value.sentence("en")
    assert jobs.row(stopped).state == "stopped"
    assert jobs.resume(stopped, set_as_it_is=True).state == "queued"
    assert provenance.agreed(jobs.run_dir(stopped))


def test_another_base_is_refused_also_when_the_set_is_to_stay_as_it_is(jobs, stopped):
    for manifest in jobs.run_dir(stopped).checkpoints.glob("*/manifest.json"):
        data = files.read_json(manifest)
        for name, mark in data["sources"]["base"].items():
            if name.startswith("unet/") and "sample" in mark:
                mark["sample"] = "0" * 32
        files.write_json(manifest, data)
    for choice in (False, True):
        with pytest.raises(Problem) as refused:
            jobs.resume(stopped, set_as_it_is=choice)
        assert refused.value.code == "resume_base_changed"
    assert jobs.row(stopped).state == "stopped"


def test_a_run_requeued_after_a_crash_does_not_go_on_with_another_set_by_itself(jobs, config, plan, home, store, supervisor):
    plan(steps=5000, seconds=0.01, save=5, check=True)
    id_ = jobs.submit(config, "one")
    wait_for(lambda: provenance.kept_by(jobs.run_dir(id_)) is not None)
    Image.new("RGB", (64, 64), (1, 2, 3)).save(home.datasets / "set" / "0002.png")
    os.kill(jobs.row(id_).pid, signal.SIGKILL)
    wait_for(lambda: jobs.row(id_).state in ENDED and jobs.row(id_).pid is None)
    row = jobs.row(id_)
    assert (row.state, row.reason, row.requeues) == ("failed", "resume_set_changed", 1)
    assert "0002.png" in row.reason_text("en") and "増えた画像: 0002.png (1 枚)" in row.reason_text("ja")

    before = row.step
    plan(steps=before + 40, seconds=0.01, save=5, check=True)
    with pytest.raises(Problem):
        jobs.resume(id_)
    jobs.resume(id_, set_as_it_is=True)
    wait_for(lambda: jobs.row(id_).state == "succeeded")


def test_on_the_command_line_it_is_an_option(jobs, stopped, home, plan, config, capsys, monkeypatch):
    from trainer.commands import resume

    monkeypatch.setattr(foreground.resume, "__kwdefaults__", {"set_as_it_is": False, "timeouts": QUICK, "command": command})
    assert resume.main(["--home", str(home.root)]) == 0
    assert stopped in capsys.readouterr().out
    Image.new("RGB", (64, 64), (1, 2, 3)).save(home.datasets / "set" / "0002.png")
    assert resume.main([config.save.name, "--home", str(home.root)]) == 2
    output = capsys.readouterr().err
    assert "0002.png" in output and "--set-as-it-is" in output
    plan(steps=jobs.row(stopped).step + 5, seconds=0.01)
    assert resume.main([stopped, "--set-as-it-is", "--home", str(home.root)]) == 0
    assert jobs.row(stopped).state == "succeeded"
    with pytest.raises(Problem) as unknown:
        resume.main([stopped, "--home", str(home.root)])
    assert unknown.value.code == "resume_unknown"
