"""The small network and the compositing of a block of rays, forwards and backwards, as compiled functions."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from nerf.compositing import LEAST
from nerf.layer_kernel import add_product, fill_rows, rectify
from nerf.surface_kernel import composite_ray, pull_ray
from utils.compiled import INNER

Array = NDArray[np.float32]


class Geometry(NamedTuple):
    """The network from features (f,) to a distance: `w1` (h, f) and its transpose, `b1`, `w2` (h,), `b2` (1,)."""

    w1_t: Array
    w1: Array
    b1: Array
    w2: Array
    b2: Array


class OfGeometry(NamedTuple):
    """Gradients of `Geometry`, a row a lane."""

    w1: Array
    b1: Array
    w2: Array
    b2: Array


class FieldRoom(NamedTuple):
    """What a block of rays needs between the way there and the way back.

    `hidden` (b * s, h); `distance` mm and `weights` (b, s); `state` (b, s, 3) of `composite_ray`; `found` (b, 2)
    opacity and depth; `seen` (b, f) features. The rest is room for the way back: of the weights (s,) and distances
    (s,) of one ray, and for samples that count: `features` (b * s, f), `of_hidden` (b * s, h), `of_features` and
    `rows` (b * s,), where they are.
    """

    hidden: Array
    distance: Array
    weights: Array
    state: NDArray[np.float64]
    found: NDArray[np.float64]
    seen: Array
    of_weight: NDArray[np.float64]
    of_distance: NDArray[np.float64]
    features: Array
    of_hidden: Array
    of_features: Array
    rows: NDArray[np.int64]


@numba.njit(**INNER)
def field_room(rays, samples, features, width):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return room for `rays` rays of `samples` samples, and a network of `width`."""
    points = rays * samples
    return FieldRoom(
        np.empty((points, width), np.float32),
        np.empty((rays, samples), np.float32),
        np.empty((rays, samples), np.float32),
        np.empty((rays, samples, 3)),
        np.empty((rays, 2)),
        np.empty((rays, features), np.float32),
        np.empty(samples),
        np.empty(samples),
        np.empty((points, features), np.float32),
        np.empty((points, width), np.float32),
        np.empty((points, features), np.float32),
        np.empty(points, np.int64),
    )


@numba.njit(**INNER)
def see_field(features, front, z, geometry, blur, unit, room):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fill `room` with what rays see: features (n * s, f), front (n * s,) mm and z (n, s) mm of their samples."""
    rays, samples = z.shape
    hidden = room.hidden[: rays * samples]
    fill_rows(hidden, geometry.b1)
    add_product(features, geometry.w1_t, hidden)
    rectify(hidden)
    for r in range(rays):
        for k in range(samples):
            row = r * samples + k
            total = geometry.b2[0]
            for c in range(hidden.shape[1]):
                total += geometry.w2[c] * hidden[row, c]
            room.distance[r, k] = front[row] + unit * total
        opacity, depth = composite_ray(room.distance[r], z[r], blur, room.weights[r], room.state[r])
        room.found[r, 0], room.found[r, 1] = opacity, depth
        for f in range(features.shape[1]):
            room.seen[r, f] = 0.0
        for k in range(samples):
            share = np.float32(room.weights[r, k] / max(opacity, LEAST))
            if share != 0:
                for f in range(features.shape[1]):
                    room.seen[r, f] += share * features[r * samples + k, f]


@numba.njit(**INNER)
def _pull_weights(features, z, moves, pull, of_seen, room, r):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write the gradient of the weights of ray `r`; return the sample that is nearest to the surface."""
    samples = z.shape[1]
    opacity, depth = room.found[r, 0], room.found[r, 1]
    safe, inside = max(opacity, LEAST), opacity > LEAST
    mean, nearest = np.float32(0.0), 0
    for f in range(features.shape[1]):
        mean += room.seen[r, f] * of_seen[r, f]
    for k in range(samples):
        worth = pull[r, 0] + pull[r, 1] * (z[r, k] - (depth if inside else 0.0)) / safe
        if moves:
            along = np.float32(0.0)
            for f in range(features.shape[1]):
                along += features[r * samples + k, f] * of_seen[r, f]
            worth += (along - (mean if inside else np.float32(0.0))) / safe
        room.of_weight[k] = worth
        if room.distance[r, k] < room.distance[r, nearest]:
            nearest = k
    return nearest


@numba.njit(**INNER)
def pull_field(  # type: ignore[no-untyped-def]  # pragma: no cover
    features, z, geometry, blur, unit, moves, asleep, pull, of_gap, of_seen, room,
    of_features, of_front, of_geometry, lane
):  # fmt: skip
    """Write the gradients of samples and add those of the network, given those of what rays see; return the gap.

    Args:
        pull: (n, 2) gradients of opacity and depth; `of_seen` (n, f) of the features seen; `of_gap` of each mm by
            which the surface is missed.
        asleep: samples of a smaller share of their ray, whose distance has a smaller gradient than this share of
            the largest of the ray, change nothing worth their time: they are left out.
        of_features: (n * s, f) and `of_front` (n * s,), written.

    Returns:
        By how many mm the rays miss the surface, added up.
    """
    rays, samples = z.shape
    width, missed, awake = features.shape[1], 0.0, 0
    for r in range(rays):
        nearest = _pull_weights(features, z, moves, pull, of_seen, room, r)
        pull_ray(room.distance[r], blur, room.state[r], room.of_weight, room.of_distance)
        if room.distance[r, nearest] > 0:
            missed += room.distance[r, nearest]
            room.of_distance[nearest] += of_gap
        steepest = 0.0
        for k in range(samples):
            steepest = max(steepest, abs(room.of_distance[k]))
        for k in range(samples):
            row = r * samples + k
            share = np.float32(room.weights[r, k] / max(room.found[r, 0], LEAST))
            if share < asleep and abs(room.of_distance[k]) < asleep * steepest:
                for f in range(width):
                    of_features[row, f] = 0.0
                of_front[row] = 0.0
                continue
            of_front[row] = room.of_distance[k]
            given = np.float32(room.of_distance[k] * unit)
            of_geometry.b2[lane, 0] += given
            for c in range(room.hidden.shape[1]):
                value = room.hidden[row, c]
                passed = given * geometry.w2[c] if value > 0 else np.float32(0.0)
                room.of_hidden[awake, c] = passed
                of_geometry.b1[lane, c] += passed
                of_geometry.w2[lane, c] += given * value
            for f in range(width):
                room.features[awake, f] = features[row, f]
                room.of_features[awake, f] = share * of_seen[r, f]
            room.rows[awake] = row
            awake += 1
    add_product(room.of_hidden[:awake].T, room.features[:awake], of_geometry.w1[lane])
    add_product(room.of_hidden[:awake], geometry.w1, room.of_features[:awake])
    for number in range(awake):
        for f in range(width):
            of_features[room.rows[number], f] = room.of_features[number, f]
    return missed
