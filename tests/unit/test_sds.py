"""Score distillation: it ends at the mode of a known prior, leaves seen pixels alone and the network untouched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from novel_view.denoising import Conditions
from novel_view.gaussian_prior import GaussianPrior
from novel_view.sds import Pull, sds_gradient, sds_loss
from novel_view.view_prior import Schedule
from utils.errors import InputError

SIZE = (6, 8)


def conditions(weights: list[float]) -> Conditions:
    count = len(weights)
    return Conditions(
        torch.zeros(count, 3, *SIZE), torch.eye(4).expand(count, 4, 4).contiguous(), torch.tensor(weights)
    )


def gaussian(spread: float, seed: int = 0, count: int = 1) -> GaussianPrior:
    means = torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8
    return GaussianPrior(means, torch.full((count, 1, *SIZE), spread))


def pulled(
    prior: GaussianPrior,
    views: Conditions,
    seed: int,
    pull: Pull,
    steps: int = 400,
    start: Tensor | None = None,
    free: Tensor | None = None,
) -> Tensor:
    """Return the image after so many steps of Adam whose rate falls, as the field's optimisation does."""
    generator = torch.Generator().manual_seed(seed)
    image = 2.0 * torch.rand(1, 3, *SIZE, generator=generator) - 1.0 if start is None else start.clone()
    image.requires_grad_()
    optimiser = torch.optim.Adam([image], lr=0.05)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.05 * 0.02 ** (step / steps)
        optimiser.zero_grad()
        sds_loss(prior, image, views, pull, generator, free).backward()
        optimiser.step()
    return image.detach()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weight", ["noise", "even", "image"])
def test_it_ends_at_the_mode_from_any_start(seed: int, weight: str) -> None:
    prior = gaussian(0.1, seed)
    found = pulled(prior, conditions([1.0]), seed + 10, Pull(weight))
    assert (found - prior.means).abs().mean() < 0.006
    assert (found - prior.means).abs().max() < 0.03


def test_of_several_conditions_it_ends_at_the_weighted_mean() -> None:
    prior = gaussian(0.1, 4, count=3)
    weights = torch.tensor([0.5, 0.3, 0.2])
    found = pulled(prior, conditions(weights.tolist()), 1, Pull())
    mean = (weights[:, None, None, None] * prior.means).sum(0, keepdim=True)
    assert (found - mean).abs().mean() < 0.03


def test_the_expected_gradient_is_that_of_the_formula() -> None:
    """E[predicted - true noise] = sqrt(kept (1 - kept)) (x - mean) / (kept std^2 + 1 - kept), by hand."""
    prior = gaussian(0.3)
    image = torch.zeros(1, 3, *SIZE)
    generator = torch.Generator().manual_seed(0)
    pull = Pull("even", first=0.4, last=0.4)
    mean = torch.stack([sds_gradient(prior, image, conditions([1.0]), pull, generator) for _ in range(4000)]).mean(
        0
    )
    kept = float(prior.schedule.kept[round(0.4 * 999)])
    wanted = (kept * (1 - kept)) ** 0.5 * (image - prior.means) / (kept * 0.09 + 1 - kept)
    assert (mean - wanted).abs().max() < 0.02


def test_seen_pixels_get_no_gradient_at_all() -> None:
    prior = gaussian(0.1)
    start = torch.full((1, 3, *SIZE), 0.9)
    free = torch.zeros(1, 1, *SIZE, dtype=torch.bool)
    free[..., 4:] = True
    found = pulled(prior, conditions([1.0]), 0, Pull(), start=start, free=free)
    assert torch.equal(found[..., :4], start[..., :4])
    assert (found - prior.means)[..., 4:].abs().mean() < 0.03


def test_seen_pixels_that_share_parameters_stay_where_real_ones_hold_them() -> None:
    """One number for the whole row of the image: what the prior says of the unseen half must not win."""
    prior = GaussianPrior(torch.full((1, 3, *SIZE), -0.5), torch.full((1, 1, *SIZE), 0.05))
    free = torch.zeros(1, 1, *SIZE, dtype=torch.bool)
    free[..., 4:] = True
    ends = {}
    for hold in (0.0, 20.0):
        generator = torch.Generator().manual_seed(0)
        common, own = torch.zeros(1, 3, 1, 1, requires_grad=True), torch.zeros(1, 3, 1, 8, requires_grad=True)
        optimiser = torch.optim.Adam([common, own], lr=0.02)
        for step in range(400):
            optimiser.param_groups[0]["lr"] = 0.02 * 0.02 ** (step / 400)
            optimiser.zero_grad()
            image = (common + own).expand(1, 3, *SIZE)
            real = (image[..., :4] - 0.4).square().mean()
            (sds_loss(prior, image, conditions([1.0]), Pull(), generator, free) + hold * real).backward()
            optimiser.step()
        ends[hold] = (common + own).detach()
    assert (ends[0.0][..., :4] - 0.4).abs().mean() > 0.5
    assert (ends[20.0][..., :4] - 0.4).abs().max() < 0.02
    assert (ends[20.0][..., 4:] + 0.5).abs().max() < 0.1


class Network:
    """A prior with parameters, which counts what it is asked, and knows whether gradients are recorded."""

    schedule, image_size = Schedule.linear(100), SIZE

    def __init__(self) -> None:
        self.factor = torch.ones(1, requires_grad=True)
        self.asked: list[tuple[int, bool, float]] = []

    def encode(self, images: Tensor) -> Tensor:
        return images[..., ::2, ::2] * 2.0

    def decode(self, codes: Tensor) -> Tensor:
        return codes

    def predict_noise(
        self, condition_images: Tensor, target_from_conditions: Tensor, noisy_codes: Tensor, step: int
    ) -> Tensor:
        assert len(target_from_conditions) == len(condition_images)
        self.asked.append((step, torch.is_grad_enabled(), float(condition_images.mean())))
        return self.factor * noisy_codes + condition_images.mean()


def test_the_network_gets_no_gradient_and_the_encoder_passes_one() -> None:
    prior = Network()
    image = torch.rand(1, 3, *SIZE, requires_grad=True)
    generator = torch.Generator().manual_seed(3)
    sds_loss(prior, image, conditions([1.0]), Pull(), generator).backward()
    assert prior.factor.grad is None
    assert [grad for _, grad, _ in prior.asked] == [False]
    assert image.grad is not None
    assert (image.grad[..., ::2, ::2] != 0).all()
    assert (image.grad[..., 1::2, :] == 0).all()
    again = torch.Generator().manual_seed(3)
    gradient = sds_gradient(prior, prior.encode(image.detach()), conditions([1.0]), Pull(), again)
    torch.testing.assert_close(image.grad[..., ::2, ::2], 2.0 * gradient / gradient.numel())


def test_levels_stay_in_their_range() -> None:
    prior, generator = Network(), torch.Generator().manual_seed(0)
    codes = torch.zeros(1, 3, 3, 4)
    for _ in range(200):
        sds_gradient(prior, codes, conditions([1.0]), Pull(first=0.2, last=0.3), generator)
    levels = {step for step, _, _ in prior.asked}
    assert levels == set(range(20, 31))


@pytest.mark.parametrize("values", [{"weight": "none"}, {"first": 0.5, "last": 0.1}])
def test_senseless_pulls_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match="cannot be pulled"):
        Pull(**values)  # type: ignore[arg-type]


def test_an_image_of_another_size_and_an_encoder_without_gradient_are_refused() -> None:
    image = torch.zeros(1, 3, 4, 4, requires_grad=True)
    with pytest.raises(InputError, match="another size"):
        sds_loss(gaussian(0.1), image, conditions([1.0]), Pull(), torch.Generator())
    prior = Network()
    prior.encode = lambda images: images.detach()  # type: ignore[method-assign]
    with pytest.raises(InputError, match="cannot be distilled"):
        sds_loss(prior, torch.zeros(1, 3, *SIZE, requires_grad=True), conditions([1.0]), Pull(), torch.Generator())
