"""Sparse disparities of a frame that a network may learn from, without what is out of range, noisy or occluded."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from stereo_prior.rectification import Rectification
from utils.types import BoolArray, FloatArray

log = logging.getLogger("specula")

_NEIGHBOURS = 8
_NOISY_PX = 2.0  # from the median of the nearest points
_HIDDEN_COLUMNS_PX = 1.5  # points that land so near to each other in the right eye cannot both be seen there
_HIDDEN_PX = 2.0  # the one with the smaller disparity, if by more than this, is hidden


@dataclass(frozen=True, eq=False)
class SparseDisparity:
    """Rectified left pixels (m, 2) and their disparities (m,), px."""

    pixels: FloatArray
    disparity_px: FloatArray


@dataclass(frozen=True)
class Counts:
    """How many points there were, and how many each rule took away."""

    given: int
    out_of_range: int
    noisy: int
    occluded: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.given + other.given,
            self.out_of_range + other.out_of_range,
            self.noisy + other.noisy,
            self.occluded + other.occluded,
        )

    def __str__(self) -> str:
        kept = self.given - self.out_of_range - self.noisy - self.occluded
        return (
            f"{kept} of {self.given} points kept: {self.out_of_range} out of range, {self.noisy} noisy, "
            f"{self.occluded} occluded"
        )


def read_matches(path: Path, rectification: Rectification) -> SparseDisparity:
    """Return the matches of a frame, the densified ones included, in rectified pixels; nothing without a file."""
    if not path.exists():
        return SparseDisparity(np.zeros((0, 2)), np.zeros(0))
    with np.load(path) as file:
        names = [("pixels_left", "pixels_right"), ("dense_left", "dense_right")]
        given = [(file[left], file[right]) for left, right in names if left in file and right in file]
    left = rectification.rectify_pixels(np.concatenate([one[0] for one in given]), "left")
    right = rectification.rectify_pixels(np.concatenate([one[1] for one in given]), "right")
    return SparseDisparity(left, left[:, 0] - right[:, 0])


def clean(points: SparseDisparity, search_px: tuple[float, float]) -> tuple[SparseDisparity, Counts]:
    """Take away points out of the range searched, far from their neighbours, or hidden behind another.

    Args:
        points: of one frame.
        search_px: smallest and largest disparity.
    """
    inside = (points.disparity_px >= search_px[0]) & (points.disparity_px <= search_px[1])
    quiet = inside.copy()
    quiet[inside] = ~_noisy(points.pixels[inside], points.disparity_px[inside])
    seen = quiet.copy()
    seen[quiet] = ~_occluded(points.pixels[quiet], points.disparity_px[quiet])
    counts = Counts(len(inside), int((~inside).sum()), int((inside & ~quiet).sum()), int((quiet & ~seen).sum()))
    return SparseDisparity(points.pixels[seen], points.disparity_px[seen]), counts


def _noisy(pixels: FloatArray, disparity_px: FloatArray) -> BoolArray:
    if len(pixels) <= _NEIGHBOURS:
        return np.zeros(len(pixels), bool)
    _, around = cKDTree(pixels).query(pixels, k=_NEIGHBOURS + 1)
    middle = np.median(disparity_px[around[:, 1:]], axis=1)
    return np.asarray(np.abs(disparity_px - middle) > _NOISY_PX)


def _occluded(pixels: FloatArray, disparity_px: FloatArray) -> BoolArray:
    """Return (m,): whether another point lands at the same place of the right eye and is nearer."""
    if len(pixels) < 2:
        return np.zeros(len(pixels), bool)
    there = np.stack([pixels[:, 0] - disparity_px, pixels[:, 1]], axis=1)
    hidden = np.zeros(len(pixels), bool)
    pairs = cKDTree(there).query_pairs(_HIDDEN_COLUMNS_PX, output_type="ndarray")
    if len(pairs):
        difference = disparity_px[pairs[:, 0]] - disparity_px[pairs[:, 1]]
        hidden[pairs[difference < -_HIDDEN_PX, 0]] = True
        hidden[pairs[difference > _HIDDEN_PX, 1]] = True
    return hidden
