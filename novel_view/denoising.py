"""Sample one view from several condition views: all of them judge the same noisy image, and one step is taken.

Interpolated denoising after Yang et al., ViewFusion, CVPR 2024, with the noise predictions averaged. What that
samples: for conditions that each give a normal distribution of one common spread, the weighted geometric product
of them, exactly but for the steps' size. With different spreads it is an approximation: scores of noised
distributions do not add up to the score of the noised product, and only at the clean end is the sum right.
To average the images x_{t-1} of branches that drew their own noise is another thing, and wrong: the mean of k
noises is too small by the square root of k, and the spread of the result with it. Numbers:
benchmarks/interpolated_denoising.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor

from novel_view.view_prior import ViewPrior
from utils.errors import InputError

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Conditions:
    """The views that a target is imagined from.

    Args:
        images: (k, 3, h, w) in [-1, 1].
        target_from_conditions: (k, 4, 4), inv(world_from_target) world_from_condition, OpenCV axes, mm.
        weights: (k,) or, pixel by pixel of the target, (k, 1, h, w); none negative, summing to 1 over k.

    Raises:
        InputError: shapes that do not fit, or weights that are none.
    """

    images: Tensor
    target_from_conditions: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        k, _, height, width = self.images.shape
        weighed = self.weights.shape in ((k,), (k, 1, height, width))
        if not weighed or self.target_from_conditions.shape != (k, 4, 4):
            raise InputError(
                "the parts of the condition views do not fit",
                found=f"images {tuple(self.images.shape)}, poses {tuple(self.target_from_conditions.shape)}, "
                f"weights {tuple(self.weights.shape)}",
                expected="images (k, 3, h, w), poses (k, 4, 4), weights (k,) or (k, 1, h, w)",
                do="give each condition an image, a pose and a weight",
            )
        sums, least = self.weights.sum(0), float(self.weights.min())
        if not least >= 0 or not bool(((sums - 1).abs() < _SUM_TOLERANCE).all()):
            raise InputError(
                "the weights of the condition views are no weights",
                found=f"values from {least:.3g}, sums from {float(sums.min()):.3g} to {float(sums.max()):.3g}",
                expected="weights at or above 0 whose sum over the conditions is 1 (at every pixel)",
                do="divide them by their sum",
            )

    def weights_of_codes(self, codes: Tensor) -> Tensor:
        """Return the weights (k, 1, h', w') for codes (1, c, h', w'), or (k, 1, 1, 1): means over their cells."""
        if self.weights.ndim == 1:
            return self.weights[:, None, None, None]
        pooled = functional.adaptive_avg_pool2d(self.weights, (codes.shape[-2], codes.shape[-1]))
        return pooled / pooled.sum(0, keepdim=True)


class Known(NamedTuple):
    """What of a target is known already.

    `image` (1, 3, h, w) in [-1, 1] where `mask` (1, 1, h, w) is true; a step is taken `repeats` times, noise being
    put back in between, so that the unknown part can agree with the known one (RePaint, Lugmayr et al. 2022).
    """

    image: Tensor
    mask: Tensor
    repeats: int = 1


def sample(
    prior: ViewPrior,
    conditions: Conditions,
    steps: int = 50,
    eta: float = 1.0,
    generator: torch.Generator | None = None,
    known: Known | tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return one image of the target, (1, 3, h, w), as the prior gives it (not clipped to [-1, 1]).

    Known pixels are given back exactly; while sampling, the codes that they alone make up are set to their noised
    version before every step. That conditions the rest as far as the prior ties pixels together *in the noise
    prediction of one step*: for pixels that are independent of each other it is exact, for others an approximation
    that `Known.repeats` improves.

    Args:
        prior: the model, of any kind.
        conditions: at the image size of the prior.
        steps: at how many levels of noise the prior is asked.
        eta: 0 deterministic (DDIM), 1 the ancestral sampler (Song et al. 2021, eq. 16). With few steps both come
            out too narrow: a normal of spread 0.5 gets 0.475 with 50 steps and eta 0, 0.451 with eta 1.
        generator: of the noise; it may live on another device than the images.
        known: pixels to keep.

    Raises:
        InputError: images of another size, or a number of steps or an eta that is none.
    """
    _check(prior, conditions, steps, eta)
    device, given = conditions.images.device, None if known is None else Known(*known)

    def draw() -> Tensor:
        place = device if generator is None else generator.device
        return torch.randn(like.shape, generator=generator, device=place).to(device)

    with torch.no_grad():
        like = prior.encode(conditions.images[:1])
        weights = conditions.weights_of_codes(like)
        held = None if given is None else _hold(prior, given, like)
        levels = torch.linspace(len(prior.schedule) - 1, 0, steps).round().long().tolist()
        codes = draw()
        for here, there in pairwise([*levels, None]):
            kept = float(prior.schedule.kept[here])
            kept_next = 1.0 if there is None else float(prior.schedule.kept[there])
            for repeat in range(held.repeats if held else 1):
                if repeat:
                    codes = renoise(codes, kept_next, kept, draw())
                if held:
                    codes = torch.where(held.mask, renoise(held.image, 1.0, kept, draw()), codes)
                noise = averaged_noise(prior, conditions, weights, codes, here)
                codes = denoise_step(codes, noise, (kept, kept_next), eta, draw())
        image = prior.decode(codes if held is None else torch.where(held.mask, held.image, codes))
        return image if given is None else torch.where(given.mask.bool(), given.image, image)


def averaged_noise(prior: ViewPrior, conditions: Conditions, weights: Tensor, codes: Tensor, step: int) -> Tensor:
    """Return the weighted mean (1, c, h', w') of the noise that each condition sees in the shared noisy codes."""
    shared = codes.expand(len(conditions.images), -1, -1, -1)
    noises = prior.predict_noise(conditions.images, conditions.target_from_conditions, shared, step)
    return (weights * noises).sum(0, keepdim=True)


def denoise_step(codes: Tensor, noise: Tensor, kept: tuple[float, float], eta: float, fresh: Tensor) -> Tensor:
    """Return the codes one step cleaner (Song et al., Denoising diffusion implicit models, 2021, eq. 12 and 16).

    Args:
        codes: noisy codes.
        noise: the noise predicted in them.
        kept: the schedule's `kept` of these codes, and of those to come; 1 is clean.
        eta: share of the fresh noise.
        fresh: standard normal noise, shaped like the codes.
    """
    now, then = kept
    spread = eta * ((1.0 - then) / (1.0 - now) * (1.0 - now / then)) ** 0.5
    clean = (codes - (1.0 - now) ** 0.5 * noise) / now**0.5
    return then**0.5 * clean + max(1.0 - then - spread**2, 0.0) ** 0.5 * noise + spread * fresh


def renoise(codes: Tensor, kept: float, kept_less: float, fresh: Tensor) -> Tensor:
    """Return codes of level `kept` at a noisier level: the forward process, with standard normal `fresh`."""
    share = kept_less / kept
    return share**0.5 * codes + (1.0 - share) ** 0.5 * fresh


def _hold(prior: ViewPrior, known: Known, like: Tensor) -> Known | None:
    """Return the codes of what is known, and which codes nothing unknown goes into; None where there is none."""
    mask, (height, width) = known.mask.bool(), prior.image_size
    if known.image.shape != (1, 3, height, width) or mask.shape != (1, 1, height, width) or known.repeats < 1:
        raise InputError(
            "the known part of a target does not fit",
            found=f"image {tuple(known.image.shape)}, mask {tuple(mask.shape)}, repeats {known.repeats}",
            expected=f"image (1, 3, {height}, {width}), mask (1, 1, {height}, {width}), repeats from 1",
            do="resize both to the image size of the prior",
        )
    if not bool(mask.any()):
        return None
    values = torch.where(mask, known.image, torch.zeros_like(known.image))
    mean = values.sum((-1, -2), keepdim=True) / mask.sum()
    cells = functional.adaptive_max_pool2d((~mask).float(), (like.shape[-2], like.shape[-1])) == 0
    return Known(prior.encode(torch.where(mask, values, mean)), cells, known.repeats)


def _check(prior: ViewPrior, conditions: Conditions, steps: int, eta: float) -> None:
    height, width = prior.image_size
    if conditions.images.shape[-2:] != (height, width):
        raise InputError(
            "the condition images have another size than the prior works at",
            found="{} x {} px".format(*conditions.images.shape[-2:]),
            expected=f"{height} x {width} px (height x width)",
            do="crop and resize them, and the target's camera alike",
        )
    if not 1 <= steps <= len(prior.schedule) or not 0.0 <= eta <= 1.0:
        raise InputError(
            "there is no such way of sampling",
            found=f"{steps} steps, eta {eta}",
            expected=f"1 to {len(prior.schedule)} steps, eta from 0 to 1",
            do="choose values in these ranges",
        )
