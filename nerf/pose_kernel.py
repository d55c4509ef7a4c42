"""The gradient of camera poses, compiled: what moves the points of rays moves the cameras that they start from."""

from __future__ import annotations

import numba
import numpy as np

from nerf.rays import DIRECTION
from utils.compiled import INNER, KERNEL


@numba.njit(**INNER)
def _slope_of_height(base, x, y, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write the slope (2,) in x and y of the starting surface at x, y in [-1, 1]: bilinear, level beyond."""
    last = base.shape[0] - 1
    column, row = (x + 1.0) * 0.5 * last, (y + 1.0) * 0.5 * last
    across, along = 0.0 <= column <= last, 0.0 <= row <= last
    column, row = min(max(column, 0.0), last), min(max(row, 0.0), last)
    i, j = min(int(column), last - 1), min(int(row), last - 1)
    u, v = column - i, row - j
    out[0] = 0.0
    out[1] = 0.0
    if across:
        out[0] = ((base[j, i + 1] - base[j, i]) * (1 - v) + (base[j + 1, i + 1] - base[j + 1, i]) * v) * 0.5 * last
    if along:
        out[1] = ((base[j + 1, i] - base[j, i]) * (1 - u) + (base[j + 1, i + 1] - base[j, i + 1]) * u) * 0.5 * last


@numba.njit(**KERNEL)
def pull_cameras(  # type: ignore[no-untyped-def]  # pragma: no cover
    first_lane, last_lane, points, of_points, of_front, z, record, view, base, box, rotations, of_cameras
):  # fmt: skip
    """Add the gradients of world-from-camera to `of_cameras` (lanes, v, 3, 4), a part of the rays each lane.

    Args:
        points: (n * s, 3) in the box, `of_points` their gradient by way of their features, `of_front` (n * s,)
            that of how far they lie in front of the starting surface, mm.
        z: (n, s) mm; `record` and `view` of the rays, as in `RayBatch`.
        base: the starting surface (cells, cells).
        box: (4, 4) box-from-world and the box's depth, mm.
        rotations: (v, 3, 3) world-from-camera.
    """
    n, samples = z.shape
    matrix, box_depth_mm = box
    lanes = len(of_cameras)
    slope, in_box, in_world = np.empty(2), np.empty(3), np.empty(3)
    of_origin, of_direction = np.empty(3), np.empty(3)
    for lane in range(first_lane, last_lane):
        for r in range(lane * n // lanes, (lane + 1) * n // lanes):
            of_origin[:], of_direction[:] = 0.0, 0.0
            for k in range(samples):
                row = r * samples + k
                _slope_of_height(base, points[row, 0], points[row, 1], slope)
                front = of_front[row] * 0.5 * box_depth_mm
                in_box[0] = of_points[row, 0] + front * slope[0]
                in_box[1] = of_points[row, 1] + front * slope[1]
                in_box[2] = of_points[row, 2] - front
                for a in range(3):
                    in_world[a] = 0.0
                    for b in range(3):
                        in_world[a] += matrix[b, a] * in_box[b]
                    of_origin[a] += in_world[a]
                    of_direction[a] += z[r, k] * in_world[a]
            where = view[r]
            for c in range(3):
                # The ray in its camera's frame: its direction in the world turned back.
                ray = 0.0
                for a in range(3):
                    ray += rotations[where, a, c] * record[r, DIRECTION + a]
                for a in range(3):
                    of_cameras[lane, where, a, c] += of_direction[a] * ray
            for a in range(3):
                of_cameras[lane, where, a, 3] += of_origin[a]
