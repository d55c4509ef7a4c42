"""Compositing of one ray through a surface, forwards and backwards, as compiled functions.

The slow twin is `nerf.compositing.composite_surface`.
"""

from __future__ import annotations

import math

import numba

from nerf.compositing import LEAST
from utils.compiled import INNER


@numba.njit(**INNER)
def _logistic(s):  # type: ignore[no-untyped-def]
    """Return sigmoid(s) and softplus(s)."""
    e = math.exp(-abs(s))
    stops = 1.0 / (1.0 + e)
    return (stops if s >= 0 else e * stops), max(s, 0.0) + math.log1p(e)


@numba.njit(**INNER)
def _kept(passed_a, passed_b, step):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return the share of light that gets through a piece over which the distance falls by `step` blurs."""
    if passed_a < 1e-200:  # deep behind the surface the logistic function is an exponential one
        return math.exp(-max(step, 0.0))
    kept = passed_b / passed_a
    return 1.0 if kept > 1.0 else kept  # not `min`: it would turn not-a-number into light


@numba.njit(**INNER)
def composite_ray(distance, z, blur, weights, state):  # type: ignore[no-untyped-def]
    """Write the weights of one ray's samples, and its `state` (s, 3) for `pull_ray`; return opacity and depth.

    The state holds sigmoid and softplus of distance / blur, and the light that reaches the sample. See
    `composite_surface` and `_stopping_share` for what is computed.
    """
    samples = len(z)
    for k in range(samples):
        state[k, 0], state[k, 1] = _logistic(distance[k] / blur)
    state[0, 2], weights[0] = 1.0, 0.0
    for k in range(samples - 1):
        step, stopped = (distance[k] - distance[k + 1]) / blur, state[k, 0] - state[k + 1, 0]
        share = 0.5
        if step > 0.1 and stopped > 1e-6:
            mean_passed = (state[k, 1] - state[k + 1, 1]) / step
            share = min(max((mean_passed - state[k + 1, 0]) / stopped, 0.0), 1.0)
        state[k + 1, 2] = state[k, 2] * _kept(state[k, 0], state[k + 1, 0], step)
        lost = state[k, 2] - state[k + 1, 2]
        weights[k] += lost * (1.0 - share)
        weights[k + 1] = lost * share
    opacity, first = 0.0, 0.0
    for k in range(samples):
        opacity += weights[k]
        first += weights[k] * z[k]
    return opacity, first / max(opacity, LEAST)


@numba.njit(**INNER)
def pull_ray(distance, blur, state, of_weight, of_distance):  # type: ignore[no-untyped-def]
    """Write the gradient of one ray's distances, given that of its weights."""
    samples = len(distance)
    for k in range(samples):
        of_distance[k] = 0.0
    # From the last piece to the first: `later` is what all light behind a piece is worth.
    later = 0.0
    for k in range(samples - 2, -1, -1):
        passed_a, passed_b = state[k, 0], state[k + 1, 0]
        step, stopped = (distance[k] - distance[k + 1]) / blur, passed_a - passed_b
        share, share_a, share_b = 0.5, 0.0, 0.0
        if step > 0.1 and stopped > 1e-6:
            mean_passed = (state[k, 1] - state[k + 1, 1]) / step
            share = (mean_passed - passed_b) / stopped
            if 0.0 <= share <= 1.0:
                slope_a, slope_b = passed_a * (1.0 - passed_a), passed_b * (1.0 - passed_b)
                share_a = ((passed_a - mean_passed) / step - share * slope_a) / stopped
                share_b = ((mean_passed - passed_b) / step - slope_b + share * slope_b) / stopped
            share = min(max(share, 0.0), 1.0)
        lost = state[k, 2] - state[k + 1, 2]
        worth = of_weight[k] * (1.0 - share) + of_weight[k + 1] * share
        # The logarithm of what is kept falls with `drop`: log sigmoid(s) has the slope 1 - sigmoid(s).
        of_drop = worth * state[k + 1, 2] - later if step > 0.0 else 0.0
        later += worth * lost
        of_share = (of_weight[k + 1] - of_weight[k]) * lost
        of_distance[k] += (of_drop * (1.0 - passed_a) + of_share * share_a) / blur
        of_distance[k + 1] += (of_drop * (passed_b - 1.0) + of_share * share_b) / blur
