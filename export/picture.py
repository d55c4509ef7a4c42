"""A picture of a point cloud for eyes: orthographic views from the front and from an oblique side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from utils.types import FloatArray

SIZE_PX = 480


def cloud_picture(points_world: FloatArray, colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (480, 1440, 3): the cloud as the first camera sees it, and turned 50 degrees about x and y."""
    angles = [(0.0, 0.0), (0.0, np.radians(50.0)), (np.radians(-50.0), 0.0)]
    return np.hstack([_splat(points_world, colours, *angle) for angle in angles])


def _splat(
    points_world: FloatArray, colours: NDArray[np.uint8], about_x: float, about_y: float
) -> NDArray[np.uint8]:
    cx, sx, cy, sy = np.cos(about_x), np.sin(about_x), np.cos(about_y), np.sin(about_y)
    turn = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    turned = (points_world - np.median(points_world, axis=0)) @ turn.T
    reach = float(np.percentile(np.abs(turned[:, :2]), 99.5)) * 1.05 + 1e-9
    pixels = np.rint((turned[:, :2] / reach + 1.0) * 0.5 * (SIZE_PX - 2)).astype(int)
    inside = ((pixels >= 0) & (pixels < SIZE_PX - 1)).all(axis=1)
    far_first = np.flatnonzero(inside)[np.argsort(-turned[inside, 2], kind="stable")]
    picture = np.full((SIZE_PX, SIZE_PX, 3), 24, np.uint8)
    for rows, columns in ((0, 0), (0, 1), (1, 0), (1, 1)):
        picture[pixels[far_first, 1] + rows, pixels[far_first, 0] + columns] = colours[far_first]
    return picture
