"""Carry depth maps from one view to another."""

from __future__ import annotations

import cv2
import numpy as np

from utils.geometry import pixel_grid, project, transform, unproject
from utils.types import Camera, FloatArray


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
    known = np.isfinite(depth_mm)
    pixels = pixel_grid(source.width, source.height)[known]
    points = transform(target_from_source, unproject(source.matrix, pixels, depth_mm[known]))
    landed, z = project(target.matrix, points)
    columns = np.rint(np.nan_to_num(landed[:, 0], nan=-1.0)).astype(np.int64)
    rows = np.rint(np.nan_to_num(landed[:, 1], nan=-1.0)).astype(np.int64)
    inside = (z > 0) & (columns >= 0) & (columns < target.width) & (rows >= 0) & (rows < target.height)
    flat, z = rows[inside] * target.width + columns[inside], z[inside]
    far_first = np.argsort(-z, kind="stable")
    warped = np.full(target.width * target.height, np.nan, np.float32)
    warped[flat[far_first]] = z[far_first]
    image = warped.reshape(target.height, target.width)
    return _close_gaps(image) if fill else image


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


def sample_depth(depth_mm: FloatArray, pixels: FloatArray, jump: float = 0.03) -> FloatArray:
    """Read z-depth (...) at pixels (..., 2), bilinear; NaN outside, at unknown neighbours and across jumps.

    A jump is where the four neighbours differ by more than `jump` of their depth: a mean of foreground and
    background is the depth of nothing.
    """
    shape = pixels.shape[:-1]
    columns = np.nan_to_num(pixels[..., 0].reshape(-1, 1), nan=-9.0).astype(np.float32)
    rows = np.nan_to_num(pixels[..., 1].reshape(-1, 1), nan=-9.0).astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    finite = np.nan_to_num(depth_mm, nan=0.0).astype(np.float32)
    value = _remap(finite, columns, rows, cv2.INTER_LINEAR)
    holes = cv2.dilate((~np.isfinite(depth_mm)).astype(np.uint8), kernel).astype(np.float32)
    spread = cv2.dilate(finite, kernel) - cv2.erode(finite, kernel)
    jumps = (spread > jump * finite).astype(np.float32)
    bad = _remap(np.maximum(holes, jumps), columns, rows, cv2.INTER_NEAREST, outside=1.0) > 0
    inside = (columns >= 0) & (columns <= depth_mm.shape[1] - 1) & (rows >= 0) & (rows <= depth_mm.shape[0] - 1)
    return np.where(inside & ~bad, value, np.nan).reshape(shape)


def _remap(values: FloatArray, columns: FloatArray, rows: FloatArray, how: int, outside: float = 0) -> FloatArray:
    # OpenCV's remap takes at most 32767 rows: long lists of pixels are folded.
    count = len(columns)
    width = 4096
    padding = -count % width
    folded = [
        np.pad(part[:, 0], (0, padding), constant_values=-9.0).reshape(-1, width) for part in (columns, rows)
    ]
    found = cv2.remap(values, folded[0], folded[1], how, borderMode=cv2.BORDER_CONSTANT, borderValue=outside)
    return np.asarray(found, np.float32).ravel()[:count, None]


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
