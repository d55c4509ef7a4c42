"""Depth metrics: hand-computed 2 x 2 maps, laws, and attempts to cheat."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evaluation.depth_metrics import ERRORS, depth_metrics, median_ratio

EVERYWHERE = np.ones((2, 2), dtype=bool)
TRUTH = np.array([[100.0, 50.0], [80.0, 40.0]])
PREDICTED = np.array([[110.0, 50.0], [60.0, 80.0]])

depths = hnp.arrays(np.float64, (4, 5), elements=st.floats(1.0, 500.0))
masks = hnp.arrays(np.bool_, (4, 5))


def test_every_metric_of_a_2x2_map_by_hand() -> None:
    scored = depth_metrics(PREDICTED, TRUTH, EVERYWHERE)
    # |p - t| = 10, 0, 20, 40
    assert scored["abs_rel"] == pytest.approx((0.1 + 0 + 0.25 + 1.0) / 4)
    assert scored["sq_rel"] == pytest.approx((1.0 + 0 + 5.0 + 40.0) / 4)
    assert scored["rmse"] == pytest.approx(np.sqrt((100 + 0 + 400 + 1600) / 4))
    logarithms = np.log([1.1, 1.0, 0.75, 2.0])
    assert scored["rmse_log"] == pytest.approx(np.sqrt((logarithms**2).mean()))
    # ratios 1.1, 1, 1.3333, 2 against 1.25, 1.5625, 1.953
    assert (scored["a1"], scored["a2"], scored["a3"]) == (0.5, 0.75, 0.75)
    assert (scored["coverage"], scored["n_valid_px"]) == (1.0, 4)


def test_a_ratio_of_exactly_125_is_not_below_125() -> None:
    scored = depth_metrics(np.array([[125.0]]), np.array([[100.0]]), np.ones((1, 1), dtype=bool))
    assert scored["a1"] == 0.0
    assert scored["a2"] == 1.0


@pytest.mark.parametrize("unknown", [np.nan, np.inf, 0.0, -5.0])
def test_pixels_without_prediction_lower_the_coverage_and_enter_no_error(unknown: float) -> None:
    predicted = PREDICTED.copy()
    predicted[1, 1] = unknown  # hide the worst pixel
    scored = depth_metrics(predicted, TRUTH, EVERYWHERE)
    assert scored["abs_rel"] == pytest.approx((0.1 + 0 + 0.25) / 3)
    assert scored["coverage"] == 0.75
    assert scored["n_valid_px"] == 3


@pytest.mark.parametrize("unknown", [np.nan, np.inf, 0.0])
def test_unknown_truth_counts_neither_as_valid_nor_as_uncovered(unknown: float) -> None:
    truth = TRUTH.copy()
    truth[1, 1] = unknown
    scored = depth_metrics(PREDICTED, truth, EVERYWHERE)
    assert scored["coverage"] == 1.0
    assert scored["n_valid_px"] == 3
    assert scored["abs_rel"] == pytest.approx(0.35 / 3)


def test_only_the_region_counts() -> None:
    region = np.array([[True, False], [True, False]])
    scored = depth_metrics(PREDICTED, TRUTH, region)
    assert scored["abs_rel"] == pytest.approx((0.1 + 0.25) / 2)
    assert scored["n_valid_px"] == 2


def test_no_prediction_at_all_is_coverage_zero_without_errors() -> None:
    assert depth_metrics(np.full((2, 2), np.nan), TRUTH, EVERYWHERE) == {"coverage": 0.0, "n_valid_px": 0.0}


def test_no_truth_in_the_region_scores_nothing() -> None:
    assert depth_metrics(PREDICTED, TRUTH, ~EVERYWHERE) == {}
    assert depth_metrics(PREDICTED, np.full((2, 2), np.nan), EVERYWHERE) == {}


def test_maps_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        depth_metrics(PREDICTED[:1], TRUTH, EVERYWHERE)


def test_nothing_is_clamped_by_a_wild_prediction() -> None:
    predicted = TRUTH.copy()
    predicted[0, 0] = 1e6
    assert depth_metrics(predicted, TRUTH, EVERYWHERE)["abs_rel"] == pytest.approx((1e6 - 100) / 100 / 4)


def test_median_ratio_by_hand() -> None:
    # median truth (40 + 60) / 2 = 50, median prediction 20
    ratio = median_ratio(np.array([10.0, 20.0, 20.0, 90.0]), np.array([20.0, 40.0, 60.0, 70.0]))
    assert ratio == pytest.approx(2.5)
    assert np.isnan(median_ratio(np.zeros(0), np.zeros(0)))


@given(depths)
def test_a_perfect_prediction_has_no_error(truth: np.ndarray) -> None:
    scored = depth_metrics(truth, truth, np.ones(truth.shape, dtype=bool))
    assert [scored[key] for key in ERRORS] == [0, 0, 0, 0, 1, 1, 1]


@given(depths, depths, st.floats(0.01, 100.0))
def test_median_scaled_errors_do_not_see_a_constant_scale(
    truth: np.ndarray, predicted: np.ndarray, scale: float
) -> None:
    region = np.ones(truth.shape, dtype=bool)

    def scaled(depth_mm: np.ndarray) -> dict[str, float]:
        return depth_metrics(depth_mm * median_ratio(depth_mm.ravel(), truth.ravel()), truth, region)

    one, other = scaled(predicted), scaled(predicted * scale)
    for key in ("abs_rel", "sq_rel", "rmse", "rmse_log", "coverage"):
        assert other[key] == pytest.approx(one[key], rel=1e-6, abs=1e-9)


@given(depths, depths, masks, masks, masks)
def test_laws_of_validity(
    truth: np.ndarray, predicted: np.ndarray, region: np.ndarray, seen: np.ndarray, measured: np.ndarray
) -> None:
    truth, predicted = np.where(measured, truth, np.nan), np.where(seen, predicted, np.nan)
    scored = depth_metrics(predicted, truth, region)
    if not (region & measured).any():
        assert scored == {}
        return
    valid = region & seen & measured
    assert scored["n_valid_px"] == valid.sum()
    assert scored["coverage"] == valid.sum() / (region & measured).sum()
    if valid.any():
        assert 0 <= scored["a1"] <= scored["a2"] <= scored["a3"] <= 1
        assert scored["rmse"] >= np.abs(predicted - truth)[valid].mean() - 1e-9
        # what lies outside the valid pixels has no influence
        noisy = np.where(valid, predicted, 12345.0)
        assert depth_metrics(noisy, np.where(valid, truth, np.nan), region)["abs_rel"] == scored["abs_rel"]


@settings(max_examples=50)
@given(depths, depths, masks)
def test_hiding_pixels_always_shows_in_the_coverage(
    truth: np.ndarray, predicted: np.ndarray, hidden: np.ndarray
) -> None:
    region = np.ones(truth.shape, dtype=bool)
    honest = depth_metrics(predicted, truth, region)
    cheating = depth_metrics(np.where(hidden, np.nan, predicted), truth, region)
    assert cheating["coverage"] == pytest.approx(honest["coverage"] - hidden.mean())
