"""The samplers that sample images and previews can be drawn with, by diffusers' schedulers.

Used by engine/inference/sampling.py, which draws, and by the Preview page and `sample`, which offer them. Light: diffusers is
imported where one is built.

Each takes its betas and what the UNet predicts from the base's own scheduler, so that it suits ε- and v-prediction.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from trainer.core.problem import Problem

SamplerName = Literal["base", "ddim", "euler", "euler_a", "dpmpp_2m", "dpmpp_2m_karras", "dpmpp_2m_sde", "unipc"]
SAMPLERS: tuple[str, ...] = get_args(SamplerName)
TITLES = {
    "ddim": "DDIM",
    "euler": "Euler",
    "euler_a": "Euler a",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_karras": "DPM++ 2M Karras",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "unipc": "UniPC",
}
"""What pictures say of themselves and people know them by, the same in every language; `base` is the base's own."""
_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False, "timestep_spacing": "leading"}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
_OF_THE_BASE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type")


def checked(name: str, field: str = "sampler") -> str:
    """`name` itself, or the Problem that there is no such sampler."""
    if name not in SAMPLERS:
        raise Problem("sampler_unknown", field=field, given=name, known=", ".join(SAMPLERS))
    return name


def usable(name: str, own: Any) -> str:
    """The sampler that stands for `name` on a base whose scheduler is `own`.

    Karras et al. 2022 space the steps between the least and the largest σ. With zero terminal SNR the largest is without
    bound (4,096 as diffusers cuts it), and most steps would look at noise alone: the same solver with even steps instead.
    """
    return "dpmpp_2m" if name == "dpmpp_2m_karras" and _zero_terminal(own) else name


def build(name: str, own: Any) -> Any:
    """The scheduler called `name` for a base whose own is `own`, which is `base`.

    Steps lie from the last timestep to the first (as k-diffusion spaces them; DDIM as it came with Stable Diffusion), and
    on a base with zero terminal SNR they begin at the very last one ("trailing", Lin et al. 2024).
    """
    if name == "base":
        return own
    import diffusers

    class_name, kwargs = _CLASSES[usable(name, own)]
    kwargs = {"timestep_spacing": "linspace", "steps_offset": 1} | kwargs
    if _zero_terminal(own):
        kwargs |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    of_the_base = {key: own.config[key] for key in _OF_THE_BASE if key in own.config}
    return getattr(diffusers, class_name)(**of_the_base, **kwargs)


def _zero_terminal(own: Any) -> bool:
    return bool(own.config.get("rescale_betas_zero_snr", False))
