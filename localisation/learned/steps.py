"""Follow a velocity from the pose side (t = 0) to the image side (t = 1), or back.

Explicit Euler backwards is not the inverse of explicit Euler forwards: it looks at the velocity where a step ends,
not where it began. Fixed-point iterations find the point that the forward step starts from.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]  # of x (n, ...) at a time
METHODS = ("one_step", "euler", "midpoint", "fixed_point")
STEPS = {"one_step": 1, "euler": 20, "midpoint": 10, "fixed_point": 20}
_MOST_ROUNDS = 20
_CONVERGED = 1e-4  # largest change in the last round, in standard deviations


@torch.no_grad()
def follow(velocity: Velocity, start: Tensor, method: str, steps: int) -> Tensor:
    """Return what `start` (n, ...) at t = 0 becomes at t = 1.

    Args:
        velocity: dx/dt.
        start: at t = 0.
        method: one of METHODS; `fixed_point` concerns the way back only and goes forward as `euler`.
        steps: of equal length; `one_step` takes one.
    """
    x, steps = start, 1 if method == "one_step" else steps
    for step in range(steps):
        time, length = step / steps, 1.0 / steps
        if method == "midpoint":
            middle = x + 0.5 * length * velocity(x, time)
            x = x + length * velocity(middle, time + 0.5 * length)
        else:
            x = x + length * velocity(x, time)
    return x


@torch.no_grad()
def follow_back(velocity: Velocity, end: Tensor, method: str, steps: int) -> Tensor:
    """Return what became `end` (n, ...) at t = 1: the way back to t = 0; arguments as for `follow`."""
    x, steps = end, 1 if method == "one_step" else steps
    for step in range(steps, 0, -1):
        time, length = step / steps, 1.0 / steps
        if method == "midpoint":
            middle = x - 0.5 * length * velocity(x, time)
            x = x - length * velocity(middle, time - 0.5 * length)
        elif method == "fixed_point":
            x = _step_begun(velocity, x, time - length, length)
        else:
            x = x - length * velocity(x, time)
    return x


def _step_begun(velocity: Velocity, end: Tensor, time: float, length: float) -> Tensor:
    """Return the x whose Euler step at `time` leads to `end`; the iteration converges for short enough steps."""
    x = end
    for _ in range(_MOST_ROUNDS):
        last, x = x, end - length * velocity(x, time)
        if float((x - last).abs().max()) < _CONVERGED:
            break
    return x
