"""The stage `export`: one coloured, metric point cloud of the tissue, in the world frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.picture import cloud_picture
from export.ply import write_cloud
from utils.artifacts import has_maps, load_maps
from utils.errors import InputError, NotApplicable
from utils.geometry import normals_from_depth, pixel_grid, transform, unproject
from utils.images import write_rgb
from utils.options import option
from utils.scene import Scene, load_poses
from utils.stages import Stage, skipped
from utils.types import ARBITRARY_UNITS, BoolArray, FloatArray, Poses, Side


@dataclass(frozen=True)
class ExportOptions:
    """What enters the point cloud."""

    cloud_voxel: float = option(0.0, "side of the voxels that keep one point each, mm; 0: one pixel's footprint")
    cloud_min_confidence: float = option(0.3, "points below this confidence are left out")
    cloud_max_angle: float = option(75.0, "surfaces seen more obliquely than this, degrees, are left out")


def check(options: ExportOptions) -> None:
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


def run(
    options: ExportOptions,
    *,
    out: Path,
    scene: Path,
    poses: Path,
    prior: Path,
    nerf: Path,
    render: Path,
    filter: Path,
) -> str:
    """Write `cloud.ply` from filtered depth of training frames, or from the prior where there is no field.

    Raises:
        NotApplicable: there is neither.
        InputError: no point is good enough.
    """
    dataset = Scene.load(scene)
    rendered = not skipped(filter)
    if not rendered and skipped(prior):
        raise NotApplicable(f"there is no depth to make points from ({skipped(prior)})")
    placed = load_poses(poses, nerf) if not skipped(poses) else None
    depths = filter if rendered else prior
    clouds = []
    names = [name for name in dataset.train if has_maps(depths, "left", name)]
    views: list[tuple[Side, str]] = [(side, name) for side in dataset.sides for name in names]
    if placed is None:
        # One pair: its left eye is the world, and the right eye's map shows the same surface again.
        views = views[:1]
    for side, name in tqdm(views, desc="export", unit="view"):
        depth = load_maps(depths, side, name)["depth_mm"]
        known = load_maps(prior, side, name) if has_maps(prior, side, name) else {}
        maps: dict[str, NDArray[Any]] = {"rgb": dataset.image(side, name)}
        if rendered:
            maps = load_maps(render, side, name)
        confidence = _confidence(maps, known)
        usable = _usable(dataset, side, name, depth) & (confidence >= options.cloud_min_confidence)
        clouds.append(_view_cloud(options, dataset, placed, (side, name), depth, maps["rgb"], confidence, usable))
    metric = placed.metric if placed else "right" in dataset.sides
    footprints_mm = np.concatenate([cloud[1] for cloud in clouds])
    if not len(footprints_mm):
        raise InputError(
            "no point is left for the cloud",
            found="no tissue pixel with known depth and enough confidence",
            expected="some tissue with a confidence of at least --cloud_min_confidence",
            do="lower --cloud_min_confidence, or look at the maps of `prior` and `render`",
        )
    cloud = merge([cloud[0] for cloud in clouds], options.cloud_voxel or float(np.median(footprints_mm)))
    unit = "mm" if metric else ARBITRARY_UNITS
    frame = "first left camera that was placed: x right, y down, z forward"
    source = "filtered depth of the field" if rendered else "fused prior"
    comments = [f"unit {unit}", f"frame {frame}", f"from {source}", "confidence in [0, 1], 1 best"]
    write_cloud(
        out / "cloud.ply", cloud.points_world, cloud.normals_world, cloud.colours, cloud.confidence, comments
    )
    write_rgb(out / "cloud.png", cloud_picture(cloud.points_world, cloud.colours))
    size = np.ptp(cloud.points_world, axis=0)
    extent = " x ".join(f"{value:.0f}" for value in size)
    return f"{len(cloud.points_world)} points, {extent} {unit}"


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


def _confidence(maps: dict[str, NDArray[Any]], prior: dict[str, NDArray[Any]]) -> FloatArray:
    """Return (h, w): how sure the field is (opaque and thin); without a field, the prior's confidence."""
    if "opacity" not in maps:
        return np.nan_to_num(np.asarray(prior["confidence"], np.float32))
    depth, spread = np.asarray(maps["depth_mm"], float), np.asarray(maps["depth_std_mm"], float)
    with np.errstate(divide="ignore", invalid="ignore"):  # clear rays have no depth
        return np.nan_to_num(np.asarray(maps["opacity"], float) / (1.0 + (spread / (0.02 * depth)) ** 2))


def _usable(dataset: Scene, side: Side, name: str, depth_mm: FloatArray) -> BoolArray:
    """Return (h, w): known depth inside eroded tissue, outside highlights and away from jumps."""
    tissue, highlight = dataset.masks(side, name)
    inside = cv2.erode(tissue.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=0) > 0
    filled = np.nan_to_num(depth_mm, nan=0.0).astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    jump = (cv2.dilate(filled, kernel) - cv2.erode(filled, kernel)) > 0.05 * filled
    return inside & ~highlight & np.isfinite(depth_mm) & ~jump


def _view_cloud(
    options: ExportOptions,
    dataset: Scene,
    placed: Poses | None,
    view: tuple[Side, str],
    depth_mm: FloatArray,
    rgb: NDArray[np.uint8],
    confidence: FloatArray,
    usable: BoolArray,
) -> tuple[Cloud, FloatArray]:
    """Return the points of one view in the world, and the footprint of its pixels, mm."""
    camera = dataset.rig.camera(view[0])
    normals = normals_from_depth(depth_mm, camera.matrix)
    points = unproject(camera.matrix, pixel_grid(camera.width, camera.height), depth_mm)
    cosine = -(normals * points).sum(-1) / np.linalg.norm(points, axis=-1)
    with np.errstate(invalid="ignore"):
        chosen = usable & (cosine > np.cos(np.radians(options.cloud_max_angle)))
    world_from_camera = placed.world_from(*view) if placed else np.eye(4)
    cloud = Cloud(
        transform(world_from_camera, points[chosen]),
        normals[chosen] @ world_from_camera[:3, :3].T,
        rgb[chosen],
        confidence[chosen].astype(float),
    )
    return cloud, depth_mm[chosen] / camera.fx


READS = ("scene", "poses", "prior", "nerf", "render", "filter")
STAGE = Stage("export", run, ExportOptions, READS, check=check)
