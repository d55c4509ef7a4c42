"""Carry depth maps from one view to another."""

from __future__ import annotations

import math

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from utils.compiled import KERNEL
from utils.types import Camera, FloatArray

_OUTSIDE = -9.0  # px
_FOLDED = 1024


def warp_depth(
    depth_mm: FloatArray, source: Camera, target: Camera, target_from_source: FloatArray, *, fill: bool = True
) -> FloatArray:
    """Forward-project a z-depth map into another view; where several points land on a pixel the nearest wins.

    Args:
        depth_mm: (h, w) of the source view, NaN unknown.
        source, target: cameras of the two views.
        target_from_source: (4, 4) mm.
        fill: close the one-pixel gaps that forward projection leaves on magnified surfaces.

    Returns:
        (h, w) float32 of the target view, NaN where nothing landed.
    """
    warped = np.full((target.height, target.width), np.inf, np.float32)
    lens = np.array([[camera.fx, camera.fy, camera.cx, camera.cy] for camera in (source, target)])
    _splat(np.ascontiguousarray(depth_mm), *lens, np.asarray(target_from_source, float), warped)
    warped[np.isinf(warped)] = np.nan
    return _close_gaps(warped) if fill else warped


@numba.njit(**KERNEL)
def _splat(depth, source, target, pose, warped):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write each pixel's z-depth where it lands, the smallest of those that meet."""
    fx, fy, cx, cy = source
    height, width = warped.shape
    for r in range(depth.shape[0]):
        for c in range(depth.shape[1]):
            d = depth[r, c]
            if not math.isfinite(d):
                continue
            x, y = d * (c - cx) / fx, d * (r - cy) / fy
            z = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * d + pose[2, 3]
            if not z > 0.0:
                continue
            u = target[0] * (pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * d + pose[0, 3]) / z + target[2]
            v = target[1] * (pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * d + pose[1, 3]) / z + target[3]
            # Borders first: what lands far outside has no place among whole numbers.
            if not (-1.0 < u < width and -1.0 < v < height):
                continue
            column, row = int(np.rint(u)), int(np.rint(v))
            if 0 <= column < width and 0 <= row < height and z < warped[row, column]:
                warped[row, column] = z


def _close_gaps(depth_mm: FloatArray) -> FloatArray:
    """Give an unknown pixel the mean of its known neighbours where at least five of eight agree within 5 %."""
    known = np.isfinite(depth_mm)
    values = np.where(known, depth_mm, 0).astype(np.float32)
    count = cv2.boxFilter(known.astype(np.float32), -1, (3, 3), normalize=False)
    mean = cv2.boxFilter(values, -1, (3, 3), normalize=False) / np.maximum(count, 1)
    far = cv2.dilate(np.where(known, values, -np.inf).astype(np.float32), np.ones((3, 3), np.uint8))
    near = cv2.erode(np.where(known, values, np.inf).astype(np.float32), np.ones((3, 3), np.uint8))
    with np.errstate(invalid="ignore", over="ignore"):
        agree = ~known & (count >= 5) & (far - near < 0.05 * mean)
    return np.where(agree, mean, depth_mm).astype(np.float32)


def warp_disparity(disparity_px: FloatArray, infinity_px: float = 0.0) -> FloatArray:
    """Carry the rectified disparity of the left eye to the right one: `right[y, x - d] = d`, the nearest wins.

    Neighbours on one surface (less than 1 px apart) are joined by a straight line, so that a surface keeps
    no gaps through which what is behind it would be seen, and planes stay exact. What the left eye does not
    see stays unknown.

    Args:
        disparity_px: (h, w), column_left - column_right, NaN unknown.
        infinity_px: the disparity of a point at infinity, cx_left - cx_right.

    Returns:
        (h, w) float32 on the grid of the right eye, NaN where nothing landed.
    """
    height, width = disparity_px.shape
    values = np.asarray(disparity_px, float)
    landed = np.arange(width) - values
    step = np.diff(landed, axis=1)
    joined = (step > 0) & (step <= 2)
    rows = np.broadcast_to(np.arange(height)[:, None], values.shape)
    found = []
    for offset in range(3):  # a step of two pixels covers three columns at most
        column = np.ceil(landed[:, :-1]) + offset
        covered = joined & (column <= landed[:, 1:])
        share = ((column - landed[:, :-1]) / step)[covered]
        between = values[:, :-1][covered] + share * np.diff(values, axis=1)[covered]
        found.append((rows[:, :-1][covered], column[covered], between))
    # a surface reaches half a pixel beyond the centre of its last one
    nearest = np.rint(landed)
    ends_left = ~np.pad(joined, ((0, 0), (1, 0))) & (nearest <= landed)
    ends_right = ~np.pad(joined, ((0, 0), (0, 1))) & (nearest >= landed)
    ends = ends_left | ends_right
    found.append((rows[ends], nearest[ends], values[ends]))
    row, column, value = (np.concatenate(parts) for parts in zip(*found, strict=True))
    inside = (column >= 0) & (column < width)
    row, column, value = row[inside], column[inside].astype(np.int64), value[inside]
    far_first = np.argsort(np.abs(value - infinity_px), kind="stable")
    warped = np.full((height, width), np.nan, np.float32)
    warped[row[far_first], column[far_first]] = value[far_first]
    return warped


def sample_depth(depth_mm: FloatArray, pixels: FloatArray, jump: float = 0.03) -> FloatArray:
    """Read z-depth (...) at pixels (..., 2), bilinear; NaN outside, at unknown neighbours and across jumps.

    A jump is where the four neighbours differ by more than `jump` of their depth: a mean of foreground and
    background is the depth of nothing.
    """
    shape = pixels.shape[:-1]
    columns = np.nan_to_num(pixels[..., 0].ravel(), nan=_OUTSIDE).astype(np.float32)
    rows = np.nan_to_num(pixels[..., 1].ravel(), nan=_OUTSIDE).astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    finite = np.nan_to_num(depth_mm, nan=0.0).astype(np.float32)
    value = sample_map(finite, columns, rows, outside=0.0)
    holes = cv2.dilate((~np.isfinite(depth_mm)).astype(np.uint8), kernel).astype(np.float32)
    spread = cv2.dilate(finite, kernel) - cv2.erode(finite, kernel)
    jumps = (spread > jump * finite).astype(np.float32)
    bad = sample_map(np.maximum(holes, jumps), columns, rows, cv2.INTER_NEAREST, outside=1.0) > 0
    inside = (columns >= 0) & (columns <= depth_mm.shape[1] - 1) & (rows >= 0) & (rows <= depth_mm.shape[0] - 1)
    return np.where(inside & ~bad, value, np.nan).reshape(shape)


def sample_map(
    values: FloatArray, columns: FloatArray, rows: FloatArray, how: int = cv2.INTER_LINEAR, outside: float = np.nan
) -> NDArray[np.float32]:
    """Sample a map at places (h, w) or (n,), px: NaN beside anything unknown, `outside` beyond its border."""
    count = columns.size
    if columns.ndim == 1:  # OpenCV's remap takes pictures of at most 32767 rows: lists are folded
        filling = np.full(-count % _FOLDED, _OUTSIDE, np.float32)
        columns, rows = (np.concatenate([part, filling]).reshape(-1, _FOLDED) for part in (columns, rows))
        return sample_map(values, columns, rows, how, outside).ravel()[:count]
    found = cv2.remap(values, columns, rows, how, borderMode=cv2.BORDER_CONSTANT, borderValue=outside)
    return np.asarray(found, np.float32)


def nearest_views(
    world_from_target: FloatArray, world_from_others: FloatArray, depth_mm: float, count: int
) -> list[int]:
    """Return the views (indices) that see most alike: by centre distance over depth plus angle between axes.

    Args:
        world_from_target: (4, 4) pose of the view in question.
        world_from_others: (n, 4, 4) poses to choose from; NaN poses are never chosen.
        depth_mm: typical working distance.
        count: how many to return at most.
    """
    others = world_from_others
    distance = np.linalg.norm(others[:, :3, 3] - world_from_target[:3, 3], axis=1) / depth_mm
    cosine = others[:, :3, 2] @ world_from_target[:3, 2]
    score = distance + np.arccos(np.clip(cosine, -1.0, 1.0))
    order = np.argsort(np.where(np.isfinite(score), score, np.inf), kind="stable")
    return [int(index) for index in order[:count] if np.isfinite(score[index])]
