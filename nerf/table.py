"""Tables of millions of numbers: looked up by points, gradients that stay in place, Adam in one pass."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from utils.compiled import KERNEL, share
from utils.types import FloatArray

# Fewer numbers than these are moved sooner than another thread is woken.
WORTH_SHARING = 1 << 16


class Layout(Protocol):
    """Where the features of a point are in a table of `rows` rows with `channels` numbers."""

    rows: int
    channels: int
    features: int

    def lookup(self, table: Tensor, points_box: Tensor) -> Tensor:
        """Return the features (n, features) of points (n, 3) in [-1, 1]; beyond, the border's value.

        On the CPU the gradient is added to `table.grad` directly (`gradient_of`), and differentiable once.
        """

    def lookup_plainly(self, table: Tensor, points_box: Tensor) -> Tensor:
        """Do the same with operations of torch: any device and precision."""

    def gather(self, table: FloatArray, points_box: FloatArray, out: FloatArray) -> None:
        """Write the features of points to `out` (n, features)."""

    def scatter(self, pull: FloatArray, points_box: FloatArray, gradient: FloatArray) -> None:
        """Add the gradient of the table to `gradient`, given that of the features, `pull` (n, features)."""

    def slopes(self, table: FloatArray, points_box: FloatArray, pull: FloatArray, out: FloatArray) -> None:
        """Write the gradient of the points to `out` (n, 3), given that of the features, `pull` (n, features)."""


def look_up(layout: Layout, table: Tensor, points_box: Tensor) -> Tensor:
    """Return what `layout.lookup` promises, compiled on the CPU."""
    if table.shape != (layout.rows, layout.channels):
        raise ValueError(f"found a table {tuple(table.shape)}, expected {layout.rows} x {layout.channels}")
    if table.requires_grad and not table.is_leaf:
        raise ValueError("a table that is computed from others has no place for its gradient; use lookup_plainly")
    if table.device.type != "cpu":
        return layout.lookup_plainly(table, points_box)
    found: Tensor = _LookUp.apply(table, points_box.contiguous(), layout)
    return found


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, points: Tensor, layout: Layout) -> Tensor:
        out = torch.empty(len(points), layout.features)
        layout.gather(table.detach().numpy(), points.detach().numpy(), out.numpy())
        ctx.save_for_backward(points)
        ctx.table, ctx.layout = table, layout
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a compiled lookup is differentiable once; use lookup_plainly for create_graph=True"
            )
        (points,) = ctx.saved_tensors
        where, pull = points.detach().numpy(), gradients[0].contiguous().numpy()
        if ctx.needs_input_grad[0]:
            ctx.layout.scatter(pull, where, gradient_of(ctx.table))
        of_points = None
        if ctx.needs_input_grad[1]:
            of_points = torch.empty_like(points)
            ctx.layout.slopes(ctx.table.detach().numpy(), where, pull, of_points.numpy())
        return None, of_points, None


def gradient_of(table: Tensor) -> NDArray[np.float32]:
    """Return the gradient of a table as an array that compiled lookups add to; zeros where there was none.

    A gradient that is made, filled and given back each step costs more than the numbers that are added to it.
    """
    if table.grad is None:
        table.grad = torch.zeros_like(table)
    array: NDArray[np.float32] = table.grad.numpy()
    return array


class OnePassAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1) on the CPU, compiled; it leaves gradients at zero, not at None."""

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float], eps: float) -> None:
        super().__init__(groups, {"betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter against its gradient."""
        del closure
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)

    def _move(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        rate = group["lr"] / (1.0 - beta1 ** state["step"])
        correction = 1.0 / math.sqrt(1.0 - beta2 ** state["step"])
        assert parameter.grad is not None
        parts = (parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"])
        numbers = (np.float32(value) for value in (rate, beta1, beta2, correction, group["eps"]))
        arguments = [*(part.view(-1).numpy() for part in parts), *numbers]
        if parameter.numel() > WORTH_SHARING:
            share(_adam, parameter.numel(), *arguments)
        else:
            _adam(0, parameter.numel(), *arguments)


@numba.njit(**KERNEL)
def _adam(first, last, value, gradient, mean, square, rate, beta1, beta2, correction, eps):  # type: ignore[no-untyped-def]  # pragma: no cover
    one = np.float32(1.0)
    # Parts that start at nought: the loop over them becomes vectors.
    x, g, m, v = value[first:last], gradient[first:last], mean[first:last], square[first:last]
    for i in range(last - first):
        m[i] = beta1 * m[i] + (one - beta1) * g[i]
        v[i] = beta2 * v[i] + (one - beta2) * g[i] * g[i]
        g[i] = np.float32(0.0)
        x[i] -= rate * m[i] / (np.sqrt(v[i]) * correction + eps)
