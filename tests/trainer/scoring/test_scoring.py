"""Likeness: the formulas, the judge on the example sets, models that are missing or wrong, a run that scores itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.helpers.training_home import Bench
from trainer import scoring
from trainer.bases import catalog
from trainer.commands import score
from trainer.core import events
from trainer.core.home import PROJECT, Home
from trainer.core.problem import Problem
from trainer.engine.output.loggers import scalars
from trainer.images.set.image_set import ImageSet
from trainer.jobs.run_reader import RunReader
from trainer.scoring.clip import Clip
from trainer.scoring.measure import SampleImage, SimilarityScorer
from trainer.scoring.of_run import RunScorer
from trainer.scoring.scores import ImageEmbeddings, copy_threshold, scores, self_similarity, unit

JUDGE = PROJECT / "models" / "mini" / "judge"
MASCOT, STYLE = (PROJECT / "datasets" / name for name in ("example-character", "example-style"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def learnt(folder: Path, count: int = 16):
    return ImageSet(folder, read_only=True).pictures()[:count]


def code(work, *given) -> str:
    with pytest.raises(Problem) as told:
        work(*given)
    assert told.value.sentence("en") and not told.value.sentence("ja").startswith("problems.")
    return told.value.code


def test_the_scores_are_their_formulas() -> None:
    rng = np.random.default_rng(0)
    drawn, known, words = unit(rng.normal(size=(4, 8))), unit(rng.normal(size=(5, 8))), unit(rng.normal(size=(1, 8)))
    drawn[2] = drawn[3] = known[4]
    pixels, theirs = unit(rng.normal(size=(4, 9))), unit(rng.normal(size=(5, 9)))
    pixels[2] = theirs[4]
    found = scores(ImageEmbeddings(drawn, pixels), ImageEmbeddings(known, theirs), [words[0], None, None, None])
    for n in range(3):
        cosines = [sum(a * b for a, b in zip(drawn[n], row, strict=True)) for row in known]
        assert found[n].likeness == pytest.approx(sum(cosines) / 5)
        assert (found[n].nearest, found[n].nearest_similarity) == (int(np.argmax(cosines)), pytest.approx(max(cosines)))
    assert found[0].prompt == pytest.approx(float(np.dot(drawn[0], words[0]))) and found[1].prompt is None
    assert [one.copied for one in found] == [False, False, True, False] and found[2].nearest == 4
    pairs = [float(known[i] @ known[j]) for i in range(5) for j in range(5) if i != j]
    assert self_similarity(known) == pytest.approx(sum(pairs) / 20) and self_similarity(known[:1]) is None


def test_what_counts_as_a_copy_follows_how_near_the_sets_own_pictures_come() -> None:
    def at(cosine: float) -> np.ndarray:
        return np.array([[1.0, 0.0], [cosine, np.sqrt(1 - cosine**2)]])

    assert copy_threshold(at(0.5), 0.95) == 0.95
    assert copy_threshold(at(0.98), 0.95) == pytest.approx(0.98)
    assert copy_threshold(at(0.999), 0.95) == 0.95  # one picture twice says nothing about different ones
    assert copy_threshold(at(1.0)[:1], 0.95) == 0.95


def test_the_mascots_pictures_are_nearer_to_its_set_than_to_the_style_and_know_their_words(home: Home) -> None:
    """The figures that docs/features.md states."""
    mascot = SimilarityScorer(JUDGE, learnt(MASCOT, 12), "zibbo", home.cache)
    style = SimilarityScorer(JUDGE, learnt(STYLE, 12), "inkstamp style", home.cache)
    rest = [SampleImage(one.file, one.caption) for one in learnt(MASCOT)[12:]]
    near, far = mascot.score(rest), style.score(rest)
    assert near.likeness > 0.7 and far.likeness < 0.25 and near.among == pytest.approx(near.likeness, abs=0.12)
    assert near.prompt is not None and near.prompt > 0 and mascot.trigger == ""  # the judge was taught this word
    wrong = mascot.score([SampleImage(one.file, "an owl, flat style, red background") for one in rest])
    assert wrong.prompt is not None and wrong.prompt < near.prompt - 0.3
    assert not any(one.copied for one in [*near.pictures, *far.pictures])
    again = mascot.score([SampleImage(mascot.pictures[3].file)])
    assert [(one.nearest, one.copied) for one in again.pictures] == [("0004.png", True)] and again.prompt is None
    assert again.pictures[0].closeness == pytest.approx(1, abs=1e-4) and again.compared == 12 and again.model == "mini/judge"


def test_copies_are_found_blurred_small_and_compressed_but_not_other_poses() -> None:
    """The figures of docs/decisions/2026-11-27-likeness.md: each picture of a set against the others, and worn copies."""
    clip = Clip(JUDGE)
    for folder in (MASCOT, STYLE):
        pictures = [one.load() for one in learnt(folder)]
        looks = clip.encode_images(pictures)
        others = [np.arange(16) != n for n in range(16)]

        def part(which, looks=looks) -> ImageEmbeddings:
            return ImageEmbeddings(looks.clip[which], looks.pixels[which])

        left_out = [scores(part(~rest), part(rest), [None])[0] for rest in others]
        assert not any(one.copied for one in left_out)
        worn = [picture.resize((64, 64), Image.Resampling.BOX).resize(picture.size) for picture in pictures[::4]]
        worn += [picture.filter(ImageFilter.GaussianBlur(4)) for picture in pictures[::4]]
        found = scores(clip.encode_images(worn), looks, [None] * 8)
        assert [one.nearest for one in found] == [0, 4, 8, 12] * 2 and all(one.copied for one in found)


def test_a_set_is_looked_at_once(home: Home) -> None:
    heard: list[tuple[int, int]] = []
    first = SimilarityScorer(JUDGE, learnt(MASCOT, 3), "", home.cache, lambda *told: heard.append(told))
    assert heard == [(0, 3), (1, 3), (2, 3)]
    again = SimilarityScorer(JUDGE, learnt(MASCOT, 3), "", home.cache, lambda *told: heard.append(told))
    assert len(heard) == 3 and np.array_equal(first.reference.clip, again.reference.clip)


def test_prompts_are_compared_without_the_trigger_tags_and_weights(home: Home) -> None:
    measure = SimilarityScorer(JUDGE, learnt(MASCOT, 1), "robby", home.cache, weights=True)
    assert measure._clip_prompt("robby, (a red:1.3) hat <lora:x:0.8>") == "a red hat" and measure._clip_prompt("robby") == ""


def test_which_model_scores_and_what_is_said_where_it_is_missing(home: Home, tmp_path: Path) -> None:
    mini = catalog.find(home, "mini")
    assert scoring.find(home, "auto", mini) == JUDGE and scoring.find(home, "off", mini) is None
    assert scoring.find(home, "auto") is None and scoring.find(home, "clip") is None  # to be fetched first
    shutil.copytree(JUDGE, home.models / "clips" / "small")
    assert scoring.find(home, "auto") == home.models / "clips" / "small" == scoring.find(home, "small")
    assert [base.id for base in catalog.list_bases(home)] == ["mini"]
    assert code(scoring.find, home, "nothing-here") == "clip_missing"
    assert code(scoring.find, home, "owner/name") == code(scoring.find, home, "owner/name@main") == "clip_commit"
    other = tmp_path / "other"
    other.mkdir()
    assert code(scoring.find, home, str(other)) == "clip_unknown"
    (other / "config.json").write_text('{"model_type": "clip"}')
    assert code(scoring.find, home, str(other)) == "clip_parts"
    (other / "pytorch_model.bin").write_bytes(b"\x80")
    assert code(scoring.find, home, str(other)) == "clip_pickle"
    assert code(SimilarityScorer, JUDGE, [], "", home.cache) == "score_no_pictures"


def scored(told: list[events.Event]) -> list[events.Scored]:
    return [event for event in told if isinstance(event, events.Scored)]


def test_a_run_writes_its_scores_and_hints_at_copies(bench: Bench) -> None:
    words = ("samples.every=2", "save.every=2", "run.steps=4", "save.tensorboard=true", f"validation.similarity_model={JUDGE}")
    shutil.copy(bench.folder / "0000.png", bench.folder / "0009.png")  # twice the same picture is no measure
    kept: dict[str, bytes] = {}

    def learnt_by_heart(event, run):
        """In place of a long training: what is drawn at step 4 becomes a picture of the set before it is scored."""
        if isinstance(event, events.Sample) and event.step == 4:
            shutil.copy(bench.folder / "0002.png", run.path / event.file)
            kept[event.file] = (run.path / event.file).read_bytes()

    bench.train(bench.config(*words), "one", learnt_by_heart)
    told = scored(bench.events)
    assert [one.step for one in told] == [0, 2, 4] and all(-1 <= one.likeness <= 1 for one in told)
    assert all(one.prompt is not None and one.compared == 7 for one in told) and told[0].pictures[0].strength == 0
    assert [any(p.copied for p in one.pictures) for one in told] == [False, False, True]
    assert told[2].pictures[0].nearest == "0002.png" and kept
    notes = {event.code: event.params for event in bench.events if isinstance(event, events.Note)}
    assert notes["likeness_copies_later"] == {"step": 4, "count": 1, "of": 1, "pictures": "0002.png", "free": 2}
    board = next((bench.run("one").path / "tensorboard").glob("events.out.tfevents.*")).read_bytes()
    assert board.count(b"likeness/set") == 3 and board.count(b"likeness/prompt") == 3
    assert scalars(told[0])["likeness/nearest"] == told[0].pictures[0].closeness


def test_scores_cost_a_run_neither_its_end_nor_its_weights(bench: Bench, tmp_path: Path) -> None:
    def ends(given: str, name: str) -> bytes:
        bench.train(
            bench.config("run.steps=2", "save.every=2", "samples.every=2", f"validation.similarity_model={given}"), name
        )
        assert isinstance(bench.events[-1], events.Finished)
        return (bench.run(name).checkpoint(2) / "lora.safetensors").read_bytes()[-4096:]

    plain = ends("off", "off")
    assert scored(bench.events) == []
    assert ends(str(JUDGE), "on") == plain and len(scored(bench.events)) == 2
    broken = shutil.copytree(JUDGE, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\x10" + bytes(40))
    assert ends(str(broken), "bad") == plain
    notes = [event for event in bench.events if isinstance(event, events.Note) and event.code == "likeness_off"]
    assert len(notes) == 1 and notes[0].params["why"] and scored(bench.events) == []
    told: list[events.Event] = []
    config = bench.config("validation.similarity_model=nobody/here@main")
    missing = RunScorer(bench.run("x"), config, bench.home, catalog.find(bench.home, str(bench.base)), [], told.append)
    missing.score(0, [("a", 1.0)])
    missing.score(1, [("a", 1.0)])
    assert [event.code for event in told if isinstance(event, events.Note)] == ["likeness_off"]
    assert "names no commit" in told[0].params["why"] and missing.hint(1) is None  # type: ignore[union-attr]


def test_the_command_scores_pictures_and_runs_and_keeps_what_a_run_came_to(bench: Bench, capsys) -> None:
    mini, home = str(MASCOT / "0001.png"), bench.home
    where = ["--home", str(home.root)]
    assert score.main([mini, str(STYLE / "0001.png"), "--set", str(MASCOT), "--json", *where]) == 0
    told = json.loads(capsys.readouterr().out)
    one, two = told[0]["pictures"]
    assert one["likeness"] > 0.7 > 0.2 > two["likeness"] and (one["copied"], two["copied"]) == (True, False)
    assert score.main([mini, "--set", str(MASCOT), "--prompt", "a zibbo mascot", *where]) == 0
    said = capsys.readouterr()
    assert "nearest 0001.png (1.000)  nearly a copy" in said.out and "no proof that nothing was copied" in said.err

    run = bench.run("two")
    (run.config).write_text(bench.config().model_dump_json())
    log = events.EventLog(run.events)
    bench.train(bench.config("run.steps=1"), "two", lambda event, _: log.write(event))
    assert scored(events.read(run.events)[0]) == []
    assert score.main(["two", "--with", str(JUDGE), *where]) == 0
    reader = RunReader(run)
    reader.read(None)  # type: ignore[arg-type]
    assert sorted(reader.scored) == [0, 1] and reader.scored[1].pictures[0].strength == 1.0
    assert "0/p0  strength 0.000" in capsys.readouterr().out
    assert code(score.main, [mini, *where]) == "score_no_set"
    assert code(score.main, ["nothing.png", "--set", str(MASCOT), *where]) == "score_nothing"


def test_a_strength_is_read_from_what_is_written_into_a_picture(tmp_path: Path) -> None:
    from trainer.adapters.fold import LoraStrength
    from trainer.engine.inference.sampling import GeneratedImage as Drew
    from trainer.engine.inference.sampling import GenerateRequest

    request = GenerateRequest("a hat", "", 0, 1, 1.0, 8, 8, (LoraStrength(Path("x.safetensors"), 0.8, 0.8),), (0.5,))
    Drew(Image.new("RGB", (8, 8)), 0.5, request).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    assert SampleImage.read(tmp_path / "a.png") == SampleImage(tmp_path / "a.png", "a hat", 0.4)
    assert (
        SampleImage.read(tmp_path / "b.png") == SampleImage(tmp_path / "b.png")
        and SampleImage.read(tmp_path / "a.png", "x").prompt == "x"
    )
