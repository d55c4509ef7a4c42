"""One coloured point cloud of the tissue, in the world frame, from the depth of all training views."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.picture import cloud_picture
from export.sights import FRAME, Sight, Sights
from utils.errors import InputError
from utils.geometry import transform
from utils.images import write_rgb
from utils.options import option
from utils.ply import write_ply
from utils.types import BoolArray, FloatArray

# Of a voxel: weight, point, normal, colour, best confidence. Voxels wait to be added up until there are so many.
SUMS, MOST_WAITING = 11, 2_000_000


@dataclass(frozen=True)
class CloudOptions:
    """What enters the point cloud."""

    cloud_voxel: float = option(0.0, "side of the voxels that keep one point each, mm; 0: one pixel's footprint")
    cloud_min_confidence: float = option(0.3, "points below this confidence are left out")
    cloud_max_angle: float = option(75.0, "surfaces seen more obliquely than this, degrees, are left out")


def check(options: CloudOptions) -> None:
    """Raise InputError for options that no point can pass."""
    numbers = (options.cloud_voxel, options.cloud_min_confidence, options.cloud_max_angle)
    in_range = numbers[0] >= 0 and 0 <= numbers[1] <= 1 and 0 < numbers[2] <= 90
    if not in_range:
        raise InputError(
            "an option of the point cloud is out of range",
            found="cloud_voxel {:g}, cloud_min_confidence {:g}, cloud_max_angle {:g}".format(*numbers),
            expected="cloud_voxel 0 or more (mm), cloud_min_confidence 0 to 1, cloud_max_angle above 0 to 90",
            do="correct the flag",
        )


@dataclass(frozen=True)
class Cloud:
    """Points (n, 3) and unit normals (n, 3) of the world, RGB (n, 3) uint8, confidence (n,) in [0, 1]."""

    points_world: FloatArray
    normals_world: FloatArray
    colours: NDArray[np.uint8]
    confidence: FloatArray


def write_cloud(options: CloudOptions, sights: Sights, out: Path) -> str:
    """Write `cloud.ply` and a picture of it; return a summary. Raises InputError: no point is good enough."""
    footprints_mm = [footprint for sight in sights if (footprint := _footprint(options, sight)) is not None]
    if not footprints_mm:
        raise InputError(
            "no point is left for the cloud",
            found="no tissue pixel with known depth and enough confidence",
            expected="some tissue with a confidence of at least --cloud_min_confidence",
            do="lower --cloud_min_confidence, or look at the maps of `prior` and `render`",
        )
    views = (_view_cloud(options, sight) for sight in tqdm(sights, desc="export: cloud", unit="view"))
    cloud = merge(views, options.cloud_voxel or float(np.median(footprints_mm)))
    comments = [f"unit {sights.unit}", f"frame {FRAME}", f"from {sights.source}", "confidence in [0, 1], 1 best"]
    write_ply(
        out / "cloud.ply", cloud.points_world, cloud.normals_world, cloud.colours, cloud.confidence, comments
    )
    write_rgb(out / "cloud.png", cloud_picture(cloud.points_world, cloud.colours))
    extent = " x ".join(f"{value:.0f}" for value in np.ptp(cloud.points_world, axis=0))
    return f"{len(cloud.points_world)} points, {extent} {sights.unit}"


def merge(clouds: Iterable[Cloud], voxel_mm: float) -> Cloud:
    """Keep one point a voxel: the mean of those in it, weighted by confidence; the best of their confidences.

    Clouds are added up one after the other: all pixels of a long sequence would not fit into memory.
    """
    cells: NDArray[np.int64] = np.zeros((0, 3), np.int64)
    sums: FloatArray = np.zeros((0, SUMS))
    waiting: list[tuple[NDArray[np.int64], FloatArray]] = []
    for cloud in clouds:
        waiting.append(_added_up(*_weighed(cloud, voxel_mm)))
        if sum(len(part[0]) for part in waiting) > max(len(cells), MOST_WAITING):
            cells, sums = _joined([(cells, sums), *waiting])
            waiting = []
    _, sums = _joined([(cells, sums), *waiting])
    mean = sums[:, 1:10] / sums[:, :1]
    normals = mean[:, 3:6] / np.maximum(np.linalg.norm(mean[:, 3:6], axis=1, keepdims=True), 1e-9)
    return Cloud(mean[:, :3], normals, np.rint(mean[:, 6:]).astype(np.uint8), sums[:, 10])


def _weighed(cloud: Cloud, voxel_mm: float) -> tuple[NDArray[np.int64], FloatArray]:
    """Return the voxels (n, 3) of points, and (n, 11): weight, weighted point, normal and colour, confidence."""
    confidence = cloud.confidence.astype(float)
    weight = np.maximum(confidence, 1e-6)[:, None]  # points without any confidence still have a place
    values = np.hstack([cloud.points_world, cloud.normals_world, cloud.colours.astype(float)])
    cells = np.floor(cloud.points_world / voxel_mm).astype(np.int64).reshape(-1, 3)
    return cells, np.hstack([weight, weight * values, confidence[:, None]])


def _joined(parts: list[tuple[NDArray[np.int64], FloatArray]]) -> tuple[NDArray[np.int64], FloatArray]:
    return _added_up(np.concatenate([cells for cells, _ in parts]), np.concatenate([sums for _, sums in parts]))


def _added_up(cells: NDArray[np.int64], sums: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    """Return every voxel (m, 3) once, with the sums of its rows (m, 11), and the largest in the last column."""
    if not len(cells):
        return cells, sums
    low = cells.min(axis=0)
    spans = cells.max(axis=0) - low + 1
    shifted = cells - low
    keys = (shifted[:, 0] * spans[1] + shifted[:, 1]) * spans[2] + shifted[:, 2]
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    total = np.empty((len(first), SUMS))
    for column in range(SUMS - 1):
        total[:, column] = np.bincount(inverse, sums[:, column], len(first))
    total[:, -1] = 0.0
    np.maximum.at(total[:, -1], inverse, sums[:, -1])
    return cells[first], total


def _chosen(options: CloudOptions, sight: Sight) -> BoolArray:
    with np.errstate(invalid="ignore"):
        front = sight.cosine > np.cos(np.radians(options.cloud_max_angle))
    return np.asarray(sight.plain & front & (sight.confidence >= options.cloud_min_confidence))


def _footprint(options: CloudOptions, sight: Sight) -> float | None:
    """Return what a pixel of a view covers, mm (median), None where none is good enough."""
    depth = sight.depth_mm[_chosen(options, sight)]
    return float(np.median(depth)) / sight.camera.fx if len(depth) else None


def _view_cloud(options: CloudOptions, sight: Sight) -> Cloud:
    """Return the points of one view in the world."""
    chosen = _chosen(options, sight)
    return Cloud(
        transform(sight.world_from_camera, sight.points[chosen]),
        sight.normals[chosen] @ sight.world_from_camera[:3, :3].T,
        sight.rgb[chosen],
        sight.confidence[chosen].astype(float),
    )
