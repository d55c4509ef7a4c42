"""The source `sgbm_wls`: semi-global matching, spread along colours by least squares, then sub-pixel steps.

Min et al., Fast Global Image Smoothing Based on Weighted Least Squares, TIP 2014; the weights are where both eyes
agree.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stereo_prior.pair import Disparity, Pair, flip
from stereo_prior.sgbm import AGREE_PX, consistent, search_both
from stereo_prior.subpixel import refine
from utils.types import BoolArray

_LAMBDA = 8000.0  # how far disparity spreads
_SIGMA_COLOUR = 1.5  # grey levels over which it stops
_LEAST_WEIGHT = 1e-6

Map = NDArray[np.float32]


def match_sgbm_wls(pair: Pair) -> tuple[Disparity, Disparity]:
    """Match a pair; return dense disparities of the left and of the right eye."""
    raw_left, raw_right = search_both(pair)
    mirrored = pair.exchanged()
    left = _smoothed(pair, raw_left, consistent(raw_left, raw_right, AGREE_PX))
    agree_right = consistent(flip(raw_right), flip(raw_left), AGREE_PX)
    return left, _smoothed(mirrored, flip(raw_right), agree_right).mirrored()


def _smoothed(pair: Pair, raw_px: Map, agree: BoolArray) -> Disparity:
    trusted = agree & pair.reference.usable
    if not trusted.any():
        unknown = np.full(raw_px.shape, np.nan, np.float32)
        return Disparity(unknown, unknown.copy(), trusted)
    guide = np.clip(np.rint(pair.reference.image), 0, 255).astype(np.uint8)
    middle = np.float32(np.median(raw_px[trusted]))  # around which sums lose no digits
    weight = trusted.astype(np.float32)
    offset = np.where(trusted, raw_px - middle, 0).astype(np.float32)
    above, below = (
        cv2.ximgproc.fastGlobalSmootherFilter(guide, values, _LAMBDA, _SIGMA_COLOUR) for values in (offset, weight)
    )
    start = (above / np.maximum(below, _LEAST_WEIGHT) + middle).astype(np.float32)
    disparity_px, sigma_px = refine(pair, start, trusted)
    return Disparity(disparity_px, sigma_px, np.isfinite(raw_px))
