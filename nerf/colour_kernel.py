"""The colour of a block of rays, forwards and backwards, compiled: `nerf.radiance` with its derivative."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from nerf.field_kernel import Array
from nerf.layer_kernel import add_product, fill_rows, layer, pull_layer, pull_rectify, rectify
from nerf.rays import DIRECTION, NORMAL, ORIGIN
from nerf.shading_kernel import FACING, LIGHT, light_ray, pull_light
from utils.compiled import INNER


class Lights(NamedTuple):
    """`lamp` (v, 3) mm in the world and `gain` (v,) of each view, `exponent` of the fall-off with distance."""

    lamp: Array
    gain: Array
    exponent: float


class RadianceLayers(NamedTuple):
    """The layers of `Radiance`, weights (outputs, inputs) and transposed, and biases."""

    trunk_t: Array
    trunk: Array
    trunk_bias: Array
    body_t: Array
    body: Array
    body_bias: Array
    colour: Array
    colour_bias: Array
    lobes: Array
    lobes_bias: Array


class OfRadiance(NamedTuple):
    """Gradients of `RadianceLayers`, a row a lane."""

    trunk: Array
    trunk_bias: Array
    body: Array
    body_bias: Array
    colour: Array
    colour_bias: Array
    lobes: Array
    lobes_bias: Array


class OfLights(NamedTuple):
    """Gradients of the lamp (lanes, v, 3), of the logarithm of the gain (lanes, v), of the exponent (lanes, 1)."""

    lamp: Array
    log_gain: Array
    exponent: Array


class ColourRoom(NamedTuple):
    """What the colours of a block of rays need, forwards and (`of_`) backwards; a row a ray."""

    first: Array
    of_first: Array
    inputs: Array
    of_inputs: Array
    second: Array
    of_second: Array
    raw: Array
    of_raw: Array
    bright: Array
    of_bright: Array
    light: Array
    of_half: Array
    pull: Array
    of_distance: Array
    of_seen: Array


@numba.njit(**INNER)
def colour_room(rays, features, width, lobes):  # type: ignore[no-untyped-def]  # pragma: no cover
    return ColourRoom(
        np.empty((rays, width), np.float32),
        np.empty((rays, width), np.float32),
        np.empty((rays, width + 4), np.float32),
        np.empty((rays, width + 4), np.float32),
        np.empty((rays, width), np.float32),
        np.empty((rays, width), np.float32),
        np.empty((rays, 3), np.float32),
        np.empty((rays, 3), np.float32),
        np.empty((rays, lobes), np.float32),
        np.empty((rays, lobes), np.float32),
        np.empty((rays, LIGHT), np.float32),
        np.empty((rays, 3), np.float32),
        np.empty((rays, 2), np.float32),
        np.empty(rays, np.float32),
        np.empty((rays, features), np.float32),
    )


@numba.njit(**INNER)
def see_colours(rays, where, lamps, layers, lit, turned, seen, depth, room):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fill `room` with the light of rays and what the network makes of it and of the features seen.

    Args:
        rays: (n, at least 9) as in `RayBatch.record`; `where` (n,) says which of `lamps` (v, 3) lights each.
        lit: light comes from the lamp; `turned`: colour depends on the direction.
        seen: (n, f) and `depth` (n,) of the rays.
    """
    n, width = len(rays), layers.trunk.shape[0]
    first, second, inputs = room.first[:n], room.second[:n], room.inputs[:n]
    fill_rows(first, layers.trunk_bias)
    add_product(seen, layers.trunk_t, first)
    rectify(first)
    lamp = np.empty(3, np.float32)
    for r in range(n):
        for a in range(3):
            lamp[a] = lamps[where[r], a] - rays[r, ORIGIN + a]
        light_ray(rays[r, DIRECTION:], rays[r, NORMAL:], depth[r], lamp, lit, turned, room.light[r])
        for c in range(width):
            inputs[r, c] = first[r, c]
        for c in range(FACING + 1):
            inputs[r, width + c] = room.light[r, c]
    fill_rows(second, layers.body_bias)
    add_product(inputs, layers.body_t, second)
    rectify(second)
    layer(second, layers.colour, layers.colour_bias, room.raw[:n])
    layer(first, layers.lobes, layers.lobes_bias, room.bright[:n])


@numba.njit(**INNER)
def pull_colours(rays, where, layers, lit, turned, seen, room, of_layers, of_lights, lane):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Take the gradients of colours back to the layers, the lamp and the features seen."""
    n, width = len(rays), layers.trunk.shape[0]
    first, second, inputs = room.first[:n], room.second[:n], room.inputs[:n]
    of_first, of_second, of_inputs = room.of_first[:n], room.of_second[:n], room.of_inputs[:n]
    of_seen = room.of_seen[:n]
    of_inputs[:], of_second[:], of_seen[:] = 0.0, 0.0, 0.0
    pull_layer(
        second, layers.colour, room.of_raw[:n], of_second, of_layers.colour[lane], of_layers.colour_bias[lane]
    )
    pull_rectify(second, of_second, of_layers.body_bias[lane])
    add_product(of_second.T, inputs, of_layers.body[lane])
    add_product(of_second, layers.body, of_inputs)
    for r in range(n):
        for c in range(width):
            of_first[r, c] = of_inputs[r, c]
        for a in range(3):
            of_facing = of_inputs[r, width + FACING] * rays[r, NORMAL + a]
            room.of_half[r, a] += of_inputs[r, width + a] + of_facing
        pull_light(
            room.light[r], lit, turned, room.of_half[r], room.of_distance[r],
            of_lights.lamp[lane, where[r]],
        )  # fmt: skip
    pull_layer(
        first, layers.lobes, room.of_bright[:n], of_first, of_layers.lobes[lane], of_layers.lobes_bias[lane]
    )
    pull_rectify(first, of_first, of_layers.trunk_bias[lane])
    add_product(of_first.T, seen, of_layers.trunk[lane])
    add_product(of_first, layers.trunk, of_seen)
