"""A relative pose as a walk on a sphere about a fixation point: what Zero-1-to-3-type models are told of it.

Such models were trained on cameras that all look at one point with no roll. Three numbers say where the target
stands: its polar angle, azimuth and distance, against those of the condition. A pose has three more that they
cannot express: the two by which the target looks past the point, and its roll. They come back as `off_axis` and
`roll`, so that the caller can refuse a pose that the model would not hear of. Nor is the model told where up is:
the sphere's axis is taken along the condition image's own up direction, as if that camera stood at the equator,
for there is no gravity in endoscopic images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.geometry import invert_rigid
from utils.types import FloatArray

_UP = np.array([0.0, -1.0, 0.0])  # of the condition camera: y points down


@dataclass(frozen=True, eq=False)
class SphericalSteps:
    """Steps (k,) from condition cameras to a target, each about its own fixation point.

    Args:
        polar: change of the angle from the up direction, radians; positive: the camera went down.
        azimuth: about the up direction, radians in (-pi, pi]; positive: the camera went to its right.
        radius_mm: change of the distance from the fixation point.
        off_axis_degrees: how far the target looks past the fixation point.
        roll_degrees: how far it is turned about its axis against the up direction, either way.
    """

    polar: FloatArray
    azimuth: FloatArray
    radius_mm: FloatArray
    off_axis_degrees: FloatArray
    roll_degrees: FloatArray

    def embedding(self, mm_per_unit: float) -> FloatArray:
        """Return the model's pose vectors (k, 4): polar, sin and cos of azimuth, radius in its units of length.

        Liu et al., Zero-1-to-3, ICCV 2023, section 3.2, with the order of the published code.
        """
        turn = [np.sin(self.azimuth), np.cos(self.azimuth)]
        return np.stack([self.polar, *turn, self.radius_mm / mm_per_unit], axis=-1)


def spherical_steps(target_from_conditions: FloatArray, distance_mm: float) -> SphericalSteps:
    """Return the steps from condition cameras to one target.

    Args:
        target_from_conditions: (k, 4, 4) inv(world_from_target) world_from_condition, OpenCV axes, mm.
        distance_mm: of the fixation points, along the axis of each condition.
    """
    condition_from_target = invert_rigid(np.asarray(target_from_conditions, float))
    from_point = condition_from_target[:, :3, 3] - np.array([0.0, 0.0, distance_mm])
    x, y, z = from_point.T
    around = np.hypot(x, z)
    forward = -from_point / np.maximum(np.linalg.norm(from_point, axis=1, keepdims=True), 1e-9)
    looking = _upright(forward)
    looking_from_target = np.swapaxes(looking, 1, 2) @ condition_from_target[:, :3, :3]
    axis = looking_from_target[:, :, 2]
    # The twist about the axis that is left once the axes are brought together (swing and twist of a rotation).
    twist = np.arctan2(
        looking_from_target[:, 1, 0] - looking_from_target[:, 0, 1],
        looking_from_target[:, 0, 0] + looking_from_target[:, 1, 1],
    )
    return SphericalSteps(
        polar=np.arctan2(around, -y) - np.pi / 2,
        azimuth=np.arctan2(x, -z),
        radius_mm=np.linalg.norm(from_point, axis=1) - distance_mm,
        off_axis_degrees=np.degrees(np.arctan2(np.hypot(axis[:, 0], axis[:, 1]), axis[:, 2])),
        roll_degrees=np.abs(np.degrees(twist)),
    )


def _upright(forward: FloatArray) -> FloatArray:
    """Return the axes (k, 3, 3), columns right, down, forward, of cameras that look along (k, 3) without roll."""
    right = np.cross(-_UP, forward)
    length = np.linalg.norm(right, axis=1, keepdims=True)
    right = np.where(length > 1e-9, right / np.maximum(length, 1e-9), [1.0, 0.0, 0.0])
    return np.stack([right, np.cross(forward, right), forward], axis=-1)
