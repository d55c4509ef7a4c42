"""Sparse points of the poses stage, made again from what training images alone saw of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.geometry import directions, invert_rigid, project, transform
from utils.types import FloatArray
from utils.views import View, Views

POINTS_FILE = "points.npz"
_FEWEST_OBSERVATIONS = 2
_LARGEST_REPROJECTION_PX = 2.0
_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class Observations:
    """Sparse points (m, 3) world mm, and who saw them: `point` (k,), `view` (k,) index in `views`, px (k, 2)."""

    points_world: FloatArray
    point: NDArray[np.int64]
    view: NDArray[np.int64]
    pixels: FloatArray
    views: tuple[View, ...]

    def seen_by(self, views: set[View]) -> NDArray[np.int64]:
        """Return the points (indices) that any of some views saw."""
        chosen = [index for index, view in enumerate(self.views) if view in views]
        return np.unique(self.point[np.isin(self.view, chosen)])


def training_points(views: Views, poses: Path) -> Observations | None:
    """Triangulate the sparse points from what training frames saw of them, whatever test frames saw.

    Points with fewer than two such observations, behind a camera, or more than 2 px off in the mean are
    dropped. None where the poses stage wrote no points.
    """
    path = poses / POINTS_FILE
    if views.poses is None or not path.exists():
        return None
    with np.load(path) as file:
        stored = {key: file[key] for key in ("point", "frame", "side", "pixels")}
    training = tuple(view for view in views.training() if views.placed(view))
    index_of = {view: index for index, view in enumerate(training)}
    names = views.poses.names
    sides = ("left", "right")
    numbers = [
        index_of.get(View(sides[side], names[frame]), -1)  # type: ignore[arg-type]
        for frame, side in zip(stored["frame"].tolist(), stored["side"].tolist(), strict=True)
    ]
    view = np.array(numbers, np.int64)
    used = view >= 0
    ids, point = np.unique(stored["point"][used], return_inverse=True)
    found = Observations(
        np.full((len(ids), 3), np.nan), point, view[used], np.asarray(stored["pixels"][used], float), training
    )
    return _keep_good(views, triangulated(views, found))


def triangulated(views: Views, seen: Observations) -> Observations:
    """Return the points nearest to all rays to them, weighted so that errors in px count alike."""
    origins, rays = np.zeros((len(seen.point), 3)), np.zeros((len(seen.point), 3))
    focal = np.zeros(len(seen.point))
    for index, view in enumerate(seen.views):
        mine = seen.view == index
        camera, world_from_view = views.camera(view), views.world_from(view)
        toward = directions(camera.matrix, seen.pixels[mine]) @ world_from_view[:3, :3].T
        rays[mine] = toward / np.linalg.norm(toward, axis=1, keepdims=True)
        origins[mine], focal[mine] = world_from_view[:3, 3], camera.fx
    count = len(seen.points_world)
    across = np.eye(3) - rays[:, :, None] * rays[:, None, :]
    weight = np.ones(len(seen.point))
    points = np.full((count, 3), np.nan)
    for _ in range(_ROUNDS):
        normal, right_side = np.zeros((count, 3, 3)), np.zeros((count, 3))
        np.add.at(normal, seen.point, weight[:, None, None] * across)
        np.add.at(right_side, seen.point, weight[:, None] * np.einsum("kij,kj->ki", across, origins))
        solvable = np.linalg.cond(normal) < 1e8
        points[solvable] = np.linalg.solve(normal[solvable], right_side[solvable][..., None])[..., 0]
        distance = np.linalg.norm(points[seen.point] - origins, axis=1)
        weight = np.nan_to_num((focal / np.maximum(distance, 1e-9)) ** 2)
    return Observations(points, seen.point, seen.view, seen.pixels, seen.views)


def _keep_good(views: Views, seen: Observations) -> Observations:
    """Drop points seen less than twice, behind a camera, or off by more than 2 px in the mean."""
    error_px, behind = np.full(len(seen.point), np.nan), np.zeros(len(seen.point), bool)
    for index, view in enumerate(seen.views):
        mine = seen.view == index
        points_view = transform(invert_rigid(views.world_from(view)), seen.points_world[seen.point[mine]])
        pixels, z = project(views.camera(view).matrix, points_view)
        error_px[mine] = np.linalg.norm(pixels - seen.pixels[mine], axis=1)
        behind[mine] = ~(z > 0)
    count = len(seen.points_world)
    times = np.bincount(seen.point, minlength=count)
    mean_px = np.bincount(seen.point, np.nan_to_num(error_px, nan=1e6), count) / np.maximum(times, 1)
    bad = np.bincount(seen.point, behind, count) > 0
    good = (times >= _FEWEST_OBSERVATIONS) & (mean_px <= _LARGEST_REPROJECTION_PX) & ~bad
    new_number = np.cumsum(good) - 1
    kept = good[seen.point]
    return Observations(
        seen.points_world[good], new_number[seen.point[kept]], seen.view[kept], seen.pixels[kept], seen.views
    )
