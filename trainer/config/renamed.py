"""The former names of options, and of their values: one table, which every tree that may be old passes through.

TOML files, the words of the command line, drafts, run folders and the metadata of LoRA files written by an earlier version keep
working. Checkpoints go the other way: what they remember of the settings is hashed under the former names for ever, so that
an old run goes on (engine/output/checkpoint.py).
"""

from __future__ import annotations

from typing import Any

from trainer.core.problem import Problem

Tree = dict[str, Any]

NAMES: dict[str, str] = {
    "run.exposures": "run.epochs",
    "run.accumulation": "run.gradient_accumulation",
    "run.ema": "run.ema_decay",
    "model.prediction": "model.prediction_type",
    "images.resolutions": "images.extra_resolutions",
    "images.bucket_step": "images.bucket_resolution_step",
    "images.flip": "images.flip_augment",
    "images.crops": "images.random_crops",
    "images.variants": "images.augment_variants",
    "images.colour": "images.color_jitter",
    "images.turn": "images.rotation",
    "captions.shuffle": "captions.shuffle_tags",
    "captions.keep_separator": "captions.keep_tokens_separator",
    "captions.lines": "captions.one_per_line",
    "captions.weights": "captions.weighted",
    "captions.max_tokens": "captions.max_token_length",
    "slider.keep": "slider.preserve",
    "slider.drawn": "slider.generated_images",
    "lora.kind": "lora.type",
    "lora.only": "lora.include",
    "lora.skip": "lora.exclude",
    "lora.unet": "lora.train_unet",
    "lora.text_encoder": "lora.train_text_encoder",
    "lora.text_encoder_until": "lora.text_encoder_stop_at",
    "lora.text_encoder_2_until": "lora.text_encoder_2_stop_at",
    "lora.embedding": "lora.embedding_tokens",
    "lora.embedding_from": "lora.embedding_init",
    "lora.start": "lora.init",
    "lora.start_from": "lora.continue_from",
    "lora.up_ratio": "lora.loraplus_ratio",
    "lora.max_norm": "lora.scale_weight_norms",
    "loss.kind": "loss.type",
    "loss.masks": "loss.masked",
    "loss.mask_floor": "loss.unmasked_weight",
    "noise.pyramid": "noise.multires_iterations",
    "noise.pyramid_discount": "noise.multires_discount",
    "noise.perturbation": "noise.input_perturbation",
    "noise.zero_terminal": "noise.zero_terminal_snr",
    "noise.timesteps": "noise.timestep_sampling",
    "noise.timestep_shift": "noise.logit_mean",
    "noise.timestep_spread": "noise.logit_std",
    "noise.timestep_min": "noise.min_timestep",
    "noise.timestep_max": "noise.max_timestep",
    "preservation.folder": "preservation.regularization_folder",
    "preservation.weight": "preservation.prior_loss_weight",
    "preservation.prior": "preservation.base_prior",
    "preservation.prior_word": "preservation.class_word",
    "validation.share": "validation.split",
    "validation.pictures": "validation.images",
    "validation.likeness": "validation.similarity_model",
    "memory.dtype": "memory.base_dtype",
    "memory.base_precision": "memory.quantize_base",
    "memory.offload": "memory.offload_fraction",
    "memory.graphs": "memory.cuda_graphs",
    "samples.negative": "samples.negative_prompt",
    "samples.guidance": "samples.cfg_scale",
}
"""Former name -> name."""

VALUES: dict[str, dict[str, str]] = {"schedule.name": {"restarts": "cosine_with_restarts"}}
"""Name -> {former value: value}."""

FORMER = {name: former for former, name in NAMES.items()}
"""Name -> former name."""


def name_of(name: str) -> str:
    """The name of the option that is or was called `name`."""
    return NAMES.get(name, name)


def value_of(name: str, value: Any) -> Any:
    """The value of the option `name` that is or was written `value`."""
    return VALUES.get(name, {}).get(value, value) if isinstance(value, str) else value


def modernized(tree: Tree) -> Tree:
    """`tree` under the names and values of today. Problem where an option stands in it under both its names with different
    values."""
    result, twice = _modernized(tree)
    for name in twice:
        raise named_twice(name)
    return result


def modernized_file(tree: Tree) -> Tree:
    """`tree` as `modernized` makes it, for files that no person writes: where both names of an option stand in one, the new one
    counts."""
    return _modernized(tree)[0]


def conflicts(tree: Tree) -> list[Problem]:
    """A Problem for each option that stands in `tree` under both its names with different values."""
    return [named_twice(name) for name in _modernized(tree)[1]]


def named_twice(name: str) -> Problem:
    """The Problem of an option given under both its names with different values."""
    return Problem("option_twice", field=name, name=name, former=FORMER[name])


def former(tree: Tree) -> Tree:
    """`tree`, given under the names and values of today, under the former ones."""
    result: Tree = {}
    for section, values in tree.items():
        if not isinstance(values, dict):
            result[section] = values
            continue
        result[section] = {}
        for key, value in values.items():
            name = f"{section}.{key}"
            before = {now: then for then, now in VALUES.get(name, {}).items()}
            result[section][FORMER.get(name, name).partition(".")[2]] = before.get(value, value) if before else value
    return result


def _modernized(tree: Tree) -> tuple[Tree, list[str]]:
    """The tree under the names of today, and the options that stand in it twice with different values."""
    result: Tree = {section: dict(values) if isinstance(values, dict) else values for section, values in tree.items()}
    twice: list[str] = []
    for section, values in result.items():
        if not isinstance(values, dict):
            continue
        for key in list(values):
            name = name_of(f"{section}.{key}")
            field = name.partition(".")[2]
            value = value_of(name, values[key])
            if field != key:
                del values[key]
                if field in values:
                    if value_of(name, values[field]) != value:
                        twice.append(name)
                    continue
            values[field] = value
    return result, twice
