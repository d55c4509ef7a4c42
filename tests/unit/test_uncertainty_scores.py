"""Scores of an uncertainty: areas and deciles worked out by hand, and what ties and unknown values count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.uncertainty_scores import curve, kept_means, reliability, sparsification_area

ERROR = np.array([1.0, 2.0, 3.0, 4.0])


def test_the_oracle_has_no_area() -> None:
    # of the best 1, 2, 3, 4: 1, 1.5, 2, 2.5
    assert kept_means(ERROR, ERROR) == pytest.approx([1.0, 1.5, 2.0, 2.5])
    assert sparsification_area(ERROR, ERROR) == 0
    assert sparsification_area(ERROR**3, ERROR) == 0, "only the order counts"


def test_the_worst_order_by_hand() -> None:
    # kept: 4, 3.5, 3, 2.5; beyond the oracle: 3, 2, 1, 0; their mean 1.5 over the mean error 2.5
    assert sparsification_area(-ERROR, ERROR) == pytest.approx(0.6)


def test_one_exchange_by_hand() -> None:
    # kept: 2, 1.5, 2, 2.5; beyond the oracle: 1, 0, 0, 0
    assert sparsification_area(np.array([2.0, 1.0, 3.0, 4.0]), ERROR) == pytest.approx(0.25 / 2.5)


def test_ties_count_as_the_mean_over_all_orders() -> None:
    # 2.5 whatever is kept; beyond the oracle: 1.5, 1, 0.5, 0
    assert sparsification_area(np.zeros(4), ERROR) == pytest.approx(0.75 / 2.5)
    # the two middle ones tied: 1, 1.75, 2, 2.5
    assert kept_means(np.array([0.0, 1.0, 1.0, 2.0]), ERROR) == pytest.approx([1.0, 1.75, 2.0, 2.5])


def test_unknown_doubt_is_removed_first_and_is_one_tie() -> None:
    doubt = np.array([5.0, np.nan, np.nan, 9.0])
    # 1, then 4, then twice the mean of 2 and 3
    assert kept_means(doubt, ERROR) == pytest.approx([1.0, 2.5, 2.5, 2.5])


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=40), st.integers(0, 1000))
def test_no_order_beats_the_oracle_and_none_is_worse_than_its_reverse(errors: list[float], seed: int) -> None:
    error = np.array(errors)
    doubt = np.random.default_rng(seed).normal(size=len(error))
    area = sparsification_area(doubt, error)
    assert -1e-9 <= area <= sparsification_area(-error, error) + 1e-9


def test_a_curve_begins_at_one() -> None:
    assert curve(ERROR, ERROR, [0.0, 0.25, 0.5, 0.75]) == pytest.approx([1.0, 0.8, 0.6, 0.4])


def test_reliability_by_hand() -> None:
    sigma = np.array([3.0, 1.0, 3.0, 1.0])
    error = np.array([1.0, 1.5, 7.0, 0.5])
    low, high = reliability(sigma, error, bins=2)
    assert (low.sigma, low.median, low.within_1, low.within_2) == (1.0, 1.0, 0.5, 1.0)
    assert low.rms == pytest.approx(np.sqrt((1.5**2 + 0.5**2) / 2))
    assert (high.sigma, high.median, high.within_1, high.within_2) == (3.0, 4.0, 0.5, 0.5)
    assert high.rms == pytest.approx(5.0)


def test_a_true_sigma_has_68_and_95_percent_within() -> None:
    random = np.random.default_rng(0)
    sigma = random.uniform(0.1, 2.0, 100_000)
    bins = reliability(sigma, np.abs(random.normal(0, sigma)))
    assert len(bins) == 10
    assert all(one.within_1 == pytest.approx(0.683, abs=0.02) for one in bins)
    assert all(one.within_2 == pytest.approx(0.954, abs=0.01) for one in bins)
    assert all(one.rms == pytest.approx(one.sigma, rel=0.15) for one in bins)
