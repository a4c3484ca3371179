"""Likeness scores on the Runs page: a line a step, copies beside what they copy, what no score can tell."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

import pytest

from app.views import likeness
from tests.helpers import studio
from tests.helpers.browser import visit
from trainer.core import events
from trainer.core.home import PROJECT
from trainer.core.run_dir import RunDir
from trainer.core.texts import t

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.helpers.browser import LiveServer

en, ja = partial(t, language="en"), partial(t, language="ja")


def scored(step: int, likeness_: float, prompt: float | None, *close: float) -> events.Scored:
    alike = tuple(
        events.ImageScore(index=n, likeness=likeness_, prompt=prompt, nearest=f"000{n + 1}.png", folder="zibbo", closeness=c,
                     copied=c > 0.97)
        for n, c in enumerate(close)
    )  # fmt: skip
    return events.Scored(
        step=step, likeness=likeness_, prompt=prompt, among=0.783, model="mini/judge", compared=16, pictures=alike
    )


def test_every_step_has_its_line_and_copies_are_shown_beside_their_picture() -> None:
    told = [scored(0, -0.2, 0.1, 0.1, 0.2), scored(40, 0.71, None, 0.98, 0.9)]
    samples = [events.Sample(step=40, index=n, prompt=f"p{n}", file=f"samples/000040_p{n}.png") for n in (0, 1)]
    judged = [events.Validated(step=40, loss=0.1, base=0.2, ratio=0.5, best=40)]
    html = likeness.table(told, judged, samples, lambda name: f"/f/{name}", lambda folder, name: f"/{folder}/{name}", en)
    assert "<td>-0.200</td><td>0.100</td><td>0.200</td><td>–</td>" in html
    assert "<td>0.710</td><td>–</td><td>0.980" in html and "1 nearly copied" in html and "<td>50.0 %</td>" in html
    assert html.index("/f/samples/000040_p0.png") < html.index("/zibbo/0001.png") and "000040_p1" not in html
    assert "own pictures are 0.783 alike" in html and "do not prove that nothing was copied" in html
    assert "複製がないことの証明にもなりません" in likeness.table(told, [], [], str, lambda *_: None, ja)
    assert likeness.table([], judged, samples, str, lambda *_: None, en) == ""


@pytest.mark.browser
def test_the_runs_page_shows_the_scores_of_a_run(page: Page, live_server: LiveServer) -> None:
    from playwright.sync_api import expect

    home = live_server.services.home
    shutil.copytree(PROJECT / "datasets" / "example-character", home.datasets / "zibbo", dirs_exist_ok=True)
    id_ = studio.run(home, "Likeness")
    log = events.EventLog(RunDir(home.runs / id_).events)
    for one in (scored(0, -0.2, 0.1, 0.1, 0.2), scored(40, 0.71, 0.3, 0.98, 0.9)):
        log.write(one)
    visit(page, f"{live_server.url}/en/runs?run={id_}")
    expect(page.locator("#run-score tbody tr")).to_have_count(2)
    expect(page.locator("#run-score .r-copies figcaption")).to_have_text("0001.png: 0.980")
    learnt = page.locator("#run-score .r-copies img").nth(1)
    expect(learnt).to_have_attribute("src", f"/thumbs/zibbo/0001?{(learnt.get_attribute('src') or '').partition('?')[2]}")
    assert learnt.evaluate("image => image.decode().then(() => image.naturalWidth)") == 320
