"""Where the points of one view lie in others, and how well depth there agrees: the multi-view error."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from utils.geometry import directions, pixel_grid
from utils.types import BoolArray, Camera, FloatArray
from utils.warping import sample_map

Map = NDArray[np.float32]

_OUTSIDE = np.float32(-9.0)  # px
_LEAST_INTO = 0.2  # mm of depth in the other view for a mm in this one


def multi_view_error(
    camera: Camera, depth_mm: FloatArray, others: Sequence[tuple[Camera, FloatArray, FloatArray]], topk: int
) -> Map:
    """Return the relative multi-view error (h, w): the mean over the best views of |D_j(p_j(X)) - z_j| / z_j.

    Views in which the point falls outside, behind the camera or on unknown depth are left out; where none is
    left the error is NaN.

    Args:
        camera: the view's camera.
        depth_mm: its depth (h, w).
        others: camera, `other_from_view` (4, 4) and depth (h, w) of every other view.
        topk: how many of the best views count.
    """
    depth = np.asarray(depth_mm, np.float32)
    best = np.full((topk, *depth.shape), np.inf, np.float32)
    for other, other_from_view, other_depth_mm in others:
        z, columns, rows = RaysInView(camera, other, other_from_view).land(depth)
        found = sample_map(np.asarray(other_depth_mm, np.float32), columns, rows)
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.abs(found - z) / z
        error = np.where(np.isfinite(error), error, np.inf)
        for rank in range(topk):  # insertion: the better one stays, the other one moves on
            best[rank], error = np.minimum(best[rank], error), np.maximum(best[rank], error)
    known = np.isfinite(best)
    counted = known.sum(axis=0)
    total = np.where(known, best, 0).sum(axis=0)
    return np.where(counted > 0, total / np.maximum(counted, 1), np.nan).astype(np.float32)


class RaysInView:
    """The rays of a view's pixels in another view's frame: X_other = z * direction + origin.

    Args:
        camera: the view's camera.
        other: that of the other view.
        other_from_view: (4, 4) mm.
        chosen: (h, w) the pixels whose rays are wanted; None: all of them.
    """

    def __init__(
        self, camera: Camera, other: Camera, other_from_view: FloatArray, chosen: BoolArray | None = None
    ) -> None:
        rays = _pixel_rays(camera) if chosen is None else _pixel_rays(camera)[chosen]
        turned = rays @ other_from_view[:3, :3].T.astype(np.float32)
        self.other = other
        self.direction = [np.ascontiguousarray(turned[..., axis]) for axis in range(3)]
        self.origin = other_from_view[:3, 3].astype(np.float32)

    def land(self, depth_mm: Map) -> tuple[Map, Map, Map]:
        """Return z-depth, column and row in the other view, shaped like depth (h, w), or (n,) of chosen pixels.

        What lies behind the other view lands far outside.
        """
        x, y, z = (depth_mm * axis + shift for axis, shift in zip(self.direction, self.origin, strict=True))
        camera = self.other
        with np.errstate(invalid="ignore", divide="ignore"):
            per_z, in_front = 1.0 / z, z > 0
            columns = np.where(in_front, np.float32(camera.fx) * x * per_z + np.float32(camera.cx), _OUTSIDE)
            rows = np.where(in_front, np.float32(camera.fy) * y * per_z + np.float32(camera.cy), _OUTSIDE)
        return z, columns, rows

    @property
    def along(self) -> Map:
        """How far a step of 1 mm in the view's depth goes into the other's; NaN where hardly at all."""
        return np.where(self.direction[2] > _LEAST_INTO, self.direction[2], np.nan).astype(np.float32)


@lru_cache(maxsize=4)
def _pixel_rays(camera: Camera) -> Map:
    """Return the viewing directions (h, w, 3) of all pixels of a camera."""
    return directions(camera.matrix, pixel_grid(camera.width, camera.height)).astype(np.float32)
