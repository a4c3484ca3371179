"""A LoRA is drawn as its training read: clip skip, long prompts, separate VAE, noise schedule; wherever its file has gone."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers import tiny
from trainer.adapters import inference_settings
from trainer.adapters.file import read_header, rewrite
from trainer.adapters.fold import LoraStrength
from trainer.bases import catalog
from trainer.commands import sample
from trainer.config import load
from trainer.core import files
from trainer.core.home import Home
from trainer.core.problem import Problem
from trainer.engine.base import load_base
from trainer.engine.inference.preview_worker import PreviewWorker
from trainer.engine.inference.sampling import GenerateRequest, ImageSampler
from trainer.engine.text.encode import encode, reading_at

LONG = "red, " * 60 + "a blob"


@pytest.fixture
def trained(bench, tmp_path):
    """A LoRA of a run that changed all there is about reading and drawing, and the run's own last picture."""
    from diffusers import AutoencoderKL  # pyright: ignore[reportPrivateImportUsage]

    torch.manual_seed(5)
    config: Any = AutoencoderKL.load_config(bench.base / "vae")
    vae: Any = AutoencoderKL.from_config(config, scaling_factor=0.4)
    vae.save_pretrained(tmp_path / "far" / "other-vae")
    config = bench.config(
        "run.steps=3",
        "captions.clip_skip=2",
        f"model.vae={tmp_path / 'far' / 'other-vae'}",
        "model.prediction_type=v_prediction",
        "noise.zero_terminal_snr=true",
        "captions.max_token_length=150",
        samples={"prompts": [LONG], "steps": 2},
    )
    files.write_json(bench.run().config, load.dump(config))
    file = bench.train(config)
    with Image.open(bench.run().sample(3, 0)) as image:
        return file, np.asarray(image)


def _asked(base, *loras) -> dict:
    return {"prompt": LONG, "seed": 7, "steps": 2, "guidance": base.guidance, "width": 64, "height": 64, "loras": loras}


def test_everybody_draws_what_the_run_itself_drew(bench, trained, tmp_path, capsys):
    file, wanted = trained
    said = read_header(file).metadata
    assert (said["ss_clip_skip"], said["ss_vae_name"], said["modelspec.prediction_type"]) == ("2", "other-vae", "v")
    assert str(tmp_path) not in str(said)
    base = catalog.find(bench.home, str(bench.base))
    studio = ImageSampler.load(base, torch.device("cpu"), torch.float32, bench.home)
    plain = next(iter(studio.draw(GenerateRequest(**_asked(base)))))
    (drawn,) = studio.draw(GenerateRequest(**_asked(base, LoraStrength(file))))
    assert np.array_equal(np.asarray(drawn.image), wanted) and studio.notes == []
    assert "VAE: other-vae, Clip skip: 2" in drawn._a1111() and "Clip" not in plain._a1111()
    again = next(iter(studio.draw(GenerateRequest(**_asked(base)))))
    assert np.array_equal(np.asarray(again.image), np.asarray(plain.image))  # nothing of it stays behind

    # elsewhere: another home, where only the file and a VAE of that name are
    there = Home(tmp_path / "elsewhere").create()
    moved = shutil.copy(file, there.loras / "moved.safetensors")
    shutil.copytree(tmp_path / "far" / "other-vae", there.models / "other-vae")
    assert (
        sample.main(
            [
                str(moved),
                "--home",
                str(there.root),
                "--base",
                str(bench.base),
                "--prompt",
                LONG,
                "--seed",
                "7",
                "--steps",
                "2",
                "--width",
                "64",
                "--height",
                "64",
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    with Image.open(tmp_path / "out" / "p0_s1.00.png") as image:
        assert np.array_equal(np.asarray(image), wanted)
    shutil.rmtree(there.models / "other-vae")
    answers = _Answers()
    use = {"path": str(moved), "unet": 1.0}
    PreviewWorker(there, answers).do(
        {"id": 1, "do": "draw", "base": str(bench.base), "out": str(tmp_path / "out"), "request": _asked(base, use)}
    )
    notes = [(told["code"], told["params"]) for told in answers.told if told["event"] == "note"]
    assert notes == [("vae_lacking", {"vae": "other-vae"})] and answers.told[-1]["event"] == "done"


class _Answers:
    """Where a worker's answers go."""

    def __init__(self) -> None:
        self.told: list[dict] = []

    def write(self, line: str) -> None:
        self.told.append(json.loads(line))

    def flush(self) -> None:
        pass


def test_a_long_prompt_and_clip_skip_reach_the_picture_as_in_training(bench):
    parts = load_base(bench.config(), bench.home)
    early = load_base(bench.config("captions.clip_skip=2"), bench.home)
    with torch.no_grad():
        wanted = encode(early, [LONG], 150)["hidden"]
        plain = encode(parts, [LONG], 150)["hidden"]
        words = ImageSampler(parts)._words(GenerateRequest(LONG), 2, 150)
        assert torch.equal(words["prompt_embeds"], wanted) and words["negative_prompt_embeds"].shape == wanted.shape
        assert torch.equal(encode(parts, [LONG], 150)["hidden"], plain) and not torch.equal(plain, wanted)
        with reading_at(parts, 9):  # deeper than there are layers: the first one reads
            assert torch.equal(encode(parts, [LONG], 150)["hidden"], wanted)
        with reading_at(early, 2):  # a run's own encoders are cut already
            assert torch.equal(encode(early, [LONG], 150)["hidden"], wanted)


@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_prompts_of_the_other_families_are_read_as_their_pipelines_do(tmp_path, family):
    facts = catalog.find(Home(tmp_path), str(tiny.make(tmp_path / "base", family, words=4096)))
    studio = ImageSampler.load(facts, torch.device("cpu"), torch.float32)
    asked = GenerateRequest("a red blob", steps=2, guidance=3.0, width=64, height=64)
    pipe = studio.parts.family.pipeline(studio.parts)
    theirs = pipe(
        "a red blob",
        num_inference_steps=2,
        guidance_scale=3.0,
        width=64,
        height=64,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
    ).images
    theirs = pipe.image_processor.postprocess(pipe.vae.decode(theirs / pipe.vae.config.scaling_factor)[0].detach())[0]
    assert np.array_equal(np.asarray(next(iter(studio.draw(asked))).image), np.asarray(theirs))
    (long,) = studio.draw(GenerateRequest(LONG, steps=1, guidance=3.0, width=64, height=64))
    (cut,) = studio.draw(GenerateRequest("red, " * 37, steps=1, guidance=3.0, width=64, height=64))
    assert studio.notes == [] and not np.array_equal(np.asarray(long.image), np.asarray(cut.image))


def test_brackets_are_weights_where_a_lora_was_trained_so_or_where_asked(bench, capsys):
    """In the run's own pictures, in the preview and on the command line, by one reading of them."""
    prompt = "a (blob:1.6), [red]"
    config = bench.config("run.steps=1", "captions.weighted=true", samples={"prompts": [prompt], "steps": 2})
    with_weights = bench.train(config)
    told = read_header(with_weights).metadata["atelier.config"]
    other = told.replace('"weighted":true', '"weighted":false')
    without = rewrite(with_weights, bench.home.loras / "plain.safetensors", {"atelier.config": other})
    assert told != other
    base = catalog.find(bench.home, str(bench.base))
    studio = ImageSampler.load(base, torch.device("cpu"), torch.float32, bench.home)

    def draw(prompt: str, *files, weights: bool = False) -> np.ndarray:
        asked = _asked(base, *map(LoraStrength, files)) | {"prompt": prompt, "weights": weights}
        (drawn,) = studio.draw(GenerateRequest(**asked))
        assert ("weights" in drawn.facts) is (weights or with_weights in files)
        return np.asarray(drawn.image)

    asked = draw(prompt, with_weights)
    with Image.open(bench.run().sample(1, 0)) as image:
        assert np.array_equal(asked, np.asarray(image))
    assert np.array_equal(asked, draw(prompt, without, weights=True))
    assert not np.array_equal(asked, draw(prompt, without))
    assert not np.array_equal(asked, draw("a blob, red", with_weights))
    draw(prompt, without, with_weights)
    assert studio.notes == []  # the two do not disagree: one of them reads weights, so both are drawn so

    out = bench.home.root / "out"
    assert (
        sample.main(
            [
                str(without),
                "--home",
                str(bench.home.root),
                "--base",
                str(bench.base),
                "--prompt",
                prompt,
                "--seed",
                "7",
                "--steps",
                "2",
                "--width",
                "64",
                "--height",
                "64",
                "--out",
                str(out),
                "--weights",
            ]
        )
        == 0
    )
    with Image.open(out / "p0_s1.00.png") as image:
        assert np.array_equal(np.asarray(image), asked)


def test_what_a_file_says_wrongly_changes_nothing(bench, tmp_path):
    from trainer.adapters import file

    base = catalog.find(bench.home, str(bench.base))
    layer = {("unet", "mid_block.attentions.0.proj_in"): (np.ones((1, 64), np.float32), np.ones((64, 1), np.float32), 1.0)}

    def told(**metadata: str) -> inference_settings.InferenceSettings:
        return inference_settings.of_file(file.write(tmp_path / "a.safetensors", layer, metadata, "fp32"), base)

    for value in ("None", "-1", "0", "2.5", "99", "٢"):
        assert told(ss_clip_skip=value).clip_skip == 1
    assert told(ss_clip_skip="2") == inference_settings.InferenceSettings(clip_skip=2)
    assert told(ss_vae_name="../../etc/passwd").vae == "passwd" and told(ss_vae_name="..").vae == ""
    other = json.dumps({"model": {"prediction_type": "v_prediction"}})
    assert told(**{"atelier.config": other, "ss_sd_model_name": "another"}).prediction == ""
    assert base.path is not None
    assert told(**{"atelier.config": other, "ss_sd_model_name": base.path.name}).prediction == "v_prediction"
    for captions in ([], {"weighted": "yes"}, {"weighted": 1}):
        assert not told(**{"atelier.config": json.dumps({"captions": captions})}).weights
    assert told(**{"atelier.config": json.dumps({"captions": {"weighted": True}})}) == inference_settings.InferenceSettings(
        weights=True
    )
    assert (
        told(**{"atelier.config": "[", "atelier.run": "[]", "ss_zero_terminal_snr": "True"})
        == inference_settings.InferenceSettings()
    )


def test_a_base_that_lies_is_told_what_it_predicts(bench):
    parts = load_base(bench.config("model.prediction_type=v_prediction", "noise.zero_terminal_snr=true"), bench.home)
    assert (parts.facts.prediction, parts.scheduler.config.prediction_type) == ("v_prediction", "v_prediction")
    assert catalog.find(bench.home, str(bench.base)).prediction == "epsilon"
    with pytest.raises(Problem):
        load_base(bench.config("noise.zero_terminal_snr=true"), bench.home)
