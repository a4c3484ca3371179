"""diffusers itself asked about our files: does it know every name, and does it apply exactly our delta."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.lora_files import factors
from trainer.adapters import file as lora_file
from trainer.bases import catalog
from trainer.core.home import Home
from trainer.formats.detect import locate


@pytest.mark.slow
def test_diffusers_itself_knows_every_name_we_say_it_knows(tmp_path: Path) -> None:
    import torch
    from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers

    weights = factors(groups=("attention", "mlp", "conv"), rank=1, alpha=0.5)
    tensors = {key: torch.from_numpy(np.array(value)) for key, value in lora_file.kohya_tensors(weights).items()}
    state, alphas = _convert_non_diffusers_lora_to_diffusers(tensors)
    assert len(state) == 2 * len(weights) and set(alphas.values()) == {0.5} and len(alphas) == len(weights)
    assert {locate(key) for key in state} == set(weights)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_diffusers_loads_our_file_and_applies_exactly_our_delta(tmp_path: Path) -> None:
    import torch
    from diffusers import StableDiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]

    facts_ = catalog.find(Home.find(tmp_path), "mini")
    weights = factors(catalog.layers(facts_), rank=4, alpha=3.0)
    path = lora_file.write(tmp_path / "fox.safetensors", weights, {}, "fp32")
    assert facts_.path is not None
    pipe = StableDiffusionPipeline.from_pretrained(
        facts_.path, torch_dtype=torch.float32, local_files_only=True, safety_checker=None, use_safetensors=True
    )
    before = {(part, module): getattr(pipe, part).get_submodule(module).weight.detach().clone() for part, module in weights}
    pipe.load_lora_weights(str(path))
    pipe.fuse_lora(components=["unet", "text_encoder"])
    for (part, module), factor in lora_file.normalise(path).modules.items():
        layer = getattr(pipe, part).get_submodule(module)
        after = getattr(layer, "base_layer", layer).weight.detach()
        delta = torch.from_numpy(factor.delta())
        assert torch.allclose(after - before[part, module], delta, rtol=1e-4, atol=1e-6), module
        assert float(delta.abs().max()) > 1e-3
