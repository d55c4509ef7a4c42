"""Which views have seen a surface: by projected depth, so that what stands in front of it counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.geometry import invert_rigid
from utils.multi_view import RaysInView
from utils.types import BoolArray, Camera, FloatArray

# Depths within this share are one surface: several times the error of either, far less than what hides another.
SAME_SURFACE = 0.02


@dataclass(frozen=True, eq=False)
class DepthView:
    """What a camera sees: `world_from_camera` (4, 4) mm and z-depth (h, w) mm, NaN where it sees no surface."""

    camera: Camera
    world_from_camera: FloatArray
    depth_mm: FloatArray


def seen_by(target: DepthView, witness: DepthView, tolerance: float = SAME_SURFACE) -> BoolArray:
    """Return (h, w) of the target: its surface is inside the witness's image, and nothing hides it there.

    A point counts where the witness's depth at its pixel differs by less than `tolerance` of the point's z-depth:
    less depth there means that something stands in front, more that it looked through the surface.
    """
    return look_for(target, witness, tolerance)[0]


def look_for(
    target: DepthView, witness: DepthView, tolerance: float = SAME_SURFACE
) -> tuple[BoolArray, BoolArray]:
    """Return (h, w) of the target twice: what `seen_by` says, and where the witness has no depth to tell."""
    witness_from_target = invert_rigid(witness.world_from_camera) @ target.world_from_camera
    rays = RaysInView(target.camera, witness.camera, witness_from_target)
    z, columns, rows = rays.land(np.asarray(target.depth_mm, np.float32))
    width, height = witness.camera.width, witness.camera.height
    # A pixel reaches half a pixel beyond its centre, those at the border too, whose depth is taken there.
    inside = (columns > -0.5) & (columns < width - 0.5) & (rows > -0.5) & (rows < height - 0.5)
    depth = np.asarray(witness.depth_mm, np.float32)
    found = cv2.remap(depth, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    with np.errstate(invalid="ignore"):
        inside = inside & (z > 0)
        return np.asarray(inside & (np.abs(found - z) < tolerance * z)), np.asarray(inside & ~np.isfinite(found))


def coverage(
    target: DepthView, witnesses: Iterable[DepthView], tolerance: float = SAME_SURFACE
) -> NDArray[np.uint16]:
    """Return (h, w): how many of the witnesses have seen the target's surface; 0 where it has none."""
    count = np.zeros(target.depth_mm.shape, np.uint16)
    for witness in witnesses:
        count += seen_by(target, witness, tolerance)
    return count
