"""The rows of LLFF's `poses_bounds.npy`: 17 numbers an image, its axes, and poses in ours.

A row is a 3x5 matrix (camera-to-world with axes down, right, back; then height, width, focal length) and two
depth bounds. There is no principal point, which is the centre of the image, and no name: rows follow the images
in order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from utils.broken_files import broken, load_arrays
from utils.types import Camera, FloatArray

POSES_BOUNDS = "poses_bounds.npy"
OPENCV_FROM_LLFF_AXES = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])  # its own inverse
EXPECTED = "an array of shape (n, 17), one row an image, as LLFF's imgs2poses writes it"


def read_rows(file: Path) -> FloatArray:
    """Return the rows (n, 17). Raises InputError for another shape, NaN, a size or focal length of 0 or below."""
    rows = load_arrays(file, EXPECTED).get("array", np.zeros(0))
    if rows.ndim != 2 or rows.shape[1] != 17 or not len(rows) or rows.dtype.kind not in "fiu":
        raise broken(file, f"an array of shape {rows.shape}, type {rows.dtype}", EXPECTED)
    rows = rows.astype(float)
    if not np.isfinite(rows).all():
        wrong = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise broken(file, f"NaN or infinity in row {wrong}", EXPECTED)
    if (rows[:, [4, 9, 14]] <= 0).any():
        raise broken(file, "a height, width or focal length of 0 or below", EXPECTED)
    return rows


def pose_columns(rows: FloatArray) -> FloatArray:
    """Return the (n, 3, 4) poses as the rows hold them, whatever axes their writer meant."""
    return rows[:, :15].reshape(-1, 3, 5)[:, :, :4]


def world_from_camera(rows: FloatArray) -> FloatArray:
    """Return poses (n, 4, 4), OpenCV axes, of rows with LLFF's axes."""
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    columns = pose_columns(rows)
    poses[:, :3, :3] = columns[:, :, :3] @ OPENCV_FROM_LLFF_AXES
    poses[:, :3, 3] = columns[:, :, 3]
    return poses


def row_camera(row: FloatArray) -> Camera:
    """Return the camera of one row (17,): one focal length, the centre of the image."""
    height, width, focal = row[[4, 9, 14]]
    return Camera(focal, focal, (width - 1) / 2, (height - 1) / 2, round(width), round(height))
