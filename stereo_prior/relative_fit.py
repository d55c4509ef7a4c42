"""Scale and shift that bring relative inverse depth to points of known depth, robustly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.types import BoolArray, FloatArray

FEWEST_POINTS = 8
_FEWEST_INLIERS = 0.5  # share of the points
_LARGEST_SPREAD = 0.25  # relative: a map that fits its points no better says nothing
_TRIALS = 300
_ROUNDS = 10
_SMALLEST_SIGMA = 0.003
_INLIER_SIGMAS = 3.0
_SHIFT_EARNS = 0.9  # a shift has to leave less than this share of the residual to be worth a free number
_INERTIA = 15.0  # points' worth of what the views around say about the scale
_AROUND_AGREE = 0.1  # views around whose scales differ by more than this share say nothing about another's


@dataclass(frozen=True)
class Fit:
    """inverse depth (1/mm) = scale * relative + shift.

    `inliers` counts the points that agree, `n_points` all; `spread` is the robust relative deviation of the
    points' inverse depth from the fit.
    """

    scale: float
    shift: float
    spread: float
    inliers: int
    n_points: int


def fit_relative(relative: FloatArray, inverse_depth: FloatArray, *, with_shift: bool) -> Fit | None:
    """Fit scale and shift robustly: random pairs first, then least squares over what agrees with the best.

    Args:
        relative: (m,) relative inverse depth at the points.
        inverse_depth: (m,) 1/mm, outliers included.
        with_shift: False keeps the shift at 0.

    Returns:
        None where points are too few, or nothing positive fits at least half of them.
    """
    if len(relative) < FEWEST_POINTS:
        return None
    scales, shifts = _candidates(relative, inverse_depth, with_shift)
    off = np.abs(relative_residuals(relative, inverse_depth, scales[:, None], shifts[:, None]))
    best = int(np.argmin(np.median(off, axis=1)))
    scale, shift = float(scales[best]), float(shifts[best])
    inside = np.ones(len(relative), bool)
    for _ in range(_ROUNDS):
        sigma, inside = _agreeing(relative, inverse_depth, scale, shift)
        scale, shift = _least_squares(relative[inside], inverse_depth[inside], with_shift)
    sigma, inside = _agreeing(relative, inverse_depth, scale, shift)
    count = int(inside.sum())
    if scale <= 0 or sigma > _LARGEST_SPREAD or count < _FEWEST_INLIERS * len(relative):
        return None
    return Fit(scale, shift, sigma, count, len(relative))


def _candidates(relative: FloatArray, inverse: FloatArray, with_shift: bool) -> tuple[FloatArray, FloatArray]:
    """Return scales (k,) and shifts (k,) through random pairs of points, or through single ones without shift."""
    rng = np.random.default_rng(0)
    if not with_shift:
        count = min(len(relative), _TRIALS)
        chosen = np.sort(rng.choice(len(relative), count, replace=False))
        return inverse[chosen] / relative[chosen], np.zeros(count)
    first, second = rng.integers(0, len(relative), (2, _TRIALS))
    apart = np.abs(relative[first] - relative[second]) > 1e-6 * np.abs(relative[first])
    first, second = first[apart], second[apart]
    scales = (inverse[first] - inverse[second]) / (relative[first] - relative[second])
    middle = float(np.median(inverse / relative))
    return np.append(scales, middle), np.append(inverse[first] - scales * relative[first], 0.0)


def relative_residuals(
    relative: FloatArray, inverse: FloatArray, scale: FloatArray | float, shift: FloatArray | float
) -> FloatArray:
    """Return how far scaled and shifted maps are off the points, as a share of their inverse depth."""
    return np.asarray((scale * relative + shift) / inverse - 1.0)


def _agreeing(relative: FloatArray, inverse: FloatArray, scale: float, shift: float) -> tuple[float, BoolArray]:
    """Return the robust relative deviation of the points from a fit, and which points (m,) agree with it."""
    off = np.abs(relative_residuals(relative, inverse, scale, shift))
    sigma = max(1.4826 * float(np.median(off)), _SMALLEST_SIGMA)
    return sigma, np.asarray(off <= _INLIER_SIGMAS * sigma)


def _least_squares(relative: FloatArray, inverse: FloatArray, with_shift: bool) -> tuple[float, float]:
    """Return scale and shift that minimise the sum of squared relative residuals."""
    design = np.stack([relative, np.ones_like(relative)] if with_shift else [relative], axis=1) / inverse[:, None]
    solved = np.linalg.lstsq(design, np.ones(len(relative)), rcond=None)[0]
    return float(solved[0]), float(solved[1]) if with_shift else 0.0


def steadied(fit: Fit, relative: FloatArray, inverse_depth: FloatArray, around: Sequence[float]) -> Fit:
    """Draw a fit's scale towards the median of the scales around it, the more so the fewer its points.

    It moves by no more than the fit's own uncertainty, and not at all where the views around disagree: the maps
    of some sources have a unit of their own in every image, of which the neighbours know nothing.

    Args:
        fit: of this view.
        relative, inverse_depth: (m,) its points.
        around: scales of the views beside it in the sequence.
    """
    if len(around) < 2 or float(np.std(np.log(around))) > _AROUND_AGREE:
        return fit
    _, inside = _agreeing(relative, inverse_depth, fit.scale, fit.shift)
    limit = _scale_sigma(fit, relative[inside], inverse_depth[inside])
    pull = _INERTIA / (fit.inliers + _INERTIA) * (float(np.median(np.log(around))) - np.log(fit.scale))
    scale = fit.scale * float(np.exp(np.clip(pull, -limit, limit)))
    shift = fit.shift
    if shift != 0.0:  # it has to follow the scale
        shift = float(np.median(inverse_depth[inside] - scale * relative[inside]))
    sigma, inside = _agreeing(relative, inverse_depth, scale, shift)
    return Fit(scale, shift, sigma, int(inside.sum()), len(relative))


def _scale_sigma(fit: Fit, relative: FloatArray, inverse: FloatArray) -> float:
    """Return the relative uncertainty of a fit's scale: spread / sqrt(m), and more where a shift blurs it.

    Args:
        fit: a scale and a shift.
        relative, inverse: (m,) the points that agree with it.
    """
    given = fit.scale * relative / inverse
    level = 1.0 / inverse
    # information about the logarithm of the scale, less what the shift could explain as well
    known = float(given @ given)
    if fit.shift != 0.0:
        known -= float(given @ level) ** 2 / float(level @ level)
    return fit.spread / float(np.sqrt(max(known, 1.0)))


def shift_needed(samples: Sequence[tuple[FloatArray, FloatArray]]) -> bool:
    """Whether most of some views' maps (relative, inverse depth at points) fit better with a shift.

    One answer for all of a sequence, or scales of neighbouring views could not be compared.
    """
    votes = []
    for relative, inverse in samples:
        plain = fit_relative(relative, inverse, with_shift=False)
        shifted = fit_relative(relative, inverse, with_shift=True)
        if shifted is not None:
            votes.append(plain is None or shifted.spread < _SHIFT_EARNS * plain.spread)
    return bool(votes) and float(np.mean(votes)) > 0.5
