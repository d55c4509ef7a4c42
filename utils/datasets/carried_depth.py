"""Carry one frame's depth onto another's by their poses: whether the two agree, and poses are not inverted."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.datasets.source import Finding, Lens
from utils.geometry import invert_rigid, transform
from utils.types import FloatArray

_REACH = 24  # frames looked at in a compressed archive, which is read from its start
_LEAST_MM = 1.0  # motion below which the direction of a pose cannot be told


def check_carried(
    numbers: list[int],
    world_from_left: FloatArray,
    lens: Lens,
    points: Callable[[int], NDArray[np.float32]],
    unpacked: bool,
) -> list[Finding]:
    """Compare poses with scene points between the first frame and the one that moved farthest from it.

    Args:
        numbers: the frames' numbers.
        world_from_left: (n, 4, 4), mm, as understood.
        lens: of the left eye.
        points: gives (h, w, 3) points of a frame in its left camera, NaN unknown.
        unpacked: whether any frame can be read cheaply.
    """
    known = [index for index in range(len(numbers)) if np.isfinite(world_from_left[index]).all()]
    near = known if unpacked else [index for index in known if numbers[index] <= numbers[0] + _REACH]
    if len(near) < 2:
        return []
    moved = [np.linalg.norm(world_from_left[index, :3, 3] - world_from_left[near[0], :3, 3]) for index in near]
    far = near[int(np.argmax(moved))]
    if max(moved) < _LEAST_MM:
        return []
    a, b = world_from_left[near[0]], world_from_left[far]
    first, second = points(numbers[near[0]]), points(numbers[far])
    right = _difference(first, second, invert_rigid(b) @ a, lens)
    inverse = _difference(first, second, b @ invert_rigid(a), lens)
    words = (
        f"over {max(moved):.1f} mm, points of frame {numbers[near[0]]} carried to frame {numbers[far]} miss its "
        f"own by {right:.2f} mm (median); with the poses inverted {inverse:.2f} mm"
    )
    if inverse < 0.5 * right and inverse < 0.2 * max(moved):
        do = "the matrices are the inverse of what the release has: use its own file"
        return [Finding("refuse", "camera poses", words, do)]
    if not right < 0.2 * max(moved) + 0.2:
        return [Finding("warn", "camera poses", words, "are poses and depth of one sequence?")]
    return [Finding("ok", "camera poses", words)]


def _difference(first: FloatArray, second: FloatArray, second_from_first: FloatArray, lens: Lens) -> float:
    """Return the median distance, mm, of moved points to those stored where they land; inf without overlap."""
    cloud = first[np.isfinite(first).all(axis=-1)].astype(float)
    cloud = transform(second_from_first, cloud[:: max(1, len(cloud) // 4000)])
    cloud = cloud[cloud[:, 2] > 1]
    if not len(cloud):
        return float("inf")
    terms = np.array(lens.distortion) if lens.distortion else np.zeros(5)
    landed, _ = cv2.projectPoints(cloud, np.zeros(3), np.zeros(3), lens.matrix, terms)
    columns, rows = np.rint(np.clip(landed[:, 0], -1, 1e6)).astype(int).T
    height, width = second.shape[:2]
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    distance = np.linalg.norm(second[rows[inside], columns[inside]] - cloud[inside], axis=-1)
    distance = distance[np.isfinite(distance)]
    return float(np.median(distance)) if len(distance) > 50 else float("inf")
