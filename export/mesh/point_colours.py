"""How the training images see points of a surface: which views, in which colour, how surely."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numba
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.mesh.fusion import between
from export.mesh.light import Light
from export.sights import Sight, Sights
from utils.compiled import KERNEL, share
from utils.geometry import invert_rigid
from utils.types import FloatArray

# A view's weight is raised to this power: the views that see a point best decide, and details stay sharp.
SHARPNESS = 3.0
# Views that see a point more obliquely than this, degrees, say nothing about it.
MOST_OBLIQUE = 80.0


@dataclass(frozen=True)
class Looks:
    """What all views say about points: `colours` (n, 3) in [0, 1], NaN where no view counts; `views` (n,) how many
    see it, its front and nothing before it; `plain` (n,) how many of those give it a colour; `confidence` (n,)."""

    colours: NDArray[np.float32]
    views: NDArray[np.uint16]
    plain: NDArray[np.uint16]
    confidence: NDArray[np.float32]


def look(
    sights: Sights, points_world: FloatArray, normals_world: FloatArray, tolerance_mm: float, light: Light | None
) -> Looks:
    """Return what the views see of points (n, 3) with unit normals (n, 3).

    A view sees a point where its depth there is known and the point's z-depth is the same within the tolerance. It
    counts by the squared cosine between ray and normal over z squared; highlights, the tissue's border and jumps
    do not count. A colour is the mean over views whose weights are sharpened, a confidence the mean over all.

    Args:
        light: what to divide out of the colours; None: nothing, the tissue as it is lit.
    """
    count = len(points_world)
    colours, weights = np.zeros((count, 3), np.float32), np.zeros(count, np.float32)
    sure, total = np.zeros(count, np.float32), np.zeros(count, np.float32)
    views, plain = np.zeros(count, np.uint16), np.zeros(count, np.uint16)
    points = np.ascontiguousarray(points_world, dtype=np.float64)
    normals = np.ascontiguousarray(normals_world, dtype=np.float64)
    scale = 0.0
    for sight in tqdm(sights, desc="mesh: colours", unit="view", leave=False, disable=None):
        known = sight.depth_mm[np.isfinite(sight.depth_mm)]
        if not len(known):
            continue
        scale = scale or float(np.median(known))
        image, lamp = _image(sight, light)
        share(
            _look, count,
            points, normals, invert_rigid(sight.world_from_camera),
            (sight.camera.fx, sight.camera.fy, sight.camera.cx, sight.camera.cy),
            (np.nan_to_num(sight.depth_mm), image, sight.plain, sight.confidence),
            lamp, (tolerance_mm, scale, float(np.cos(np.radians(MOST_OBLIQUE))), SHARPNESS),
            (colours, weights, sure, total, views, plain),
        )  # fmt: skip
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(weights[:, None] > 0, colours / weights[:, None], np.nan)
        confidence = np.where(total > 0, sure / np.maximum(total, 1e-30), 0.0)
    return Looks(mean.astype(np.float32), views, plain, confidence.astype(np.float32))


def _image(sight: Sight, light: Light | None) -> tuple[NDArray[np.float32], tuple[FloatArray, float, float]]:
    """Return the image in [0, 1] without its gain, and lamp (3,) in the camera, distance and exponent."""
    image = sight.image.astype(np.float32) / 255.0
    if light is None:
        return image, (np.zeros(3), 1.0, 0.0)
    return image / light.gain(sight.name), (light.lamp_in(sight.side), light.reference_mm, light.falloff)


def filled(colours: NDArray[np.float32], neighbours: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return vertex colours (n, 3) whose unknown ones take the mean of known neighbours along edges (m, 2)."""
    colours = colours.copy()
    for _ in range(len(colours)):
        unknown = ~np.isfinite(colours[:, 0])
        if not unknown.any():
            break
        total, count = np.zeros_like(colours), np.zeros(len(colours), np.float32)
        for here, there in ((0, 1), (1, 0)):
            use = unknown[neighbours[:, here]] & ~unknown[neighbours[:, there]]
            np.add.at(total, neighbours[use, here], colours[neighbours[use, there]])
            np.add.at(count, neighbours[use, here], 1.0)
        if not count.any():
            break
        colours[count > 0] = total[count > 0] / count[count > 0, None]
    return np.nan_to_num(colours, nan=0.5)


def to_bytes(colours: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return colours in [0, 1] as bytes."""
    return np.rint(255.0 * np.clip(np.nan_to_num(colours), 0.0, 1.0)).astype(np.uint8)


def padded(picture: NDArray[np.uint8], known: NDArray[np.bool_], reach_px: int) -> NDArray[np.uint8]:
    """Grow the known part (h, w) of a picture (h, w, 3) by the nearest colours, so far."""
    distance, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    source = np.zeros((int(labels.max()) + 1, 3), np.uint8)
    source[labels[known]] = picture[known]
    near = distance <= reach_px
    return np.where(near[..., None], source[labels], picture)


@numba.njit(**KERNEL)
def _look(first, last, points, normals, pose, lens, maps, lamp, limits, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    fx, fy, cx, cy = lens
    depth, image, plain, sure = maps
    place, reference, exponent = lamp
    tolerance, scale, least_cosine, sharpness = limits
    colours, weights, confidence, total, views, plains = out
    height, width = depth.shape
    for n in range(first, last):
        x = pose[0, 0] * points[n, 0] + pose[0, 1] * points[n, 1] + pose[0, 2] * points[n, 2] + pose[0, 3]
        y = pose[1, 0] * points[n, 0] + pose[1, 1] * points[n, 1] + pose[1, 2] * points[n, 2] + pose[1, 3]
        z = pose[2, 0] * points[n, 0] + pose[2, 1] * points[n, 1] + pose[2, 2] * points[n, 2] + pose[2, 3]
        if z <= 0:
            continue
        column, row = fx * x / z + cx, fy * y / z + cy
        if not (0 <= column <= width - 1 and 0 <= row <= height - 1):
            continue
        q, p = int(row + 0.5), int(column + 0.5)
        if depth[q, p] <= 0:
            continue
        along = 0.0
        for a in range(3):
            normal = pose[a, 0] * normals[n, 0] + pose[a, 1] * normals[n, 1] + pose[a, 2] * normals[n, 2]
            along -= normal * (x if a == 0 else y if a == 1 else z)
        cosine = along / np.sqrt(x * x + y * y + z * z)
        if cosine < least_cosine:
            continue
        # On a slope the depth within a pixel differs by more.
        slope = (z / fx) * np.sqrt(1.0 - min(cosine * cosine, 1.0)) / cosine
        if not abs(between(depth, depth, column, row) - z) <= tolerance + slope:
            continue
        views[n] += 1
        weight = cosine * cosine * (scale / z) ** 2
        confidence[n] += weight * sure[q, p]
        total[n] += weight
        if not plain[q, p]:
            continue
        plains[n] += 1
        weight = weight**sharpness
        distance = np.sqrt((x - place[0]) ** 2 + (y - place[1]) ** 2 + (z - place[2]) ** 2)
        lit = (reference / distance) ** exponent
        i, j = min(int(column), width - 2), min(int(row), height - 2)
        u, v = column - i, row - j
        for c in range(3):
            value = (image[j, i, c] * (1 - u) + image[j, i + 1, c] * u) * (1 - v) + (
                image[j + 1, i, c] * (1 - u) + image[j + 1, i + 1, c] * u
            ) * v
            colours[n, c] += weight * value / lit
        weights[n] += weight
