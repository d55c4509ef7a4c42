"""The ways in which a file's camera poses may be meant: axes of the camera, direction, a mirrored world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from utils.types import FloatArray

# Columns: our camera's x (right), y (down), z (forward) in the camera axes of each convention.
AXES: dict[str, FloatArray] = {
    "opencv": np.eye(3),
    "opengl": np.diag([1.0, -1.0, -1.0]),
    "llff": np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]),
    "body": np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
    "rolled": np.diag([-1.0, -1.0, 1.0]),
}
IN_WORDS = (
    "opencv: x right, y down, z forward; opengl: x right, y up, z back (Blender, nerfstudio); "
    "llff: x down, y right, z back; body: x forward, y left, z up (robots); rolled: opencv turned by 180 degrees"
)
DIRECTIONS = ("camera_to_world", "world_to_camera")


@dataclass(frozen=True, eq=False)
class Reading:
    """One way to read poses: its name, axes (3, 3), whether the matrices are inverses, whether z is negated."""

    name: str
    axes: FloatArray
    inverse: bool
    mirrored: bool = False

    def apply(self, matrices: FloatArray) -> FloatArray:
        """Return camera-to-world poses (n, 4, 4) with our camera axes, in a world of theirs."""
        poses = np.linalg.inv(matrices) if self.inverse else matrices.copy()
        if self.mirrored:
            poses[:, 2, :] *= -1
        poses[:, :3, :3] = poses[:, :3, :3] @ self.axes
        return poses


def readings(axes: str, direction: str) -> list[Reading]:
    """Return the readings that `axes` and `direction` leave open: `auto`, or a name of `AXES`, `DIRECTIONS`."""
    return [
        Reading(name if way == DIRECTIONS[0] else f"{name}, world-to-camera", AXES[name], way == DIRECTIONS[1])
        for way in (DIRECTIONS if direction == "auto" else (direction,))
        for name in (AXES if axes == "auto" else (axes,))
    ]


def mirrored_readings(directions: Sequence[str], negative: bool) -> list[Reading]:
    """Return the readings of a mirrored world with any camera axes that then make rotations.

    Args:
        directions: of `DIRECTIONS`.
        negative: whether the file's rotations have determinant -1; where +1 a camera axis is flipped too.
    """
    wanted = 1.0 if negative else -1.0
    signed = [
        np.eye(3)[:, list(order)] * np.array(signs)
        for order in permutations(range(3))
        for signs in product((1.0, -1.0), repeat=3)
    ]
    return [
        Reading("mirrored", axes, way == DIRECTIONS[1], True)
        for way in directions
        for axes in signed
        if np.linalg.det(axes) * wanted > 0
    ]
