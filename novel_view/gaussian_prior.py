"""A view prior in closed form: given a condition, each pixel of the target is normal with known mean and spread.

It needs no weights and invents nothing. As the mean of a condition one gives its image carried into the target
view; in tests it tells what a sampler should produce, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from novel_view.view_prior import Schedule
from utils.errors import InputError


@dataclass(frozen=True, eq=False)
class GaussianPrior:
    """The prior target | condition i ~ N(means[i], stds[i]^2), pixels independent of each other; codes are images.

    Args:
        means: (k, 3, h, w) in [-1, 1], the target as condition i expects it.
        stds: (k, 1, h, w) or (k, 3, h, w), what it leaves open; at or above 0.
        schedule: of the noise.

    Raises:
        InputError: shapes that do not fit, values that are not finite, a negative spread.
    """

    means: Tensor
    stds: Tensor
    schedule: Schedule = field(default_factory=Schedule.linear)

    def __post_init__(self) -> None:
        k, _, height, width = self.means.shape
        if self.means.shape[1] != 3 or self.stds.shape not in ((k, 1, height, width), (k, 3, height, width)):
            raise InputError(
                "means and spreads of a Gaussian prior do not fit",
                found=f"means {tuple(self.means.shape)}, spreads {tuple(self.stds.shape)}",
                expected="means (k, 3, h, w), spreads (k, 1, h, w) or (k, 3, h, w)",
                do="give each condition a mean image and a spread of its size",
            )
        if not (bool(self.means.isfinite().all()) and bool((self.stds >= 0).all())):
            raise InputError(
                "a Gaussian prior has values that are no mean or no spread",
                found="means that are not finite, or spreads that are negative or NaN",
                expected="finite means, spreads at or above 0",
                do="fill pixels that a condition does not see with any colour and a large spread",
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """The (height, width) of its means."""
        return self.means.shape[2], self.means.shape[3]

    def encode(self, images: Tensor) -> Tensor:
        """Return the images themselves: this prior works on pixels."""
        return images

    def decode(self, codes: Tensor) -> Tensor:
        """Return the codes themselves."""
        return codes

    def predict_noise(
        self,
        condition_images: Tensor,
        target_from_conditions: Tensor,  # noqa: ARG002  what it knows of the views is in its means
        noisy_codes: Tensor,
        step: int,
    ) -> Tensor:
        """Return E[noise | noisy target, condition i], (k, 3, h, w): row i belongs to means[i].

        With x = sqrt(kept) x0 + sqrt(1 - kept) noise this is sqrt(1 - kept) (x - sqrt(kept) mean) / variance of x,
        the same as (x - sqrt(kept) E[x0 | x]) / sqrt(1 - kept) without its cancellation near kept = 1.

        Raises:
            InputError: another number of conditions than it has means.
        """
        if len(condition_images) != len(self.means):
            raise InputError(
                "a Gaussian prior is asked about other conditions than it has means for",
                found=f"{len(condition_images)} conditions",
                expected=f"{len(self.means)}, in the order of its means",
                do="make the prior from the conditions that are used",
            )
        kept = float(self.schedule.kept[step])
        variance = kept * self.stds**2 + (1.0 - kept)
        return (1.0 - kept) ** 0.5 * (noisy_codes - kept**0.5 * self.means) / variance
