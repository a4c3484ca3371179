"""Test pictures of a run that was killed while it drew them: what is missing is drawn when it goes on."""

from __future__ import annotations

import pytest

from trainer.core import events, files
from trainer.library.library import Library


def config_of(bench):
    """Six steps, saved and drawn every three, two pictures each."""
    samples = {"prompts": ["a blob", "a red blob"], "every": 3, "steps": 1}
    return bench.config(samples=samples, run={"steps": 6}, save={"every": 3, "name": "blob"})


class Killed(BaseException):
    """Stands for the end of the process: nothing in the engine catches it."""


def killing(step, index):
    """Ends the training when the picture `index` of `step` has been told of."""

    def tell(event, run):
        events.EventLog(run.events).write(event)
        if isinstance(event, events.Sample) and (event.step, event.index) == (step, index):
            raise Killed

    return tell


def writing(event, run):
    events.EventLog(run.events).write(event)


def drawn(run):
    """The pictures on disk, by name."""
    return {path.name: path.read_bytes() for path in run.samples.iterdir()}


def told(run):
    """The pictures a person is shown: those the events name."""
    return {(event.step, event.index) for event in events.read(run.events)[0] if isinstance(event, events.Sample)}


ALL = {(step, index) for step in (0, 3, 6) for index in (0, 1)}


@pytest.fixture(scope="module")
def straight(tmp_path_factory, tiny_base, picture_folder):
    """The pictures of a run nothing happened to."""
    import shutil

    from tests.helpers.training_home import Bench
    from trainer.core.home import Home

    root = tmp_path_factory.mktemp("straight")
    shutil.copytree(picture_folder, root / "set")
    bench = Bench(Home(root / "home").create(), tiny_base, root / "set")
    bench.train(config_of(bench))
    return drawn(bench.run())


@pytest.mark.parametrize(("step", "index"), [(0, 0), (3, 0), (3, 1), (6, 0)])
def test_pictures_a_kill_left_undrawn_are_drawn_when_the_run_goes_on(bench, straight, step, index):
    with pytest.raises(Killed):
        bench.train(config_of(bench), tell=killing(step, index))
    run = bench.run()
    assert len(drawn(run)) < 6 and run.drawing.exists()
    file = bench.train(config_of(bench), tell=writing)
    assert drawn(run) == straight and told(run) == ALL and not run.drawing.exists()
    assert Library(bench.home).card(file.stem).picture == file.with_suffix(".png")


def test_pictures_an_earlier_version_left_undrawn_or_half_written_are_drawn_too(bench, straight):
    with pytest.raises(Killed):
        bench.train(config_of(bench), tell=killing(3, 1))
    run = bench.run()
    run.drawing.unlink()
    run.sample(0, 1).unlink()
    run.sample(3, 1).write_bytes(run.sample(3, 1).read_bytes()[:200])
    bench.train(config_of(bench), tell=writing)
    assert drawn(run) == straight and told(run) == ALL


def test_pictures_asked_for_between_two_saves_are_drawn_after_a_kill(bench, straight):
    def ask_and_kill(event, run):
        killing(4, 0)(event, run)
        if isinstance(event, events.Step) and event.step == 4:
            run.ask("sample")

    with pytest.raises(Killed):
        bench.train(config_of(bench), tell=ask_and_kill)
    run = bench.run()
    for name in ("control.jsonl", "control.read"):  # as the supervisor does before each start
        (run.path / name).unlink(missing_ok=True)
    bench.train(config_of(bench), tell=writing)
    assert told(run) == ALL | {(4, 0), (4, 1)}
    assert {name: data for name, data in drawn(run).items() if not name.startswith("000004")} == straight


def test_a_picture_that_was_drawn_and_not_told_of_is_shown_all_the_same(bench):
    def forgetful(event, run):
        if not isinstance(event, events.Sample) or event.step != 3:
            writing(event, run)
        if isinstance(event, events.Step) and event.step == 5:
            raise Killed

    with pytest.raises(Killed):
        bench.train(config_of(bench), tell=forgetful)
    run = bench.run()
    before = run.sample(3, 0).stat().st_mtime_ns
    bench.train(config_of(bench), tell=writing)
    assert told(run) == ALL and run.sample(3, 0).stat().st_mtime_ns == before


def test_killed_between_the_library_and_the_last_word_it_is_published_once(bench):
    def kill(event, run):
        writing(event, run)
        if isinstance(event, events.Saved) and event.final:
            raise Killed

    with pytest.raises(Killed):
        bench.train(config_of(bench), tell=kill)
    (file,) = bench.home.loras.glob("*.safetensors")
    file.with_suffix(".json").unlink()
    file.with_suffix(".png").unlink()
    run = bench.run()
    files.write_json(run.published, {"6": {"lora": file.stem, "whole": False}})
    data = file.read_bytes()
    assert bench.train(config_of(bench), tell=writing) == file
    assert list(bench.home.loras.glob("*.safetensors")) == [file] and file.read_bytes() == data
    assert file.with_suffix(".json").exists() and file.with_suffix(".png").read_bytes() == run.sample(6, 0).read_bytes()
