"""Where one stands to look at a reconstruction from outside, and how points look from there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from utils.geometry import nearest_rotation
from utils.types import FloatArray, Poses

YAW_DEGREES, PITCH_DEGREES = 28.0, -24.0


@dataclass(frozen=True, eq=False)
class Stand:
    """A place to look from, orthographic: `rotation` (3, 3) view from world (x right, y down, z away from the eye),
    `centre_world` (3,) in the middle of the picture, `reach` from there to the picture's nearer edge."""

    rotation: FloatArray
    centre_world: FloatArray
    reach: float

    def turned(self, yaw_degrees: float, pitch_degrees: float) -> Stand:
        """Return the same place, turned about the picture's vertical and then its horizontal."""
        turn = Rotation.from_euler("yx", [yaw_degrees, pitch_degrees], degrees=True).as_matrix()
        return Stand(turn.T @ self.rotation, self.centre_world, self.reach)


def stand_of(poses: Poses | None, points_world: FloatArray) -> Stand:
    """Return a place behind the cameras, turned somewhat to the side and up, that sees most of the points."""
    rotation = np.eye(3)
    if poses is not None:
        placed = poses.world_from_left[np.isfinite(poses.world_from_left).all(axis=(1, 2))]
        if len(placed):
            rotation = nearest_rotation(placed[:, :3, :3].mean(axis=0)).T
    low, high = np.percentile(points_world, [1, 99], axis=0)
    straight = Stand(rotation, (low + high) / 2, float(np.linalg.norm(high - low)) / 2.3)
    return straight.turned(YAW_DEGREES, PITCH_DEGREES)


def project(stand: Stand, points_world: FloatArray, size: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Return pixels (..., 2) (column, row) and distance along the view (...) of points (..., 3).

    Args:
        stand: where one stands.
        points_world: (..., 3).
        size: width and height of the picture, px.
    """
    seen = (points_world - stand.centre_world) @ stand.rotation.T
    scale = min(size) / 2 / max(stand.reach, 1e-12)
    return seen[..., :2] * scale + np.array(size) / 2, seen[..., 2]


def splat(
    pixels: FloatArray, depth: FloatArray, colours: NDArray[np.uint8], size: tuple[int, int], dot: int = 2
) -> NDArray[np.uint8]:
    """Return a picture (height, width, 4) of points, the nearest in front; clear where there is none.

    Args:
        pixels: (n, 2) (column, row).
        depth: (n,) larger is farther.
        colours: (n, 3) RGB.
        size: width and height, px.
        dot: side of a point, px.
    """
    width, height = size
    picture = np.zeros((height, width, 4), np.uint8)
    corner = np.rint(pixels).astype(int)
    inside = ((corner >= 0) & (corner <= np.array([width - dot, height - dot]))).all(axis=1)
    far_first = np.flatnonzero(inside)[np.argsort(-depth[inside], kind="stable")]
    painted = np.concatenate([colours[far_first], np.full((len(far_first), 1), 255, np.uint8)], axis=1)
    # One write a point keeps "nearest in front": the dots of one point at a time would let far dots cover near ones.
    offsets = np.array([(row, column) for row in range(dot) for column in range(dot)])
    rows = (corner[far_first, 1][:, None] + offsets[:, 0]).ravel()
    columns = (corner[far_first, 0][:, None] + offsets[:, 1]).ravel()
    picture[rows, columns] = np.repeat(painted, len(offsets), axis=0)
    return picture
