"""Rays seen without learning from them, on the CPU: the compiled twin of `SceneModel.search` and `render`."""

from __future__ import annotations

import math

import numba
import numpy as np
import torch
from torch import Tensor

from nerf.colour_kernel import colour_room, see_colours
from nerf.compositing import LEAST, Composite
from nerf.field_kernel import field_room, see_field
from nerf.fields import SurfaceField
from nerf.kernel_inputs import array_of, geometry_of, layers_of
from nerf.radiance import Radiance
from nerf.ray_batch import place_samples, ray_in_box
from nerf.rays import NORMAL, Box, Rays
from nerf.shading_kernel import DISTANCE, shine, softplus
from utils.compiled import KERNEL, share

# Rays that are looked up together: what their samples need stays in the cache of their cores.
TILE = 4096
# Rays that are worked on together.
BLOCK = 32


class CompiledView:
    """What a model sees along rays, without gradients."""

    def __init__(self, field: SurfaceField, radiance: Radiance, box: Box, unit_mm: float, blur_mm: float) -> None:
        self.field, self.radiance, self.box = field, radiance, box
        self.unit_mm, self.blur_mm = unit_mm, blur_mm

    def see(self, rays: Rays, z: Tensor, lamps: Tensor | None) -> tuple[Composite, Tensor]:
        """Return what rays see through samples at sorted z-depths (n, s), and its colour (n, 3) before exposure.

        Args:
            lamps: (n, 3) the lamp of each ray in the world, mm; None: colours are left out, the second result is
                empty.
        """
        n, samples = z.shape
        lines = torch.cat([rays.origins, rays.directions, rays.normal], dim=1).numpy()
        depths, weights, summary = z.contiguous().numpy(), torch.empty(n, samples), torch.empty(n, 5)
        rgb = torch.empty(n if lamps is not None else 0, 3)
        room = min(TILE, n)
        points, front = np.empty((room * samples, 3), np.float32), np.empty(room * samples, np.float32)
        features, seen = (
            np.empty((room * samples, self.field.features), np.float32),
            np.empty((room, 0), np.float32),
        )
        if lamps is not None:
            seen = np.empty((room, self.field.features), np.float32)
        geometry, layers, options = geometry_of(self.field), layers_of(self.radiance), self.radiance.options
        box, base = (self.box.box_from_world.numpy(), float(self.box.size_mm[2])), self.field.base[0, 0].numpy()
        exponent, reference = float(self.radiance.falloff.detach()), self.radiance.reference_mm
        for first in range(0, n, TILE):
            ours = slice(first, min(first + TILE, n))
            count = ours.stop - first
            share(_place, count, lines[ours], depths[ours], box, base, points, front)
            self.field.layout.gather(array_of(self.field.table), points[: count * samples], features)
            share(
                _see, count, features, front, depths[ours], geometry, self.blur_mm, self.unit_mm,
                weights.numpy()[ours], summary.numpy()[ours], seen,
            )  # fmt: skip
            if lamps is not None:
                share(
                    _shade, count, lines[ours], lamps.numpy()[ours], layers, options.lamp, options.use_viewdirs,
                    reference, exponent, seen, summary.numpy()[ours, 1].copy(), rgb.numpy()[ours],
                )  # fmt: skip
        opacity, depth, median, spread, gap = summary.T.contiguous()
        return Composite(weights, opacity, depth, median, spread, gap), rgb


@numba.njit(**KERNEL)
def _place(first, last, lines, z, box, base, points, front):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write where samples lie in the box (n * s, 3), and how far in front of the starting surface, mm."""
    matrix, box_depth_mm = box
    samples = z.shape[1]
    origin, slope = np.empty(3, np.float32), np.empty(3, np.float32)
    for r in range(first, last):
        ray_in_box(matrix, lines[r], origin, slope)
        ours = slice(r * samples, (r + 1) * samples)
        place_samples(z[r], origin, slope, base, box_depth_mm, points[ours], front[ours])


@numba.njit(**KERNEL)
def _see(first, last, features, front, z, geometry, blur, unit, weights, summary, seen):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write weights (n, s), the summary (n, 5) of `Composite`, and the features seen if there is room for them."""
    samples = z.shape[1]
    room = field_room(BLOCK, samples, features.shape[1], geometry.w1.shape[0])
    for start in range(first, last, BLOCK):
        stop = min(start + BLOCK, last)
        mine = slice(start * samples, stop * samples)
        see_field(features[mine], front[mine], z[start:stop], geometry, blur, unit, room)
        for r in range(start, stop):
            opacity, depth = room.found[r - start, 0], room.found[r - start, 1]
            second, reached = 0.0, 0.0
            median, gap = z[r, 0], room.distance[r - start, 0]
            for k in range(samples):
                weight = room.weights[r - start, k]
                weights[r, k] = weight
                second += weight * (z[r, k] - depth) ** 2
                if reached < 0.5 * opacity:
                    median = z[r, k]
                reached += weight
                gap = min(gap, room.distance[r - start, k])
            spread = math.sqrt(max(second / max(opacity, LEAST), 1e-12))
            summary[r, 0], summary[r, 1], summary[r, 2] = opacity, depth, median
            summary[r, 3], summary[r, 4] = spread, max(gap, np.float32(0.0))
            for f in range(seen.shape[1]):
                seen[r, f] = room.seen[r - start, f]


@numba.njit(**KERNEL)
def _shade(first, last, lines, lamps, layers, lit, turned, reference, exponent, seen, depth, rgb):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write colours (n, 3) of the features seen (n, f) at depths (n,) under lamps (n, 3)."""
    room = colour_room(BLOCK, seen.shape[1], layers.trunk.shape[0], layers.lobes.shape[0])
    own = np.arange(BLOCK)
    for start in range(first, last, BLOCK):
        stop = min(start + BLOCK, last)
        ours = slice(start, stop)
        see_colours(lines[ours], own, lamps[ours], layers, lit, turned, seen[ours], depth[ours], room)
        for r in range(stop - start):
            glow = shine(room.bright[r], lines[start + r, NORMAL:], room.light[r])
            fall = (reference / room.light[r, DISTANCE]) ** exponent if lit else 1.0
            for a in range(3):
                rgb[start + r, a] = (softplus(room.raw[r, a]) + glow) * fall
