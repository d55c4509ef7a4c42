"""From the disparities of a matcher, seen from both eyes, to depth with an uncertainty and a confidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stereo_prior.pair import Disparity, Pair, flip, load_pair, sample_other
from stereo_prior.rectification import Rectification
from stereo_prior.search_range import search_range
from stereo_prior.sgbm import disagreement
from stereo_prior.source import DepthMaps, Map, Measure, Task
from utils.types import Side

_AGREE_PX = 1.0  # largest left-right difference of a known pixel
_SPECKLE_SHARE = 0.0006  # of the image: smaller patches of their own depth are mistakes
_SPECKLE_STEP_PX = 1.0
_FLOOR_PX = 0.02  # no match is better, however strong its texture

Matcher = Callable[[Pair], tuple[Disparity, Disparity]]


@dataclass(frozen=True, eq=False)
class _Judged:
    """Rectified maps (h, w) of one eye: disparity px, its sigma px, confidence; NaN and 0 where unknown."""

    disparity_px: Map
    sigma_px: Map
    confidence: Map

    def mirrored(self) -> _Judged:
        return _Judged(flip(self.disparity_px), flip(self.sigma_px), flip(self.confidence))


def by_matching(matcher: Matcher) -> Callable[[Task], Measure]:
    """Make a source's `prepare` from a function that matches rectified pairs and needs no preparation."""
    return lambda task: measuring(task, matcher)


def measuring(task: Task, matcher: Matcher) -> Measure:
    """Return the function that measures a frame: rectify, match, judge, undo the rectification."""

    def measure(name: str) -> dict[Side, DepthMaps]:
        search_px = search_range(task.rectification, task.scene, name, task.found_px[name])
        pair = load_pair(task.scene, task.rectification, name, search_px)
        left, right = matcher(pair)
        judged: dict[Side, _Judged] = {
            "left": _judge(pair, left, right),
            "right": _judge(pair.exchanged(), right.mirrored(), left.mirrored()).mirrored(),
        }
        return {side: _in_original(task.rectification, side, maps) for side, maps in judged.items()}

    return measure


def _judge(pair: Pair, own: Disparity, other: Disparity) -> _Judged:
    """Keep what the other eye confirms, and say how far to trust it.

    Args:
        pair: images and masks of the reference eye and the other one.
        own, other: dense disparities of the two.
    """
    reference = pair.reference
    difference_px = disagreement(own.disparity_px, other.disparity_px)
    partner_tissue = sample_other(pair.other.tissue.astype(np.float32), own.disparity_px, outside=0.0) > 0.5
    partner_usable = sample_other(pair.other.usable.astype(np.float32), own.disparity_px, outside=0.0) > 0.5
    with np.errstate(invalid="ignore"):
        known = reference.tissue & partner_tissue & (difference_px <= _AGREE_PX)
    known = _without_speckles(own.disparity_px, known)
    usable = reference.usable & partner_usable
    # half the difference of two estimates is the deviation of their mean
    sigma_px = np.sqrt(own.sigma_px**2 + (0.5 * difference_px) ** 2 + _FLOOR_PX**2) * np.where(usable, 1.0, 2.0)
    agreement = np.exp(-0.5 * (difference_px / (0.5 * _AGREE_PX)) ** 2)
    texture = 1.0 / (1.0 + (own.sigma_px / 0.4) ** 2)
    doubts = np.where(own.unique, 1.0, 0.7) * np.where(usable, 1.0, 0.3)
    confidence = np.where(known, agreement * texture * doubts, 0.0)
    return _Judged(
        np.where(known, own.disparity_px, np.nan).astype(np.float32),
        np.where(known, sigma_px, np.nan).astype(np.float32),
        confidence.astype(np.float32),
    )


def _without_speckles(disparity_px: Map, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Drop small patches whose disparity differs from all around them."""
    if not known.any():
        return known
    lowest = float(disparity_px[known].min())
    steps = np.where(known, np.rint(16 * (disparity_px - lowest)) + 16, 0)
    fixed = np.clip(steps, 0, np.iinfo(np.int16).max).astype(np.int16)
    cv2.filterSpeckles(fixed, 0, max(4, round(_SPECKLE_SHARE * known.size)), round(16 * _SPECKLE_STEP_PX))
    return np.asarray(known & (fixed > 0))


def _in_original(rectification: Rectification, side: Side, maps: _Judged) -> DepthMaps:
    """Return the maps in the original pixels of one eye."""
    rectified_mm = rectification.depth_from_disparity(maps.disparity_px)
    # |dz / dd| / z = z / (f b)
    relative = maps.sigma_px * rectified_mm / (rectification.left.fx * abs(rectification.baseline_mm))
    depth_mm = rectification.unrectify_depth(rectified_mm, side).astype(np.float32)
    sigma_mm = depth_mm * rectification.unrectify_map(relative, side)
    confidence = np.where(np.isfinite(rectified_mm), maps.confidence, np.nan)
    confidence = np.nan_to_num(rectification.unrectify_map(confidence, side), nan=0.0)
    confidence[~np.isfinite(depth_mm)] = 0
    return DepthMaps(depth_mm, sigma_mm.astype(np.float32), confidence.astype(np.float32))
