"""Where the optical axes of two cameras come closest: in front of both in every rig that looks at one place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.geometry import FloatArray, invert_rigid

VERGED_DEGREES = 3.0  # below, axes are nearly parallel and may diverge a little


@dataclass(frozen=True)
class AxesMeeting:
    """Where two optical axes come closest: z-depth along each axis (mm, negative behind) and the gap there."""

    along_left_mm: float
    along_right_mm: float
    gap_mm: float
    vergence_degrees: float

    @property
    def in_front(self) -> bool:
        """Whether the point lies in front of both eyes."""
        return self.along_left_mm > 0 and self.along_right_mm > 0


def axes_meeting(right_from_left: FloatArray) -> AxesMeeting:
    """Return where the optical axes of a rig come closest; infinitely far for parallel axes."""
    left_from_right = invert_rigid(right_from_left)
    axis, centre_mm = left_from_right[:3, 2], left_from_right[:3, 3]
    normal = np.cross([0.0, 0.0, 1.0], axis)
    sine = float(np.linalg.norm(normal))
    degrees = float(np.degrees(np.arctan2(sine, axis[2])))
    if sine < 1e-9:
        return AxesMeeting(np.inf, np.inf, float(np.hypot(*centre_mm[:2])), degrees)
    # s e_z + gap = c + u axis, with the gap along the common normal
    along_left = float(np.cross(centre_mm, axis) @ normal) / sine**2
    along_right = float(np.cross(centre_mm, [0.0, 0.0, 1.0]) @ normal) / sine**2
    return AxesMeeting(along_left, along_right, abs(float(centre_mm @ normal)) / sine, degrees)
