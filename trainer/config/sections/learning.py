"""The options of the objective: loss, noise, prior preservation and validation. Part of the tree in train.py."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from trainer.core.schema import Section


class Loss(Section):
    type: Literal["mse", "huber", "smooth_l1"] = "mse"
    """The loss function. mse is what the bases were trained with; huber and smooth_l1 count large errors less, which keeps
    a few odd images or wrong captions from dominating."""
    huber_c: float = Field(default=0.1, gt=0, le=10)
    """Where huber and smooth_l1 turn from squared to linear, in units of the noise. Smaller values forgive more; mse does
    not use it."""
    huber_schedule: Literal["constant", "exponential", "snr"] = "constant"
    """Whether that threshold follows the noise level: snr and exponential let it fall from 1 at nearly clean images to the
    value above at nearly pure noise, so that fine detail is trained as with mse and only composition is forgiven. constant
    keeps it fixed; mse does not use it."""
    weighting: Literal["min_snr", "debiased", "none"] = "min_snr"
    """How the loss is weighted over timesteps, by their signal-to-noise ratio (SNR). min_snr keeps the nearly clean
    timesteps from dominating; debiased favours the noisy ones, where composition is decided; none leaves them as they are.
    On v-prediction bases kohya's debiased uses another formula, 1/(SNR+1) in place of √SNR/(SNR+1): run.compat = kohya
    switches to it."""
    min_snr_gamma: float | None = Field(default=5.0, ge=0.1, le=50)
    """The γ of min-SNR weighting (Hang et al. 2023), which evens out the loss over timesteps and makes training faster and
    steadier. 5 is the paper's value; empty turns it off."""
    masked: bool = False
    """Masked training: learns mostly from the masked part of each image, which is white in `name.mask.png` next to it or,
    without that file, whatever is not transparent. For figures whose backgrounds should not be learned; images without a
    mask count in full."""
    unmasked_weight: float = Field(default=0.1, ge=0, le=1)
    """The weight of the area outside the mask. 0 may leave strange backgrounds; 1 is as if there were no mask."""


class Noise(Section):
    offset: float = Field(default=0.0, ge=0, le=0.5)
    """Noise offset: adds a little of the same noise everywhere, which helps very dark and very bright images. Use 0.03 to
    0.06 if wanted; not for bases with a zero-terminal-SNR schedule."""
    multires_iterations: int = Field(default=0, ge=0, le=10)
    """Multi-resolution (pyramid) noise (Whitaker 2023): adds noise at this many coarser sizes, for a wider range of light
    and bolder compositions. Use 6 to 10 if wanted, and not together with the noise offset. 0 is off. kohya's
    multires_noise_iterations counts a first size as fine as the image, which makes the rest about a quarter weaker: numbers
    copied from there need run.compat = kohya."""
    multires_discount: float = Field(default=0.3, gt=0, lt=1)
    """How much weaker each coarser size of the multi-resolution noise is. 0.3 for larger images, up to 0.8 for a strong
    effect."""
    input_perturbation: float = Field(default=0.0, ge=0, le=0.5)
    """Input perturbation (ip noise gamma, Ning et al. 2023): shows the model a little more noise than it has to predict,
    which makes up for generating on top of its own errors. 0.1 is the paper's value."""
    zero_terminal_snr: bool = False
    """Zero terminal SNR: rescales the noise schedule until its last timestep holds no image at all (Lin et al. 2024), for
    real black and white. Only for v-prediction bases; programs that generate with the file must do the same."""
    timestep_sampling: Literal["uniform", "logit_normal"] = "uniform"
    """Which timesteps (noise levels) are trained. uniform samples all alike, as the bases were trained; logit_normal
    samples the middle ones more often (Esser et al. 2024), where most of the image is decided."""
    logit_mean: float = Field(default=0.0, ge=-4, le=4)
    """Shifts the middle of logit_normal: above 0 towards more noise (composition), below 0 towards less (detail)."""
    logit_std: float = Field(default=1.0, gt=0, le=4)
    """The width of logit_normal. Smaller values stay closer to the middle, 2 is nearly uniform."""
    min_timestep: int = Field(default=0, ge=0, le=999)
    """The lowest timestep trained, of 1000. Above 0, the finest detail stays as the base makes it."""
    max_timestep: int = Field(default=1000, ge=1, le=1000)
    """Timesteps trained stay below this, of 1000. Lower values leave the composition as the base makes it."""

    @model_validator(mode="after")
    def _range(self) -> Noise:
        if self.min_timestep >= self.max_timestep:
            raise ValueError("timestep_range:noise.min_timestep")
        return self


class Preservation(Section):
    """Prior preservation: what the base knows is kept while something new is trained."""

    regularization_folder: str = ""
    """A folder of regularization (class) images of the wider kind, such as any dogs in addition to your dog, so that the
    word for it keeps its meaning. One of them is trained with each of yours, so steps take twice as long. Empty is off."""
    caption: str = ""
    """The class caption: used for regularization images that have no caption of their own, such as `a dog`. Leave the
    trigger out."""
    prior_loss_weight: float = Field(default=1.0, gt=0, le=10)
    """The weight of the regularization images in the loss, against your own. 1 counts them alike; less learns faster and
    forgets more."""
    base_prior: float = Field(default=0.0, ge=0, le=10)
    """Prior preservation without further images: how strongly the model is held to what the untouched base predicts for
    your own images when the trigger is left out of the caption. 1 holds well; steps take about two and a half times as
    long. 0 is off, and so is a training without a trigger word."""
    class_word: str = ""
    """The class word that takes the trigger's place in that comparison, such as `a dog`. Left empty, the trigger is just
    left out."""


class Validation(Section):
    """Validation on images that are not trained on."""

    split: float = Field(default=0.0, ge=0, le=0.5)
    """The fraction of the images set aside for validation: their loss is compared with the untouched base's, so that a run
    can say which checkpoint is best. Use 0.1 of twenty or more images; with fewer, each one is missed in training. 0 is
    off."""
    images: tuple[str, ...] = ()
    """The images set aside for validation, by name, one per line, in place of a fraction."""
    every: int = Field(default=0, ge=0, le=100_000)
    """Validates after every so many steps; 0 validates about ten times. Checkpoints are always validated."""
    patience: int = Field(default=0, ge=0, le=100)
    """Early stopping: ends the training after so many validations in a row without improvement. 0 never does; below 3 is
    hasty."""
    similarity_model: str = "auto"
    """The CLIP model that scores the sample images: how similar they are to the set, how well they fit their prompts, and
    which are near copies of a training image. auto uses the CLIP model that comes with the embedded base, or the first one
    in models/clips, and does nothing if there is none; else give a folder, `clip` (downloaded once, 1.7 GB) or a hub id at
    a commit. off never scores. No score says whether an image is good, and none changes the training."""
