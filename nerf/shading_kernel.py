"""Light, highlights and their slopes for one ray, compiled: what `nerf.radiance` makes of directions."""

from __future__ import annotations

import math

import numba

from utils.compiled import INNER

# What one ray's light is made of, in a row of numbers: see `light_ray`.
HALF, FACING, TO_CAMERA, TO_LAMP, DISTANCE, HALF_LENGTH, LIGHT = 0, 3, 4, 7, 10, 11, 12
# As in `nerf.radiance`: lobes are sharp by 20 + 80 softplus, and weak at first.
BLUNTEST, SHARPER, BUMPS, WEAK, OFF_AXIS = 20.0, 80.0, 0.3, 2.0, 1e-4


@numba.njit(**INNER)
def softplus(x):  # type: ignore[no-untyped-def]
    """Return log(1 + exp(x))."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@numba.njit(**INNER)
def sigmoid(x):  # type: ignore[no-untyped-def]
    """Return 1 / (1 + exp(-x)), the slope of softplus."""
    e = math.exp(-abs(x))
    return (1.0 if x >= 0 else e) / (1.0 + e)


@numba.njit(**INNER)
def light_ray(direction, normal, depth, lamp, lit, turned, light):  # type: ignore[no-untyped-def]
    """Write the light of a point at z-depth `depth` along a ray; `lamp` (3,) is relative to the camera, mm.

    `lit`: light comes from the lamp; `turned`: colour depends on the direction.
    """
    camera_length, lamp_length, half_length = 0.0, 0.0, 0.0
    for a in range(3):
        light[TO_CAMERA + a] = -depth * direction[a]
        light[TO_LAMP + a] = lamp[a] - depth * direction[a]
        camera_length += light[TO_CAMERA + a] ** 2
        lamp_length += light[TO_LAMP + a] ** 2
    camera_length = max(math.sqrt(camera_length), 1e-12)
    lamp_length = max(math.sqrt(lamp_length), 1e-3)
    for a in range(3):
        light[TO_CAMERA + a] /= camera_length
        light[TO_LAMP + a] /= lamp_length
        light[HALF + a] = light[TO_CAMERA + a] + (light[TO_LAMP + a] if lit else 0.0)
        half_length += light[HALF + a] ** 2
    half_length = max(math.sqrt(half_length), 1e-12)
    facing = 0.0
    for a in range(3):
        light[HALF + a] = light[HALF + a] / half_length if turned else 0.0
        facing += light[HALF + a] * normal[a]
    light[FACING], light[DISTANCE], light[HALF_LENGTH] = facing, lamp_length, half_length


@numba.njit(**INNER)
def pull_light(light, lit, turned, of_half, of_distance, of_lamp):  # type: ignore[no-untyped-def]
    """Add to `of_lamp` (3,) what the lamp's place is worth, given gradients of half-vector and distance."""
    if not lit:
        return
    along, to_lamp = 0.0, 0.0
    for a in range(3):
        along += light[HALF + a] * of_half[a]
    for a in range(3):
        # Through the half-vector's length, then through the lamp's.
        of_half[a] = (of_half[a] - light[HALF + a] * along) / light[HALF_LENGTH] if turned else 0.0
        to_lamp += light[TO_LAMP + a] * of_half[a]
    for a in range(3):
        of_lamp[a] += (of_half[a] - light[TO_LAMP + a] * to_lamp) / light[DISTANCE] + of_distance * light[
            TO_LAMP + a
        ]


@numba.njit(**INNER)
def _lobe(lobes, first, normal, light):  # type: ignore[no-untyped-def]
    """Return of the lobe that begins at `first`: length of its axis, cosine to the half-vector, sharpness."""
    length, cosine = 0.0, 0.0
    for a in range(3):
        axis = normal[a] + BUMPS * lobes[first + a] + OFF_AXIS
        length += axis * axis
        cosine += axis * light[HALF + a]
    length = max(math.sqrt(length), 1e-12)
    return length, cosine / length, BLUNTEST + SHARPER * softplus(lobes[first + 3])


@numba.njit(**INNER)
def shine(lobes, normal, light):  # type: ignore[no-untyped-def]
    """Return the brightness of a point's highlight lobes (lobes * 5,)."""
    total = 0.0
    for lobe in range(len(lobes) // 5):
        first = 5 * lobe
        _, cosine, sharpness = _lobe(lobes, first, normal, light)
        total += softplus(lobes[first + 4] - WEAK) * math.exp(sharpness * (cosine - 1.0))
    return total


@numba.njit(**INNER)
def pull_shine(lobes, normal, light, given, of_lobes, of_half):  # type: ignore[no-untyped-def]
    """Write the gradient of the lobes and add that of the half-vector (3,), for `given` a unit of brightness."""
    for lobe in range(len(lobes) // 5):
        first = 5 * lobe
        length, cosine, sharpness = _lobe(lobes, first, normal, light)
        strength = softplus(lobes[first + 4] - WEAK)
        peak = given * math.exp(sharpness * (cosine - 1.0))
        of_cosine = peak * strength * sharpness
        of_lobes[first + 3] = peak * strength * (cosine - 1.0) * SHARPER * sigmoid(lobes[first + 3])
        of_lobes[first + 4] = peak * sigmoid(lobes[first + 4] - WEAK)
        for a in range(3):
            axis = (normal[a] + BUMPS * lobes[first + a] + OFF_AXIS) / length
            of_lobes[first + a] = of_cosine * BUMPS * (light[HALF + a] - axis * cosine) / length
            of_half[a] += of_cosine * axis
