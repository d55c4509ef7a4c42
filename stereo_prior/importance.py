"""Which pixels are worth a ray, and how far a prior can be trusted."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.types import BoolArray, FloatArray

Map = NDArray[np.float32]

_DOUBTFUL_PERCENTILE = 95
_SCALE = 0.02  # relative error to be expected at which confidence is halved
_ONE_EYE = 0.5  # so much more variance where the left-right check fails or was not possible
_SEEN_THROUGH = 100.0  # so much more variance where every other view sees through the point
_NOBODY = 0.02  # least share of views that agree, counted where nobody measured the pixel
_UNCHECKED = 0.6  # nothing else saw the pixel
_NO_STEREO = 0.6  # no pixel of the view was measured by two eyes: sparse points are shared by all views
_HIGHLIGHT = 0.4


def importance(
    image: NDArray[np.uint8],
    tissue: BoolArray,
    highlight: BoolArray,
    error: FloatArray,
    weights: tuple[float, float, float],
) -> Map:
    """Return how much a ray through each pixel is worth, (h, w) in [0, 1].

    Background, strong gradients and highlights are penalties; what remains is brought to [0, 1] and halved
    where the multi-view error is above its 95th percentile.

    Args:
        image: (h, w, 3) RGB.
        tissue, highlight: (h, w).
        error: (h, w) relative multi-view error, NaN unknown.
        weights: of background, gradient (0 to 1 over the image) and highlight.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    gradient = _to_unit(0.5 * np.abs(across) + 0.5 * np.abs(down), flat=0.0)
    background, reflection = (~tissue).astype(np.float32), highlight.astype(np.float32)
    penalty = weights[0] * background + weights[1] * gradient + weights[2] * reflection
    worth = _to_unit(-penalty, flat=1.0)
    known = np.isfinite(error)
    if known.any():
        doubtful = known & (np.nan_to_num(error) > np.percentile(error[known], _DOUBTFUL_PERCENTILE))
        worth = np.where(doubtful, 0.5 * worth, worth)
    return worth.astype(np.float32)


def confidence(
    relative_sigma: FloatArray,
    error: FloatArray,
    highlight: BoolArray,
    stereo_confidence: FloatArray,
    agreement: FloatArray,
    through: FloatArray,
) -> Map:
    """Return how far each pixel's prior depth can be trusted, (h, w) in [0, 1]; 0 where depth is unknown.

    One half where an error of 2 % is to be expected, falling with its square, so that it orders pixels as their
    errors do. Evidence scales that square; a product of factors would let the weakest evidence decide the order
    wherever all is well.

    Args:
        relative_sigma: (h, w) deviation over depth, NaN where depth is unknown; it grows where texture is weak.
        error: (h, w) relative multi-view error, NaN where no other view saw the point.
        highlight: (h, w).
        stereo_confidence: (h, w) in [0, 1] of the view's own measurement (left-right check), 0 without one.
        agreement: (h, w) share of the maps of other views that agree; 0 where depth was continued into a hole.
        through: (h, w) share of other views that see a surface behind the point.
    """
    known = np.isfinite(relative_sigma)
    expected = np.hypot(np.nan_to_num(relative_sigma), np.nan_to_num(error)) / _SCALE
    own = 1.0 + _ONE_EYE * (1.0 - np.clip(stereo_confidence, 0, 1))
    denied = 1.0 + _SEEN_THROUGH * through
    trust = 1.0 / (1.0 + expected**2 * own * denied / np.clip(agreement, _NOBODY, 1))
    checked = np.where(np.isfinite(error), 1.0, _UNCHECKED)
    shine = np.where(highlight, _HIGHLIGHT, 1.0)
    stereo = 1.0 if np.any(stereo_confidence > 0) else _NO_STEREO
    return np.where(known, trust * checked * shine * stereo, 0.0).astype(np.float32)


def _to_unit(values: FloatArray, *, flat: float) -> FloatArray:
    """Stretch values to [0, 1]; a constant map becomes `flat`."""
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-9:
        return np.full(values.shape, flat, np.float32)
    return (values - low) / (high - low)
