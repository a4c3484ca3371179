"""The recipe on small real-class models: what it leaves, how it goes on, what it says when something breaks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from trainer.bases import catalog
from trainer.core import events
from trainer.core.home import PROJECT
from trainer.core.problem import Problem
from trainer.engine.base import load_base
from trainer.engine.networks.adapter import base_hash
from trainer.engine.objective.step import TrainingObjective
from trainer.engine.optim.optimizer import OptimizerStepper
from trainer.engine.output import checkpoint
from trainer.engine.output.control import Control
from trainer.engine.speed import device


def tensors(path) -> bytes:
    """The region the hash covers: everything behind the header."""
    data = path.read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]


def test_test_pictures_are_drawn_as_their_line_says(bench):
    lines = ("a blob --n red --s 1 --w 64 --h 80 --d 5 --l 0", "a blob", "a blob --ar 16")
    config = bench.config("run.steps=1", "samples.steps=2", samples={"prompts": lines})
    bench.train(config)
    written = []
    for index in range(3):
        with Image.open(bench.run().sample(1, index)) as picture:
            written.append(json.loads(picture.info["atelier"]) | {"size": picture.size})
    keys = ("prompt", "negative", "steps", "size", "seed", "guidance")
    base = catalog.find(bench.home, str(bench.base))
    assert [tuple(one[key] for key in keys) for one in written] == [
        ("a blob", "red", 1, (64, 80), 5, 0.0),
        ("a blob", "", 2, (64, 64), 7, base.guidance),
        ("a blob --ar 16", "", 2, (64, 64), 7, base.guidance),
    ]
    samples = [event.prompt for event in bench.events if isinstance(event, events.Sample)]
    assert samples[:3] == ["a blob", "a blob", "a blob --ar 16"]
    (note,) = {json.dumps(e.params) for e in bench.events if isinstance(e, events.Note) and e.code == "prompt_as_words"}
    assert "--ar" in note, "a run from before lines were read goes on as it was, and says so"


def test_a_prediction_set_by_hand_against_the_bases_own_word_is_noted_and_a_contradiction_is_not_trained(bench):
    bench.train(bench.config("run.steps=1", "model.prediction_type=v_prediction"))
    (note,) = (event for event in bench.events if isinstance(event, events.Note) and event.code == "prediction_by_hand")
    assert note.params == {"stated": "epsilon", "chosen": "v_prediction"}
    base = bench.home.models / "odd"
    shutil.copytree(bench.base, base)
    scheduler = base / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"rescale_betas_zero_snr": True}))
    bench.base = base
    with pytest.raises(Problem) as told:
        bench.train(bench.config("run.steps=1"), "two")
    assert (told.value.code, told.value.field) == ("base_doubt", "model.prediction_type")


def test_a_training_leaves_a_lora_checkpoints_and_samples(bench):
    file = bench.train(bench.config())
    assert file == bench.home.loras / "blob.safetensors"
    with safe_open(file, "np") as lora:
        keys = set(lora.keys())
        metadata = lora.metadata()
    assert metadata["ss_network_dim"] == "4" and metadata["ss_steps"] == "6"
    assert sum(k.endswith(".alpha") for k in keys) * 3 == len(keys)
    assert any(k.startswith("lora_unet_") for k in keys) and any(k.startswith("lora_te_text_model_") for k in keys)
    run = bench.run()
    assert checkpoint.steps(run)[-1] == 6
    assert run.sample(0, 0).exists() and run.sample(6, 0).exists()
    assert json.loads(run.report.read_text())["pictures"] == 6
    kinds = [e.kind for e in bench.events]
    assert kinds.count("step") == 6 and kinds[-1] == "finished"
    assert all(e.loss is not None and e.loss > 0 for e in bench.events if isinstance(e, events.Step))


def test_the_same_name_twice_overwrites_nothing(bench):
    first = bench.train(bench.config(), "one")
    before = first.read_bytes()
    second = bench.train(bench.config("run.seed=1"), "two")
    assert second.name == "blob_v2.safetensors" and first.read_bytes() == before


@pytest.mark.slow
def test_learning_lowers_the_loss_on_the_pictures(bench):
    bench.train(bench.config("run.steps=40", "run.batch_size=4"))
    losses = bench.losses()
    assert sum(losses[-12:]) < 0.97 * sum(losses[:12])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(bench):
    one = tensors(bench.train(bench.config(), "one"))
    two = tensors(bench.train(bench.config(), "two"))
    other = tensors(bench.train(bench.config("run.seed=5"), "three"))
    assert one == two != other


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "prodigy"])
def test_stopped_and_resumed_equals_straight(bench, optimizer):
    words = (f"optimizer.name={optimizer}", "run.steps=20", "run.gradient_accumulation=2", "images.flip_augment=true")
    straight = tensors(bench.train(bench.config(*words), "straight"))
    losses = bench.losses()

    def stop_at(step):
        def tell(event, run):
            if isinstance(event, events.Step) and event.step == step:
                run.ask("stop")

        return tell

    assert bench.train(bench.config(*words), "broken", stop_at(7)) is None
    first = bench.losses()
    assert bench.train(bench.config(*words), "broken", stop_at(13)) is None
    second = bench.losses()
    resumed = bench.train(bench.config(*words), "broken")
    assert first + second + bench.losses() == losses
    assert tensors(resumed) == straight


@pytest.mark.slow
def test_killed_and_resumed_equals_straight(bench, tmp_path):
    options = ("run.steps=20", "save.every=5")
    straight = tensors(bench.train(bench.config(*options), "straight"))
    losses = bench.losses()
    run = bench.run("killed")
    files_config = tmp_path / "config.json"
    files_config.write_text(bench.config(*options).model_dump_json())
    script = (
        f"import json,sys;from pathlib import Path;import torch;torch.set_num_threads({torch.get_num_threads()});"
        "from trainer.config.load import build;from trainer.engine.train import train;"
        "from trainer.engine.output.control import Control;from trainer.core.home import Home;"
        "from trainer.core.run_dir import RunDir;"
        "from trainer.core.events import EventLog;c,r,h=sys.argv[1:];run=RunDir(Path(r));log=EventLog(run.events);"
        "train(run,build(json.loads(Path(c).read_text())),Home(Path(h)),log.write,Control(run))"
    )
    words = [sys.executable, "-c", script, str(files_config), str(run.path), str(bench.home.root)]
    child = subprocess.Popen(words, cwd=PROJECT)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and 10 not in checkpoint.steps(run):
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    at = checkpoint.steps(run)[-1]
    assert 10 <= at < 20
    resumed = bench.train(bench.config(*options), "killed")
    assert bench.losses() == losses[at:]
    assert tensors(resumed) == straight


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(bench):
    words = ("run.steps=12", "save.every=4")
    straight = tensors(bench.train(bench.config(*words), "straight"))

    def stop(event, run):
        if isinstance(event, events.Step) and event.step == 9:
            run.ask("stop")

    bench.train(bench.config(*words), "damaged", stop)
    run = bench.run("damaged")
    newest = checkpoint.steps(run)[-1]
    file = run.checkpoint(newest) / "adapter.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    resumed = bench.train(bench.config(*words), "damaged")
    assert [e.params["step"] for e in bench.events if isinstance(e, events.Note) and e.code == "checkpoint_bad"] == [newest]
    assert next(e.step for e in bench.events if isinstance(e, events.Started)) == 8
    assert tensors(resumed) == straight


def test_a_checkpoint_belongs_to_what_is_asked_otherwise_than_by_itself_alone(bench):
    """So that a later version with more options takes it too; every choice but names and samples makes it another's."""
    plain = checkpoint.config_hash(bench.config())
    assert plain == checkpoint.config_hash(bench.config("samples.steps=9", "save.name=other", "images.rotation=0"))
    others = (
        "images.rotation=5",
        "optimizer.name=muon",
        "optimizer.name=came",
        "schedule.name=rex",
        "captions.weighted=true",
        "loss.huber_schedule=snr",
        "optimizer.block_lrs=mid_block = 2",
    )
    assert len({plain, *(checkpoint.config_hash(bench.config(word)) for word in others)}) == 1 + len(others)


def test_a_half_written_checkpoint_does_not_exist(bench):
    run = bench.run()
    half = run.checkpoints / "000009.tmp-abc"
    half.mkdir(parents=True)
    (half / "adapter.safetensors").write_bytes(b"x")
    (run.checkpoints / "000007").mkdir()
    assert checkpoint.newest(run, bench.config(), lambda step: pytest.fail("nothing to report")) is None
    assert not half.exists()


def test_pause_save_and_sample_are_done_between_two_steps(bench):
    def ask(event, run):
        if isinstance(event, events.Step) and event.step == 2:
            run.ask("save")
            run.ask("sample")
        if isinstance(event, events.Step) and event.step == 4:
            run.ask("pause")
        if isinstance(event, events.Paused):
            run.ask("resume")

    assert bench.train(bench.config("save.every=1000"), tell=ask)
    assert bench.run().sample(2, 0).exists()
    assert [e.step for e in bench.events if isinstance(e, events.Paused)] == [4]
    assert {2, 4} <= {e.step for e in bench.events if isinstance(e, events.Saved)}


def test_the_base_is_the_same_before_and_after(bench, monkeypatch):
    import trainer.engine.train as recipe

    seen = {}
    original = recipe.load_base

    def spy(config, home, tell):
        seen["parts"] = original(config, home, tell)
        seen["before"] = base_hash(seen["parts"])
        return seen["parts"]

    monkeypatch.setattr(recipe, "load_base", spy)
    on_disk = {p: p.read_bytes() for p in bench.base.rglob("*") if p.is_file()}
    bench.train(bench.config())
    assert base_hash(seen["parts"]) == seen["before"]
    assert {p: p.read_bytes() for p in bench.base.rglob("*") if p.is_file()} == on_disk


def test_one_bad_step_is_skipped_and_five_go_back_at_half_the_rate(bench, monkeypatch):
    original = TrainingObjective.backward
    bad = {3, 10, 11, 12, 13, 14}

    def poisoned(self, step, micro, scale):
        loss = original(self, step, micro, scale)
        if step in bad:
            bad.discard(step)
            for parameter in self.parts.unet.parameters():
                if parameter.grad is not None:
                    parameter.grad.fill_(float("nan"))
        return loss

    monkeypatch.setattr(TrainingObjective, "backward", poisoned)
    assert bench.train(bench.config("run.steps=16", "save.every=4"))
    notes = {e.code: e.params for e in bench.events if isinstance(e, events.Note)}
    assert notes["halved_rate"] == {"step": 15, "back": 12}
    assert notes["step_skipped"]["count"] == 6
    assert [e.loss for e in bench.events if isinstance(e, events.Step)].count(None) == 6


def test_numbers_broken_for_good_end_with_advice(bench, monkeypatch):
    monkeypatch.setattr(
        TrainingObjective,
        "loss",
        lambda self, x0, *rest: sum(p.sum() for p in self.parts.unet.parameters() if p.requires_grad) * float("nan"),
    )
    with pytest.raises(Problem) as problem:
        bench.train(bench.config("run.steps=30", "save.every=2"))
    assert problem.value.code == "nan_stop" and problem.value.field == "optimizer.lr"


def test_short_memory_steps_down_once_with_the_same_sum(bench, monkeypatch):
    straight = bench.train(bench.config("run.batch_size=2"), "straight")
    wanted = bench.losses()
    original = TrainingObjective.backward
    failed = []

    def short(self, step, micro, scale):
        if step == 2 and not failed:
            failed.append(step)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, step, micro, scale)

    monkeypatch.setattr(TrainingObjective, "backward", short)
    assert bench.train(bench.config("run.batch_size=2"), "short")
    assert [e.params for e in bench.events if isinstance(e, events.Note) and e.code == "memory_down"] == [
        {"batch": 1, "accumulation": 2}
    ]
    assert bench.losses() == pytest.approx(wanted, rel=1e-5)
    assert straight.exists()


def test_memory_short_twice_says_what_is_needed(bench, monkeypatch):
    def short(self, step, micro, scale):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 3000000000 bytes.")

    monkeypatch.setattr(TrainingObjective, "backward", short)
    with pytest.raises(Problem) as problem:
        bench.train(bench.config())
    needed, free = (float(problem.value.params[name]) for name in ("needed", "free"))
    assert problem.value.code == "memory_short" and needed == pytest.approx(free + 3, abs=0.11) and free > 0
    assert f"{needed:.1f} GB" in str(problem.value) and f"{free:.1f} GB" in str(problem.value)
    assert [e.code for e in bench.events if isinstance(e, events.Note)].count("memory_down") == 1


def test_what_was_refused_is_read_from_the_error():
    cuda = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 8.00 GiB")
    assert device.bytes_requested(cuda) == 2.5 * 2**30 and device.bytes_requested(ValueError("something else")) == 0
    assert device.is_oom(cuda) and not device.is_oom(RuntimeError("sizes do not match"))


def test_a_set_without_pictures_is_refused(bench, tmp_path):
    with pytest.raises(Problem) as problem:
        bench.train(bench.config(f"images.folder={tmp_path / 'home'}"))
    assert problem.value.code == "no_pictures"


def test_control_reads_each_request_once_also_after_a_crash(bench):
    run = bench.run()
    run.ask("stop")
    control = Control(run)
    control.poll()
    assert control.stop
    again = Control(run)
    again.poll()
    assert not again.stop
    with open(run.control, "a") as file:
        file.write('{"ask": "pau')
    again.poll()
    assert not again.pause


def test_optimiser_rates_follow_part_and_schedule(bench):
    parts = load_base(bench.config(), bench.home)
    from trainer.engine.networks.adapter import Adapter

    config = bench.config("optimizer.lr=0.01", "optimizer.text_encoder_lr=0.001")
    guard = OptimizerStepper(config, Adapter(parts, config), parts.device)
    for parameter in guard.adapter.parameters():
        parameter.grad = torch.ones_like(parameter)
    guard.update(torch.tensor(1.0), 0.5)
    assert guard.learning_rates() == pytest.approx({"unet": 0.005, "text_encoder": 0.0005})


def test_manifest_says_what_it_holds(bench):
    bench.train(bench.config())
    manifest = json.loads((bench.run().checkpoint(6) / "manifest.json").read_text())
    assert manifest["step"] == 6 and set(manifest["files"]) == {"adapter.safetensors", "optimizer.pt", "lora.safetensors"}


def test_captions_longer_than_the_text_encoder_reads_are_mentioned(bench):
    (bench.folder / "0000.txt").write_text("word " * 90)
    bench.train(bench.config("run.steps=1"))
    assert [e.params["count"] for e in bench.events if isinstance(e, events.Note) and e.code == "long_captions"] == [1]


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_a_base_in_16_bits_learns_the_same(bench, dtype):
    exact = bench.train(bench.config("run.steps=8", "optimizer.lr=0.001"), "exact")
    wanted = bench.losses()
    assert exact.exists()
    bench.train(bench.config("run.steps=8", "optimizer.lr=0.001", f"memory.base_dtype={dtype}"), "half")
    assert bench.losses() == pytest.approx(wanted, rel=0.02)


def test_the_scale_of_fp16_gives_way_and_leaves_the_step_the_same(bench):
    from trainer.engine.networks.adapter import Adapter

    config = bench.config("optimizer.lr=0.01", "run.max_grad_norm=0")
    parts = load_base(config, bench.home)
    adapter = Adapter(parts, config)
    plain, scaled = (
        OptimizerStepper(config, adapter, parts.device),
        OptimizerStepper(config, adapter, parts.device, torch.float16),
    )
    before = adapter.state()
    results = []
    for guard in (plain, scaled):
        adapter.load(before)
        for parameter in adapter.parameters():
            parameter.grad = torch.full_like(parameter, 0.5 * guard.scale)
        assert guard.update(torch.tensor(1.0), 1.0)
        results.append(adapter.state())
    assert all(torch.equal(results[0][name], results[1][name]) for name in before)
    for parameter in adapter.parameters():
        parameter.grad = torch.full_like(parameter, float("inf"))
    assert scaled.scale == 4096 and not scaled.update(torch.tensor(1.0), 1.0)
    assert scaled.scale == 2048
    assert all(torch.equal(results[1][name], value) for name, value in adapter.state().items())


def test_what_a_person_saved_stays_over_later_saves_a_resume_a_roll_back_and_the_end(bench, monkeypatch):
    words = ("run.steps=14", "save.every=2", "save.keep=1", "samples.steps=1")

    def ask(what_at):
        def tell(event, run):
            if isinstance(event, events.Step) and event.step in what_at:
                run.ask(what_at[event.step])

        return tell

    assert bench.train(bench.config(*words), "one", ask({3: "save", 4: "save", 5: "stop"})) is None
    run = bench.run("one")
    assert checkpoint.wanted(run) == [3, 4] and {3, 4} <= set(checkpoint.steps(run))
    asked = [event for event in bench.events if isinstance(event, events.Saved) and event.wanted]
    assert [(event.step, event.file) for event in asked] == [
        (3, "checkpoints/000003/lora.safetensors"),
        (4, "checkpoints/000004/lora.safetensors"),
    ]
    notes = [event for event in bench.events if isinstance(event, events.Note) and event.code == "saved_as_asked"]
    assert [event.params["step"] for event in notes] == [3, 4]
    before = {step: tensors(run.checkpoint(step) / checkpoint.LORA) for step in (3, 4)}

    original, bad = TrainingObjective.backward, set(range(7, 12))

    def poisoned(self, step, micro, scale):
        loss = original(self, step, micro, scale)
        if step in bad:
            bad.discard(step)
            for parameter in self.parts.unet.parameters():
                if parameter.grad is not None:
                    parameter.grad.fill_(float("nan"))
        return loss

    monkeypatch.setattr(TrainingObjective, "backward", poisoned)
    assert bench.train(bench.config(*words), "one", ask({14: "save"}))  # asked during the very last step
    assert [event.params["back"] for event in bench.events if isinstance(event, events.Note) and event.code == "halved_rate"]
    assert checkpoint.wanted(run) == [3, 4, 14]
    assert checkpoint.steps(run) == [3, 4, 12, 14]
    assert {step: tensors(run.checkpoint(step) / checkpoint.LORA) for step in (3, 4)} == before
