"""Score distillation: pull any differentiable image towards what a view prior expects, seen pixels left alone.

Poole et al., DreamFusion, 2023, eq. 3: the gradient of an image is w(t) (predicted noise - true noise), the
network taken as constant. A single image so pulled ends at the mode of the prior, not at a sample of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from novel_view.denoising import Conditions, averaged_noise
from novel_view.view_prior import ViewPrior
from utils.errors import InputError

# What a level of noise counts, by the share of the image that it keeps: `noise` as published (the variance of the
# noise); `even`; `image` makes the gradient the difference to the predicted clean image, whatever the level.
WEIGHTS: dict[str, Callable[[float], float]] = {
    "noise": lambda kept: 1.0 - kept,
    "even": lambda _: 1.0,
    "image": lambda kept: float(((1.0 - kept) / kept) ** 0.5),
}


@dataclass(frozen=True)
class Pull:
    """How an image is pulled: what a level of noise counts, and between which shares of the schedule it is drawn.

    Guidance belongs to the prior: only it knows what it predicts without a condition.
    """

    weight: str = "noise"
    first: float = 0.02
    last: float = 0.98

    def __post_init__(self) -> None:
        if self.weight not in WEIGHTS or not 0.0 <= self.first <= self.last <= 1.0:
            raise InputError(
                "an image cannot be pulled like this",
                found=f"weight {self.weight}, levels {self.first} to {self.last}",
                expected=f"weight {', '.join(WEIGHTS)}; 0 <= first <= last <= 1",
                do="correct the value",
            )


def sds_loss(
    prior: ViewPrior,
    image: Tensor,
    conditions: Conditions,
    pull: Pull,
    generator: torch.Generator,
    free: Tensor | None = None,
) -> Tensor:
    """Return a number whose gradient with respect to the image is the score distillation gradient.

    The number itself means nothing. It is divided by the number of codes, as a mean over pixels would be.

    Args:
        prior: of any kind; no gradient goes through its noise prediction, one does through its `encode`.
        image: (1, 3, h, w) in [-1, 1], differentiable, of the prior's image size.
        conditions: the views that the prior imagines it from.
        pull: weights and levels.
        generator: of level and noise.
        free: (1, 1, h, w) bool, pixels that may change; the others get no gradient at all. None: all may.

    Raises:
        InputError: an image of another size, or a prior whose codes do not depend on the image.
    """
    if tuple(image.shape[-2:]) != tuple(prior.image_size):
        raise InputError(
            "the image has another size than the prior works at",
            found="{} x {} px".format(*image.shape[-2:]),
            expected="{} x {} px (height x width)".format(*prior.image_size),
            do="render it in that size",
        )
    codes = prior.encode(image if free is None else torch.where(free, image, image.detach()))
    if image.requires_grad and not codes.requires_grad:
        raise InputError(
            "this prior cannot be distilled",
            found="codes that do not depend on the image: its encoder passes no gradient",
            expected="an encoder that is differentiable",
            do="sample from it instead (leave --sds out)",
        )
    gradient = sds_gradient(prior, codes.detach(), conditions, pull, generator)
    return (codes * gradient).sum() / codes.numel()


@torch.no_grad()
def sds_gradient(
    prior: ViewPrior, codes: Tensor, conditions: Conditions, pull: Pull, generator: torch.Generator
) -> Tensor:
    """Return w(t) (predicted noise - true noise), (1, c, h', w'), at one level drawn from those of `pull`."""
    last = len(prior.schedule) - 1
    low, high = round(pull.first * last), round(pull.last * last)
    place = generator.device
    step = int(torch.randint(low, high + 1, (1,), generator=generator, device=place))
    noise = torch.randn(codes.shape, generator=generator, device=place).to(codes.device)
    kept = float(prior.schedule.kept[step])
    noisy = kept**0.5 * codes + (1.0 - kept) ** 0.5 * noise
    predicted = averaged_noise(prior, conditions, conditions.weights_of_codes(codes), noisy, step)
    return WEIGHTS[pull.weight](kept) * (predicted - noise)
