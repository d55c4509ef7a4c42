"""Samples along rays as compiled functions; the slow twin is `nerf.sampling.guided_samples`."""

from __future__ import annotations

import math

import numba

from utils.compiled import INNER, KERNEL


@numba.njit(**INNER)
def _normal_quantile(share):  # type: ignore[no-untyped-def]
    """Return the standard normal quantile: Giles 2010, approximating erfinv, single precision."""
    x = 2.0 * share - 1.0
    x = min(max(x, -0.999999), 0.999999)
    w = -math.log((1.0 - x) * (1.0 + x))
    if w < 5.0:
        w -= 2.5
        p = 2.81022636e-08
        for c in (3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
                  0.246640727, 1.50140941):  # fmt: skip
            p = p * w + c
    else:
        w = math.sqrt(w) - 3.0
        p = -0.000200214257
        for c in (0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
                  1.00167406, 2.83297682):  # fmt: skip
            p = p * w + c
    return 1.4142135623730951 * p * x


@numba.njit(**INNER)
def _free(u, depth, start, near, far):  # type: ignore[no-untyped-def]
    """Return one sample of `nerf.sampling.free_samples`."""
    behind = 2.0 * u - 1.0
    reach = far - depth if behind > 0 else depth - near
    distance = min(start * math.exp(abs(behind) * math.log(max(reach / start, 1.0))), max(reach, 0.0))
    return depth + distance * (1.0 if behind > 0 else (-1.0 if behind < 0 else 0.0))


@numba.njit(**INNER)
def sample_ray(z, prior, near, far, jitter, row):  # type: ignore[no-untyped-def]
    """Write the sorted samples of one ray: see `nerf.sampling.guided_samples`.

    Args:
        z: (s,), written.
        prior: depth (NaN: unknown), sigma and half-width, mm.
        jitter: places of uniform (n, s), guided (n, g) and free (n, s - g) samples in their strata, of which
            `row` is taken.
    """
    depth, sigma, half_width = prior
    everywhere, around, free = jitter
    samples, guided = everywhere.shape[1], around.shape[1]
    known = guided > 0 and math.isfinite(depth)
    cut = half_width / sigma if known else 1.0
    tail = 0.5 * math.erfc(cut * 0.7071067811865476)
    for k in range(samples):
        if not known:
            value = near + (k + everywhere[row, k]) / samples * (far - near)
        elif k < guided:
            standard = _normal_quantile(tail + (k + around[row, k]) / guided * (1.0 - 2.0 * tail))
            value = depth + sigma * max(min(standard, cut), -cut)
        else:
            u = (k - guided + free[row, k - guided]) / (samples - guided)
            value = _free(u, depth, half_width, near, far)
        value = max(min(value, far), near)
        place = k
        while place > 0 and z[place - 1] > value:
            z[place] = z[place - 1]
            place -= 1
        z[place] = value


@numba.njit(**KERNEL)
def sample_rays(first, last, depth, sigma, half_width, near, far, jitter, z):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write the sorted samples (n, s) of rays, all with the one row of `jitter`."""
    for r in range(first, last):
        sample_ray(z[r], (depth[r], sigma[r], half_width[r]), near[r], far[r], jitter, 0)
