"""The newer options all at once: what one test of each cannot see is whether they spoil each other or exact resuming."""

from __future__ import annotations

import shutil

import numpy as np
from PIL import Image
from safetensors import safe_open

from trainer.core import events

WORDS = (
    "run.steps=4",
    "save.every=2",
    "run.ema_decay=0.9",
    "optimizer.name=schedule_free",
    "optimizer.lr=0.01",
    "optimizer.block_lrs=mid_block = 0.5\n*.attn2.* = 2",
    "schedule.name=cosine_with_restarts",
    "loss.type=huber",
    "loss.huber_schedule=snr",
    "loss.weighting=debiased",
    "loss.masked=true",
    "noise.multires_iterations=4",
    "noise.input_perturbation=0.1",
    "noise.timestep_sampling=logit_normal",
    "noise.max_timestep=900",
    "preservation.base_prior=0.5",
    "preservation.class_word=thing",
    "preservation.prior_loss_weight=0.5",
    "preservation.caption=a thing",
    "validation.split=0.2",
    "validation.every=2",
    "captions.shuffle_tags=true",
    "captions.keep_tokens_separator=|||",
    "captions.tag_dropout=0.3",
    "captions.wildcards=true",
    "captions.prefix=drawn",
    "captions.suffix=fine",
    "captions.one_per_line=true",
    "captions.weighted=true",
    "captions.max_token_length=150",
    "captions.clip_skip=2",
    "images.extra_resolutions=72",
    "images.upscale=false",
    "images.flip_augment=true",
    "images.color_jitter=0.2",
    "images.rotation=8",
    "images.augment_variants=2",
)


def test_all_at_once_stopped_and_resumed_equals_straight(bench, tmp_path):
    for file in sorted(bench.folder.glob("*.png")):  # small pictures, trained as they are: the test is about the sum of it all
        with Image.open(file) as image:
            small = image.resize((40, 40))
        small.save(file) if file.stem < "0004" else file.unlink()
    shutil.copytree(bench.folder, tmp_path / "things")
    (bench.folder / "0000.txt").write_text("blob ||| {red|blue}, (round, [big]:1.3)\na thing, round, small")
    mask = np.zeros((40, 40), np.uint8)
    mask[8:24, 16:32] = 255
    Image.fromarray(mask).save(bench.folder / "0001.mask.png")
    words = (*WORDS, f"preservation.regularization_folder={tmp_path / 'things'}")
    straight = bench.train(bench.config(*words), "straight")
    losses = bench.losses()
    assert len(losses) == 4 and all(loss is not None for loss in losses)

    def stop(event, run):
        if isinstance(event, events.Step) and event.step == 3:
            run.ask("stop")

    assert bench.train(bench.config(*words), "broken", stop) is None
    first = bench.losses()
    resumed = bench.train(bench.config(*words), "broken")
    assert first + bench.losses() == losses
    with safe_open(straight, "np") as one, safe_open(resumed, "np") as two:
        assert one.keys() == two.keys()
        assert all((one.get_tensor(key) == two.get_tensor(key)).all() for key in one.keys())  # noqa: SIM118
        told = one.metadata()
    assert told["ss_clip_skip"] == "2" and told["ss_loss_type"] == "huber" and told["ss_min_snr_gamma"] == "None"
    assert told["ss_huber_schedule"] == "snr" and "block_lrs=['mid_block = 0.5', '*.attn2.* = 2']" in told["ss_optimizer"]
    assert told["ss_color_aug"] == "True" and told["ss_multires_noise_iterations"] == "4" and told["ss_masked_loss"] == "True"
