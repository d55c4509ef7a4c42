"""One training step over a batch of rays, compiled: field, light, losses, and back again to all parameters."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba

from nerf.colour_kernel import colour_room, pull_colours, see_colours
from nerf.field_kernel import field_room, pull_field, see_field
from nerf.losses import COLOUR_BETA
from nerf.rays import CONFIDENCE, NORMAL, PLAIN, PRIOR, TARGET, WEIGHT
from nerf.shading_kernel import DISTANCE, pull_shine, shine, sigmoid, softplus
from utils.compiled import INNER, KERNEL

# Lanes add up their own gradients, and are added in order: the same on any number of cores up to this.
LANES = 16
# Rays that are worked on together: what they need stays in the cache.
BLOCK = 32
# Where each sum of a lane is: the parts of the loss, then squared error and number of rays without highlight.
COLOUR, DEPTH, THROUGH, GAP, SQUARED, COUNTED, SUMS = 0, 1, 2, 3, 4, 5, 6


class Settings(NamedTuple):
    """Numbers of a step.

    `blur` of the surface and `unit` of the network's distances, mm; `moves`: colours move the surface; `lit`:
    light comes from the lamp; `turned`: colour depends on the direction; the weights of the losses, that of the
    depth divided by the number of rays that have a prior; `scale` and `beta` of the depth loss; `reference`
    distance, mm; `full`: what counts as saturated; `asleep`: see `pull_field`.
    """

    blur: float
    unit: float
    moves: bool
    lit: bool
    turned: bool
    depth_weight: float
    through_weight: float
    gap_weight: float
    scale: float
    beta: float
    reference: float
    full: float
    asleep: float


@numba.njit(**INNER)
def _robust(residual, beta):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return the smooth L1 loss of a residual and its slope."""
    size = abs(residual)
    if size < beta:
        return 0.5 * residual * residual / beta, residual / beta
    return size - 0.5 * beta, (1.0 if residual > 0 else -1.0)


@numba.njit(**INNER)
def _losses(record, view, lights, settings, found, share, room, of_lights, sums, lane):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add the losses of rays, each counted `share`, and write the gradients of what they are made of."""
    for r in range(len(record)):
        ray, where, distance = record[r], view[r], room.light[r, DISTANCE]
        glow = shine(room.bright[r], ray[NORMAL:], room.light[r])
        fall = (settings.reference / distance) ** lights.exponent if settings.lit else 1.0
        of_glow, of_product = 0.0, 0.0
        for a in range(3):
            rgb = (softplus(room.raw[r, a]) + glow) * fall * lights.gain[where]
            target = ray[TARGET + a]
            loss, slope = _robust(rgb - target, COLOUR_BETA)
            if target >= settings.full and rgb > target:
                loss, slope = 0.0, 0.0
            sums[lane, COLOUR] += ray[WEIGHT] * loss * share
            sums[lane, SQUARED] += ray[PLAIN] * (min(rgb, 1.0) - target) ** 2
            pull = ray[WEIGHT] * slope * share
            of_product += pull * rgb
            pull *= fall * lights.gain[where]
            of_glow += pull
            room.of_raw[r, a] = pull * sigmoid(room.raw[r, a])
            room.of_half[r, a] = 0.0
        pull_shine(room.bright[r], ray[NORMAL:], room.light[r], of_glow, room.of_bright[r], room.of_half[r])
        of_lights.log_gain[lane, where] += of_product
        if settings.lit:
            of_lights.exponent[lane, 0] += of_product * math.log(settings.reference / distance)
        room.of_distance[r] = -of_product * lights.exponent / distance
        through = 1.0 - found[r, 0]
        sums[lane, COUNTED] += ray[PLAIN]
        sums[lane, THROUGH] += through**2 * share
        room.pull[r, 0], room.pull[r, 1] = -2.0 * through * share * settings.through_weight, 0.0
        if math.isfinite(ray[PRIOR]):
            loss, slope = _robust((found[r, 1] - ray[PRIOR]) / settings.scale, settings.beta)
            sums[lane, DEPTH] += ray[CONFIDENCE] * loss
            room.pull[r, 1] = settings.depth_weight * ray[CONFIDENCE] * slope / settings.scale


@numba.njit(**KERNEL)
def step_rays(  # type: ignore[no-untyped-def]  # pragma: no cover
    first_lane, last_lane, features, front, z, record, view, lights, geometry, layers, settings,
    of_features, of_front, of_geometry, of_layers, of_lights, sums,
):  # fmt: skip
    """Compute losses and all gradients of the rays of some lanes.

    Args:
        features: (n * s, f), `front` (n * s,) mm and `z` (n, s) mm of the samples.
        record: (n, 16) and `view` (n,) of the rays, as in `RayBatch`.
        of_features: (n * s, f) and `of_front` (n * s,), written; the other gradients are added to.
        sums: (lanes, 6), the parts of the loss.
    """
    n, count = z.shape
    share = 1.0 / n
    per_lane = ((n + BLOCK - 1) // BLOCK + LANES - 1) // LANES * BLOCK
    field = field_room(BLOCK, count, features.shape[1], geometry.w1.shape[0])
    colour = colour_room(BLOCK, features.shape[1], layers.trunk.shape[0], layers.lobes.shape[0])
    for lane in range(first_lane, last_lane):
        for first in range(lane * per_lane, min((lane + 1) * per_lane, n), BLOCK):
            last = min(first + BLOCK, n)
            mine, ours = slice(first * count, last * count), slice(first, last)
            some, rays, where = features[mine], record[ours], view[ours]
            see_field(some, front[mine], z[ours], geometry, settings.blur, settings.unit, field)
            found, seen = field.found[: last - first], field.seen[: last - first]
            see_colours(rays, where, lights.lamp, layers, settings.lit, settings.turned, seen, found[:, 1], colour)
            _losses(rays, where, lights, settings, found, share, colour, of_lights, sums, lane)
            pull_colours(
                rays, where, layers, settings.lit, settings.turned, seen, colour, of_layers, of_lights, lane
            )
            missed = pull_field(
                some, z[ours], geometry, settings.blur, settings.unit, settings.moves, settings.asleep,
                colour.pull, settings.gap_weight * share / settings.unit, colour.of_seen,
                field, of_features[mine], of_front[mine], of_geometry, lane,
            )  # fmt: skip
            sums[lane, GAP] += missed / settings.unit * share
