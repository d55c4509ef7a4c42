"""Score an uncertainty against the errors that it announces: reliability by decile, and sparsification.

Ilg et al., Uncertainty Estimates and Multi-Hypotheses Networks for Optical Flow, ECCV 2018, section 5.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.types import FloatArray


@dataclass(frozen=True)
class Bin:
    """Pixels with alike sigma: its median, what their errors are, and the shares of them within 1 and 2 sigma."""

    sigma: float
    median: float
    rms: float
    within_1: float
    within_2: float


def reliability(sigma: FloatArray, error: FloatArray, bins: int = 10) -> list[Bin]:
    """Return what errors really are where a sigma was predicted, in bins of equal size from the smallest sigma.

    Args:
        sigma: (n,) predicted standard deviation.
        error: (n,) absolute error in the same unit.
        bins: how many; 10 makes them deciles.
    """
    found = []
    for part in np.array_split(np.argsort(sigma, kind="stable"), bins):
        predicted, actual = sigma[part].astype(float), error[part].astype(float)
        found.append(
            Bin(
                float(np.median(predicted)),
                float(np.median(actual)),
                float(np.sqrt(np.mean(actual**2))),
                float(np.mean(actual <= predicted)),
                float(np.mean(actual <= 2 * predicted)),
            )
        )
    return found


def kept_means(doubt: FloatArray, error: FloatArray) -> FloatArray:
    """Return the mean error (n,) of the 1, 2, …, n least doubtful pixels.

    Args:
        doubt: (n,) the larger the sooner removed; NaN first of all. Pixels of equal doubt go in any order, which
            is counted as the mean over all orders.
        error: (n,) absolute error.
    """
    order = np.argsort(doubt, kind="stable")  # NaN last
    sorted_doubt, sorted_error = doubt[order], error[order].astype(float)
    both_nan = np.isnan(sorted_doubt[1:]) & np.isnan(sorted_doubt[:-1])
    first = np.concatenate([[True], (sorted_doubt[1:] != sorted_doubt[:-1]) & ~both_nan])
    starts = np.flatnonzero(first)
    sizes = np.diff(np.append(starts, len(error)))
    expected = np.repeat(np.add.reduceat(sorted_error, starts) / sizes, sizes)
    return np.asarray(np.cumsum(expected) / np.arange(1, len(error) + 1))


def sparsification_area(doubt: FloatArray, error: FloatArray) -> float:
    """Return the area under the sparsification error curve (AUSE), in units of the mean error of all pixels.

    The sparsification curve is the mean error of what is kept, over the share removed, when the most doubtful
    pixels are removed first; the sparsification error is its distance from the oracle's curve, which removes the
    largest errors first. Both are divided by the mean error of all pixels and so begin at 1. 0 is a perfect order.
    """
    oracle = kept_means(error, error)
    return float((kept_means(doubt, error) - oracle).mean() / oracle[-1])


def curve(doubt: FloatArray, error: FloatArray, removed: Sequence[float] | FloatArray) -> FloatArray:
    """Return the sparsification curve, divided by the mean error of all, at some shares removed (in [0, 1))."""
    means = kept_means(doubt, error)
    kept = np.ceil((1 - np.asarray(removed)) * len(means)).astype(int).clip(1, len(means))
    return np.asarray(means[kept - 1] / means[-1])
