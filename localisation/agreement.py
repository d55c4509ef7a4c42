"""How much of an image a rendered view explains, and how far neighbouring differences go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from localisation.alignment import Expected, Observed, residuals
from utils.types import FloatArray

WINDOW = 0.1  # side of the neighbourhood that is compared, as a share of the longer side
ALIKE = 0.5  # correlation from which a neighbourhood counts as explained
FILLED = 0.3  # of a neighbourhood that both must know
REACH_PX = 8  # lags over which differences may go together


@dataclass(frozen=True)
class Agreement:
    """What a rendered view says about the images, over all eyes.

    `explained`: share of the pixels seen by both whose neighbourhood looks alike (correlation of even contrast of
    0.5 or more); `overlap`: share of the images' usable pixels that the render shows; `correlation`: median over
    the neighbourhoods; `worst_eye`: `explained` in the eye where it is least.
    """

    explained: float
    overlap: float
    correlation: float
    worst_eye: float

    @property
    def score(self) -> float:
        """What hypotheses are ranked by: the share of the usable image that is explained."""
        return self.explained * self.overlap


def agreement(pairs: Sequence[tuple[Observed, Expected]]) -> Agreement:
    """Compare images with what was rendered at the same pose."""
    found, weights, usable = [], [], 0.0
    for observed, expected in pairs:
        residual, weight, _, _ = residuals(observed, expected, np.eye(4))
        maps = [_on_grid(expected, part) for part in (expected.values, expected.values + residual, weight)]
        local, filled = _local_correlation(*maps)
        known = (maps[2] > 0) & (filled > FILLED)
        found.append(local[known])
        weights.append(maps[2][known])
        usable += float(observed.fields[..., 1].sum())
    by_eye = [
        float(mine[local >= ALIKE].sum()) / max(float(mine.sum()), 1e-9)
        for local, mine in zip(found, weights, strict=True)
    ]
    correlation, weight = np.concatenate(found), np.concatenate(weights)
    total = float(weight.sum())
    if total < 1.0:
        return Agreement(0.0, 0.0, 0.0, 0.0)
    return Agreement(
        explained=float(weight[correlation >= ALIKE].sum()) / total,
        overlap=min(total / max(usable, 1e-9), 1.0),
        correlation=float(np.median(correlation)),
        worst_eye=min(by_eye),
    )


def correlated_pixels(pairs: Sequence[tuple[Observed, Expected]]) -> float:
    """Return how many neighbouring pixels' differences count as one: the sum of their correlations over lags.

    The variance of a mean of n correlated values is that of n / this many independent ones (Bartlett 1946).
    """
    sums: FloatArray = np.zeros((2 * REACH_PX + 1,) * 2)
    counts = np.zeros_like(sums)
    for observed, expected in pairs:
        residual, weight, _, _ = residuals(observed, expected, np.eye(4))
        spread = 1.4826 * float(np.median(np.abs(residual[weight > 0]))) if (weight > 0).any() else 1.0
        values = _on_grid(expected, np.clip(residual, -3 * spread, 3 * spread))
        known = _on_grid(expected, (weight > 0).astype(float))
        for (i, j), _ in np.ndenumerate(sums):
            here, there = _shifted(values.shape, i - REACH_PX), _shifted(values.shape, j - REACH_PX, axis=1)
            both = known[here[0]][:, there[0]] * known[here[1]][:, there[1]]
            sums[i, j] += float((both * values[here[0]][:, there[0]] * values[here[1]][:, there[1]]).sum())
            counts[i, j] += float(both.sum())
    covariance = sums / np.maximum(counts, 1.0)
    return max(1.0, float((covariance / max(covariance[REACH_PX, REACH_PX], 1e-12)).sum()))


def _shifted(shape: tuple[int, ...], lag: int, axis: int = 0) -> tuple[slice, slice]:
    """Return two slices of an axis that lie `lag` apart."""
    size = shape[axis]
    return slice(max(0, -lag), min(size, size - lag)), slice(max(0, lag), min(size, size + lag))


def _on_grid(expected: Expected, values: NDArray[np.floating]) -> NDArray[np.float32]:
    grid = np.zeros(expected.shape, np.float32)
    grid.ravel()[expected.pixels] = values
    return grid


def _local_correlation(
    a: NDArray[np.float32], b: NDArray[np.float32], weight: NDArray[np.float32]
) -> tuple[FloatArray, FloatArray]:
    """Return the correlation (h, w) of two maps around every pixel, and which share of the window has weight."""
    side = max(3, round(WINDOW * max(a.shape)) | 1)

    def mean(values: FloatArray) -> FloatArray:
        return np.asarray(cv2.boxFilter(np.asarray(values, np.float64), -1, (side, side)))

    share = mean(weight)
    safe = np.maximum(share, 1e-6)
    mean_a, mean_b = mean(weight * a) / safe, mean(weight * b) / safe
    variance_a, variance_b = mean(weight * a * a) / safe - mean_a**2, mean(weight * b * b) / safe - mean_b**2
    both = mean(weight * a * b) / safe - mean_a * mean_b
    return both / np.sqrt(np.maximum(variance_a * variance_b, 1e-8)), share
