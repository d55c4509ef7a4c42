"""Pick a point of a cloud, and measure the distance between two with its standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.geometry import directions, invert_rigid, project, transform
from utils.types import Camera, FloatArray
from utils.visibility import SAME_SURFACE

CONES_DEGREES = (0.15, 0.4, 1.0)  # around a click; the narrowest in which there is a point
ACROSS_PX = 12**-0.5  # standard deviation of a place that may be anywhere in its pixel


@dataclass(frozen=True, eq=False)
class Witness:
    """A view that may have measured a point: `world_from_camera` (4, 4), z-depth and its sigma (h, w), mm."""

    camera: Camera
    world_from_camera: FloatArray
    depth_mm: FloatArray
    sigma_mm: FloatArray


@dataclass(frozen=True, eq=False)
class Length:
    """The distance between two points and its standard deviation, in the run's unit."""

    distance_mm: float
    sigma_mm: float


def pick(points_world: FloatArray, origin: FloatArray, direction: FloatArray) -> int | None:
    """Return the point (n, 3) that a ray from `origin` (3,) along `direction` (3,) hits, None where it hits none.

    Of the points in a narrow cone around the ray, those within 2 % of the nearest one's distance are its surface;
    what lies behind is hidden. Of these the one closest to the ray is taken.
    """
    ahead = direction / np.linalg.norm(direction)
    offsets = points_world - origin
    along = offsets @ ahead
    aside = np.linalg.norm(offsets - along[:, None] * ahead, axis=1)
    for degrees in CONES_DEGREES:
        inside = np.flatnonzero((along > 0) & (aside < np.tan(np.radians(degrees)) * along))
        if len(inside):
            front = inside[along[inside] <= (1 + SAME_SURFACE) * along[inside].min()]
            return int(front[np.argmin(aside[front])])
    return None


def point_covariance(point_world: FloatArray, witnesses: Sequence[Witness]) -> FloatArray | None:
    """Return the covariance (3, 3) of a point, mm^2, by the views that see it; None where none does.

    A view sees it where its depth at the point's pixel is the point's within 2 %. It then says

        C = s^2 r r^T + a^2 (I - r r^T),    s = sigma_z |d|,    a = 12^(-1/2) z / f

    with r the unit vector along the ray d (z = 1) and a the spread of a place anywhere in a pixel. Views of one
    reconstruction err together: they are not averaged, and of those that see the point the one with the median s
    speaks.
    """
    found = []
    for witness in witnesses:
        in_camera = transform(invert_rigid(witness.world_from_camera), point_world)
        pixel, z = project(witness.camera.matrix, in_camera)
        height, width = witness.depth_mm.shape
        if not (z > 0 and -0.5 < pixel[0] < width - 0.5 and -0.5 < pixel[1] < height - 0.5):
            continue
        row, column = round(float(pixel[1])), round(float(pixel[0]))
        depth, sigma = float(witness.depth_mm[row, column]), float(witness.sigma_mm[row, column])
        if not (abs(depth - z) < SAME_SURFACE * z and np.isfinite(sigma)):
            continue
        ray = directions(witness.camera.matrix, pixel)
        length = float(np.linalg.norm(ray))
        unit = witness.world_from_camera[:3, :3] @ ray / length
        found.append((sigma * length, ACROSS_PX * float(z) / witness.camera.fx, unit))
    if not found:
        return None
    found.sort(key=lambda each: each[0])
    along, across, unit = found[(len(found) - 1) // 2]
    outer = np.outer(unit, unit)
    return np.asarray(along**2 * outer + across**2 * (np.eye(3) - outer))


def length_between(
    points_world: tuple[FloatArray, FloatArray], covariances: tuple[FloatArray, FloatArray]
) -> Length:
    """Return the distance of two points (3,) whose errors are independent: sigma^2 = u^T (C_1 + C_2) u.

    `u` is the unit vector between them. For two points in one place, where no line is between them, the largest
    sigma over all directions is taken. Errors of the poses are not in it, nor one that both points share.
    """
    between = points_world[1] - points_world[0]
    distance = float(np.linalg.norm(between))
    total = covariances[0] + covariances[1]
    if distance == 0.0:
        return Length(0.0, float(np.sqrt(np.linalg.eigvalsh(total)[-1])))
    unit = between / distance
    return Length(distance, float(np.sqrt(unit @ total @ unit)))
