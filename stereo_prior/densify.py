"""Dense matches around sparse ones, or in regions that they seed: zero-mean NCC, to a fraction of a pixel."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from stereo_prior.correlation import REACH, correlate
from stereo_prior.matcher import Image, Matches
from stereo_prior.pair import Eye
from stereo_prior.pictures import coloured, limits
from utils.types import FloatArray

_SMOOTHING_PX = 0.7  # of both images: interpolation blurs noise differently at every fraction

Centres = Callable[[Eye, FloatArray, FloatArray], FloatArray]


def around_matches(left: Eye, pixels: FloatArray, disparities_px: FloatArray) -> FloatArray:
    """Return (h, w), px: the disparity of the nearest match up to 5 px away in column and row; NaN elsewhere.

    Args:
        left: the rectified left eye.
        pixels: (m, 2) of the matches in it.
        disparities_px: (m,) of the matches.
    """
    height, width = left.usable.shape
    centre_px = np.full((height, width), np.nan)
    steps = np.arange(-REACH, REACH + 1)
    around = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    # from the far ones inwards: what is written last is nearest
    for offset in around[np.argsort(-(around**2).sum(axis=1), kind="stable")]:
        columns, rows = (np.rint(pixels).astype(int) + offset).T
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        centre_px[rows[inside], columns[inside]] = disparities_px[inside]
    return centre_px


def in_regions(left: Eye, pixels: FloatArray, disparities_px: FloatArray) -> FloatArray:
    """Return (h, w), px: the disparity of the match whose region of OpenCV's watershed a pixel lies in.

    Lines between regions go to one of their neighbours; NaN where there are no matches.
    """
    height, width = left.usable.shape
    markers = np.zeros((height, width), np.int32)
    columns, rows = np.rint(pixels).astype(int).T
    markers[rows.clip(0, height - 1), columns.clip(0, width - 1)] = np.arange(len(pixels)) + 1
    cv2.watershed(np.ascontiguousarray(left.image.clip(0, 255).astype(np.uint8)), markers)
    beside = cv2.dilate(markers.astype(np.float32), np.ones((3, 3), np.uint8)).astype(np.int32)
    region = np.where(markers < 0, beside, markers)
    return np.concatenate([[np.nan], disparities_px])[region.clip(0)]


DENSIFIERS: dict[str, Centres] = {"ncc": around_matches, "watershed": in_regions}


def densify(how: str, left: Eye, right: Eye, seeds: Matches) -> Matches:
    """Match all pixels that the seeds speak for, 3 px to either side of their disparity.

    Args:
        how: a row of `DENSIFIERS`.
        left, right: rectified eyes (h, w).
        seeds: matches in rectified pixels.

    Returns:
        Matches in rectified pixels: whole ones on the left, float32; the score is the NCC, 0.8 to 1.
    """
    known = np.isfinite(seeds.pixels_left).all(axis=1) & np.isfinite(seeds.pixels_right).all(axis=1)
    pixels, other = seeds.pixels_left[known], seeds.pixels_right[known]
    centre_px = DENSIFIERS[how](left, pixels, pixels[:, 0] - other[:, 0])
    disparity_px, score = search(left, right, centre_px)
    rows, columns = np.nonzero(score > 0)
    at_right = columns - disparity_px[rows, columns]
    return Matches(
        np.stack([columns, rows], axis=1).astype(np.float32),
        np.stack([at_right, rows], axis=1).astype(np.float32),
        score[rows, columns],
    )


def search(left: Eye, right: Eye, centre_px: FloatArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Find the disparity (h, w) px of every usable pixel within 3 px of a given one, by an 11 x 11 NCC.

    A pixel counts where the NCC is 0.8 or more, its peak lies inside the interval and no other peak comes near
    it. Windows and the interval must lie inside both images.

    Args:
        left, right: rectified eyes.
        centre_px: (h, w) disparity around which to search, NaN where not to.

    Returns:
        Disparity (h, w), NaN unknown, and the NCC there, 0 unknown.
    """
    asked = left.usable & np.isfinite(centre_px)
    return correlate(_grey(left.image), _grey(right.image), asked, right.usable, np.where(asked, centre_px, 0))


def draw_dense(left: Image, dense: Matches) -> Image:
    """Return the left image, grey, with the dense matches coloured by their column difference."""
    grey = cv2.cvtColor(left, cv2.COLOR_RGB2GRAY)
    picture = np.asarray(np.repeat(grey[..., None], 3, axis=2) // 2, np.uint8)
    if len(dense.score) == 0:
        return picture
    difference_px = dense.pixels_left[:, 0] - dense.pixels_right[:, 0]
    colours = coloured(-difference_px[None], *limits(-difference_px))[0]  # near is blue, as in depth
    # whole pixels of the rectified image lie between those of the original: no gaps
    for shift in ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)):
        columns, rows = np.rint(dense.pixels_left + np.array(shift)).astype(int).T
        inside = (columns >= 0) & (columns < left.shape[1]) & (rows >= 0) & (rows < left.shape[0])
        picture[rows[inside], columns[inside]] = colours[inside]
    return picture


def _grey(image: NDArray[np.float32]) -> NDArray[np.float32]:
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), _SMOOTHING_PX)
    return np.ascontiguousarray(grey, np.float32)
