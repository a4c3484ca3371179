"""Many pages that ask at once cost one computation; what a person does is seen at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.pages.runs import snapshot as runs
from app.ui.services import Services, Ui
from app.ui.shared import Shared
from tests.helpers import studio
from trainer.core.home import Home


def test_twenty_callers_at_once_share_one_computation() -> None:
    shared, inside, go = Shared(60), threading.Event(), threading.Event()
    calls = []

    def compute() -> int:
        calls.append(1)
        inside.set()
        assert go.wait(30)
        return 7

    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(shared.get, "key", compute)
        assert inside.wait(30)
        others = [pool.submit(shared.get, "key", compute) for _ in range(19)]
        go.set()
        assert {future.result(30) for future in [first, *others]} == {7} and len(calls) == 1


def test_a_value_is_computed_anew_when_it_is_old_and_other_keys_are_their_own() -> None:
    now = [0.0]
    shared = Shared(1.0, most=2, clock=lambda: now[0])
    values = iter(range(100))
    assert [shared.get("a", lambda: next(values)) for _ in range(3)] == [0, 0, 0]
    assert shared.get("b", lambda: next(values)) == 1
    now[0] = 1.0
    assert shared.get("a", lambda: next(values)) == 2
    shared.forget("a")
    assert shared.get("a", lambda: next(values)) == 3
    shared.get("c", lambda: next(values))  # two at most: the oldest is gone
    assert shared.get("b", lambda: next(values)) == 5


def test_an_error_reaches_the_caller_and_is_not_remembered() -> None:
    shared = Shared(60)

    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError):
        shared.get("key", fail)
    assert shared.get("key", lambda: 1) == 1


def test_pages_that_look_at_one_run_share_its_html_and_a_press_is_seen_at_once(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home").create()
    run = studio.run(home, "Foxes", steps=4, total=4)
    services = Services(home)
    made = []
    page = runs._page
    monkeypatch.setattr(runs, "_page", lambda *arguments: made.append(1) or page(*arguments))
    en, ja = Ui.of(services, "en"), Ui.of(services, "ja")
    first = [runs.snapshot(en, run) for _ in range(20)]
    assert len(made) == 1 and all(shot is first[0] for shot in first)
    assert runs.snapshot(ja, run).html["head"] != first[0].html["head"] and len(made) == 2
    services.jobs.store.mark(run, state="failed")
    services.shared.clear()  # what every button of the page does
    assert runs.snapshot(en, run).row.state == "failed"
    services.close()


def test_only_files_of_the_served_folders_have_an_address(tmp_path) -> None:
    home = Home(tmp_path / "home").create()
    services = Services(home)
    picture = studio.picture(home.runs / "one" / "samples" / "a b.png", 10)
    assert services.address(picture) == "/files/runs/one/samples/a%20b.png" == services.address(str(picture))
    (home.runs / "link.png").symlink_to(home.database)
    for path in (home.database, home.runs, home.models / "x", tmp_path / "other.png", home.runs / ".." / "atelier.db",
                 home.runs / "link.png"):  # fmt: skip
        assert services.address(path) is None
    services.close()
