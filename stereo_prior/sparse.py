"""Depth interpolated between the sparse points of a view."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree

from stereo_prior.fusion import DepthMap
from utils.sparse_depth import differences
from utils.types import BoolArray, Camera, FloatArray

_FEWEST_POINTS = 8
_MOST_POINTS = 1000
_OUTLIER = 0.25  # relative difference of inverse depth to the neighbourhood's median
_STEP_PX = 4  # the smooth surface is evaluated on every fourth pixel
_SMOOTHING, _SMOOTHING_ALONG_SHAPE = 0.002, 0.005
_POINT_SIGMA = 0.01  # relative: a point's own uncertainty, at least
_SLOPE = 0.5  # relative depth change over one image width, between points


@dataclass(frozen=True, eq=False)
class _Trend:
    """What a surface follows between points: inverse depth (h, w), 1/mm, and its relative sigma (h, w)."""

    inverse_depth: FloatArray
    sigma: FloatArray
    smoothing: float


def interpolate(
    camera: Camera,
    pixels: FloatArray,
    depth_mm: FloatArray,
    tissue: BoolArray,
    shape: DepthMap | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lay a smooth surface through points: a thin plate in inverse depth, evaluated inside the tissue.

    With a shape the plate is the ratio of inverse depth to the shape's: between points the surface follows it.
    Where the shape is unknown it is the plain plate through all points.

    Args:
        camera: the view's camera.
        pixels, depth_mm: (m, 2) px and (m,) z-depth of points.
        tissue: (h, w).
        shape: depth (h, w) mm of the whole view that is right but for slowly varying errors, NaN unknown.

    Returns:
        Depth and sigma (h, w) mm, NaN outside the tissue, all NaN with fewer than eight points. Sigma is what
        neighbouring points disagree by, and grows with the distance to the nearest, with a shape up to its own.
    """
    depth, sigma = np.full(tissue.shape, np.nan), np.full(tissue.shape, np.nan)
    if shape is not None:
        along = _Trend(1.0 / shape.depth_mm.astype(float), shape.sigma_mm / shape.depth_mm, _SMOOTHING_ALONG_SHAPE)
        depth, sigma = _surface(camera, pixels, depth_mm, along)
    unknown = tissue & ~np.isfinite(depth)
    if unknown.any():
        level = float(np.median(1.0 / depth_mm)) if len(depth_mm) else 1.0
        flat = _Trend(np.full(tissue.shape, level), np.full(tissue.shape, np.inf), _SMOOTHING)
        plain_depth, plain_sigma = _surface(camera, pixels, depth_mm, flat)
        depth, sigma = np.where(unknown, plain_depth, depth), np.where(unknown, plain_sigma, sigma)
    return (
        np.where(tissue, depth, np.nan).astype(np.float32),
        np.where(tissue, sigma, np.nan).astype(np.float32),
    )


def _surface(
    camera: Camera, pixels: FloatArray, depth_mm: FloatArray, trend: _Trend
) -> tuple[FloatArray, FloatArray]:
    """Return depth and sigma (h, w) mm of the surface along a trend, NaN where that is unknown."""
    columns, rows = np.rint(pixels).astype(int).T if len(pixels) else np.zeros((2, 0), int)
    ratio = 1.0 / (depth_mm * trend.inverse_depth[rows, columns])
    known = np.isfinite(ratio)
    pixels, ratio = _without_outliers(pixels[known], ratio[known])
    if len(ratio) < _FEWEST_POINTS:
        unknown = np.full((camera.height, camera.width), np.nan)
        return unknown, unknown.copy()
    noise = max(_POINT_SIGMA, 1.4826 * float(np.median(np.abs(differences(pixels, ratio)))))
    pixels, ratio = _thinned(pixels, ratio, camera.width)
    depth = 1.0 / (trend.inverse_depth * _plate(camera, pixels, ratio, trend.smoothing))
    distance = _distance_to(pixels, camera) / camera.width
    return depth, depth * np.sqrt(noise**2 + np.minimum(_SLOPE * distance, trend.sigma) ** 2)


def _plate(camera: Camera, pixels: FloatArray, ratio: FloatArray, smoothing: float) -> FloatArray:
    """Return a thin plate (h, w) through values (m,) at pixels (m, 2), held near what it was given."""
    middle = float(np.median(ratio))
    plate = RBFInterpolator(
        pixels / camera.width, ratio / middle, kernel="thin_plate_spline", smoothing=smoothing, degree=1
    )
    columns = np.arange(0, camera.width + _STEP_PX, _STEP_PX)
    rows = np.arange(0, camera.height + _STEP_PX, _STEP_PX)
    grid = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2) / camera.width
    low, high = np.percentile(ratio / middle, [1, 99])
    coarse = np.clip(plate(grid), 0.7 * low, 1.4 * high).reshape(len(rows), len(columns)).astype(np.float32)
    at_columns, at_rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    where = ((at_columns / _STEP_PX).astype(np.float32), (at_rows / _STEP_PX).astype(np.float32))
    return middle * cv2.remap(coarse, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _without_outliers(pixels: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Drop points far from the median of those around them: wrong matches, or seen through an edge."""
    if len(values) < _FEWEST_POINTS:
        return pixels, values
    _, around = cKDTree(pixels).query(pixels, k=_FEWEST_POINTS)
    middle = np.median(values[around], axis=1)
    good = np.abs(values - middle) <= _OUTLIER * middle
    return pixels[good], values[good]


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
