"""A small campaign in the ordinary suite: real processes killed again and again, and nothing lost, doubled or half done."""

from __future__ import annotations

import random
import shutil
import sys

import pytest

from tests.chaos import kinds
from tests.chaos.__main__ import Campaign, table
from tests.chaos.kill_points import killed_at

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="programs are forked")]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    made = Campaign(11, tmp_path_factory.mktemp("chaos"), web=False)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("name", "kills"),
    [
        ("trainer, before an operation", 5),
        ("trainer, at an instant", 4),
        ("trainer, while publishing", 3),
        ("supervisor", 3),
        ("ledger spoilt or locked", 1),
        ("library acts", 20),
    ],
)
def test_nothing_is_lost_or_doubled_whatever_is_killed(campaign, name, kills):
    said, left = len(campaign.said), 12
    while left and (name not in campaign.lines or campaign.lines[name]["kills"] + campaign.lines[name]["faults"] < kills):
        campaign.episode(name, kills, most=kills)  # one more where what was to be killed was done before
        left -= 1
    line = campaign.lines[name]
    assert line["kills"] + line["faults"] >= kills, "the attack did not come to its kills"
    assert campaign.said[said:] == [] and campaign.broken == 0, table(campaign.result())


def test_a_campaign_finds_what_is_broken_and_says_so(campaign, tmp_path):
    """The judges are no rubber stamp: a LoRA without its card, a picture cut off, a second run are each counted."""
    from tests.chaos.scene import STEPS, Scene

    shutil.copytree(campaign.folder / "straight", tmp_path / "scene")
    scene = Scene(campaign.stage, tmp_path / "scene")
    (row,), (lora,) = scene.jobs.rows(), scene.home.loras.glob("*.safetensors")
    id_, run = row.id, scene.jobs.run_dir(row.id)
    scene.jobs.store.mark(id_, lora=str(lora))
    assert scene.ended_well(id_, campaign.known.tensors) == campaign.known.tensors and not scene.broken
    lora.with_suffix(".json").unlink()
    run.sample(STEPS, 1).write_bytes(run.sample(STEPS, 1).read_bytes()[:99])
    scene.ended_well(id_, b"other tensors")
    assert scene.broken == {"missing": 1, "half files": 1, "tensors differ": 1}
    (scene.home.loras / "red_v2.safetensors").write_bytes(lora.read_bytes())
    scene.ended_well(id_, None)
    assert scene.broken["published twice"] == 1
    scene.close()


def test_a_process_is_killed_before_the_very_operation_asked_for(tmp_path):
    def act():
        for number in range(4):
            (tmp_path / f"{number}").touch()

    for at in (1, 3):
        assert killed_at(at, [str(tmp_path)], act)
        assert sorted(path.name for path in tmp_path.iterdir()) == [str(number) for number in range(at - 1)]
    assert not killed_at(5, [str(tmp_path)], act)


def test_chance_follows_from_the_seed():
    one, two = random.Random(5), random.Random(5)
    assert [kinds.instant(one, 3.0) for _ in range(9)] == [kinds.instant(two, 3.0) for _ in range(9)]
