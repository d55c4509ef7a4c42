"""Which disparities to search in a frame: from its matches, or from a coarse search over everything."""

from __future__ import annotations

import cv2
import numpy as np

from stereo_prior.pair import Eye, Pair, load_pair
from stereo_prior.rectification import Rectification
from stereo_prior.sgbm import consistent, search_both
from utils.scene import Scene
from utils.types import FloatArray

FEWEST_MATCHES = 30
_MARGIN_SHARE, _MARGIN_PX = 0.25, 4.0  # matches rarely lie on the nearest and the farthest place
_COARSE_WIDTH_PX = 160


def search_range(
    rectification: Rectification, scene: Scene, name: str, disparities_px: FloatArray
) -> tuple[float, float]:
    """Return the disparities to search in a frame, px, from those of its matches (m,).

    With too few matches the whole range in front of the rig is searched at low resolution.
    """
    if len(disparities_px) >= FEWEST_MATCHES:
        low, high = np.percentile(disparities_px, [1, 99])
    else:
        low, high = _coarse_range(load_pair(scene, rectification, name, _whole_range(rectification)))
    margin = max(_MARGIN_PX, _MARGIN_SHARE * (high - low))
    return float(low - margin), float(high + margin)


def _whole_range(rectification: Rectification) -> tuple[float, float]:
    """Return the disparities of everything in front of the rig that both images can show."""
    width, offset = rectification.left.width, rectification.disparity_offset_px
    if rectification.baseline_mm > 0:
        return max(offset, 1.0 - width), width - 1.0
    return 1.0 - width, min(offset, width - 1.0)


def _coarse_range(pair: Pair) -> tuple[float, float]:
    """Return the 2nd and 98th percentile of the disparities that both directions agree on."""
    scale = min(1.0, _COARSE_WIDTH_PX / pair.reference.image.shape[1])
    small = Pair(
        _resized(pair.reference, scale),
        _resized(pair.other, scale),
        (pair.search_px[0] * scale, pair.search_px[1] * scale),
    )
    left, right = search_both(small)
    agreed = consistent(left, right, 1.0) & small.reference.usable
    if agreed.sum() < FEWEST_MATCHES:
        return pair.search_px
    low, high = np.percentile(left[agreed], [2, 98]) / scale
    return float(low), float(high)


def _resized(eye: Eye, scale: float) -> Eye:
    size = (round(eye.image.shape[1] * scale), round(eye.image.shape[0] * scale))
    image = np.asarray(cv2.resize(eye.image, size, interpolation=cv2.INTER_AREA), np.float32)
    masks = [
        cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0
        for mask in (eye.tissue, eye.usable)
    ]
    return Eye(image, *masks)
