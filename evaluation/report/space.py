"""Where one stands to look at a reconstruction from outside, and how points look from there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from utils.geometry import nearest_rotation
from utils.types import FloatArray, Poses


@dataclass(frozen=True, eq=False)
class Stand:
    """A place to look from, orthographic.

    `rotation` (3, 3) view from world (x right, y down, z away from the eye), `centre_world` (3,) in the middle of
    the picture, `reach` from there to the picture's nearer edge.
    """

    rotation: FloatArray
    centre_world: FloatArray
    reach: float


def stand_of(
    poses: Poses | None,
    points_world: FloatArray,
    yaw_degrees: float,
    pitch_degrees: float,
    margin: float = 1000.0,
) -> Stand:
    """Return a place behind the cameras that sees them and most points, filling a picture of 4 to 3.

    Args:
        poses: where the cameras stood; None: one looks along the world's z axis.
        points_world: (n, 3).
        yaw_degrees: how far one then walks to the side.
        pitch_degrees: and up, where it is negative.
        margin: how much wider the picture may grow for the cameras' sake, as a share of the points' extent; where
            that is not enough, it shows the points alone.
    """
    placed: FloatArray = np.zeros((0, 4, 4))
    for eye in (poses.world_from_left, poses.world_from_right) if poses is not None else ():
        if eye is not None:
            placed = np.concatenate([placed, eye[np.isfinite(eye).all(axis=(1, 2))]])
    straight = nearest_rotation(placed[:, :3, :3].mean(axis=0)).T if len(placed) else np.eye(3)
    turn = Rotation.from_euler("yx", [yaw_degrees, pitch_degrees], degrees=True).as_matrix()
    rotation = turn.T @ straight
    low, high = np.percentile(points_world @ rotation.T, [0.5, 99.5], axis=0)
    if len(placed):
        cameras = placed[:, :3, 3] @ rotation.T
        with_low, with_high = np.minimum(low, cameras.min(axis=0)), np.maximum(high, cameras.max(axis=0))
        if ((with_high - with_low)[:2] <= (1.0 + margin) * (high - low)[:2]).all():
            low, high = with_low, with_high
    wide, tall = (high - low)[:2] / 2
    reach = max(1.12 * max(float(wide) * 3 / 4, float(tall)), 1e-9)
    return Stand(rotation, (low + high) / 2 @ rotation, reach)


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
    pixels: FloatArray, depth: FloatArray, colours: NDArray[np.uint8], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return a picture (height, width, 4) of points, the nearest in front; clear where there is none.

    Points are squares, the larger the fewer there are: a surface that fills half of the picture has no gaps.

    Args:
        pixels: (n, 2) (column, row).
        depth: (n,) larger is farther.
        colours: (n, 3) RGB.
        size: width and height, px.
    """
    width, height = size
    dot = int(np.clip(np.ceil(np.sqrt(0.5 * width * height / max(len(pixels), 1))) + 1, 2, 8))
    picture = np.zeros((height, width, 4), np.uint8)
    corner = np.rint(pixels).astype(int)
    inside = ((corner >= 0) & (corner <= np.array([width - dot, height - dot]))).all(axis=1)
    far_first = np.flatnonzero(inside)[np.argsort(-depth[inside], kind="stable")]
    painted = np.concatenate([colours[far_first], np.full((len(far_first), 1), 255, np.uint8)], axis=1)
    offsets = np.array([(row, column) for row in range(dot) for column in range(dot)])
    rows = (corner[far_first, 1][:, None] + offsets[:, 0]).ravel()
    columns = (corner[far_first, 0][:, None] + offsets[:, 1]).ravel()
    picture[rows, columns] = np.repeat(painted, len(offsets), axis=0)
    return picture
