"""The whole recipe at toy size: pack, vocabulary, autoencoder, judge, diffusion, export, resume, carry."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("resvg_py")
pytest.importorskip("torch")

import torch

from tools.mini_base import carry, tokenizer
from tools.mini_base.concepts import Concept
from tools.mini_base.data import Drawing, Pack, split, write_pack
from tools.mini_base.poses import other_pose
from tools.mini_base.render import rasterise
from tools.mini_base.shapes import TINY, make_judge
from tools.mini_base.sources import STYLES
from tools.mini_base.views import BACKGROUND_NAMES, STILL, Views

_SHAPES = {
    "circle": '<circle cx="16" cy="16" r="11" fill="{}"/>',
    "square": '<rect x="6" y="6" width="20" height="20" fill="{}"/>',
    "triangle": '<path d="M16 5 L28 27 H4 Z" fill="{}"/>',
    "bar": '<rect x="3" y="12" width="26" height="8" fill="{}"/>',
    "left-half": '<path d="M16 4 A12 12 0 0 0 16 28 Z" fill="{}"/>',
}
_COLOURS = ("#e03131", "#1971c2", "#2f9e44", "#f08c00", "#9c36b5", "#000000", "#e03131")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with a pack of five shapes in every style, and a vocabulary."""
    import random

    from tools.mini_base import mascot

    folder = tmp_path_factory.mktemp("work")
    concepts = [Concept(slug, "Objects", (slug.replace("-", " "),)) for slug in _SHAPES]

    def drawings() -> Iterator[tuple[Drawing, object]]:
        for style, colour in zip(STYLES, _COLOURS, strict=True):
            for slug, shape in _SHAPES.items():
                svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">{shape.format(colour)}</svg>'
                yield split(slug, style), rasterise(svg, 48)
        for slug in ("circle", "square"):
            svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">{_SHAPES[slug].format("#000000")}</svg>'
            yield Drawing(slug, "mdi", taught=False, judge_learns=True), rasterise(svg, 48)

    chance = random.Random(0)
    posed = [other_pose(chance) for _ in range(44)]
    pictures = [(p.background, rasterise(mascot.svg(p), 128).convert("RGB")) for p in posed]
    write_pack(folder / "pack.safetensors", concepts, drawings(), pictures, 48)  # type: ignore[arg-type]
    tokenizer.learn(tokenizer.sentences(concepts), folder / "tokenizer", TINY.vocabulary)
    return folder


@pytest.fixture(scope="module")
def pack(work: Path) -> Pack:
    return Pack(work / "pack.safetensors")


def test_the_pack_gives_back_what_was_put_in(pack: Pack) -> None:
    assert pack.pixels.shape == (37, 48, 48, 4)
    assert pack.poses.shape == (44, 128, 128, 3)
    assert {d.style for d in pack.drawings} == {s.key for s in STYLES} | {"mdi"}
    assert not pack.where(style="inkstamp", taught=True)
    place = pack.where(slug="circle", style="twemoji")[0]
    red, green, blue, alpha = pack.pixels[place][24, 24]
    assert alpha == 255 and red > 200 and green < 80 and blue < 80
    assert pack.pixels[place][0, 0, 3] == 0


def test_a_still_view_shows_the_drawing_on_the_colour_asked_for(pack: Pack) -> None:
    views = Views(pack, "cpu", 64)
    place = pack.where(slug="square", style="noto")[0]
    ground = views.colours[torch.tensor([BACKGROUND_NAMES.index("yellow")])]
    seen = views.draw(torch.tensor([place]), ground, torch.Generator().manual_seed(0), STILL)
    assert seen.shape == (1, 3, 64, 64)
    assert torch.allclose((seen[0, :, 1, 1] + 1) / 2, ground[0], atol=0.01)
    assert ((seen[0, :, 32, 32] + 1) / 2 * 255 - torch.tensor([0x19, 0x71, 0xC2])).abs().max() < 12


def test_a_style_taught_for_the_first_time_is_shown_twice_as_often(pack: Pack) -> None:
    from collections import Counter

    from tools.mini_base.ldm import _places

    shown = Counter(pack.drawings[place].style for place in _places(pack, 12, 0, ("sticker",)))
    drawings = Counter(pack.drawings[place].style for place in pack.where(taught=True))
    assert {style: shown[style] / drawings[style] for style in shown} == {
        style: 12 if style == "sticker" else 6 for style in drawings
    }


def test_other_hands_are_for_the_judge_alone_and_have_no_style(pack: Pack) -> None:
    from tools.mini_base.judge import Lessons
    from tools.mini_base.ldm import _places

    by_others = set(pack.where(style="mdi"))
    assert len(by_others) == 2 and not by_others & set(_places(pack, 4, 0)) and not by_others & set(pack.kept_back())
    lessons = Lessons(pack, Views(pack, "cpu", 32), None, views_each=4)
    shown = lessons.shown.tolist()
    assert all(shown.count(place) == 2 for place in by_others), "half as often as a drawing with a style"
    assert not set(shown) & {*lessons.held_back.tolist(), *lessons.example.tolist()}
    told = lessons.draw(512, torch.Generator().manual_seed(0))
    assert told.pictures.shape == (512, 3, 32, 32) and int(told.things.max()) == lessons.mascot
    share = (told.styles < 0).float().mean().item()
    assert 0.3 < share < 0.5, "a third in disguise, and the other hands and the mascot"
    for place in (*lessons.held_back.tolist(), *lessons.example.tolist()):  # of what is kept back nothing is said
        drawing = pack.drawings[place]
        assert not lessons.told[[s.key for s in STYLES].index(drawing.style), pack.place_of[drawing.slug]]
    assert lessons.told[-1].all() and lessons.told[told.hands, told.things].all()


def test_things_named_left_are_never_mirrored(pack: Pack) -> None:
    views = Views(pack, "cpu", 32)
    half, circle = pack.where(slug="left-half")[0], pack.where(slug="circle")[0]
    assert not views.may_flip[half]
    assert views.may_flip[circle]


def test_the_vocabulary_reads_like_clip(work: Path) -> None:
    words = tokenizer.load(work / "tokenizer")
    lines = ["a circle, flat style, red background", "", "zibbo!"]
    ours = tokenizer.token_ids(words, lines)
    theirs = words(lines, padding="max_length", max_length=77, truncation=True).input_ids
    assert ours.tolist() == theirs
    assert len(words) <= TINY.vocabulary
    assert (work / "tokenizer" / "vocab.json").is_file() and (work / "tokenizer" / "merges.txt").is_file()


def test_training_and_drawing_speak_of_the_same_noise() -> None:
    from diffusers import DDPMScheduler  # pyright: ignore[reportPrivateImportUsage]

    from tools.mini_base.ldm import _kept_signal, diffusion_loss
    from tools.mini_base.shapes import make_scheduler

    scheduler: Any = DDPMScheduler.from_config(make_scheduler().config)
    clean, noise = (torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(k)) for k in (1, 2))
    moment = torch.tensor([0, 500, 999])
    wanted = scheduler.get_velocity(clean, noise, moment)
    noisy = scheduler.add_noise(clean, noise, moment)

    class Knowing(torch.nn.Module):
        """Answers with the scheduler's own velocity, and checks that it is asked about the scheduler's own noise."""

        def forward(self, seen: torch.Tensor, when: torch.Tensor, words: torch.Tensor) -> argparse.Namespace:
            assert torch.allclose(seen, noisy, atol=1e-5) and torch.equal(when, moment)
            return argparse.Namespace(sample=wanted + 0.1)

    def text(ids: torch.Tensor) -> argparse.Namespace:
        return argparse.Namespace(last_hidden_state=torch.zeros(len(ids), 77, 4))

    loss, clean_error = diffusion_loss(
        Knowing(), text, _kept_signal(), clean, torch.zeros(3, 77, dtype=torch.long), moment, noise
    )
    kept = scheduler.alphas_cumprod[moment].double()
    assert kept[2] == 0  # zero terminal SNR
    snr = kept / (1 - kept)
    weight = (snr.clamp(max=5) + 1) / (snr + 1)
    assert weight[2] == 1
    assert loss.item() == pytest.approx(0.01 * weight.mean().item(), rel=1e-3)
    assert clean_error.item() == pytest.approx(0.01 * (1 - kept).mean().item(), rel=1e-3)


@pytest.mark.slow
def test_every_stage_trains_resumes_and_ends_in_a_model_diffusers_loads(work: Path, pack: Pack, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]

    from tools.mini_base import judge, ldm, vae
    from tools.mini_base.evaluate import evaluate
    from tools.mini_base.export import export
    from tools.mini_base.judging import Judge

    vae.train(pack, work, TINY, minutes=0.06, sitting=0.03, batch=4, device="cpu")
    half = torch.load(work / "vae" / "state.pt", weights_only=True)["counters"]
    psnr = vae.train(pack, work, TINY, minutes=0.06, batch=4, device="cpu")
    whole = torch.load(work / "vae" / "state.pt", weights_only=True)["counters"]
    assert 0 < half[0] < whole[0] and whole[2] >= 0.06 * 60
    assert psnr > 5
    accuracy = judge.train(pack, work, TINY, minutes=0.03, batch=8, device="cpu")
    assert set(accuracy) >= {"thing_top1", "style", "mascot"}
    ldm.train(pack, work, TINY, minutes=0.03, batch=4, device="cpu", per_drawing=1)
    assert (work / "ldm" / "curve.csv").read_text(encoding="utf-8").startswith("step,seconds,samples,loss")

    model = tmp_path / "mini"
    size = export(work, pack, model, machine="a test")
    assert size < 40_000_000
    card = (model / "README.md").read_text(encoding="utf-8")
    assert "Twemoji" in card and "CC-BY-4.0" in card and "a test" in card
    pipe = StableDiffusionPipeline.from_pretrained(model)
    assert {p.dtype for p in pipe.text_encoder.parameters()} == {torch.float32}
    pipe.set_progress_bar_config(disable=True)
    picture = ldm.draw(pipe, ["a circle, flat style, white background"], steps=2)[0]
    assert picture.size == (128, 128)
    assert Judge(model / "judge", pipe.tokenizer).scores([picture], ["a circle", "a square"]).shape == (1, 2)
    words = json.loads((model / "judge" / "words.json").read_text(encoding="utf-8"))
    assert words["things"][-1] == "a zibbo mascot" and "flat style" in words["styles"] and len(words["backgrounds"]) == 10
    figures = evaluate(model, pack, tmp_path / "figures", many=4, steps=2, device="cpu")
    assert figures["prompts"] == 4 and figures["psnr_db"] > 5 and figures["seeds_apart"] > 0
    assert (tmp_path / "figures" / "evaluation.md").is_file()

    # A second machine takes up the averaged weights where the first one stopped.
    parts = carry.carry_out(work, tmp_path / "carry", limit=200_000)
    assert len(parts) > 1 and all(p.stat().st_size <= 200_000 for p in parts)
    elsewhere = tmp_path / "elsewhere"
    carry.carry_in(tmp_path / "carry", elsewhere)
    state = torch.load(elsewhere / "ldm" / "state.pt", weights_only=True)
    assert state["counters"] == torch.load(work / "ldm" / "state.pt", weights_only=True)["counters"]
    folder = ldm.train(pack, elsewhere, TINY, minutes=0.0, batch=4, device="cpu")
    carried = StableDiffusionPipeline.from_pretrained(folder).unet.state_dict()
    for name, tensor in pipe.unet.state_dict().items():
        assert torch.allclose(carried[name], tensor, atol=2e-3), name

    norms = torch.load(elsewhere / "judge" / "state.pt", weights_only=True)["buffers"]["judge"]
    assert norms and all(name.endswith(("running_mean", "running_var")) for name in norms)

    # So does a folder made of the finished model alone.
    again = tmp_path / "again"
    carry.take_up(model, again)
    shutil.copy(work / "pack.safetensors", again)
    taken = torch.load(again / "ldm" / "state.pt", weights_only=True)
    assert taken["counters"][:2] == state["counters"][:2]
    kept = torch.load(again / "judge" / "state.pt", weights_only=True)["buffers"]["judge"]
    assert kept.keys() == norms.keys() and all(torch.allclose(kept[k], norms[k], rtol=1e-3, atol=1e-4) for k in norms)
    finished = Judge(model / "judge", pipe.tokenizer).model
    new = make_judge(TINY, pipe.tokenizer)
    assert judge._takes_words(new, model / "judge", work / "tokenizer")
    assert torch.equal(new.text_projection.weight, finished.text_projection.weight)
    assert not judge._takes_words(new, model / "judge", tmp_path)
    further = judge.train(pack, again, TINY, minutes=taken["counters"][2] / 60 + 0.02, batch=8, device="cpu")
    assert further["mascot"] >= 0
    folder = ldm.train(pack, again, TINY, minutes=0.0, batch=4, device="cpu")
    taken_up = StableDiffusionPipeline.from_pretrained(folder).unet.state_dict()
    assert all(torch.equal(taken_up[name], tensor) for name, tensor in pipe.unet.state_dict().items())


def test_what_was_spent_on_an_earlier_training_does_not_lower_the_rate(tmp_path: Path) -> None:
    from tools.mini_base.progress import Loop

    def begun(since: float) -> Loop:
        loop = Loop("part", tmp_path, {"one": torch.nn.Linear(2, 2)}, minutes=100, since=since, rate=1.0)
        loop.spent = 90.0 * 60
        return loop

    assert begun(0).share == 0.9
    assert begun(80).share == 0.5
    assert begun(95).share == 0.0
    assert begun(100).share == 1.0


def test_a_sitting_goes_through_the_stages_and_says_when_more_is_needed(work: Path, tmp_path: Path) -> None:
    from tools.mini_base.sitting import is_done, sit

    called: list[str] = []

    def run(stage: str, minutes: float, sitting: float) -> None:
        called.append(stage)
        folder = asked.work / stage
        folder.mkdir(parents=True)
        light = {"modules": None, "average": [torch.zeros(1)], "optimiser": None, "counters": (1, 1, 60.0 * minutes)}
        torch.save(light, folder / "state.pt")

    asked = argparse.Namespace(work=tmp_path / "w", out=tmp_path / "c", hand_back=None, sitting=5.0)
    assert sit(asked, {"vae": 1.0, "judge": 1.0, "ldm": 1.0}, run)
    assert called == ["vae", "judge", "ldm"]
    assert sit(asked, {"vae": 1.0, "judge": 1.0, "ldm": 1.0}, run) and len(called) == 3
    assert not is_done(asked.work, "ldm", 2.0)


@pytest.mark.slow
def test_one_command_works_for_some_minutes_and_hands_back_small_files(work: Path, tmp_path: Path) -> None:
    from tools.mini_base.__main__ import main

    mine, back = tmp_path / "w", tmp_path / "back"
    mine.mkdir()
    (mine / "pack.safetensors").write_bytes((work / "pack.safetensors").read_bytes())
    common = ["--work", str(mine), "--size", "tiny", "--device", "cpu", "--batch", "4", "--views", "1"]
    assert main(["tokenizer", *common]) == 0
    plan = [word for stage in ("vae", "judge", "ldm") for word in ("--plan", f"{stage}=0.01")]
    assert main(["sitting", *common, "--out", str(tmp_path / "none"), "--hand-back", str(back), *plan]) == 0
    assert all((mine / stage / "state.pt").is_file() for stage in ("vae", "judge", "ldm"))
    assert (back / "carry.000").stat().st_size <= 15 * 2**20
    with pytest.raises(SystemExit, match="STAGE=MINUTES"):
        main(["sitting", *common, "--plan", "nothing=1"])


@pytest.mark.slow
def test_lessons_widen_what_is_taught_and_go_on_where_a_sitting_ended(work: Path, pack: Pack, tmp_path: Path) -> None:
    from tools.mini_base import ldm, vae

    elsewhere = tmp_path / "lessons"
    shutil.copytree(work / "tokenizer", elsewhere / "tokenizer")
    vae.train(pack, elsewhere, TINY, minutes=0.02, batch=4, device="cpu")
    many = len(pack.concepts)
    lessons = (ldm.Lesson(1, until=0.5), ldm.Lesson(many, known=1))

    def counters() -> tuple[int, int, float]:
        return torch.load(elsewhere / "ldm" / "state.pt", weights_only=True)["counters"]

    ldm.train(pack, elsewhere, TINY, minutes=0.1, sitting=0.01, batch=4, device="cpu", per_drawing=2, lessons=lessons)
    assert ldm.things_taught(elsewhere) == 1 and counters()[0] > 0 and counters()[2] < 3
    ldm.train(pack, elsewhere, TINY, minutes=0.1, batch=4, device="cpu", per_drawing=2, lessons=lessons)
    assert ldm.things_taught(elsewhere) == many and counters()[2] >= 6
    assert len(pack.first(1).concepts) == 1 and len(pack.concepts) == many

    shown = [
        ldm.LatentBank(
            pack.first(many), Views(pack.first(many), "cpu", TINY.pixels), vae.load(elsewhere, torch.device("cpu")),
            tokenizer.load(elsewhere / "tokenizer"), per_drawing=4, captions=1, seed=0, known=known,
        ).latents.shape[0]
        for known in (0, 1)
    ]  # fmt: skip
    first = pack.first(many).concepts[0].slug
    of_first = sum(d.slug == first for i, d in enumerate(pack.first(many).drawings) if d.taught)
    assert shown[0] - shown[1] == 2 * of_first
