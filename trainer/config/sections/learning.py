"""The options of how errors count: loss, noise, what is kept of the base, and judging. Part of the tree in train.py."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from trainer.core.schema import Section


class Loss(Section):
    type: Literal["mse", "huber", "smooth_l1"] = "mse"
    """How an error is counted. mse is what the bases were made with; huber and smooth_l1 count large errors less, which
    keeps a few odd pictures or bad captions from leading."""
    huber_c: float = Field(default=0.1, gt=0, le=10)
    """Where huber and smooth_l1 turn from squares to straight lines, in units of the noise. Smaller forgives more; mse
    does not use it."""
    huber_schedule: Literal["constant", "exponential", "snr"] = "constant"
    """Whether that border follows the noise: snr and exponential let it fall from 1 where a picture is nearly clean to the
    value above where it is nearly noise, so that fine detail is learnt as with mse and only composition is forgiven.
    constant keeps it; mse does not use it."""
    weighting: Literal["min_snr", "debiased", "none"] = "min_snr"
    """How noise levels are weighed against each other. min_snr keeps the nearly clean ones from leading; debiased leans
    on the noisy ones, where composition is learnt; none leaves them as they are. On v-prediction bases kohya's debiased weighs
    otherwise, 1/(SNR+1) in place of √SNR/(SNR+1): run.compat = kohya takes its form."""
    min_snr_gamma: float | None = Field(default=5.0, ge=0.1, le=50)
    """Weighs noise levels evenly (min-SNR, Hang et al. 2023), which makes learning faster and steadier. 5 is the paper's
    value; empty turns it off."""
    masked: bool = False
    """Learn mostly from the marked part of each picture: white in `name.mask.png` beside it or, without that file, what is
    not transparent. For figures on backgrounds that are not to be learnt; pictures without a mask count whole."""
    unmasked_weight: float = Field(default=0.1, ge=0, le=1)
    """How much the part outside the mask still counts. 0 may leave strange backgrounds; 1 is as if there were no mask."""


class Noise(Section):
    offset: float = Field(default=0.0, ge=0, le=0.5)
    """Adds a little of the same noise everywhere, which helps very dark and very bright pictures. 0.03 to 0.06 where
    wanted; not for bases with a zero-terminal schedule."""
    multires_iterations: int = Field(default=0, ge=0, le=10)
    """Adds noise of this many coarser sizes (multi-resolution noise, Whitaker 2023), for wider ranges of light and bolder
    compositions. 6 to 10 where wanted; not together with the noise offset. 0 is off. kohya's multires_noise_iterations counts
    a first size as fine as the picture, which makes the rest about a quarter weaker: copied numbers need run.compat = kohya."""
    multires_discount: float = Field(default=0.3, gt=0, lt=1)
    """How much weaker each coarser size of the noise is. 0.3 for larger pictures, up to 0.8 for a strong effect."""
    input_perturbation: float = Field(default=0.0, ge=0, le=0.5)
    """Shows the model a little more noise than it is asked to find (input perturbation, Ning et al. 2023), which makes up
    for drawing on top of its own errors. 0.1 is the paper's value."""
    zero_terminal_snr: bool = False
    """Stretch the noise schedule until its last step holds no picture at all (Lin et al. 2024), for real black and white.
    Only for bases with v-prediction; programs that draw with the file must do the same."""
    timestep_sampling: Literal["uniform", "logit_normal"] = "uniform"
    """Which noise levels are practised. uniform takes all alike, as the bases were made; logit_normal takes the middle
    ones more often (Esser et al. 2024), where most of the picture is decided."""
    logit_mean: float = Field(default=0.0, ge=-4, le=4)
    """Moves the middle of logit_normal: above 0 towards more noise (composition), below 0 towards less (detail)."""
    logit_std: float = Field(default=1.0, gt=0, le=4)
    """The width of logit_normal. Smaller keeps closer to the middle, 2 is nearly uniform."""
    min_timestep: int = Field(default=0, ge=0, le=999)
    """The lowest noise level practised, of 1000. Above 0, the finest detail is left as the base draws it."""
    max_timestep: int = Field(default=1000, ge=1, le=1000)
    """The noise level practised stays below this, of 1000. Lower, composition is left as the base makes it."""

    @model_validator(mode="after")
    def _range(self) -> Noise:
        if self.min_timestep >= self.max_timestep:
            raise ValueError("timestep_range:noise.min_timestep")
        return self


class Preservation(Section):
    """What the base knows already is kept while something new is learnt."""

    regularization_folder: str = ""
    """A second folder with pictures of the wider kind, such as any dogs beside your dog, so that the word for it keeps its
    meaning. One of them is looked at with each of yours, so steps take twice as long. Empty is off."""
    caption: str = ""
    """The caption of pictures in that folder which have none of their own, such as `a dog`. Never with the trigger."""
    prior_loss_weight: float = Field(default=1.0, gt=0, le=10)
    """How much the pictures of that folder count against your own. 1 is alike; less learns faster and forgets more."""
    base_prior: float = Field(default=0.0, ge=0, le=10)
    """Without other pictures: how strongly the model is held to what the untouched base sees in your own pictures where
    the trigger is not said. 1 holds well; steps take about two and a half times as long. 0 is off, and so it is without a
    trigger word."""
    class_word: str = ""
    """What stands in the trigger's place for that comparison, such as `a dog`. Empty, the trigger is just left out."""


class Validation(Section):
    """Judging on pictures that are not learnt from."""

    split: float = Field(default=0.0, ge=0, le=0.5)
    """The share of pictures kept back to judge by: the loss on them is measured against the untouched base's, so that a
    run can say which checkpoint is best. 0.1 of twenty or more pictures; with fewer each one is missed. 0 is off."""
    images: tuple[str, ...] = ()
    """The pictures kept back, by name, one a line, in place of a share."""
    every: int = Field(default=0, ge=0, le=100_000)
    """Judge after every so many steps; 0 judges about ten times. Checkpoints are always judged."""
    patience: int = Field(default=0, ge=0, le=100)
    """End the training after so many judgements in a row without a better one. 0 never does; below 3 is hasty."""
    similarity_model: str = "auto"
    """Scores the test pictures: how like the set they are, how well they fit their prompts, and which nearly copy a picture
    of it. auto asks the judge of the embedded base, or the first CLIP model in models/clips, and is silent where there is
    none; else a folder, `clip` (fetched once, 1.7 GB) or a hub id at a commit. off never does. No score says whether a
    picture is good, and none changes the training."""
