"""Compiled loops over triangles: the depth that a camera sees, and the nearest point of a few candidates."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from utils.compiled import INNER, KERNEL
from utils.types import FloatArray


@numba.njit(**KERNEL)
def draw_depth(
    columns: FloatArray,
    rows: FloatArray,
    depth_mm: FloatArray,
    faces: NDArray[np.int64],
    seen: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Draw triangles into a depth map, the nearest wins, and return which lie in the picture at any depth.

    Args:
        columns: (v,) of projected vertices, px, pixel centres at integers.
        rows: (v,) likewise.
        depth_mm: (v,) z-depth; a triangle with a vertex at or behind the camera is left out.
        faces: (f, 3) vertices of each triangle.
        seen: (h, w) z-depth, infinite where nothing has been drawn; changed in place. Inside a triangle 1 / z is
            linear in the picture.

    Returns:
        (f,) whether the box around the triangle meets the picture.
    """
    height, width = seen.shape
    touched = np.zeros(len(faces), np.bool_)
    for face in range(len(faces)):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        if not (depth_mm[a] > 0 and depth_mm[b] > 0 and depth_mm[c] > 0):
            continue
        left = max(np.ceil(min(columns[a], columns[b], columns[c])), 0.0)
        right = min(np.floor(max(columns[a], columns[b], columns[c])), width - 1.0)
        top = max(np.ceil(min(rows[a], rows[b], rows[c])), 0.0)
        bottom = min(np.floor(max(rows[a], rows[b], rows[c])), height - 1.0)
        # A box between pixel centres is empty by less than one pixel, one beside the picture by more.
        touched[face] = left <= right + 1 and top <= bottom + 1
        bx, by = columns[b] - columns[a], rows[b] - rows[a]
        cx, cy = columns[c] - columns[a], rows[c] - rows[a]
        twice_area = bx * cy - by * cx
        if twice_area == 0:
            continue
        for row in range(int(top), int(bottom) + 1):
            for column in range(int(left), int(right) + 1):
                x, y = column - columns[a], row - rows[a]
                share_b, share_c = (x * cy - y * cx) / twice_area, (bx * y - by * x) / twice_area
                share_a = 1 - share_b - share_c
                if share_a < -1e-9 or share_b < -1e-9 or share_c < -1e-9:
                    continue
                z = 1 / (share_a / depth_mm[a] + share_b / depth_mm[b] + share_c / depth_mm[c])
                seen[row, column] = min(seen[row, column], z)
    return touched


@numba.njit(**INNER)
def _along(d1: float, d2: float, ab_ab: float, ab_ac: float, ac_ac: float) -> tuple[float, float]:
    """Return how far along the edges AB and AC the point of triangle ABC nearest to P lies.

    Ericson, Real-Time Collision Detection (2005), 5.1.5: the seven regions around a triangle.

    Args:
        d1: AB . AP.
        d2: AC . AP.
        ab_ab: AB . AB; the other two likewise.
    """
    d3, d4, d5, d6 = d1 - ab_ab, d2 - ab_ac, d1 - ab_ac, d2 - ac_ac
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    if d1 <= 0 and d2 <= 0:
        return 0.0, 0.0
    if d3 >= 0 and d4 <= d3:
        return 1.0, 0.0
    if d6 >= 0 and d5 <= d6:
        return 0.0, 1.0
    if vc <= 0 and d1 >= 0 and d3 <= 0:
        return d1 / (d1 - d3), 0.0
    if vb <= 0 and d2 >= 0 and d6 <= 0:
        return 0.0, d2 / (d2 - d6)
    if va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        along_ac = (d4 - d3) / (d4 - d3 + d5 - d6)
        return 1 - along_ac, along_ac
    return vb / (va + vb + vc), vc / (va + vb + vc)


@numba.njit(**KERNEL)
def nearest_of(
    points: FloatArray, triangles: FloatArray, candidates: NDArray[np.int64], closest: FloatArray
) -> NDArray[np.int64]:
    """Return which (n,) of the candidate triangles is the nearest to each point.

    Args:
        points: (n, 3).
        triangles: (f, 3, 3) corners.
        candidates: (n, k) the triangles that are tried.
        closest: (n, 3) the nearest point on them; written.
    """
    chosen = np.empty(len(points), np.int64)
    for index in range(len(points)):
        least = np.inf
        for candidate in candidates[index]:
            corner = triangles[candidate]
            d1 = d2 = ab_ab = ab_ac = ac_ac = 0.0
            for axis in range(3):
                ab, ac = corner[1, axis] - corner[0, axis], corner[2, axis] - corner[0, axis]
                ap = points[index, axis] - corner[0, axis]
                d1, d2 = d1 + ab * ap, d2 + ac * ap
                ab_ab, ab_ac, ac_ac = ab_ab + ab * ab, ab_ac + ab * ac, ac_ac + ac * ac
            to_b, to_c = _along(d1, d2, ab_ab, ab_ac, ac_ac)
            squared = 0.0
            for axis in range(3):
                found = (1 - to_b - to_c) * corner[0, axis] + to_b * corner[1, axis] + to_c * corner[2, axis]
                squared += (points[index, axis] - found) ** 2
            if squared < least:
                least, chosen[index] = squared, candidate
                for axis in range(3):
                    closest[index, axis] = (
                        (1 - to_b - to_c) * corner[0, axis] + to_b * corner[1, axis] + to_c * corner[2, axis]
                    )
    return chosen
