"""What a LoRA file says about itself, for our library and every program that reads it. Called when a file is saved.

Keys: ss_* as the widely read training scripts write them, modelspec.* 1.0.1, ssmd_cover_images, and our own atelier.*.
No path of this machine is ever written. `sshs_*` and `modelspec.hash_sha256` are added by file.write, last.
"""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from trainer.bases.facts import BaseFacts, file_hashes, hashes_of
from trainer.config.plan import is_slider
from trainer.config.sections.lora import Lora
from trainer.config.sections.slider import Slider
from trainer.config.train import TrainConfig
from trainer.core import files
from trainer.images.captions.captions import trial_prompts

VERSION = "0.1.0"
MAX_TAGS = 100
"""ComfyUI shows the first hundred tags in alphabetical order: a longer list would push the trigger out."""
MAX_TAG = 120
MAX_TEXT = 2000
MAX_COVER = 40 * 2**10
MAX_CONFIG = 48 * 2**10

ARCHITECTURES = {
    ("sd1", "epsilon"): "stable-diffusion-v1", ("sd1", "v_prediction"): "stable-diffusion-v1",
    ("sd2", "epsilon"): "stable-diffusion-v2-512", ("sd2", "v_prediction"): "stable-diffusion-v2-768-v",
    ("sdxl", "epsilon"): "stable-diffusion-xl-v1-base", ("sdxl", "v_prediction"): "stable-diffusion-xl-v1-base",
}  # fmt: skip
IMPLEMENTATIONS = {"sdxl": "https://github.com/Stability-AI/generative-models"}
LOSSES = {"mse": "l2", "huber": "huber", "smooth_l1": "smooth_l1"}
"""Our names of losses as kohya's programs write them."""
STRENGTHS = {"style": (0.5, 0.8, 1.0), "character": (0.7, 1.0, 1.1), "concept": (0.7, 1.0, 1.1), "slider": (-2.0, 1.0, 2.0)}
"""Kind -> (lowest, best, highest) strength to recommend until somebody has looked and says otherwise."""

Item = tuple[str, tuple[int, int], int]
"""(caption, format, repeats) of one picture."""


def build(
    config: TrainConfig,
    facts: BaseFacts,
    *,
    steps: int,
    total_steps: int,
    items: Sequence[Item],
    loss: float | None,
    started: float,
    finished: float,
    name: str,
    run_id: str,
    cover: bytes | None = None,
    vae: Path | None = None,
) -> dict[str, str]:
    """Everything but the hashes. `cover` is a small JPEG of what the LoRA does, `vae` where a separate VAE was read from."""
    share = config.save.share_captions
    views = sum(repeats for _, _, repeats in items)
    folder = files.safe_name(name, "lora") if share else "images"
    metadata = _training(config, facts, steps, total_steps, views, started, finished)
    metadata |= {
        "ss_output_name": files.safe_name(name, "lora"),
        "ss_bucket_info": _buckets(items),
        "ss_dataset_dirs": _json({folder: {"n_repeats": 1, "img_count": len(items)}}),
        "ss_training_comment": config.rights.purpose[:MAX_TEXT],
    }
    if share:
        metadata["ss_tag_frequency"] = _json({folder: tag_frequency(items, config.captions.trigger)})
    elif config.captions.trigger:
        metadata["ss_tag_frequency"] = _json({folder: {config.captions.trigger: views}})
    sample_prompts, captions = (config.samples.prompts, [caption for caption, _, _ in items]) if share else ((), [])
    prompts = sample_prompts or trial_prompts(config.run.kind, config.captions.trigger, facts.sample_prompts, captions)
    metadata["atelier.prompt"] = next(iter(prompts), "")[:MAX_TEXT]
    if vae is not None and vae.is_file():
        metadata["ss_vae_hash"], metadata["ss_new_vae_hash"] = hashes_of(vae)
    metadata |= _modelspec(config, facts, finished, name)
    if cover and len(cover) <= MAX_COVER and cover[:2] == b"\xff\xd8":
        picture = base64.b64encode(cover).decode()
        metadata["ssmd_cover_images"] = _json([picture])
        metadata["modelspec.thumbnail"] = f"data:image/jpeg;base64,{picture}"
    if is_slider(config):
        metadata["atelier.slider"] = _json(_slider(config))
    metadata["atelier.images"] = _json(summary(items))
    metadata |= _own(config, facts, steps, total_steps, len(items), loss, started, finished, run_id)
    return {key: value for key, value in metadata.items() if value != ""}


def slider_of(metadata: Mapping[str, str]) -> tuple[str, str, str] | None:
    """(target, positive, negative) of a slider by its file's metadata, words empty where they are private; None for others."""
    try:
        tree = json.loads(metadata.get("atelier.slider", ""))
    except (ValueError, RecursionError):
        return None
    if not isinstance(tree, dict):
        return None
    target, positive, negative = (str(tree.get(name) or "")[:MAX_TAG] for name in ("target", "positive", "negative"))
    return target, positive, negative


def _slider(config: TrainConfig) -> dict[str, Any]:
    prompts = config.slider.model_dump(mode="json", include={"target", "positive", "negative", "preserve"})
    return prompts if config.save.share_captions else {}


def _usage(config: TrainConfig) -> str:
    low, best, high = STRENGTHS[config.run.kind]
    if not is_slider(config):
        return f"Strength {low:g} to {high:g}, start with {best:g}."
    slider = config.slider if config.save.share_captions else Slider()
    ends = f' 1 leads to "{slider.positive}", -1 to "{slider.negative}".' if slider.positive else ""
    return f"A slider: strength {low:g} to {high:g}, 0 is the base.{ends}"[:MAX_TEXT]


def tag_frequency(items: Sequence[Item], trigger: str) -> dict[str, int]:
    """How often each comma-separated part of the captions is looked at: the trigger first, then the commonest."""
    count: Counter[str] = Counter()
    for caption, _, repeats in items:
        for tag in {part.strip() for part in caption.split(",")}:
            if tag:
                count[tag[:MAX_TAG]] += repeats
    frequencies = {trigger: count.pop(trigger, 0) or sum(repeats for _, _, repeats in items)} if trigger else {}
    ordered = sorted(count.items(), key=lambda pair: (-pair[1], pair[0]))
    return frequencies | dict(ordered[: MAX_TAGS - len(frequencies)])


def base_name(facts: BaseFacts) -> str:
    """The base as anybody may read it: its id or file name, never where it lies."""
    if facts.layout == "hub":
        return facts.id
    return _file_name(facts.id) or facts.id


def _file_name(path: str) -> str:
    """The last part of a path of any system."""
    return PurePath(path.replace("\\", "/")).name


def public_config(config: TrainConfig, facts: BaseFacts) -> dict[str, Any]:
    """The whole tree of options without this machine's paths, and without the person's words where they are private."""
    tree = config.model_dump(mode="json")
    tree["images"]["folder"] = ""
    lines = [line.rpartition("=") for line in config.images.subsets]
    tree["images"]["subsets"] = [f"{_file_name(folder.strip())} ={numbers}" for folder, _, numbers in lines]
    tree["lora"]["continue_from"] = _file_name(config.lora.continue_from)
    tree["model"]["base"], tree["model"]["vae"] = base_name(facts), _file_name(config.model.vae)
    if facts.layout == "hub" and facts.revision:
        tree["model"]["revision"] = facts.revision
    if not config.save.share_captions or len(_json(tree).encode("utf-8", "replace")) > MAX_CONFIG:
        tree["samples"]["prompts"], tree["samples"]["negative_prompt"] = [], ""
    if not config.save.share_captions:
        tree["slider"] |= {"target": "", "positive": "", "negative": "", "preserve": []}
    for key, text in tree["rights"].items():
        tree["rights"][key] = text[:MAX_TEXT] if isinstance(text, str) else text
    return tree


def _training(
    config: TrainConfig, facts: BaseFacts, steps: int, total: int, views: int, started: float, finished: float
) -> dict[str, str]:
    run, lora, optimizer, schedule = config.run, config.lora, config.optimizer, config.schedule
    batch = run.batch_size * run.gradient_accumulation
    per_epoch = max(1, math.ceil(views / batch))
    side = config.images.resolution or facts.resolution
    unet_lr = optimizer.lr if lora.train_unet else None
    text_encoder_lr = _text_encoder_lrs(config, facts)
    v2 = facts.family == "sd2"
    loss, noise = config.loss, config.noise
    clip_skip = config.captions.clip_skip if config.captions.clip_skip > 1 else None
    gamma = loss.min_snr_gamma if loss.weighting == "min_snr" else None
    metadata: dict[str, Any] = {
        "ss_v2": v2, "ss_base_model_version": facts.version, **network(lora),
        "ss_sd_model_name": base_name(facts), "ss_resolution": f"({side}, {side})", "ss_clip_skip": clip_skip,
        "ss_num_train_images": views, "ss_num_reg_images": 0, "ss_num_batches_per_epoch": per_epoch,
        "ss_num_epochs": math.ceil(total / per_epoch), "ss_epoch": math.ceil(steps / per_epoch), "ss_steps": steps,
        "ss_max_train_steps": total, "ss_batch_size_per_device": run.batch_size, "ss_total_batch_size": batch,
        "ss_gradient_accumulation_steps": run.gradient_accumulation,
        "ss_gradient_checkpointing": config.memory.gradient_checkpointing, "ss_learning_rate": optimizer.lr,
        "ss_unet_lr": unet_lr, "ss_text_encoder_lr": text_encoder_lr, "ss_optimizer": _optimizer(optimizer),
        "ss_lr_scheduler": schedule.name, "ss_lr_warmup_steps": round(schedule.warmup * total), "ss_seed": run.seed,
        "ss_min_snr_gamma": gamma, "ss_noise_offset": noise.offset or None,
        "ss_debiased_estimation": loss.weighting == "debiased", "ss_loss_type": LOSSES[loss.type],
        "ss_huber_c": None if loss.type == "mse" else loss.huber_c, "ss_masked_loss": loss.masked,
        "ss_huber_schedule": None if loss.type == "mse" else loss.huber_schedule,
        "ss_multires_noise_iterations": noise.multires_iterations or None,
        "ss_multires_noise_discount": noise.multires_discount if noise.multires_iterations else None,
        "ss_ip_noise_gamma": noise.input_perturbation or None, "ss_min_timestep": noise.min_timestep or None,
        "ss_max_timestep": noise.max_timestep if noise.max_timestep < 1000 else None,
        "ss_prior_loss_weight": config.preservation.prior_loss_weight if config.preservation.regularization_folder else None,
        "ss_caption_tag_dropout_rate": config.captions.tag_dropout, "ss_max_token_length": config.captions.max_token_length,
        "ss_max_grad_norm": run.max_grad_norm, "ss_mixed_precision": config.memory.base_dtype,
        "ss_caption_dropout_rate": config.captions.dropout, "ss_shuffle_caption": config.captions.shuffle_tags,
        "ss_keep_tokens": config.captions.keep_tokens, "ss_flip_aug": config.images.flip_augment,
        "ss_color_aug": config.images.color_jitter > 0, "ss_random_crop": config.images.random_crops > 1,
        "ss_enable_bucket": config.images.buckets,
        "ss_bucket_no_upscale": not config.images.upscale, "ss_cache_latents": config.memory.cache_latents,
        "ss_zero_terminal_snr": facts.zero_snr or noise.zero_terminal_snr,
        "ss_training_started_at": started,
        "ss_training_finished_at": finished,
    }  # fmt: skip
    hashes = file_hashes(facts)
    if hashes:
        metadata["ss_sd_model_hash"], metadata["ss_new_sd_model_hash"] = hashes
    if config.model.vae:
        metadata["ss_vae_name"] = _file_name(config.model.vae)
    return {key: str(value) for key, value in metadata.items()}


def network(lora: Lora) -> dict[str, Any]:
    """The kind of adapter in the words of the scripts whose files others know, with rank and alpha as they are in the file.

    rsLoRA's alpha is times √r there, and a PiSSA or OLoRA start doubles both: alpha / r is what every loader multiplies by.
    """
    double = 1 if lora.init == "default" else 2
    alpha = lora.alpha * (math.sqrt(lora.rank) if lora.type == "rslora" else 1) * double
    network_args: dict[str, Any] = {}
    if lora.targets == "all":
        conv = lora.conv_rank or lora.rank
        network_args = {"conv_dim": conv * double, "conv_alpha": lora.conv_alpha or lora.alpha / lora.rank * conv * double}
    network_args |= {
        key: value
        for key, value in (
            ("rank_dropout", lora.rank_dropout),
            ("module_dropout", lora.module_dropout),
            ("loraplus_lr_ratio", lora.loraplus_ratio if lora.loraplus_ratio != 1 else 0),
        )
        if value
    }
    plain = lora.type in ("lora", "rslora")
    if not plain:
        network_args |= {"algo": {"dora": "lora", "oft": "diag-oft"}.get(lora.type, lora.type)}
        network_args |= {"dora_wd": True, "wd_on_output": False} if lora.type == "dora" else {}
        network_args |= {"factor": lora.lokr_factor or -1} if lora.type == "lokr" else {}
    return {
        "ss_network_module": "networks.lora" if plain else "lycoris.kohya", "ss_network_dim": lora.rank * double,
        "ss_network_alpha": alpha, "ss_network_args": _json({key: str(value) for key, value in network_args.items()}),
        "ss_network_dropout": lora.dropout or None, "ss_scale_weight_norms": lora.scale_weight_norms,
    }  # fmt: skip


def summary(items: Sequence[Item]) -> dict[str, Any]:
    """The pictures in numbers: none of their words and none of their names."""
    formats: Counter[str] = Counter()
    for _, (width, height), repeats in items:
        formats[f"{width}x{height}"] += repeats
    word_counts = [len(caption.split()) for caption, _, _ in items]
    return {
        "pictures": len(items), "looks": sum(formats.values()), "formats": dict(sorted(formats.items())),
        "captioned": sum(count > 0 for count in word_counts), "words": round(sum(word_counts) / max(1, len(word_counts)), 1),
    }  # fmt: skip


def _text_encoder_lrs(config: TrainConfig, facts: BaseFacts) -> Any:
    """The learning rate of the text encoder, both in a list where SDXL's two differ (0: not trained), or None."""
    lora, optimizer = config.lora, config.optimizer
    if not lora.train_text_encoder:
        return None
    first = getattr(optimizer, "text_encoder_lr", optimizer.lr)
    second = getattr(optimizer, "text_encoder_2_lr", None) or first
    if facts.family != "sdxl" or (lora.text_encoders == "both" and second == first):
        return first
    return [first if lora.text_encoders != "second" else 0, second if lora.text_encoders != "first" else 0]


def _optimizer(optimizer: Any) -> str:
    options = optimizer.model_dump(mode="json", exclude={"name", "lr", "text_encoder_lr", "text_encoder_2_lr"})
    inner = ",".join(f"{key}={value}" for key, value in options.items() if value != [])
    return f"{type(optimizer).__name__}({inner})"


def _buckets(items: Sequence[Item]) -> str:
    count: Counter[tuple[int, int]] = Counter()
    for _, size, repeats in items:
        count[size] += repeats
    buckets = {str(index): {"resolution": list(size), "count": count[size]} for index, size in enumerate(sorted(count))}
    return _json({"buckets": buckets, "mean_img_ar_error": 0.0})


def _modelspec(config: TrainConfig, facts: BaseFacts, finished: float, name: str) -> dict[str, str]:
    side = config.images.resolution or facts.resolution
    architecture = ARCHITECTURES.get((facts.family, facts.prediction), facts.family)
    fields = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{architecture}/lora",
        "implementation": IMPLEMENTATIONS.get(facts.family, "diffusers"),
        "title": name[:MAX_TEXT],
        "description": config.rights.purpose[:MAX_TEXT],
        "date": datetime.fromtimestamp(int(finished), UTC).isoformat().replace("+00:00", "Z"),
        "license": config.rights.licence[:MAX_TEXT] or facts.licence,
        "usage_hint": _usage(config),
        "tags": config.run.kind,
        "trigger_phrase": config.captions.trigger,
        "resolution": f"{side}x{side}",
        "prediction_type": "v" if facts.prediction == "v_prediction" else "epsilon",
    }
    return {f"modelspec.{key}": value for key, value in fields.items()}


def _own(
    config: TrainConfig, facts: BaseFacts, steps: int, total: int, pictures: int, loss: float | None, started: float,
    finished: float, run_id: str,
) -> dict[str, str]:  # fmt: skip
    low, best, high = STRENGTHS[config.run.kind]
    base = {"id": base_name(facts), "title": facts.titles, "revision": facts.revision, "layout": facts.layout}
    licences = {
        "base": facts.licence, "base_url": facts.licence_url, "pictures": config.rights.pictures_licence[:MAX_TEXT],
        "pictures_ok": config.rights.pictures_ok, "result": config.rights.licence[:MAX_TEXT],
    }  # fmt: skip
    run = {
        "id": run_id, "steps": steps, "total": total, "pictures": pictures, "loss": loss, "started": started,
        "finished": finished,
    }  # fmt: skip
    return {
        "atelier.version": VERSION,
        "atelier.config": _json(public_config(config, facts)),
        "atelier.base": _json(base),
        "atelier.licences": _json(licences),
        "atelier.run": _json(run),
        "atelier.strength": _json({"low": low, "best": best, "high": high}),
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
