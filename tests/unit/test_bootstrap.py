"""Intervals of means: by hand, against every possible resample, and how often they hold the true mean."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from evaluation.bootstrap import (
    FEWEST,
    block_length,
    crossed_interval,
    expanded_tail,
    interval_note,
    intervals,
    longer_arm,
    mean_interval,
    resampled_means,
)


def autocorrelated(rng: np.random.Generator, frames: int, correlation: float) -> np.ndarray:
    noise, values = rng.standard_normal(frames + 50), np.zeros(frames + 50)
    for index in range(1, frames + 50):
        values[index] = correlation * values[index - 1] + np.sqrt(1 - correlation**2) * noise[index]
    return values[50:]


def covered(frames: int, correlation: float, block: int | None) -> float:
    """Return how often the interval holds the true mean, 0."""
    rng, times, held = np.random.default_rng(5), 300, 0
    for _ in range(times):
        low, high = mean_interval(autocorrelated(rng, frames, correlation), block=block) or (1.0, 1.0)
        held += low <= 0.0 <= high
    return held / times


def test_the_interval_is_that_of_every_possible_resample() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    means = np.array([np.mean(drawn) for drawn in product(values, repeat=5)])  # 3125, all equally likely
    drawn = resampled_means(values, np.ones(5), 1)
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        below = (means <= np.quantile(drawn, share)).mean(), (means < np.quantile(drawn, share)).mean()
        assert below[1] - 0.02 <= share <= below[0] + 0.02
    low, high = mean_interval(values) or (np.nan, np.nan)
    # so few frames take the outermost resamples: 0.05 % at each end
    tail = expanded_tail(5.0)
    assert tail == pytest.approx(stats.norm.cdf(-np.sqrt(5 / 4) * 2.776445), rel=1e-4)
    assert means.min() <= low <= np.quantile(means, 4 * tail)
    assert np.quantile(means, 1 - 4 * tail) <= high <= means.max()


def test_blocks_are_neighbours_around_the_circle() -> None:
    values = np.array([0.0, 10.0, 0.0, 0.0, 0.0, 1.0])
    blocks = [(0, 10, 0), (10, 0, 0), (0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 10)]
    possible = {round((sum(one) + sum(other)) / 6, 9) for one in blocks for other in blocks}
    assert {round(float(mean), 9) for mean in resampled_means(values, np.ones(6), 3)} == possible


def test_few_frames_have_no_interval() -> None:
    assert mean_interval(np.arange(FEWEST - 1.0)) is None
    assert mean_interval(np.arange(float(FEWEST))) is not None
    assert mean_interval(np.zeros(0)) is None
    assert crossed_interval(np.ones((2, FEWEST - 1))) is None


def test_the_same_values_give_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=30)
    assert mean_interval(values) == mean_interval(values.copy())
    low, high = mean_interval(values) or (np.nan, np.nan)
    assert low < values.mean() < high
    shifted = mean_interval(values + 7.0)
    assert shifted == pytest.approx((low + 7.0, high + 7.0))


def test_values_without_spread_have_an_interval_of_no_length() -> None:
    assert mean_interval(np.full(12, 0.25)) == pytest.approx((0.25, 0.25))


def test_a_frame_keeps_its_eyes_together() -> None:
    # the two eyes of a frame are the same: twice the numbers, and no more is known
    values = np.random.default_rng(1).normal(size=20)
    once = mean_interval(values)
    assert mean_interval(2 * values, np.full(20, 2.0)) == pytest.approx(once)
    apart = mean_interval(np.repeat(values, 2), block=1) or (np.nan, np.nan)
    assert once is not None
    assert apart[1] - apart[0] < 0.8 * (once[1] - once[0])


@pytest.mark.parametrize(("frames", "lowest"), [(5, 0.87), (8, 0.90), (21, 0.92), (60, 0.92)])
def test_independent_frames_are_covered_as_often_as_stated(frames: int, lowest: float) -> None:
    assert lowest <= covered(frames, 0.0, None) <= 0.99


def test_blocks_cover_what_single_frames_do_not_when_neighbours_are_alike() -> None:
    assert covered(60, 0.5, None) > 0.85
    assert covered(60, 0.5, 1) < 0.80


def test_the_length_of_blocks_follows_the_autocorrelation() -> None:
    rng = np.random.default_rng(2)
    assert [block_length(rng.normal(size=frames)) for frames in (5, 9, 10, 27)] == [1, 1, 2, 3]
    independent = np.mean([block_length(rng.normal(size=200)) for _ in range(20)])
    alike = np.mean([block_length(autocorrelated(rng, 200, 0.9)) for _ in range(20)])
    assert independent < 8  # 200^(1/3) is 5.8
    assert alike > 12
    assert block_length(np.arange(40.0)) == 8  # a fifth at most
    assert block_length(np.full(64, 3.7)) == 4


def test_the_length_of_blocks_is_the_best_one_that_theory_knows() -> None:
    # of x[t] = 0.5 x[t - 1] + noise: sum of autocovariances 3, of |lag| times them 4; (1.5 (4 / 3)^2 n)^(1/3)
    values = autocorrelated(np.random.default_rng(6), 20_000, 0.5)
    assert block_length(values) == pytest.approx((1.5 * (4 / 3) ** 2 * 20_000) ** (1 / 3), rel=0.2)


def test_values_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_interval(np.array([1.0, np.nan, 2.0, 3.0, 4.0]))
    with pytest.raises(ValueError, match="eyes"):
        mean_interval(np.ones(5), np.array([1.0, 1.0, 0.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="one a frame"):
        mean_interval(np.ones(5), np.ones(6))
    with pytest.raises(ValueError, match="blocks of 6"):
        mean_interval(np.ones(5), block=6)
    with pytest.raises(ValueError, match="one run"):
        crossed_interval(np.ones((1, 9)))


def test_runs_and_frames_by_hand() -> None:
    # the frames do not vary: what is left is Student's t over the means of three runs, 1, 2, 3
    values = np.array([[1.0], [2.0], [3.0]]) * np.ones((3, 8))
    half = 4.302653 / np.sqrt(3)
    assert crossed_interval(values) == pytest.approx((2 - half, 2 + half), rel=1e-5)
    # the runs do not vary: what is left is the bootstrap over frames, nearly
    frames = np.random.default_rng(3).normal(size=40)
    crossed, plain = crossed_interval(np.stack([frames] * 3)), mean_interval(frames)
    assert crossed == pytest.approx(plain, abs=0.04)


def test_few_seeds_are_covered_too() -> None:
    rng, held = np.random.default_rng(4), 0
    for _ in range(200):
        values = rng.normal(0, 1, (3, 1)) + rng.normal(0, 2, (1, 21)) + rng.normal(0, 1, (3, 21))
        low, high = crossed_interval(values) or (1.0, 1.0)
        held += low <= 0.0 <= high
    assert held / 200 > 0.88


def test_scores_have_intervals_where_five_frames_have_them() -> None:
    scores = [{"abs_rel": 0.01 * index, "coverage": 1.0} for index in range(1, 7)]
    scores[0] = {"coverage": 0.0}
    scores[1] = {"coverage": 0.5}
    found = intervals(scores, ("abs_rel", "coverage", "psnr"))
    assert set(found) == {"coverage"}
    assert longer_arm(0.75, found["coverage"]) >= 0.25


def test_the_note_says_what_the_arm_is_and_what_has_none() -> None:
    assert interval_note([]) == []
    with_interval, without = {"n_frames": 8, "ci95": {"psnr": [1, 2]}}, {"n_frames": 3}
    (note,) = interval_note([with_interval, without, without])
    assert "95 % interval" in note
    assert note.endswith("fewer than 5 frames have no interval (here 3)")
    assert "fewer" not in interval_note([with_interval])[0]
    assert "±" not in interval_note([without])[0]
