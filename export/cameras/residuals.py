"""How far two images contradict their cameras: epipolar lines, points behind, a warp through depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from export.cameras.looks import Look, Pair
from utils.geometry import FloatArray, directions, pixel_grid, project, transform, triangulate, unproject
from utils.types import Camera
from utils.warping import sample_depth, sample_map

_LEAST_PARALLAX_PX = 2.0
_LEAST_OVERLAP = 0.15
_FEWEST_PIXELS = 50
_EVERY = 3  # dense pixels, in rows and columns


@dataclass(frozen=True)
class Residuals:
    """What two images say about their cameras; NaN where they say nothing.

    `epipolar_px`: median Sampson distance of matches. `in_front`: share of matches that triangulate in front
    of both. `reprojection_px`: median distance of matches carried through depth. `warp`: 1 - correlation of
    local contrast after the warp, 0 the same picture, 1 an unrelated one or none. `depth`: median relative
    difference of depth after the warp. `shift_a_px`, `shift_b_px`: median (column, row) by which the other
    image's points land off in this one.
    """

    epipolar_px: float
    in_front: float
    reprojection_px: float
    warp: float
    depth: float
    shift_a_px: tuple[float, float]
    shift_b_px: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Placed:
    """Cameras of all images, in the px of their looks, and `world_from_camera` (n, 4, 4), NaN not placed."""

    cameras: tuple[Camera, ...]
    world_from_camera: FloatArray

    def relation(self, b: int, a: int) -> FloatArray:
        """Return (4, 4) `b_from_a`; the inverse is a general one, for cameras may be no rigid motions."""
        return np.linalg.solve(self.world_from_camera[b], self.world_from_camera[a])

    def usable(self, index: int) -> bool:
        """Whether a camera has a place that can be inverted."""
        matrix = self.world_from_camera[index]
        return bool(np.isfinite(matrix).all() and abs(np.linalg.det(matrix[:3, :3])) > 1e-9)


def residuals(pair: Pair, placed: Placed, looks: Sequence[Look | None]) -> Residuals:
    """Measure two cameras by what both images show."""
    a, b = pair.a, pair.b
    b_from_a, a_from_b = placed.relation(b, a), placed.relation(a, b)
    camera_a, camera_b = placed.cameras[a], placed.cameras[b]
    in_b = _carried(camera_a, camera_b, b_from_a, pair.pixels_a, pair.depth_a) - pair.pixels_b
    in_a = _carried(camera_b, camera_a, a_from_b, pair.pixels_b, pair.depth_b) - pair.pixels_a
    warps = [_Warp(looks, placed, a, b), _Warp(looks, placed, b, a)]
    return Residuals(
        epipolar_px=_epipolar(camera_a, camera_b, b_from_a, pair),
        in_front=_in_front(camera_a, camera_b, b_from_a, pair),
        reprojection_px=_typical([_distance(in_b, pair.depth_a), _distance(in_a, pair.depth_b)]),
        warp=_typical([warp.error() for warp in warps]),
        depth=_typical([warp.depth_difference() for warp in warps]),
        shift_a_px=_shift(in_a),
        shift_b_px=_shift(in_b),
    )


def _typical(values: Sequence[float]) -> float:
    """Return the mean of what is known."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _epipolar(camera_a: Camera, camera_b: Camera, b_from_a: FloatArray, pair: Pair) -> float:
    """Return the median Sampson distance, px (Hartley and Zisserman 2004, equation 11.9)."""
    x, y, z = b_from_a[:3, 3]
    if np.hypot(np.hypot(x, y), z) < 1e-9:
        return float("nan")
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ b_from_a[:3, :3]
    fundamental = np.linalg.inv(camera_b.matrix).T @ essential @ np.linalg.inv(camera_a.matrix)
    ones = np.ones((len(pair.pixels_a), 1))
    rays_a, rays_b = np.hstack([pair.pixels_a, ones]), np.hstack([pair.pixels_b, ones])
    lines_b, lines_a = rays_a @ fundamental.T, rays_b @ fundamental
    slope = np.sqrt((lines_b[:, :2] ** 2).sum(1) + (lines_a[:, :2] ** 2).sum(1))
    return float(np.median(np.abs((rays_b * lines_b).sum(1)) / np.maximum(slope, 1e-12)))


def _in_front(camera_a: Camera, camera_b: Camera, b_from_a: FloatArray, pair: Pair) -> float:
    """Return the share of matches in front of both cameras; NaN where they are too near together to tell."""
    rotation = b_from_a[:3, :3]
    if np.linalg.det(rotation) <= 0 or np.abs(rotation.T @ rotation - np.eye(3)).max() > 0.05:
        return float("nan")
    points_a = triangulate(camera_a.matrix, camera_b.matrix, b_from_a, pair.pixels_a, pair.pixels_b)
    points_b = transform(b_from_a, points_a)
    rays_a = directions(camera_a.matrix, pair.pixels_a) @ rotation.T
    rays_b = directions(camera_b.matrix, pair.pixels_b)
    sine = np.linalg.norm(np.cross(rays_a, rays_b), axis=1)
    sine /= np.linalg.norm(rays_a, axis=1) * np.linalg.norm(rays_b, axis=1)
    if np.median(sine) * camera_b.fx < _LEAST_PARALLAX_PX:
        return float("nan")
    return float(np.mean((points_a[:, 2] > 0) & (points_b[:, 2] > 0)))


def _carried(
    source: Camera, target: Camera, target_from_source: FloatArray, pixels: FloatArray, depth_mm: FloatArray
) -> FloatArray:
    """Return where points (m, 2) of one image with z-depth (m,) land in another; NaN unknown or behind."""
    points = transform(target_from_source, unproject(source.matrix, pixels, depth_mm))
    return project(target.matrix, points)[0]


def _distance(off_px: FloatArray, depth_mm: FloatArray) -> float:
    """Return the median distance of points (m, 2) that have depth; those behind are infinitely far off."""
    known = np.isfinite(depth_mm)
    if known.sum() < 5:
        return float("nan")
    distance = np.linalg.norm(off_px[known], axis=1)
    return float(np.median(np.where(np.isfinite(distance), distance, np.inf)))


def _shift(off_px: FloatArray) -> tuple[float, float]:
    """Return the median (column, row) of known differences (m, 2)."""
    known = off_px[np.isfinite(off_px).all(axis=1)]
    if len(known) < 5:
        return float("nan"), float("nan")
    column, row = np.median(known, axis=0)
    return float(column), float(row)


def warp_error(looks: Sequence[Look | None], placed: Placed, a: int, b: int) -> float:
    """Fetch image b into camera a through a's depth, and return 1 - the correlation of local contrast.

    Where less than a seventh of the pixels with depth land in the other image it is 1; NaN without depth.
    """
    return _Warp(looks, placed, a, b).error()


@lru_cache(maxsize=4)
def _rays(camera: Camera) -> FloatArray:
    """Return the viewing directions (h', w', 3) of every third pixel of a camera, in rows and columns."""
    return directions(camera.matrix, pixel_grid(camera.width, camera.height)[::_EVERY, ::_EVERY])


class _Warp:
    """Where the pixels of image a that have depth land in image b; none where image a has no depth."""

    def __init__(self, looks: Sequence[Look | None], placed: Placed, a: int, b: int) -> None:
        one, other = looks[a], looks[b]
        assert one is not None
        assert other is not None
        self.other, self.values = other, np.zeros(0, np.float32)
        if one.depth_mm is None:
            return
        known = (np.isfinite(one.depth_mm) & np.isfinite(one.contrast))[::_EVERY, ::_EVERY]
        depth_mm = one.depth_mm[::_EVERY, ::_EVERY][known]
        self.values = one.contrast[::_EVERY, ::_EVERY][known]
        rays = _rays(placed.cameras[a].resized(*one.dense_size))[known]
        points = rays * depth_mm[:, None]
        camera_b = placed.cameras[b].resized(*other.dense_size)
        landed, self.z = project(camera_b.matrix, transform(placed.relation(b, a), points))
        self.landed = np.nan_to_num(landed, nan=-9.0).clip(-9.0, 1e5).astype(np.float32)

    def error(self) -> float:
        """Return 1 - correlation."""
        if len(self.values) < _FEWEST_PIXELS:
            return float("nan")
        found = sample_map(self.other.contrast, self.landed[:, 0], self.landed[:, 1])
        both = np.isfinite(found)
        if both.sum() < _LEAST_OVERLAP * len(self.values):
            return 1.0
        mine, theirs = self.values[both], found[both]
        return 1.0 - float((mine * theirs).sum() / np.sqrt((mine**2).sum() * (theirs**2).sum() + 1e-9))

    def depth_difference(self) -> float:
        """Return the median relative difference of depth where a pixel lands; NaN where it is not known."""
        if len(self.values) < _FEWEST_PIXELS or self.other.depth_mm is None:
            return float("nan")
        relative = np.abs(sample_depth(self.other.depth_mm, self.landed) - self.z) / self.z
        relative = relative[np.isfinite(relative)]
        return float(np.median(relative)) if len(relative) >= _FEWEST_PIXELS else float("nan")
