"""Refinement of the prior on hand-made maps: which depths are tried, which one wins, what is smoothed."""

from __future__ import annotations

import numpy as np
import pytest

from nerf.options import NerfOptions
from nerf.refinement import (
    MARGIN,
    SWEEP,
    Refined,
    choose,
    hypotheses,
    smooth_costs,
    smooth_unjudged,
    surroundings,
)
from utils.types import BoolArray, FloatArray

SHAPE = (24, 32)
STEP = 0.01
MIDDLE = len(SWEEP) // 2


def flat(value: float = 80.0) -> FloatArray:
    return np.full(SHAPE, value, np.float32)


def everywhere() -> BoolArray:
    return np.ones(SHAPE, bool)


def bowl(at: float) -> FloatArray:
    """Return costs of the sweep, (k, h, w), least at `at` steps from the prior."""
    return np.tile((0.2 + 0.01 * (SWEEP - at) ** 2)[:, None, None], (1, *SHAPE)).astype(np.float32)


def with_rivals(costs: FloatArray, *rivals: float) -> FloatArray:
    return np.concatenate([costs, np.stack([flat(cost) for cost in rivals])])


@pytest.mark.parametrize("at", [-5.5, -2.3, 0.0, 0.4, 1.5, 5.0])
def test_the_sweep_finds_depth_between_its_steps(at: float) -> None:
    tried = hypotheses(flat(), STEP, [flat(100.0)])
    found = choose(tried, with_rivals(bowl(at), 0.9), STEP)
    np.testing.assert_allclose(found.depth_mm, 80.0 * (1.0 + STEP * at), rtol=1e-4)
    assert float(found.doubt.max()) < 0.3


@pytest.mark.parametrize(("depth_of_bowl", "share"), [(0.03, 0.0), (1.0, 1.0)])
def test_a_flat_sweep_says_nothing(depth_of_bowl: float, share: float) -> None:
    costs = 0.2 + depth_of_bowl * (bowl(2.0) - 0.2)
    found = choose(hypotheses(flat(), STEP, [flat(100.0)]), with_rivals(costs, 0.9), STEP)
    np.testing.assert_allclose(found.depth_mm, 80.0 * (1.0 + share * 2.0 * STEP), rtol=1e-4)
    np.testing.assert_allclose(found.doubt, 1.0 - 0.8 * share, atol=0.02)


@pytest.mark.parametrize("at", [-20.0, 20.0])
def test_a_sweep_without_a_bottom_leaves_the_prior(at: float) -> None:
    found = choose(hypotheses(flat(), STEP, [flat(100.0)]), with_rivals(bowl(at), 9.0), STEP)
    np.testing.assert_array_equal(found.depth_mm, 80.0)


@pytest.mark.parametrize(("advantage", "wins"), [(0.5 * MARGIN, False), (1.5 * MARGIN, True)])
def test_a_rival_must_be_better_by_a_margin(advantage: float, wins: bool) -> None:
    tried = hypotheses(flat(), STEP, [flat(100.0), flat(60.0)])
    found = choose(tried, with_rivals(bowl(0.0), 0.9, 0.2 - advantage), STEP)
    np.testing.assert_allclose(found.depth_mm, 60.0 if wins else 80.0)


def test_the_best_of_several_rivals_wins() -> None:
    tried = hypotheses(flat(), STEP, [flat(100.0), flat(60.0), flat(70.0)])
    found = choose(tried, with_rivals(bowl(0.0) + 0.5, 0.5, 0.1, 0.3), STEP)
    np.testing.assert_array_equal(found.depth_mm, 60.0)
    np.testing.assert_allclose(found.doubt, 0.1, rtol=1e-4)


def test_what_no_image_judges_keeps_its_prior_or_takes_what_was_rendered() -> None:
    prior, rendered = flat(), flat(90.0)
    prior[:, :4] = np.nan
    rendered[:, 0] = np.nan
    tried = hypotheses(prior, STEP, [rendered])
    found = choose(tried, np.full(tried.shape, np.nan, np.float32), STEP)
    assert np.isnan(found.depth_mm[:, 0]).all()
    np.testing.assert_array_equal(found.depth_mm[:, 1:4], 90.0)
    np.testing.assert_array_equal(found.depth_mm[:, 4:], 80.0)
    assert np.isnan(found.doubt).all()


def test_the_surroundings_hold_both_sides_of_an_edge() -> None:
    depth = flat()
    depth[:, 16:] = 100.0
    nearest_1, farthest_1, nearest_2, farthest_2 = surroundings(depth)
    assert (nearest_1[10:14, 16:18] == 80.0).all()
    assert (farthest_1[10:14, 14:16] == 100.0).all()
    assert (nearest_2[10:14, 16:18] == 80.0).all()
    assert (farthest_2[10:14, 14:16] == 100.0).all()
    assert (farthest_1[10:14, :12] == 80.0).all()


def test_unknown_surroundings_are_left_out() -> None:
    depth = flat(np.nan)
    assert all(np.isnan(ring).all() for ring in surroundings(depth))
    depth[12, 16] = 80.0
    assert np.nanmin(surroundings(depth)[1]) == 80.0


def test_costs_are_smoothed_within_a_colour_and_not_across() -> None:
    image = np.full((*SHAPE, 3), 40, np.uint8)
    image[:, 16:] = 200
    cost = flat(0.2)
    cost[:, 16:] = 0.8
    cost[12, 8] = 0.8
    (smooth,) = smooth_costs(cost[None].astype(np.float32), image, everywhere())
    assert smooth[12, 8] < 0.3
    assert (smooth[4:20, :15] < 0.35).all()
    assert (smooth[4:20, 17:] > 0.65).all()


def test_what_is_not_judged_takes_the_cost_around_it() -> None:
    cost = flat(0.2)
    cost[10:13, 10:13] = np.nan
    (smooth,) = smooth_costs(cost[None].astype(np.float32), np.zeros((*SHAPE, 3), np.uint8), everywhere())
    np.testing.assert_allclose(smooth[10:13, 10:13], 0.2, atol=1e-3)
    (nothing,) = smooth_costs(flat(np.nan)[None], np.zeros((*SHAPE, 3), np.uint8), everywhere())
    assert np.isnan(nothing).all()


def spiky() -> FloatArray:
    depth = flat()
    depth[12, 10], depth[12, 20] = 120.0, 100.0
    return depth


def test_where_images_cannot_tell_the_worst_takes_the_median_of_its_surroundings() -> None:
    silent = Refined(spiky(), flat(np.nan))
    found = smooth_unjudged(silent, everywhere(), 0.5)
    assert found[12, 10] == 80.0  # 40 mm off is the worse half
    assert found[12, 20] == 100.0
    assert smooth_unjudged(silent, everywhere(), 1.0)[12, 20] == 80.0
    np.testing.assert_array_equal(smooth_unjudged(silent, everywhere(), 0.0), silent.depth_mm)
    np.testing.assert_array_equal(smooth_unjudged(silent, ~everywhere(), 1.0), silent.depth_mm)


def test_what_images_judged_is_not_smoothed() -> None:
    judged = Refined(spiky(), flat(0.1))
    np.testing.assert_array_equal(smooth_unjudged(judged, everywhere(), 1.0), judged.depth_mm)


@pytest.mark.parametrize(
    ("step", "number"), [(999, None), (1000, 1), (1001, None), (1500, 2), (2000, 3), (2500, None)]
)
def test_when_refinements_come(step: int, number: int | None) -> None:
    options = NerfOptions(depth_refine_start=1000, depth_refine_period=500, depth_refine_rounds=3)
    assert options.refine_round_after(step) == number


def test_refinement_can_be_switched_off() -> None:
    for options in (NerfOptions(no_depth_refine=True), NerfOptions(depth_refine_rounds=0)):
        assert not any(options.refine_round_after(step) for step in range(5000))
