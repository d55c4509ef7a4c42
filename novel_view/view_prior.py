"""What a model must offer to imagine a view from other views: the protocol `ViewPrior`, and its noise schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """How much of the image is left at each step: `kept` (steps,) falls from nearly 1 to nearly 0.

    A noisy image is x_t = sqrt(kept_t) x_0 + sqrt(1 - kept_t) noise (Ho et al. 2020, eq. 4, where `kept` is
    written as alpha-bar).
    """

    kept: Tensor

    @staticmethod
    def linear(steps: int = 1000, first: float = 0.00085, last: float = 0.012) -> Schedule:
        """Return the schedule whose square root of beta rises linearly, as latent diffusion models are trained."""
        beta = torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64) ** 2
        return Schedule(torch.cumprod(1.0 - beta, dim=0).float())

    def __len__(self) -> int:
        return len(self.kept)


class ViewPrior(Protocol):
    """A model of a target view given condition views; images are (k, 3, h, w) in [-1, 1].

    What is denoised are its own codes (k, c, h', w'): latents, or the image itself where it works on pixels.
    """

    @property
    def schedule(self) -> Schedule:
        """The noise that it was made for."""
        ...

    @property
    def image_size(self) -> tuple[int, int]:
        """The (height, width) that it wants images in."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Return the codes (k, c, h', w') of images (k, 3, h, w)."""
        ...

    def decode(self, codes: Tensor) -> Tensor:
        """Return the images (k, 3, h, w) of codes (k, c, h', w')."""
        ...

    def predict_noise(
        self, condition_images: Tensor, target_from_conditions: Tensor, noisy_codes: Tensor, step: int
    ) -> Tensor:
        """Return the noise (k, c, h', w') that each condition alone would see in the noisy target.

        Args:
            condition_images: (k, 3, h, w), one a condition.
            target_from_conditions: (k, 4, 4), inv(world_from_target) world_from_condition, OpenCV axes, mm.
            noisy_codes: (k, c, h', w') noisy codes of the target, as a rule the same k times.
            step: index into the schedule, 0 the cleanest.
        """
        ...
