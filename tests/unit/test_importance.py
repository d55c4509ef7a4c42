"""Importance and confidence: penalties by hand, halving of the doubtful, order of trust."""

from __future__ import annotations

import numpy as np
import pytest

from stereo_prior.importance import confidence, importance

SHAPE = (40, 40)
GREY = np.full((*SHAPE, 3), 120, np.uint8)
NONE = np.zeros(SHAPE, bool)
NO_ERROR = np.full(SHAPE, np.nan)
NOBODY = np.zeros(SHAPE)  # sees through


def test_penalties_by_hand() -> None:
    tissue, highlight = ~NONE, NONE.copy()
    tissue[:, :10] = False
    highlight[:, 30:] = True
    worth = importance(GREY, tissue, highlight, NO_ERROR, (1.0, 1.0, 0.3))
    # -1 in the background, 0 in tissue, -0.3 in highlights, stretched to [0, 1]
    assert worth[5, 5] == pytest.approx(0.0)
    assert worth[5, 20] == pytest.approx(1.0)
    assert worth[5, 35] == pytest.approx(0.7)


def test_gradients_are_penalised() -> None:
    image = GREY.copy()
    image[:, 20:] = 200
    worth = importance(image, ~NONE, NONE, NO_ERROR, (1.0, 1.0, 0.3))
    assert worth[10, 20] == pytest.approx(0.0)
    assert worth[10, 5] == pytest.approx(1.0)
    assert (importance(image, ~NONE, NONE, NO_ERROR, (1.0, 0.0, 0.3)) == 1).all()


def test_the_worst_twentieth_is_halved() -> None:
    error = np.linspace(0, 0.1, SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    worth = importance(GREY, ~NONE, NONE, error, (1.0, 1.0, 0.3))
    assert (worth == 0.5).mean() == pytest.approx(0.05, abs=0.002)
    assert (worth[error < 0.09] == 1).all()


def test_confidence_falls_with_every_doubt() -> None:
    sigma, error = np.full(SHAPE, 0.005), np.full(SHAPE, 0.002)
    stereo = all_agree = np.ones(SHAPE)
    best = confidence(sigma, error, NONE, stereo, all_agree, NOBODY)[0, 0]
    # 1 / (1 + (0.005^2 + 0.002^2) / 0.02^2)
    assert best == pytest.approx(1 / 1.0725)
    half = np.full(SHAPE, 0.5)
    worse = [
        (confidence(4 * sigma, error, NONE, stereo, all_agree, NOBODY), 1 / (1 + (0.02**2 + 0.002**2) / 0.02**2)),
        (confidence(sigma, 10 * error, NONE, stereo, all_agree, NOBODY), 1 / (1 + (0.005**2 + 0.02**2) / 0.02**2)),
        (confidence(sigma, NO_ERROR, NONE, stereo, all_agree, NOBODY), 0.6 / 1.0625),
        (confidence(sigma, error, ~NONE, stereo, all_agree, NOBODY), 0.4 / 1.0725),
        # half sure of the left-right check: a quarter more variance
        (confidence(sigma, error, NONE, half, all_agree, NOBODY), 1 / (1 + 1.25 * 0.0725)),
        # one map of two agrees: twice the variance
        (confidence(sigma, error, NONE, stereo, half, NOBODY), 1 / (1 + 2 * 0.0725)),
        # one view of fifty sees through the point: three times the variance
        (confidence(sigma, error, NONE, stereo, all_agree, np.full(SHAPE, 0.02)), 1 / (1 + 3 * 0.0725)),
    ]
    for found, expected in worse:
        assert found[0, 0] == pytest.approx(expected, rel=1e-5)
        assert found[0, 0] < best
    filled = confidence(sigma, NO_ERROR, NONE, 0 * stereo, 0 * all_agree, NOBODY)
    assert 0 < filled[0, 0] < 0.2
    assert (confidence(np.full(SHAPE, np.nan), error, NONE, stereo, all_agree, NOBODY) == 0).all()


def test_confidence_orders_pixels_by_the_error_to_be_expected() -> None:
    # the left-right check alone must not put a pixel of 0.2 % behind one of 0.6 %
    sigma = np.full(SHAPE, 0.002)
    sigma[:, 20:] = 0.006
    stereo = np.full(SHAPE, 0.2)
    stereo[:, 20:] = 1.0
    found = confidence(sigma, 0 * sigma, NONE, stereo, np.ones(SHAPE), NOBODY)
    assert found[0, 0] > found[0, 30]


def test_a_view_that_no_eye_measured_is_trusted_less() -> None:
    sigma, error, agreement = np.full(SHAPE, 0.005), np.full(SHAPE, 0.002), np.ones(SHAPE)
    one_pixel = np.zeros(SHAPE)
    one_pixel[5, 5] = 1.0
    measured = confidence(sigma, error, NONE, one_pixel, agreement, NOBODY)[20, 20]
    assert confidence(sigma, error, NONE, 0 * one_pixel, agreement, NOBODY)[20, 20] == pytest.approx(
        0.6 * measured
    )
