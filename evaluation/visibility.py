"""Which points of a true and a reconstructed surface count: those that training images could tell about.

Both surfaces are cropped to the same volume, made from the truth, the cameras and the tissue masks alone; what was
reconstructed has no say in it, so that nothing can be won by leaving parts out or by inventing others.

A view *covers* a point that lies in front of the camera on a pixel of tissue whose true depth is known, however
deep. A view *sees* a point that it covers and that lies no deeper than the true surface there (and 1 % more).
A point counts where

    at least `LEAST_VIEWS` views see it, or
    at least `LEAST_VIEWS` views cover it and the true point nearest to it is one that as many see.

`LEAST_VIEWS` is 2: what only one image shows cannot be triangulated; it is 1 where there is truth of one image
alone. For points of the truth the second line adds nothing, they are their own nearest points: the truth that is
seen counts. For points of the reconstruction the first line takes what lies on the surface and everything in the
free space before it: floaters, sheets in front.
The second takes what lies behind it: a ghost sheet behind a visible surface is charged to that surface, however
deep it lies, instead of hiding there; while the back of a fold, which no camera saw, is near to hidden truth and
does not count, whatever was made up there. Where the truth holds no hidden parts (truth from depth maps) all that
lies behind the surface is charged to it. Outside all images, and outside the tissue, nothing counts.

Distances are taken to the whole other surface, not to its cropped part: the border of the crop costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.surfaces import Surface
from utils.geometry import invert_rigid, project, transform
from utils.types import BoolArray, Camera, FloatArray

LEAST_VIEWS = 2

_DEEPER = 1.01  # a surface seen obliquely changes its depth within a pixel


@dataclass(frozen=True)
class View:
    """A training image: its camera and pose, and the true z-depth (h, w) on tissue, NaN elsewhere, mm."""

    camera: Camera
    world_from_camera: FloatArray
    depth_mm: NDArray[np.float32]


def covered_and_seen(views: Sequence[View], points_world: FloatArray) -> tuple[BoolArray, BoolArray]:
    """Return for points (n, 3) whether enough views cover them, and whether enough see them."""
    covering, seeing = np.zeros((2, len(points_world)), np.int32)
    for view in views:
        points = transform(invert_rigid(view.world_from_camera), points_world)
        pixels, z = project(view.camera.matrix, points)
        with np.errstate(invalid="ignore"):
            columns, rows = np.rint(pixels).T
            inside = (columns >= 0) & (columns < view.camera.width) & (rows >= 0) & (rows < view.camera.height)
        chosen = np.flatnonzero(inside)
        truth_mm = view.depth_mm[rows[chosen].astype(np.int64), columns[chosen].astype(np.int64)]
        covering[chosen] += np.isfinite(truth_mm)
        seeing[chosen] += z[chosen] <= truth_mm * _DEEPER  # nothing is less than NaN
    return covering >= least(views), seeing >= least(views)


def least(views: Sequence[View]) -> int:
    """Return how many views have to see a point."""
    return min(LEAST_VIEWS, len(views))


def truth_that_counts(views: Sequence[View], truth: Surface) -> BoolArray:
    """Return which samples (n,) of the true surface count."""
    return covered_and_seen(views, truth.samples)[1]


def mesh_that_counts(views: Sequence[View], samples: FloatArray, nearest_truth: FloatArray) -> BoolArray:
    """Return which samples (n, 3) of a reconstruction count, from the true points (n, 3) nearest to them."""
    covered, seen = covered_and_seen(views, samples)
    behind = np.flatnonzero(covered & ~seen)
    seen[behind] = covered_and_seen(views, nearest_truth[behind])[1]
    return seen
