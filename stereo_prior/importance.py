"""Which pixels are worth a ray, and how far a prior can be trusted."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.types import BoolArray, FloatArray

Map = NDArray[np.float32]

_DOUBTFUL_PERCENTILE = 95
_ERROR_SCALE = 0.02  # relative multi-view error at which confidence falls to 1/e
_SIGMA_SCALE = 0.02  # relative deviation at which confidence is halved
_UNCHECKED = 0.6  # nothing else saw the pixel
_HIGHLIGHT = 0.4
_FILLED = 0.15  # nobody measured the pixel


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
) -> Map:
    """Return how far each pixel's prior depth can be trusted, (h, w) in [0, 1]; 0 where depth is unknown.

    Args:
        relative_sigma: (h, w) deviation over depth, NaN where depth is unknown; it grows where texture is weak.
        error: (h, w) relative multi-view error, NaN where no other view saw the point.
        highlight: (h, w).
        stereo_confidence: (h, w) in [0, 1] of the view's own measurement (left-right check), 0 without one.
        agreement: (h, w) share of the maps of other views that agree; 0 where depth was continued into a hole.
    """
    known = np.isfinite(relative_sigma)
    precise = 1.0 / (1.0 + (np.nan_to_num(relative_sigma) / _SIGMA_SCALE) ** 2)
    agreed = np.where(np.isfinite(error), np.exp(-np.nan_to_num(error) / _ERROR_SCALE), _UNCHECKED)
    own = 0.6 + 0.4 * np.clip(stereo_confidence, 0, 1)
    supported = _FILLED + (1 - _FILLED) * np.sqrt(np.clip(agreement, 0, 1))
    shine = np.where(highlight, _HIGHLIGHT, 1.0)
    return np.where(known, precise * agreed * own * shine * supported, 0.0).astype(np.float32)


def _to_unit(values: FloatArray, *, flat: float) -> FloatArray:
    """Stretch values to [0, 1]; a constant map becomes `flat`."""
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-9:
        return np.full(values.shape, flat, np.float32)
    return (values - low) / (high - low)
