"""Which views are wanted: the poses of a file, or some beyond the path of the camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from nerf.finished_field import FinishedField
from utils.pose_lists import read_named_poses
from utils.types import FloatArray

BEYOND = "beyond"
ASIDE, TURNED = 0.25, 20.0  # share of the working distance, degrees


def wanted_poses(poses: str, field: FinishedField) -> tuple[list[str], FloatArray]:
    """Return names and poses (n, 4, 4), mm, of the views that `--poses` means.

    `beyond`: from the middle training frame a quarter of the working distance to each side, up and down, and
    turned by 20 degrees to either side.

    Raises:
        InputError: a file that cannot be read, or holds no poses.
    """
    if poses != BEYOND:
        return read_named_poses(Path(poses))
    frames = [name for name in field.dataset.train if field.placed.placed(name)]
    start = field.placed.world_from("left", frames[len(frames) // 2])
    step = ASIDE * working_distance(field)
    moves = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}
    found = {}
    for name, (x, y) in moves.items():
        found[name] = start.copy()
        found[name][:3, 3] += step * (x * start[:3, 0] + y * start[:3, 1])
    for name, sign in (("turned right", 1), ("turned left", -1)):
        found[name] = start.copy()
        found[name][:3, :3] = start[:3, :3] @ Rotation.from_euler("y", sign * TURNED, degrees=True).as_matrix()
    return list(found), np.stack(list(found.values()))


def working_distance(field: FinishedField) -> float:
    """Return the median over the training views of their median depth, mm."""
    depths = [view.depth_mm for view in field.seen if np.isfinite(view.depth_mm).any()]
    return float(np.median([np.nanmedian(depth) for depth in depths]))
