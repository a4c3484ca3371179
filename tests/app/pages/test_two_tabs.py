"""Two tabs on one draft: nothing typed in one is overwritten by the other, and the other says what it takes over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.forms import training
from app.forms.seen import Seen, merge
from app.ui.services import Services
from tests.helpers.browser import visit
from trainer.config import load
from trainer.core import files
from trainer.core.home import PROJECT, Home
from trainer.core.texts import t


@pytest.fixture
def services(tmp_path: Path) -> Services:
    home = tmp_path / "home"
    shutil.copytree(PROJECT / "datasets" / "example-style", home / "datasets" / "mine")
    return Services(Home(home))


class Tab:
    """What the page's fields and its hidden field hold."""

    def __init__(self, services: Services) -> None:
        self.services, self.found = services, services.set("mine")
        self.tree = training.opened(services, self.found)
        self.seen = training.seen_now(services, self.found, self.tree, Seen.new_tab().tab)

    def type(self, name: str, value: Any) -> list[str]:
        load.put(self.tree, name, value)
        self.tree, seen, taken = training.keep(self.services, self.found, self.tree, Seen.read(self.seen.text()))
        self.seen = seen
        return taken

    def get(self, name: str) -> Any:
        return load.get(self.tree, name)


def kept(services: Services, name: str) -> Any:
    return load.get(training.opened(services, services.set("mine")), name)


def test_a_stale_tab_keeps_its_own_change_and_takes_over_the_newer_ones(services: Services) -> None:
    one, two = Tab(services), Tab(services)
    assert one.type("save.name", "Fox") == [] and one.type("lora.rank", 7) == []
    assert set(two.type("run.steps", 55)) == {"save.name", "lora.rank"}
    assert (kept(services, "save.name"), kept(services, "lora.rank"), kept(services, "run.steps")) == ("Fox", 7, 55)
    assert (two.get("save.name"), two.get("lora.rank")) == ("Fox", 7)
    assert two.type("run.steps", 56) == []
    assert one.type("lora.rank", 8) == ["run.steps"] and one.get("run.steps") == 56


def test_what_both_changed_is_the_newer_draft_s_and_is_named(services: Services) -> None:
    one, two = Tab(services), Tab(services)
    one.type("save.name", "Newer")
    assert two.type("save.name", "Stale") == ["save.name"]
    assert kept(services, "save.name") == two.get("save.name") == "Newer"
    assert two.type("save.name", "After that") == [] and kept(services, "save.name") == "After that"


def test_what_a_tab_typed_quickly_is_never_taken_for_another_tab_s(services: Services) -> None:
    one = Tab(services)
    before = one.seen
    one.type("save.name", "F")
    one.seen = before  # sent before the first answer came
    assert one.type("save.name", "Fo") == [] and kept(services, "save.name") == "Fo"


def test_another_optimiser_chosen_elsewhere_comes_with_its_own_values(services: Services) -> None:
    one, two = Tab(services), Tab(services)
    one.tree = training.changed(services, one.tree, load.merge(one.tree, {"optimizer": {"name": "prodigy"}}))
    one.type("save.name", "P")
    assert set(two.type("lora.rank", 9)) == {"save.name", "optimizer.name"}
    assert two.get("optimizer.name") == "prodigy" and kept(services, "lora.rank") == 9
    assert training.problems(services, two.found, two.tree) == []


def test_a_cleared_field_is_a_change_too(services: Services) -> None:
    one, two = Tab(services), Tab(services)
    one.type("rights.purpose", "A fox")
    two.type("save.name", "Fox")
    assert one.type("rights.purpose", "") == ["save.name"]
    assert two.type("lora.rank", 6) == ["rights.purpose"] and not kept(services, "rights.purpose")


def test_an_idle_tab_hears_of_another_s_changes_and_not_of_its_own(services: Services) -> None:
    one, two = Tab(services), Tab(services)
    one.type("save.name", "Fox")
    assert training.newer(services, one.found, one.seen) is None
    found = training.newer(services, two.found, two.seen)
    assert found is not None and found[2] == ["save.name"] and load.get(found[0], "save.name") == "Fox"
    assert training.newer(services, two.found, found[1]) is None


def test_a_draft_of_an_earlier_version_and_a_broken_hidden_field_lose_nothing(services: Services) -> None:
    services.drafts.folder.mkdir(parents=True, exist_ok=True)
    files.write_json(services.drafts.folder / "mine.json", {"run": {"kind": "style"}, "save": {"name": "Old"}})
    tab = Tab(services)
    assert tab.get("save.name") == "Old" and tab.type("lora.rank", 3) == []
    assert kept(services, "save.name") == "Old" and kept(services, "lora.rank") == 3
    for text in ("", "[]", "{", '{"tab": 1}', '{"tab": "a", "version": "b", "tree": []}', "null", "[" * 5000):
        assert Seen.read(text) == Seen()
    assert Seen.read(json.dumps({"tab": "a", "version": "b", "tree": {"run": 3}})).tree == {}


def test_merging_is_by_option() -> None:
    seen, mine, theirs = {"run": {"steps": 1}}, {"run": {"steps": 2}}, {"run": {"steps": 1}, "save": {"name": "x"}}
    assert merge(seen, mine, theirs, last_was_mine=False) == ({"run": {"steps": 2}, "save": {"name": "x"}}, ["save.name"])


@pytest.mark.browser
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_two_tabs_of_one_browser(page: Any, live_server: Any, lang: str) -> None:
    folder = live_server.services.home.datasets / f"tabs-{lang}"
    shutil.copytree(PROJECT / "datasets" / "example-style", folder)
    from playwright.sync_api import expect

    one, two = page, page.context.new_page()
    address = f"{live_server.url}/{lang}/train?set={folder.name}"
    visit(one, address)
    visit(two, address)
    name, trigger = "#train-name :is(input, textarea)", "#field-captions-trigger :is(input, textarea)"
    one.locator(name).fill("First tab")
    fields = t("options.save.name.label", language=lang)
    two.get_by_text(t("page.train.other_tab", language=lang, fields=fields)).wait_for()  # idle, it follows by itself
    expect(two.locator(name)).to_have_value("First tab")
    two.locator(trigger).fill("foxy")
    expect(one.locator(trigger)).to_have_value("foxy")
    expect(one.locator(name)).to_have_value("First tab")
    draft = live_server.services.drafts.load(folder.name)
    assert draft["save"]["name"] == "First tab" and draft["captions"]["trigger"] == "foxy"
    two.close()
