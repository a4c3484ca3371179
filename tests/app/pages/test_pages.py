"""What the pages answer, asked without a browser: each handler is called as Gradio calls it, outputs are counted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from app.forms import training
from app.server import main
from app.ui.services import Services, Ui
from tests.helpers.browser import visit
from trainer.config import load
from trainer.core.home import PROJECT, Home

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.helpers.browser import LiveServer


class Asked:
    """The handlers of one language, by page and name; answers come back as {output's elem_id or place: value}."""

    def __init__(self, services: Services) -> None:
        main._gradio(services.home)
        self.blocks = main.with_loop(lambda: main.build(services, "en"))

    def __call__(self, page: str, name: str, **given: Any) -> list[Any]:
        found = [f for f in self.blocks.fns.values() if f.page == page and f.name == name]
        assert found, f"no handler {name} on {page}"
        handler = found[0]
        values = [given.pop(_name(one), _value(one)) for one in handler.inputs]
        assert not given, f"{name} does not take {sorted(given)}"
        answer = handler.fn(*values)  # type: ignore[misc]
        if len(handler.outputs) > 1:
            assert len(answer) == len(handler.outputs)
        return answer

    def outputs(self, page: str, name: str) -> list[str]:
        found = next(f for f in self.blocks.fns.values() if f.page == page and f.name == name)
        return [_name(one) for one in found.outputs]


def _value(block: Any) -> Any:
    value = getattr(block, "value", None)
    return value() if callable(value) else value


def _name(block: Any) -> str:
    kind = type(block).__name__
    return block.elem_id or ("current" if kind == "BrowserState" else f"{kind.lower()}-{block._id}")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Services, Asked]]:
    """Pages built once for one home."""
    made = Services(Home(tmp_path_factory.mktemp("pages")))
    yield made, Asked(made)
    made.close()


@pytest.fixture
def services(asked: tuple[Services, Asked]) -> Services:
    """That home, with the example pictures as a person's own set and nothing else."""
    found = asked[0]
    for folder in (found.home.datasets / "mine", found.drafts.folder):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(PROJECT / "datasets" / "example-style", found.home.datasets / "mine")
    for row in found.jobs.rows():
        found.jobs.stop(row.id)
        found.jobs.delete(row.id)
    return found


@pytest.fixture
def ask(asked: tuple[Services, Asked], services: Services) -> Callable[..., dict[str, Any]]:
    """Ask a page's handler; its answers by output."""

    def answer(page: str, name: str, **given: Any) -> dict[str, Any]:
        return dict(zip(asked[1].outputs(page, name), asked[1](page, name, **given), strict=True))

    return answer


def said(**what: Any) -> str:
    return json.dumps(what)


def test_captions_change_in_bulk_with_a_count_before_and_an_undo_after(ask, services: Services) -> None:
    given = {"current": "mine", "bulk-way": "add", "bulk-what": "on paper"}
    assert "16 captions would change" in ask("images", "tried", **given)["bulk-would"]
    answer = ask("images", "done", **given)
    assert "16 captions changed" in answer["images-note"] and "undo" in answer["images-note"]
    found = services.set("mine")
    assert found is not None
    assert all(p.caption.endswith("on paper") for p in found.pictures())
    ask("images", "mended", current="mine", **{"signal-fix": said(action="undo")})
    assert not any(p.caption.endswith("on paper") for p in found.pictures())


def test_the_words_of_a_caption_are_on_disk_at_once(ask, services: Services) -> None:
    chosen = ask("images", "pick", current="mine", **{"signal-picture": said(id="0003")})
    state = next(name for name in chosen if name.startswith("state-") and chosen[name] == "0003")
    answer = ask("images", "typed", current="mine", **{state: "0003", "images-caption": "猫 & <b>"})
    assert "Saved" in answer["images-saved"] and "猫 &amp; &lt;b&gt;" in answer["images-grid"]
    assert (services.home.datasets / "mine" / "0003.txt").read_text("utf-8") == "猫 & <b>\n"


def test_a_picture_counts_as_much_as_the_light_table_says(ask, asked: tuple[Services, Asked], services: Services) -> None:
    chosen = ask("images", "pick", current="mine", **{"signal-picture": said(id="0003")})
    assert chosen["images-weight"] == 1
    state = next(name for name in chosen if name.startswith("state-") and chosen[name] == "0003")

    def weigh(weight: float | None) -> str:
        return "".join(asked[1]("images", "weighed", current="mine", **{state: "0003", "images-weight": weight}))

    assert "Saved" in weigh(0.5) and weigh(None) == ""
    assert all("at most 10" in weigh(wrong) for wrong in (0, -1, 11))
    weights = {p.id: p.weight for p in services.set("mine").pictures()}  # type: ignore[union-attr]
    assert weights.pop("0003") == 0.5 and set(weights.values()) == {1.0}


def test_a_set_is_renamed_and_its_folder_stays(asked: tuple[Services, Asked], services: Services) -> None:
    asked[1]("images", "named", current="mine", **{"images-title": "新しい名前", "images-trigger": "zib"})
    meta = services.set("mine").meta  # type: ignore[union-attr]
    assert (meta.name, meta.title, meta.trigger) == ("mine", "新しい名前", "zib")


def test_no_picture_is_taken_out_of_a_set_that_a_training_uses(services: Services) -> None:
    folder = services.home.datasets / "mine"
    config = load.build({"images": {"folder": str(folder)}, "save": {"name": "Ink"}, "run": {"steps": 2}})
    id_ = services.jobs.store.create(config, "in-use", state="queued")
    services.jobs.store.mark(id_, state="paused")
    found = services.set("mine")
    assert found is not None

    def remove() -> str:
        return training.mend(Ui.of(services, "en"), found, {"action": "remove", "targets": ["0001"]})

    assert "“Ink” needs this" in remove() and len(found.pictures()) == 16
    services.jobs.store.mark(id_, state="stopped")
    assert remove() == "1 taken out." and len(found.pictures()) == 15


@pytest.mark.browser
def test_the_button_says_which_training_needs_the_picture(page: Page, live_server: LiveServer) -> None:
    from playwright.sync_api import expect

    folder = live_server.home / "datasets" / "needed"
    shutil.copytree(PROJECT / "datasets" / "example-style", folder)
    config = load.build({"images": {"folder": str(folder)}, "save": {"name": "Ink"}, "run": {"steps": 2}})
    store = live_server.services.jobs.store
    id_ = store.create(config, "needed", state="queued")
    store.mark(id_, state="paused")
    visit(page, f"{live_server.url}/en/images?set=needed")
    page.locator("#images-remove").click()
    expect(page.locator("#images-note")).to_contain_text("“Ink” needs this")
    store.mark(id_, state="stopped")
    assert (folder / "0001.png").is_file()
