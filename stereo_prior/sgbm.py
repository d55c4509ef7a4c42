"""The source `sgbm`: OpenCV's semi-global matching in both directions, then sub-pixel refinement.

Hirschmüller, Stereo Processing by Semiglobal Matching and Mutual Information, PAMI 2008.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stereo_prior.pair import Disparity, Eye, Pair, fill_unknown, flip, sample_other
from stereo_prior.subpixel import refine
from utils.types import BoolArray

_BLOCK_PX = 3
_SMALL_STEP, _LARGE_STEP = 8, 24  # costs of a disparity step of one and of more, per pixel of the block
_PREFILTER = 31
_UNIQUENESS_PERCENT = 10
AGREE_PX = 1.5  # before refinement: whole-pixel mistakes are what is to be found here
_STEPS_PER_PX = 16  # OpenCV's fixed-point disparity

Map = NDArray[np.float32]


def match_sgbm(pair: Pair) -> tuple[Disparity, Disparity]:
    """Match a pair; return dense disparities of the left and of the right eye, the unseen filled from around.

    Callers find what is wrong by comparing the two (`consistent`).
    """
    raw_left, raw_right = search_both(pair)
    mirrored = pair.exchanged()
    left = refined(pair, raw_left, consistent(raw_left, raw_right, AGREE_PX))
    agree_right = consistent(flip(raw_right), flip(raw_left), AGREE_PX)
    return left, refined(mirrored, flip(raw_right), agree_right).mirrored()


def search_both(pair: Pair) -> tuple[Map, Map]:
    """Return whole-range disparities (h, w), NaN unknown, of the left and of the right eye, in 1/16 px."""
    return _search(pair), flip(_search(pair.exchanged()))


def consistent(disparity_px: Map, other_px: Map, largest_px: float) -> BoolArray:
    """Return (h, w): whether the other eye's map, nearest pixel, agrees. Left eye first; or both mirrored."""
    found = sample_other(other_px, disparity_px, cv2.INTER_NEAREST, np.nan)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(found - disparity_px) <= largest_px)


def disagreement(disparity_px: Map, other_px: Map) -> Map:
    """Return |difference|, px, to the other eye's dense map, interpolated; NaN where it sees past its border."""
    return np.abs(sample_other(other_px, disparity_px, cv2.INTER_LINEAR, np.nan) - disparity_px)


def refined(pair: Pair, raw_px: Map, agree: BoolArray) -> Disparity:
    """Fill what the search missed and refine the rest to a fraction of a pixel."""
    trusted = agree & pair.reference.usable
    if not trusted.any():
        unknown = np.full(raw_px.shape, np.nan, np.float32)
        return Disparity(unknown, unknown.copy(), trusted)
    start = np.asarray(cv2.medianBlur(fill_unknown(raw_px, trusted), 5), np.float32)
    disparity_px, sigma_px = refine(pair, start, trusted)
    return Disparity(disparity_px, sigma_px, np.isfinite(raw_px))


def _search(pair: Pair) -> Map:
    """Run SGBM with the left image as reference.

    The right image is moved so that disparities start at zero, and both are padded by the range: block
    matching leaves that many columns empty, which are then padding and not image.
    """
    low = int(np.floor(pair.search_px[0]))
    count = 16 * max(1, int(np.ceil((pair.search_px[1] - low + 1) / 16)))
    left, right = _grey(pair.reference), _grey(pair.other)
    height, width = left.shape
    padded_left = cv2.copyMakeBorder(left, 0, 0, count, 0, cv2.BORDER_REPLICATE)
    moved = np.array([[1, 0, count + low], [0, 1, 0]], np.float32)
    padded_right = cv2.warpAffine(
        right, moved, (width + count, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
    )
    matcher = cv2.StereoSGBM.create(
        minDisparity=0,
        numDisparities=count,
        blockSize=_BLOCK_PX,
        P1=_SMALL_STEP * _BLOCK_PX**2,
        P2=_LARGE_STEP * _BLOCK_PX**2,
        disp12MaxDiff=-1,
        preFilterCap=_PREFILTER,
        uniquenessRatio=_UNIQUENESS_PERCENT,
        mode=cv2.StereoSGBM_MODE_HH4,
    )
    found = matcher.compute(padded_left, padded_right)[:, count:].astype(np.float32) / _STEPS_PER_PX
    return np.where(found < 0, np.nan, found + low).astype(np.float32)


def _grey(eye: Eye) -> NDArray[np.uint8]:
    return np.asarray(np.rint(cv2.cvtColor(eye.image, cv2.COLOR_RGB2GRAY)), np.uint8)
