"""A batch of training rays in one compiled pass: from pixels to rays, samples around the prior, and box points."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from nerf.fields import SurfaceField
from nerf.rays import CONFIDENCE, DIRECTION, NORMAL, ORIGIN, PLAIN, PRIOR, RECORD, TARGET, WEIGHT, Box
from nerf.sampling_kernel import sample_ray
from nerf.views import PixelPool
from utils.compiled import INNER, KERNEL, share

# Half precision is decoded by this table: compiled code knows single and double.
HALF = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


class RayBatch:
    """Room for a batch of rays, filled again for each step.

    `record` (n, 16) is a row a ray: origin and direction in the world, the prior's normal, the pixel's colour in
    [0, 1], its weight in the colour loss, 1 outside highlights and 0 in them, the prior's depth in mm (NaN:
    unknown) and the confidence in it. `view` (n,) numbers the pool's views, `z` (n, s) are
    sorted z-depths of the samples, `points` (n * s, 3) their places in the box, `front` (n * s,) by how many mm
    they lie in front of the surface that the field started from.
    """

    def __init__(self, rays: int, samples: int) -> None:
        self.record, self.view = np.empty((rays, RECORD), np.float32), np.empty(rays, np.int64)
        self.z, self.points = np.empty((rays, samples), np.float32), torch.empty(rays * samples, 3)
        self.front = np.empty(rays * samples, np.float32)

    def fill(
        self,
        pool: PixelPool,
        box: Box,
        field: SurfaceField,
        pixels: Tensor,
        jitter: tuple[Tensor, Tensor, Tensor],
        highlight_weight: float,
    ) -> None:
        """Put the rays of flat pixel indices (n,) in.

        Args:
            jitter: places in the strata of uniform (n, s), guided (n, g) and free (n, s - g) samples, in [0, 1).
            highlight_weight: weight of highlights in the colour loss.
        """
        if len(pixels) != len(self.record):
            raise ValueError(
                f"found {len(pixels)} pixels; there is room for {len(self.record)}, no more and no less"
            )
        halves = (
            part.view(torch.int16).numpy().view(np.uint16)
            for part in (pool.sigma, pool.half_width, pool.confidence)
        )
        cameras = pool.cameras
        share(
            _fill,
            len(pixels),
            pixels.numpy(),
            (pool.starts.numpy(), pool.widths.numpy(), pool.rgb.numpy(), pool.depth.numpy(), *halves),
            (pool.normal.numpy(), pool.highlight.numpy()),
            (cameras.intrinsics.numpy(), cameras.world_from_camera.detach().numpy()),
            (box.box_from_world.numpy(), float(box.size_mm[2])),
            field.base[0, 0].numpy(),
            tuple(part.numpy() for part in jitter),
            highlight_weight,
            HALF,
            (self.record, self.view, self.z, self.points.numpy(), self.front),
        )  # fmt: skip


@numba.njit(**INNER)
def _height_at(base, x, y):  # type: ignore[no-untyped-def]
    """Return the starting surface at x, y in [-1, 1]: bilinear, the border's value beyond."""
    last = base.shape[0] - 1
    column = min(max((x + 1.0) * 0.5 * last, 0.0), last)
    row = min(max((y + 1.0) * 0.5 * last, 0.0), last)
    i, j = min(int(column), last - 1), min(int(row), last - 1)
    u, v = column - i, row - j
    return (base[j, i] * (1 - u) + base[j, i + 1] * u) * (1 - v) + (
        base[j + 1, i] * (1 - u) + base[j + 1, i + 1] * u
    ) * v


@numba.njit(**INNER)
def ray_in_box(matrix, ray, origin, slope):  # type: ignore[no-untyped-def]
    """Write origin and slope (3,) in the box of a ray that begins with its origin and direction in the world."""
    for a in range(3):
        origin[a], slope[a] = matrix[a, 3], np.float32(0.0)
        for b in range(3):
            origin[a] += matrix[a, b] * ray[ORIGIN + b]
            slope[a] += matrix[a, b] * ray[DIRECTION + b]


@numba.njit(**INNER)
def place_samples(z, origin, slope, base, box_depth_mm, points, front):  # type: ignore[no-untyped-def]
    """Write where a ray's samples (s,) lie in the box (s, 3), and how far in front of the starting surface, mm."""
    for k in range(len(z)):
        for a in range(3):
            points[k, a] = origin[a] + z[k] * slope[a]
        height = _height_at(base, points[k, 0], points[k, 1])
        front[k] = (height - points[k, 2]) * 0.5 * box_depth_mm


@numba.njit(**KERNEL)
def _fill(  # type: ignore[no-untyped-def]  # pragma: no cover
    first, last, pixels, columns, marks, cameras, box, base, jitter, highlight_weight, half, out
):  # fmt: skip
    starts, widths, rgb, depths, sigmas, half_widths, confidences = columns
    normals, highlights = marks
    intrinsics, poses = cameras
    matrix, box_depth_mm = box
    record, views, z, points, front = out
    samples = z.shape[1]
    origin, slope = np.empty(3, np.float32), np.empty(3, np.float32)
    for r in range(first, last):
        pixel, row = pixels[r], record[r]
        view = np.searchsorted(starts, pixel, side="right") - 1
        views[r] = view
        inside = pixel - starts[view]
        fx, fy, cx, cy = intrinsics[view]
        x = (np.float32(inside % widths[view]) - cx) / fx
        y = (np.float32(inside // widths[view]) - cy) / fy
        near, far = np.float32(1e-2 * box_depth_mm), np.float32(np.inf)
        for a in range(3):
            row[ORIGIN + a] = poses[view, a, 3]
            row[DIRECTION + a] = poses[view, a, 0] * x + poses[view, a, 1] * y + poses[view, a, 2]
            row[NORMAL + a] = np.float32(normals[pixel, a]) / np.float32(127.0)
            row[TARGET + a] = np.float32(rgb[pixel, a]) / np.float32(255.0)
        ray_in_box(matrix, row, origin, slope)
        for a in range(3):
            safe = slope[a] if abs(slope[a]) >= 1e-9 else np.float32(1e-9)
            one, other = (np.float32(-1.0) - origin[a]) / safe, (np.float32(1.0) - origin[a]) / safe
            near, far = max(near, min(one, other)), min(far, max(one, other))
        far = max(far, near * np.float32(1.01))
        row[WEIGHT], row[PLAIN] = (highlight_weight, 0.0) if highlights[pixel] else (1.0, 1.0)
        depth = depths[pixel]
        row[PRIOR], row[CONFIDENCE] = depth, half[confidences[pixel]]
        prior = depth, half[sigmas[pixel]] * depth, half[half_widths[pixel]] * depth
        sample_ray(z[r], prior, near, far, jitter, r)
        ours = slice(r * samples, (r + 1) * samples)
        place_samples(z[r], origin, slope, base, box_depth_mm, points[ours], front[ours])
