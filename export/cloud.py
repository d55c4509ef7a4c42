"""One coloured point cloud of the tissue, in the world frame, from the depth of all training views."""

from __future__ import annotations

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
from utils.types import FloatArray


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
    found = [_view_cloud(options, sight) for sight in tqdm(sights, desc="export: cloud", unit="view")]
    footprints_mm = np.concatenate([footprint for _, footprint in found])
    if not len(footprints_mm):
        raise InputError(
            "no point is left for the cloud",
            found="no tissue pixel with known depth and enough confidence",
            expected="some tissue with a confidence of at least --cloud_min_confidence",
            do="lower --cloud_min_confidence, or look at the maps of `prior` and `render`",
        )
    cloud = merge([one for one, _ in found], options.cloud_voxel or float(np.median(footprints_mm)))
    comments = [f"unit {sights.unit}", f"frame {FRAME}", f"from {sights.source}", "confidence in [0, 1], 1 best"]
    write_ply(
        out / "cloud.ply", cloud.points_world, cloud.normals_world, cloud.colours, cloud.confidence, comments
    )
    write_rgb(out / "cloud.png", cloud_picture(cloud.points_world, cloud.colours))
    extent = " x ".join(f"{value:.0f}" for value in np.ptp(cloud.points_world, axis=0))
    return f"{len(cloud.points_world)} points, {extent} {sights.unit}"


def merge(clouds: list[Cloud], voxel_mm: float) -> Cloud:
    """Keep one point a voxel: the mean of those in it, weighted by confidence; the best of their confidences."""
    points = np.concatenate([cloud.points_world for cloud in clouds])
    if not len(points):
        return clouds[0]
    normals = np.concatenate([cloud.normals_world for cloud in clouds])
    colours = np.concatenate([cloud.colours for cloud in clouds]).astype(float)
    confidence = np.concatenate([cloud.confidence for cloud in clouds]).astype(float)
    cells = np.floor(points / voxel_mm).astype(np.int64)
    cells -= cells.min(axis=0)
    spans = cells.max(axis=0) + 1
    keys = (cells[:, 0] * spans[1] + cells[:, 1]) * spans[2] + cells[:, 2]
    _, inverse = np.unique(keys, return_inverse=True)
    count = int(inverse.max()) + 1
    weight = np.maximum(confidence, 1e-6)  # points without any confidence still have a place
    total = np.bincount(inverse, weight, count)

    def mean(values: FloatArray) -> FloatArray:
        columns = [np.bincount(inverse, weight * values[:, k], count) / total for k in range(3)]
        return np.stack(columns, axis=1)

    best = np.zeros(count)
    np.maximum.at(best, inverse, confidence)
    normal = mean(normals)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    return Cloud(mean(points), normal, np.rint(mean(colours)).astype(np.uint8), best)


def _view_cloud(options: CloudOptions, sight: Sight) -> tuple[Cloud, FloatArray]:
    """Return the points of one view in the world, and the footprint of its pixels, mm."""
    with np.errstate(invalid="ignore"):
        front = sight.cosine > np.cos(np.radians(options.cloud_max_angle))
    chosen = sight.plain & front & (sight.confidence >= options.cloud_min_confidence)
    cloud = Cloud(
        transform(sight.world_from_camera, sight.points[chosen]),
        sight.normals[chosen] @ sight.world_from_camera[:3, :3].T,
        sight.rgb[chosen],
        sight.confidence[chosen].astype(float),
    )
    return cloud, sight.depth_mm[chosen] / sight.camera.fx
