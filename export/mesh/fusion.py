"""Fuse depth maps into a volume of distances to the surface (Curless and Levoy 1996)."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.sights import Sight, Sights
from utils.compiled import INNER, KERNEL, share
from utils.geometry import invert_rigid, transform
from utils.types import FloatArray

# The distance is kept within so many voxels of the surface, or within three standard deviations of the depth.
TRUNCATION_VOXELS, TRUNCATION_SIGMAS = 4.0, 3.0
# Depth that spreads more is no surface: relative to the depth.
WIDEST_SPREAD = 0.05
# Logarithm of the factor by which depth may lie beyond its usual range and count.
FENCE = 0.4
# Of a volume: its sums and weights take 9 bytes a voxel.
MOST_VOXELS = 60_000_000


@dataclass(frozen=True)
class Grid:
    """Voxels along the world's axes: the centre of the first (3,), the side of one, mm, and how many each way."""

    origin: FloatArray
    voxel_mm: float
    shape: tuple[int, int, int]

    @staticmethod
    def around(low: FloatArray, high: FloatArray, voxel_mm: float) -> Grid:
        """Return a grid over a box (3,) to (3,); larger voxels than asked for where there would be too many."""
        size = np.maximum(high - low, voxel_mm)
        voxel_mm = max(voxel_mm, float((size.prod() / MOST_VOXELS) ** (1 / 3)))
        nx, ny, nz = (int(count) for count in np.ceil(size / voxel_mm).astype(int) + 1)
        return Grid(np.asarray(low, float), voxel_mm, (nx, ny, nz))

    @property
    def truncation_mm(self) -> float:
        """How far from the surface distances are kept, where depth is sharp."""
        return TRUNCATION_VOXELS * self.voxel_mm


@dataclass(frozen=True)
class Volume:
    """Distances (nx, ny, nz) to the surface, mm, positive on the cameras' side, NaN where nothing was seen.

    `views` (nx, ny, nz) counts the views that saw a surface within the truncation.
    """

    grid: Grid
    distance_mm: NDArray[np.float32]
    views: NDArray[np.uint16]


def weight_of(sight: Sight, least_confidence: float, largest_angle: float) -> NDArray[np.float32]:
    """Return (h, w) what the pixels of a view count: confidence, times the cosine of the angle, over z squared.

    Nought where depth is unsure or spreads, beside jumps, at grazing angles, in highlights and outside the tissue.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        sharp = ~(sight.sigma_mm > WIDEST_SPREAD * sight.depth_mm)
        front = sight.cosine > np.cos(np.radians(largest_angle))
        weight = sight.confidence * sight.cosine / sight.depth_mm**2
    usable = sight.plain & sharp & front & (sight.confidence >= least_confidence)
    return np.where(usable, weight, 0.0).astype(np.float32)


def extent(sights: Sights, least_confidence: float, largest_angle: float) -> tuple[FloatArray, FloatArray, float]:
    """Return the box (3,) to (3,) of usable depth in the world, and the median footprint of a pixel, mm.

    Depth far beyond what nearly all pixels have, a patch that one view got wrong, has no say: the box would grow
    by far, and its voxels with it.
    """
    some, footprints = [], []
    for sight in sights:
        depth = sight.depth_mm[weight_of(sight, least_confidence, largest_angle) > 0]
        if len(depth):
            some.append(np.log(depth[:: max(len(depth) // 5000, 1)]))
            footprints.append(float(np.median(depth)) / sight.camera.fx)
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    if not some:
        return low, high, float("nan")
    near, far = np.percentile(np.concatenate(some), [1.0, 99.0])
    beyond = far - near + FENCE
    for sight in sights:
        usable = weight_of(sight, least_confidence, largest_angle) > 0
        with np.errstate(invalid="ignore"):
            usable &= np.abs(np.log(sight.depth_mm) - 0.5 * (near + far)) <= 0.5 * (far - near) + beyond
        if usable.any():
            points = transform(sight.world_from_camera, sight.points[usable])
            low, high = np.minimum(low, points.min(0)), np.maximum(high, points.max(0))
    return low, high, float(np.median(footprints))


def fuse(sights: Sights, grid: Grid, least_confidence: float, largest_angle: float) -> Volume:
    """Return the weighted mean over all views of each voxel's distance to the surface that a view shows.

    A view's distance is its depth minus the voxel's z-depth, times the cosine between ray and normal: the distance
    to the tangent plane. Behind the surface its weight falls to nought at the truncation, so that the back of a
    fold does not eat its front.
    """
    total = np.zeros(grid.shape, np.float32)
    weight, views = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.uint16)
    for sight in tqdm(sights, desc="mesh: fuse", unit="view", leave=False, disable=None):
        pixel_weight = weight_of(sight, least_confidence, largest_angle)
        spread = TRUNCATION_SIGMAS * np.nan_to_num(sight.sigma_mm)
        limit = np.maximum(grid.truncation_mm, np.minimum(spread, 4 * grid.truncation_mm)).astype(np.float32)
        camera_from_world = invert_rigid(sight.world_from_camera)
        lens = (sight.camera.fx, sight.camera.fy, sight.camera.cx, sight.camera.cy)
        maps = np.nan_to_num(sight.depth_mm), np.nan_to_num(sight.cosine), pixel_weight, limit
        start = transform(camera_from_world, grid.origin[None])[0]
        steps = np.ascontiguousarray(camera_from_world[:3, :3].T) * grid.voxel_mm
        share(_integrate, grid.shape[0], start, steps, lens, maps, total, weight, views)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Volume(grid, np.where(weight > 0, total / weight, np.nan).astype(np.float32), views)


@numba.njit(**INNER)
def between(values, weight, column, row):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return a map's value at a place between four pixels that all count; NaN where one does not."""
    height, width = values.shape
    i, j = min(int(column), width - 2), min(int(row), height - 2)
    if weight[j, i] > 0 and weight[j, i + 1] > 0 and weight[j + 1, i] > 0 and weight[j + 1, i + 1] > 0:
        u, v = column - i, row - j
        return (values[j, i] * (1 - u) + values[j, i + 1] * u) * (1 - v) + (
            values[j + 1, i] * (1 - u) + values[j + 1, i + 1] * u
        ) * v
    return np.nan


@numba.njit(**KERNEL)
def _integrate(first, last, start, steps, lens, maps, total, weight, views):  # type: ignore[no-untyped-def]  # pragma: no cover
    depth, cosine, pixel_weight, limits = maps
    fx, fy, cx, cy = lens
    height, width = depth.shape
    for i in range(first, last):
        for j in range(total.shape[1]):
            x = start[0] + i * steps[0, 0] + j * steps[1, 0]
            y = start[1] + i * steps[0, 1] + j * steps[1, 1]
            z = start[2] + i * steps[0, 2] + j * steps[1, 2]
            for k in range(total.shape[2]):
                pz = z + k * steps[2, 2]
                if pz <= 0:
                    continue
                column = fx * (x + k * steps[2, 0]) / pz + cx
                row = fy * (y + k * steps[2, 1]) / pz + cy
                if not (0 <= column <= width - 1 and 0 <= row <= height - 1):
                    continue
                q, p = int(row + 0.5), int(column + 0.5)
                if pixel_weight[q, p] <= 0:
                    continue
                limit = limits[q, p]
                gap = (between(depth, pixel_weight, column, row) - pz) * cosine[q, p]
                if not gap > -limit:
                    continue
                count = pixel_weight[q, p]
                if gap < 0:
                    count *= (limit + gap) / limit
                total[i, j, k] += count * min(gap, limit)
                weight[i, j, k] += count
                if gap < limit:
                    views[i, j, k] += 1
