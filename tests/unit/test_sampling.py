"""Samples along a ray: the guided ones alone follow the prior's truncated normal, the free ones reach all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from nerf.sampling import Guide, free_samples, guided_samples, normal_cdf, stratified, truncated_normal, uniform

RAYS = 4000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def guide(depth: float, sigma: float, cut: float, rays: int = RAYS) -> Guide:
    """Return a prior that is cut at `cut` sigma."""
    return Guide(torch.full((rays,), depth), torch.full((rays,), sigma), torch.full((rays,), cut * sigma))


def full(value: float, rays: int = RAYS) -> torch.Tensor:
    return torch.full((rays,), value)


def test_the_normal_distribution_function_by_hand() -> None:
    found = normal_cdf(torch.tensor([-2.0, 0.0, 1.0, 2.0]))
    np.testing.assert_allclose(found, [0.02275, 0.5, 0.84134, 0.97725], atol=1e-5)


@pytest.mark.parametrize(("depth", "sigma"), [(80.0, 2.0), (80.0, 0.2), (560.0, 8.0), (4.0, 0.05)])
def test_guided_samples_cut_at_two_sigma_keep_the_mean_and_0_88_of_the_spread(depth: float, sigma: float) -> None:
    z = truncated_normal(guide(depth, sigma, 2.0), 6, generator())
    count = z.numel()
    assert abs(float(z.mean()) - depth) < 4 * 0.88 * sigma / np.sqrt(count)
    # variance of a normal cut at two sigma: 1 - 2 * 2 phi(2) / (2 Phi(2) - 1) = 0.7737, its root 0.8796
    assert abs(float(z.std()) / sigma - 0.8796) < 0.01
    assert float((z - depth).abs().max()) <= 2 * sigma * (1 + 1e-4)


@pytest.mark.parametrize("cut", [1.0, 2.0, 4.0])
def test_guided_samples_have_the_distribution_of_the_truncated_normal(cut: float) -> None:
    z = truncated_normal(guide(80.0, 1.5, cut), 5, generator(3)).numpy().ravel()
    expected = stats.truncnorm(-cut, cut, loc=80.0, scale=1.5)
    # strata make the sample more even than independent draws would be: far inside the critical distance
    assert stats.kstest(z, expected.cdf).statistic < 1.36 / np.sqrt(len(z))
    first = truncated_normal(guide(80.0, 1.5, cut), 1, generator(4)).numpy().ravel()
    assert stats.kstest(first, expected.cdf).pvalue > 0.001


def test_every_ray_follows_its_own_prior() -> None:
    # a draw in which mean and sigma cancel out, as in the reference system, gives every ray the same samples
    depth = torch.linspace(50.0, 110.0, RAYS)
    sigma = torch.where(torch.arange(RAYS) % 2 == 0, 0.5, 3.0)
    z = truncated_normal(Guide(depth, sigma, 2 * sigma), 16, generator())
    offset = z - depth[:, None]
    assert float(offset.mean(1).abs().max()) < 1.0
    np.testing.assert_allclose(offset[::2].std(), 0.8796 * 0.5, rtol=0.02)
    np.testing.assert_allclose(offset[1::2].std(), 0.8796 * 3.0, rtol=0.02)
    assert float(torch.corrcoef(torch.stack([z.mean(1), depth]))[0, 1]) > 0.999


def test_moving_the_prior_moves_the_samples_with_it() -> None:
    here = truncated_normal(guide(80.0, 2.0, 2.0), 6, generator(5))
    there = truncated_normal(guide(91.0, 2.0, 2.0), 6, generator(5))
    wider = truncated_normal(guide(80.0, 6.0, 2.0), 6, generator(5))
    np.testing.assert_allclose(there - here, 11.0, atol=1e-4)
    np.testing.assert_allclose(wider - 80, 3 * (here - 80), atol=1e-3)


def test_guided_samples_of_a_batch_are_those_of_the_prior_when_nothing_is_free() -> None:
    z = guided_samples(guide(80.0, 2.0, 2.0), full(40.0), full(120.0), (8, 0), generator())
    assert z.shape == (RAYS, 8)
    assert abs(float(z.mean()) - 80.0) < 0.05
    assert abs(float(z.std()) - 0.8796 * 2.0) < 0.03


def test_without_a_prior_the_samples_are_uniform_over_the_ray() -> None:
    unknown = Guide(full(float("nan")), full(float("nan")), full(float("nan")))
    z = guided_samples(unknown, full(40.0), full(120.0), (6, 2), generator()).numpy()
    assert z.shape == (RAYS, 8)
    assert stats.kstest(z.ravel(), stats.uniform(40, 80).cdf).statistic < 0.01
    # one in each eighth of the ray
    np.testing.assert_array_equal(np.floor((z - 40) / 10), np.tile(np.arange(8), (RAYS, 1)))


def test_rays_with_and_without_a_prior_share_a_batch() -> None:
    mixed = Guide(torch.tensor([80.0, float("nan")]), torch.tensor([0.1, float("nan")]), torch.tensor([0.2, 0.2]))
    z = guided_samples(mixed, full(40.0, 2), full(120.0, 2), (8, 0), None)
    assert float((z[0] - 80).abs().max()) <= 0.2 + 1e-4
    np.testing.assert_allclose(z[1], [45, 55, 65, 75, 85, 95, 105, 115], rtol=1e-6)
    assert torch.isfinite(z).all()


def test_free_samples_reach_the_whole_ray() -> None:
    z = free_samples(guide(70.0, 0.5, 2.0), full(40.0), full(140.0), 2, generator()).numpy()
    assert z.min() >= 40.0
    assert z.max() <= 140.0
    counts, _ = np.histogram(z, bins=np.arange(40, 141, 5))
    assert (counts > 0).all(), "a wrong prior could never be corrected there"
    assert abs((z < 70).mean() - 0.5) < 0.01, "half in front, half behind"


def test_free_samples_stand_denser_towards_the_prior() -> None:
    z = free_samples(guide(70.0, 0.5, 2.0), full(40.0), full(140.0), 2, generator()).numpy()
    distance = z[z > 70] - 70
    assert distance.min() >= 1.0 - 1e-3, "nearer is the guided samples' business"
    # log-uniform from 1 to 70 mm: half of the samples within the root of 70
    assert abs((distance < np.sqrt(70)).mean() - 0.5) < 0.02


def test_a_share_of_free_samples_covers_what_the_guided_ones_leave() -> None:
    z = guided_samples(guide(70.0, 0.5, 2.0), full(40.0), full(140.0), (6, 2), generator())
    beyond = ((z - 70.0).abs() > 1.01).sum(1)
    assert z.shape == (RAYS, 8)
    assert float(beyond.float().mean()) == pytest.approx(2.0, abs=0.05)


def test_samples_are_sorted_and_stay_on_the_ray() -> None:
    depth = torch.linspace(20.0, 160.0, RAYS)  # also outside the box
    z = guided_samples(Guide(depth, full(3.0), full(6.0)), full(40.0), full(120.0), (6, 2), generator())
    assert bool((z[:, 1:] >= z[:, :-1]).all())
    assert float(z.min()) >= 40.0
    assert float(z.max()) <= 120.0


def test_without_a_generator_nothing_is_drawn() -> None:
    prior = guide(80.0, 2.0, 2.0, rays=3)
    state = torch.get_rng_state()
    one = guided_samples(prior, full(40.0, 3), full(120.0, 3), (6, 2), None)
    two = guided_samples(prior, full(40.0, 3), full(120.0, 3), (6, 2), None)
    assert torch.equal(one, two)
    assert torch.equal(one[0], one[2])
    assert torch.equal(torch.get_rng_state(), state)
    # the middle of three strata is the prior itself
    np.testing.assert_allclose(truncated_normal(prior, 3, None)[0, 1], 80.0, atol=1e-4)


def test_the_same_seed_draws_the_same() -> None:
    prior, ends = guide(80.0, 2.0, 2.0), (full(40.0), full(120.0))
    draws = [guided_samples(prior, *ends, (6, 2), generator(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_strata_hold_one_number_each() -> None:
    u = stratified(500, 10, torch.zeros(1), generator())
    np.testing.assert_array_equal(torch.floor(u * 10), np.tile(np.arange(10), (500, 1)))
    np.testing.assert_allclose(stratified(1, 4, torch.zeros(1), None), [[0.125, 0.375, 0.625, 0.875]])
    z = uniform(torch.tensor([10.0]), torch.tensor([20.0]), 2, None)
    np.testing.assert_allclose(z, [[12.5, 17.5]])
