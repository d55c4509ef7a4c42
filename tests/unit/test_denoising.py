"""Interpolated denoising where the truth is known: normal targets, known pixels, weights by pixel, mistakes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from benchmarks.interpolated_denoising import ALIKE, DIFFERENT, UNEVEN, Case, by_images, exact_moments
from novel_view.denoising import Conditions, Known, denoise_step, renoise, sample
from novel_view.gaussian_prior import GaussianPrior
from novel_view.view_prior import Schedule
from utils.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = 64  # pixels a side: 12,288 values, a spread of 0.5 is known within 0.0032
WITHIN = 0.013  # four times that


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(k: int = 1, size: int = SIZE, std: float = 0.5, mean: float = 0.2) -> tuple[GaussianPrior, Conditions]:
    return Case((mean,) * k, (std,) * k, (1 / k,) * k).prior(size)


class TestGaussianPrior:
    @pytest.mark.parametrize("step", [0, 300, 999])
    def test_the_noise_is_what_the_posterior_mean_leaves(self, step: int) -> None:
        prior, conditions = plain(mean=0.3, std=0.4, size=4)
        kept = prior.schedule.kept[step].double()
        noisy = torch.linspace(-2, 2, 48, dtype=torch.float64).reshape(1, 3, 4, 4)
        # Bayes by precision: N(0.3, 0.4^2) seen through x = sqrt(kept) x0 + N(0, 1 - kept)
        precision = 1 / 0.16 + kept / (1 - kept)
        posterior = (0.3 / 0.16 + kept.sqrt() * noisy / (1 - kept)) / precision
        expected = (noisy - kept.sqrt() * posterior) / (1 - kept).sqrt()
        found = prior.predict_noise(conditions.images, conditions.target_from_conditions, noisy.float(), step)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)

    def test_each_condition_has_a_row_of_its_own(self) -> None:
        prior, conditions = Case((-0.5, 0.5), (0.2, 0.2), (0.5, 0.5)).prior(4)
        noise = prior.predict_noise(
            conditions.images, conditions.target_from_conditions, torch.zeros(2, 3, 4, 4), 500
        )
        torch.testing.assert_close(noise[0], -noise[1])
        assert float(noise[0].mean()) > 0, "an image above its mean has positive noise"

    def test_what_does_not_fit_is_refused(self) -> None:
        means = torch.zeros(2, 3, 4, 4)
        with pytest.raises(InputError, match="do not fit"):
            GaussianPrior(means, torch.ones(1, 1, 4, 4))
        with pytest.raises(InputError, match="no mean or no spread"):
            GaussianPrior(means, -torch.ones(2, 1, 4, 4))
        with pytest.raises(InputError, match="no mean or no spread"):
            GaussianPrior(means * torch.nan, torch.ones(2, 1, 4, 4))
        prior = GaussianPrior(means, torch.ones(2, 1, 4, 4))
        with pytest.raises(InputError, match="other conditions"):
            prior.predict_noise(means[:1], torch.eye(4)[None], means[:1], 0)


class TestProduct:
    def test_conditions_of_one_spread_give_their_product(self) -> None:
        """Weights 0.8 and 0.2 of N(-0.4, 0.5^2) and N(0.4, 0.5^2): N(-0.24, 0.5^2)."""
        assert UNEVEN.product == pytest.approx((-0.24, 0.5))
        image = sample(*UNEVEN.prior(SIZE), steps=1000, generator=seeded())
        assert float(image.mean()) == pytest.approx(-0.24, abs=WITHIN)
        assert float(image.std()) == pytest.approx(0.5, abs=WITHIN + 0.005)

    def test_pixels_stay_independent_and_normal(self) -> None:
        image = sample(*ALIKE.prior(SIZE), steps=250, generator=seeded())
        left, right = image[..., :-1].flatten(), image[..., 1:].flatten()
        assert abs(float(torch.corrcoef(torch.stack([left, right]))[0, 1])) < 0.04
        inside = ((image - image.mean()).abs() < image.std()).float().mean()
        assert float(inside) == pytest.approx(0.683, abs=0.02)

    @pytest.mark.parametrize("case", [ALIKE, UNEVEN, DIFFERENT])
    @pytest.mark.parametrize(("steps", "eta"), [(50, 0.0), (50, 1.0), (100, 0.5)])
    def test_moments_are_those_carried_through_the_steps(self, case: Case, steps: int, eta: float) -> None:
        image = sample(*case.prior(SIZE), steps, eta, seeded(1))
        mean, std = exact_moments(case, Schedule.linear(), steps, eta)
        assert float(image.mean()) == pytest.approx(mean, abs=WITHIN + 0.003)
        assert float(image.std()) == pytest.approx(std, abs=WITHIN)

    def test_what_few_steps_lose_is_their_size_alone(self) -> None:
        """The 0.466 of an earlier trial, where 0.5 is right: a finer walk closes the gap."""
        short = [0.5 - exact_moments(ALIKE, Schedule.linear(), steps, 1.0)[1] for steps in (50, 100, 1000)]
        assert short == pytest.approx([0.0494, 0.0295, 0.0048], abs=5e-4)
        fine = Schedule.linear(20000, 0.00085 / 20, 0.012 / 20)
        assert exact_moments(ALIKE, fine, 20000, 1.0)[1] == pytest.approx(0.5, abs=5e-4)

    def test_different_spreads_are_only_approximated(self) -> None:
        """The product is N(-0.353, 0.274^2); however fine the steps, averaging gives N(-0.240, 0.344^2)."""
        fine = Schedule.linear(20000, 0.00085 / 20, 0.012 / 20)
        assert DIFFERENT.product == pytest.approx((-0.353, 0.274), abs=1e-3)
        assert exact_moments(DIFFERENT, fine, 20000, 1.0) == pytest.approx((-0.240, 0.344), abs=2e-3)

    def test_averaging_the_images_loses_half_the_spread(self) -> None:
        """Four branches: 0.236 where averaging the noise gives 0.471 and the truth is 0.5 (100 steps)."""
        wrong = by_images(ALIKE, SIZE, 100, 1.0, seeded())
        assert float(wrong.std()) == pytest.approx(0.236, abs=WITHIN)
        right = sample(*ALIKE.prior(SIZE), steps=100, generator=seeded())
        assert float(right.std()) == pytest.approx(0.471, abs=WITHIN)
        finer = exact_moments(ALIKE, Schedule.linear(), 1000, 1.0, share_of_fresh=0.25)
        assert finer[1] == pytest.approx(0.248, abs=1e-3), "more steps do not help it"


class TestSampler:
    def test_one_seed_gives_one_image(self) -> None:
        first, again, other = (sample(*plain(size=8), steps=5, generator=seeded(seed)) for seed in (3, 3, 4))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_a_condition_split_in_two_changes_nothing(self) -> None:
        """The averaged noise of equal conditions is that of one: whatever k, one step with one noise."""
        one, two = (sample(*plain(k, size=8), steps=20, generator=seeded()) for k in (1, 2))
        torch.testing.assert_close(one, two)

    def test_weights_may_differ_from_pixel_to_pixel(self) -> None:
        prior, _ = Case((-0.5, 0.5), (0.1, 0.1), (0.5, 0.5)).prior(SIZE)
        weights = torch.zeros(2, 1, SIZE, SIZE)
        weights[0, :, :, : SIZE // 2], weights[1, :, :, SIZE // 2 :] = 1.0, 1.0
        conditions = Conditions(torch.zeros(2, 3, SIZE, SIZE), torch.eye(4).expand(2, 4, 4), weights)
        image = sample(prior, conditions, steps=50, generator=seeded())
        assert float(image[..., : SIZE // 2].mean()) == pytest.approx(-0.5, abs=0.01)
        assert float(image[..., SIZE // 2 :].mean()) == pytest.approx(0.5, abs=0.01)

    def test_weights_by_pixel_keep_their_sum_in_smaller_codes(self) -> None:
        weights = torch.rand(3, 1, 16, 16, generator=seeded())
        weights /= weights.sum(0)
        conditions = Conditions(torch.zeros(3, 3, 16, 16), torch.eye(4).expand(3, 4, 4), weights)
        pooled = conditions.weights_of_codes(torch.zeros(1, 4, 2, 2))
        torch.testing.assert_close(pooled.sum(0), torch.ones(1, 2, 2))
        torch.testing.assert_close(pooled[1, 0, 0, 1], weights[1, 0, :8, 8:].mean())

    def test_a_step_to_a_clean_image_gives_the_posterior_mean(self) -> None:
        codes, noise = torch.randn(2, 1, 3, 4, 4, generator=seeded())
        clean = denoise_step(codes, noise, (0.3, 1.0), 1.0, torch.full_like(codes, 9.0))
        torch.testing.assert_close(clean, (codes - 0.7**0.5 * noise) / 0.3**0.5)

    def test_noise_put_back_is_that_of_the_schedule(self) -> None:
        """0.9 to 0.36: 0.63 of what was left is kept (0.6325 squared is 0.4)."""
        torch.testing.assert_close(
            renoise(torch.ones(1), 0.9, 0.36, torch.full((1,), 0.5)), torch.tensor([0.4**0.5 + 0.5 * 0.6**0.5])
        )


@dataclass
class Pairs:
    """Pixels tied in pairs across the two halves of the image: correlation 0.9, mean 0, std 0.5."""

    schedule: Schedule
    image_size: tuple[int, int] = (SIZE, 2 * SIZE)

    def encode(self, images: Tensor) -> Tensor:
        return images

    def decode(self, codes: Tensor) -> Tensor:
        return codes

    def predict_noise(self, _: Tensor, __: Tensor, noisy_codes: Tensor, step: int) -> Tensor:
        kept = float(self.schedule.kept[step])
        own, tie = kept * 0.25 + 1 - kept, kept * 0.25 * 0.9
        left, right = noisy_codes.chunk(2, -1)
        solved = torch.cat([own * left - tie * right, own * right - tie * left], -1) / (own**2 - tie**2)
        return (1 - kept) ** 0.5 * solved


class TestKnown:
    def test_known_pixels_come_out_as_they_are_and_the_rest_as_it_should(self) -> None:
        prior, conditions = UNEVEN.prior(SIZE)
        image, mask = torch.rand(1, 3, SIZE, SIZE, generator=seeded(5)), torch.zeros(1, 1, SIZE, SIZE)
        mask[..., : SIZE // 2] = 1
        found = sample(prior, conditions, 100, 1.0, seeded(), (image.where(mask > 0, torch.nan), mask))
        assert torch.equal(found[..., : SIZE // 2], image[..., : SIZE // 2])
        mean, std = exact_moments(UNEVEN, Schedule.linear(), 100, 1.0)
        assert float(found[..., SIZE // 2 :].mean()) == pytest.approx(mean, abs=1.5 * WITHIN)
        assert float(found[..., SIZE // 2 :].std()) == pytest.approx(std, abs=1.5 * WITHIN)

    def test_tied_pixels_follow_the_known_ones_the_better_the_more_often_a_step_is_repeated(self) -> None:
        """Truth given 0.6: mean 0.54. Replacement alone stays short of it; repeats close most of the gap."""
        conditions = Conditions(torch.zeros(1, 3, SIZE, 2 * SIZE), torch.eye(4)[None], torch.ones(1))
        image, mask = torch.full((1, 3, SIZE, 2 * SIZE), 0.6), torch.zeros(1, 1, SIZE, 2 * SIZE)
        mask[..., :SIZE] = 1
        means = [
            float(
                sample(Pairs(Schedule.linear()), conditions, 50, 1.0, seeded(), Known(image, mask, often))[
                    ..., SIZE:
                ].mean()
            )
            for often in (1, 5)
        ]
        assert means == pytest.approx([0.353, 0.491], abs=0.02)

    def test_a_known_image_without_known_pixels_changes_nothing(self) -> None:
        prior, conditions = plain(size=8)
        nothing = torch.full((1, 3, 8, 8), torch.nan), torch.zeros(1, 1, 8, 8)
        free = sample(prior, conditions, 5, generator=seeded())
        assert torch.equal(sample(prior, conditions, 5, 1.0, seeded(), nothing), free)

    def test_codes_that_see_anything_unknown_are_left_free(self) -> None:
        """A prior with codes of 2 x 2 pixels: the cell across the border of the known part is sampled."""
        prior, conditions = plain(size=4)

        class Halved:
            schedule, image_size = prior.schedule, (8, 8)

            def encode(self, images: Tensor) -> Tensor:
                return torch.nn.functional.avg_pool2d(images, 2)

            def decode(self, codes: Tensor) -> Tensor:
                return torch.nn.functional.interpolate(codes, scale_factor=2)

            def predict_noise(self, _: Tensor, __: Tensor, noisy_codes: Tensor, step: int) -> Tensor:
                return prior.predict_noise(noisy_codes, noisy_codes, noisy_codes, step)

        image, mask = torch.full((1, 3, 8, 8), 0.7), torch.zeros(1, 1, 8, 8)
        mask[..., :3] = 1
        wide = Conditions(torch.zeros(1, 3, 8, 8), conditions.target_from_conditions, torch.ones(1))
        found = sample(Halved(), wide, 20, 1.0, seeded(), (image, mask))
        assert torch.equal(found[..., :3], image[..., :3])
        assert bool((found[..., 3] != 0.7).all()), "half of this cell is known, all of it is sampled"
        assert torch.equal(found[:, :, ::2, 4], found[:, :, 1::2, 5])


class TestMistakes:
    @pytest.mark.parametrize("weights", [[0.5, 0.6], [1.5, -0.5], [float("nan"), 1.0]])
    def test_weights_that_are_none(self, weights: list[float]) -> None:
        with pytest.raises(InputError, match="are no weights"):
            Conditions(torch.zeros(2, 3, 4, 4), torch.eye(4).expand(2, 4, 4), torch.tensor(weights))

    def test_parts_that_do_not_fit(self) -> None:
        with pytest.raises(InputError, match="do not fit"):
            Conditions(torch.zeros(2, 3, 4, 4), torch.eye(4)[None], torch.ones(2) / 2)
        with pytest.raises(InputError, match="do not fit"):
            Conditions(torch.zeros(2, 3, 4, 4), torch.eye(4).expand(2, 4, 4), torch.ones(2, 1, 8, 8) / 2)

    def test_images_of_another_size(self) -> None:
        prior, _ = plain(size=8)
        _, other = plain(size=16)
        with pytest.raises(InputError, match=r"16 x 16 px[\s\S]*8 x 8 px"):
            sample(prior, other)

    @pytest.mark.parametrize(("steps", "eta"), [(0, 1.0), (1001, 1.0), (10, 1.5), (10, -0.1)])
    def test_a_walk_that_is_none(self, steps: int, eta: float) -> None:
        with pytest.raises(InputError, match="no such way of sampling"):
            sample(*plain(size=4), steps=steps, eta=eta)

    def test_a_known_part_of_another_size(self) -> None:
        known = torch.zeros(1, 3, 4, 4), torch.ones(1, 1, 4, 4)
        with pytest.raises(InputError, match="known part of a target does not fit"):
            sample(*plain(size=8), steps=5, known=known)
