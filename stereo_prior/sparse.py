"""Sparse points of the poses stage, made again from training images only, and depth interpolated from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree

from stereo_prior.views import View, Views
from utils.geometry import directions, invert_rigid, project, transform
from utils.types import BoolArray, Camera, FloatArray

POINTS_FILE = "points.npz"
_FEWEST_OBSERVATIONS = 2
_LARGEST_REPROJECTION_PX = 2.0
_FEWEST_POINTS = 8
_MOST_POINTS = 1000
_OUTLIER = 0.25  # relative difference of inverse depth to the neighbourhood's median
_STEP_PX = 4  # the smooth surface is evaluated on every fourth pixel
_SMOOTHING = 0.002
_POINT_SIGMA = 0.01  # relative: a point's own uncertainty
_SLOPE = 0.5  # relative depth change over one image width, between points
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


def points_in_view(
    views: Views, view: View, seen: Observations, helpers: list[View]
) -> tuple[FloatArray, FloatArray]:
    """Return pixels (m, 2) and z-depth (m,) mm of the points that a view shows.

    Those are the points that the view (only if it is a training view) or one of `helpers` saw, projected.
    """
    chosen = seen.points_world[seen.seen_by({view, *helpers})]
    pixels, z = project(views.camera(view).matrix, transform(invert_rigid(views.world_from(view)), chosen))
    camera = views.camera(view)
    inside = (z > 0) & (pixels >= 0).all(axis=1)
    inside &= (pixels[:, 0] <= camera.width - 1) & (pixels[:, 1] <= camera.height - 1)
    return pixels[inside], z[inside]


def interpolate(
    camera: Camera, pixels: FloatArray, depth_mm: FloatArray, tissue: BoolArray
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lay a smooth surface through points: a thin plate in inverse depth, evaluated inside the tissue.

    Args:
        camera: the view's camera.
        pixels, depth_mm: (m, 2) px and (m,) z-depth of points.
        tissue: (h, w).

    Returns:
        Depth and sigma (h, w) mm, NaN outside the tissue, all NaN with fewer than eight points. Sigma grows
        with the distance to the nearest point.
    """
    unknown = np.full(tissue.shape, np.nan, np.float32)
    pixels, depth_mm = _without_outliers(pixels, depth_mm)
    if len(depth_mm) < _FEWEST_POINTS:
        return unknown, unknown.copy()
    pixels, inverse = _thinned(pixels, 1.0 / depth_mm, camera.width)
    typical = float(np.median(inverse))
    plate = RBFInterpolator(
        pixels / camera.width, inverse / typical, kernel="thin_plate_spline", smoothing=_SMOOTHING, degree=1
    )
    columns = np.arange(0, camera.width + _STEP_PX, _STEP_PX)
    rows = np.arange(0, camera.height + _STEP_PX, _STEP_PX)
    grid = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2) / camera.width
    low, high = np.percentile(inverse / typical, [1, 99])
    coarse = np.clip(plate(grid), 0.7 * low, 1.4 * high).reshape(len(rows), len(columns)).astype(np.float32)
    at_columns, at_rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    where = ((at_columns / _STEP_PX).astype(np.float32), (at_rows / _STEP_PX).astype(np.float32))
    depth = 1.0 / (typical * cv2.remap(coarse, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    distance = _distance_to(pixels, camera) / camera.width
    sigma = depth * np.sqrt(_POINT_SIGMA**2 + (_SLOPE * distance) ** 2)
    return (
        np.where(tissue, depth, np.nan).astype(np.float32),
        np.where(tissue, sigma, np.nan).astype(np.float32),
    )


def _without_outliers(pixels: FloatArray, depth_mm: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Drop points far from the median of those around them: wrong matches, or seen through an edge."""
    if len(depth_mm) < _FEWEST_POINTS:
        return pixels, depth_mm
    inverse = 1.0 / depth_mm
    _, around = cKDTree(pixels).query(pixels, k=_FEWEST_POINTS)
    middle = np.median(inverse[around], axis=1)
    good = np.abs(inverse - middle) <= _OUTLIER * middle
    return pixels[good], depth_mm[good]


def _thinned(pixels: FloatArray, values: FloatArray, width: int) -> tuple[FloatArray, FloatArray]:
    """Average points that share a cell, with cells so large that few enough points remain."""
    size = max(2.0, width / 128)
    while True:
        cells = np.floor(pixels / size).astype(np.int64)
        _, group = np.unique(cells[:, 0] * 100_000 + cells[:, 1], return_inverse=True)
        count = np.bincount(group)
        if len(count) <= _MOST_POINTS:
            mean = [np.bincount(group, column) / count for column in (pixels[:, 0], pixels[:, 1], values)]
            return np.stack(mean[:2], axis=1), mean[2]
        size *= 1.3


def _distance_to(pixels: FloatArray, camera: Camera) -> FloatArray:
    """Return the distance (h, w), px, to the nearest point."""
    empty = np.ones((camera.height, camera.width), np.uint8)
    columns, rows = np.rint(pixels).astype(int).T
    empty[np.clip(rows, 0, camera.height - 1), np.clip(columns, 0, camera.width - 1)] = 0
    return np.asarray(cv2.distanceTransform(empty, cv2.DIST_L2, 5), float)
