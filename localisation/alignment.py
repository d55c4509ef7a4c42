"""Move a rig until what a rendered surface should look like agrees with its images: robust Gauss-Newton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from utils.geometry import rigid
from utils.types import BoolArray, Camera, FloatArray

Float32Array = NDArray[np.float32]

HUBER = 1.345  # in robust standard deviations (Huber 1964); 95 % efficient for Gaussian residuals
LEAST_SIGMA = 0.05  # of the even contrast
DAMPING, LARGEST_DAMPING = 1e-3, 1e3
FEWEST = 24  # points
STILL = 1e-3  # px that a step must move the median point to count


@dataclass(frozen=True, eq=False)
class Observed:
    """One eye's image at one size.

    `fields` (h, w, 4) are values and weight of even contrast, and the values' slopes along columns and rows.
    """

    camera: Camera
    eye_from_left: FloatArray
    fields: Float32Array

    @staticmethod
    def of(camera: Camera, eye_from_left: FloatArray, values: Float32Array, weight: Float32Array) -> Observed:
        """Differentiate `values`, (h, w), by central differences."""
        rows, columns = np.gradient(values)
        return Observed(camera, eye_from_left, np.stack([values, weight, columns, rows], axis=-1))


@dataclass(frozen=True, eq=False)
class Expected:
    """What a rendered surface should look like from its own pose.

    `points_left` (n, 3) in the left frame, mm; `values` and `weight` (n,); `pixels` (n,) counts them row by row in
    the rendered picture, whose `shape` is (h, w).
    """

    points_left: FloatArray
    values: Float32Array
    weight: Float32Array
    pixels: NDArray[np.intp]
    shape: tuple[int, int]

    def thinned(self, most: int) -> Expected:
        """Return every k-th point, so that at most `most` are left."""
        every = slice(None, None, -(-len(self.values) // most) or 1)
        return Expected(
            self.points_left[every], self.values[every], self.weight[every], self.pixels[every], self.shape
        )


@dataclass(frozen=True, eq=False)
class Alignment:
    """The pose that was found, relative to the pose that was rendered.

    `start_from_left` (4, 4); `information` (6, 6) is J' W J / sigma^2 of a twist (rotation in rad, translation in
    mm) on the camera's side, sigma the robust standard deviation of a residual.
    """

    start_from_left: FloatArray
    information: FloatArray


def exponential(twist: FloatArray) -> FloatArray:
    """Return the (4, 4) motion of a small twist (6,): rotation vector in rad, translation in mm."""
    return rigid(Rotation.from_rotvec(twist[:3]).as_matrix(), twist[3:])


def align(pairs: Sequence[tuple[Observed, Expected]], steps: int) -> Alignment:
    """Minimise the robust difference between images and what is expected of them, over one rig pose.

    Levenberg-Marquardt on all eyes jointly; residuals are weighed by Huber's function of their median absolute
    deviation, which is measured anew at every accepted step.

    Args:
        pairs: an eye's image and the surface that was rendered for it.
        steps: at most.
    """
    left_from_start = np.eye(4)
    system = _System.at(pairs, left_from_start, None)
    damping = DAMPING
    for _ in range(steps):
        diagonal = np.diag(system.hessian).copy()
        if system.count < FEWEST or not (diagonal > 0).all():  # too little to see, or pictures without contrast
            break
        step = -np.linalg.solve(
            system.hessian + np.diag(damping * diagonal + 1e-9 * diagonal.max()), system.gradient
        )
        moved = exponential(-step) @ left_from_start
        trial = _System.at(pairs, moved, system.sigma)
        if trial.cost < system.cost and trial.overlap > 0.5 * system.overlap:
            small = system.motion_px(step) < STILL
            left_from_start = moved
            system = _System.at(pairs, moved, None)
            damping = max(damping / 10, 1e-6)
            if small:
                break
        else:
            damping *= 10
            if damping > LARGEST_DAMPING:
                break
    return Alignment(np.linalg.inv(left_from_start), system.hessian / system.sigma**2)


@dataclass(frozen=True, eq=False)
class _System:
    """The normal equations of one step at one pose."""

    hessian: FloatArray
    gradient: FloatArray
    cost: float
    sigma: float
    overlap: float
    count: int
    flow: FloatArray

    @staticmethod
    def at(
        pairs: Sequence[tuple[Observed, Expected]], left_from_start: FloatArray, sigma: float | None
    ) -> _System:
        """Evaluate residuals and slopes; `sigma` None: measure it."""
        parts = [residuals(observed, expected, left_from_start) for observed, expected in pairs]
        residual, weight = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        slopes, flow = (np.concatenate([part[k] for part in parts]) for k in (2, 3))
        wanted = sum(float(expected.weight.sum()) for _, expected in pairs)
        used = weight > 0
        if sigma is None:
            spread = np.median(np.abs(residual[used])) if used.any() else 1.0
            sigma = max(1.4826 * float(spread), LEAST_SIGMA)
        size = np.abs(residual) / (HUBER * sigma)
        robust = weight * np.minimum(1.0, 1.0 / np.maximum(size, 1e-12))
        penalty = np.where(size <= 1, 0.5 * size**2, size - 0.5)
        total = max(float(weight.sum()), 1e-9)
        weighted = slopes * robust[:, None]
        return _System(
            hessian=weighted.T @ slopes,
            gradient=weighted.T @ residual,
            cost=float((weight * penalty).sum()) / total,
            sigma=sigma,
            overlap=float(weight.sum()) / max(wanted, 1e-9),
            count=int(used.sum()),
            flow=flow[used],
        )

    def motion_px(self, step: FloatArray) -> float:
        """Return by how many px a step moves the median point."""
        moved = np.einsum("nij,j->ni", self.flow[:: max(len(self.flow) // 500, 1)], step)
        return float(np.median(np.linalg.norm(moved, axis=1)))


def residuals(
    observed: Observed, expected: Expected, left_from_start: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return residuals (n,), weights (n,), their slopes (n, 6) and the image's motion (n, 2, 6) of a twist.

    A twist moves the camera, T' = T exp(twist), and so points of its frame by points x rotation - translation.
    """
    points = expected.points_left @ left_from_start[:3, :3].T + left_from_start[:3, 3]
    rotation = observed.eye_from_left[:3, :3]
    seen = points @ rotation.T + observed.eye_from_left[:3, 3]
    camera = observed.camera
    depth = np.maximum(seen[:, 2], 1e-6)
    x, y = seen[:, 0] / depth, seen[:, 1] / depth
    columns, rows = camera.fx * x + camera.cx, camera.fy * y + camera.cy
    inside = (seen[:, 2] > 1e-3) & (columns >= 0) & (rows >= 0)
    inside &= (columns <= camera.width - 1) & (rows <= camera.height - 1)
    values, weight, across, down = _sample(observed.fields, columns, rows, inside)
    # d(pixel) / d(point in the eye), times d(point in the eye) / d(twist)
    zero = np.zeros_like(x)
    projection = np.stack(
        [
            np.stack([camera.fx / depth, zero, -camera.fx * x / depth], -1),
            np.stack([zero, camera.fy / depth, -camera.fy * y / depth], -1),
        ],
        axis=1,
    )
    by_point = projection @ rotation
    cross = np.zeros((len(points), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -points[:, 2], points[:, 1], -points[:, 0]
    cross -= np.swapaxes(cross, 1, 2)
    flow = np.concatenate([by_point @ cross, -by_point], axis=2)
    slopes = across[:, None] * flow[:, 0] + down[:, None] * flow[:, 1]
    return values - expected.values, np.where(inside, weight * expected.weight, 0.0), slopes, flow


def _sample(fields: Float32Array, columns: FloatArray, rows: FloatArray, inside: BoolArray) -> FloatArray:
    """Return fields (h, w, k) at places (n,) as (k, n), bilinear, 0 outside.

    OpenCV's `remap` rounds places to 1/32 px: steps below that would change nothing.
    """
    found = np.zeros((fields.shape[2], len(columns)))
    u, v = columns[inside], rows[inside]
    left, top = (
        np.minimum(part.astype(int), size - 2) for part, size in ((u, fields.shape[1]), (v, fields.shape[0]))
    )
    across, down = (u - left)[:, None], (v - top)[:, None]
    upper = fields[top, left] * (1 - across) + fields[top, left + 1] * across
    lower = fields[top + 1, left] * (1 - across) + fields[top + 1, left + 1] * across
    found[:, inside] = (upper * (1 - down) + lower * down).T
    return found
