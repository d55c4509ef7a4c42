"""How much of what a camera would see is seen by each view: the visible surface, and shares of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.geometry import invert_rigid
from utils.types import Camera, FloatArray
from utils.visibility import SAME_SURFACE, DepthView, look_for
from utils.warping import warp_depth

WIDEST_PX = 320  # shares need no more: a target is looked at in this width at most
ENOUGH_TOLD = 0.5  # share of a target's surface that a view's depth must be able to judge


@dataclass(frozen=True)
class Overlap:
    """What one view sees of a target's surface.

    `share` in [0, 1]: of the surface that is seen unoccluded, where the view's depth can tell; `angle_degrees`
    between the viewing axes; `distance_mm` between the centres.
    """

    share: float
    angle_degrees: float
    distance_mm: float


def visible_surface(camera: Camera, world_from_camera: FloatArray, views: Sequence[DepthView]) -> DepthView:
    """Return what a camera sees of the surface that views have measured, at most `WIDEST_PX` wide.

    Every view's depth is projected into the camera. A pixel takes the nearest depth that a second view confirms
    within `SAME_SURFACE`, as the median of those that do; where no two agree the nearest one.
    """
    width = min(camera.width, WIDEST_PX)
    small = camera.resized(width, max(round(camera.height * width / camera.width), 1))
    target_from_world = invert_rigid(world_from_camera)
    maps = [
        warp_depth(view.depth_mm, view.camera, small, target_from_world @ view.world_from_camera) for view in views
    ]
    return DepthView(small, world_from_camera, nearest_confirmed(np.stack(maps)))


def nearest_confirmed(depths_mm: FloatArray, tolerance: float = SAME_SURFACE) -> FloatArray:
    """Return (h, w): of depths (n, h, w) the nearest surface that two of them show, else the nearest depth."""
    ordered = np.sort(depths_mm, axis=0)  # NaN last
    with np.errstate(invalid="ignore"):
        confirmed = ordered[1:] <= (1 + tolerance) * ordered[:-1]
        first = np.where(confirmed.any(axis=0), confirmed.argmax(axis=0), 0) if len(confirmed) else 0
        front = np.take_along_axis(ordered, np.broadcast_to(first, ordered.shape[1:])[None], axis=0)
        count = ((ordered >= front) & (ordered <= (1 + tolerance) * front)).sum(axis=0)
    middle = np.minimum(first + np.maximum(count - 1, 0) // 2, len(ordered) - 1)
    return np.take_along_axis(ordered, np.broadcast_to(middle, ordered.shape[1:])[None], axis=0)[0]


def overlap(target: DepthView, view: DepthView) -> Overlap:
    """Return what a view sees of the target's surface, which has known depth somewhere.

    Holes in the view's own depth are left out of the share, but for those of a view that has little else.
    """
    known = np.isfinite(target.depth_mm)
    seen, untold = (found[known] for found in look_for(target, view))
    told = ~untold if np.mean(~untold) >= ENOUGH_TOLD else np.ones_like(untold)
    cosine = float(target.world_from_camera[:3, 2] @ view.world_from_camera[:3, 2])
    between = target.world_from_camera[:3, 3] - view.world_from_camera[:3, 3]
    return Overlap(
        float(seen[told].mean()),
        float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))),
        float(np.linalg.norm(between)),
    )
