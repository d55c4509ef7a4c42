"""Bilinear lookup in several feature planes at once: compiled for the CPU, `grid_sample` elsewhere."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

CHANNELS = 8
AXES = ((0, 1), (0, 2), (1, 2))


class PlaneLayout:
    """Where each plane lies in one table of rows with `CHANNELS` numbers.

    Args:
        levels: for each level the number of cells along x, y, z.
    """

    def __init__(self, levels: list[tuple[int, int, int]]) -> None:
        self.levels = levels
        rows, planes = 0, []
        for level, cells in enumerate(levels):
            for a, b in AXES:
                planes.append((rows, cells[a], cells[b], a, b, level))
                rows += cells[a] * cells[b]
        self.planes = np.array(planes, np.int64)
        self.rows = rows

    def lookup(self, table: Tensor, points_box: Tensor) -> Tensor:
        """Return (points, levels * CHANNELS): for each level the sum of its three planes.

        Args:
            table: (rows, CHANNELS) float32 parameter.
            points_box: (points, 3) in [-1, 1]; beyond, the border's value.
        """
        if table.device.type == "cpu" and not points_box.requires_grad:
            return _Lookup.apply(table, points_box.contiguous(), self.planes, len(self.levels))
        return self.lookup_plainly(table, points_box)

    def lookup_plainly(self, table: Tensor, points_box: Tensor) -> Tensor:
        """Do the same with `grid_sample`: any device, and differentiable in the points."""
        features: list[Tensor | float] = [0.0] * len(self.levels)
        for start, cells_a, cells_b, a, b, level in self.planes.tolist():
            plane = (
                table[start : start + cells_a * cells_b].view(1, cells_b, cells_a, CHANNELS).permute(0, 3, 1, 2)
            )
            where = points_box[None, :, None, [a, b]]
            found = functional.grid_sample(plane, where, align_corners=True, padding_mode="border")
            features[level] = features[level] + found[0, :, :, 0].T
        return torch.cat([part for part in features if isinstance(part, Tensor)], dim=1)


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, points: Tensor, planes: np.ndarray[Any, Any], levels: int) -> Tensor:
        out = torch.zeros(len(points), levels * CHANNELS)
        _gather(table.detach().numpy(), points.detach().numpy(), planes, out.numpy())
        ctx.save_for_backward(points)
        ctx.planes, ctx.rows = planes, len(table)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (points,) = ctx.saved_tensors
        table_gradient = torch.zeros(ctx.rows, CHANNELS)
        _scatter(gradients[0].contiguous().numpy(), points.numpy(), ctx.planes, table_gradient.numpy())
        return table_gradient, None, None, None


@numba.njit(inline="always")
def _corner(coordinate, cells):  # type: ignore[no-untyped-def]
    """Return the lower cell and the fraction beyond it of a coordinate in [-1, 1]."""
    last = np.float32(cells - 1)
    position = (coordinate + np.float32(1.0)) * np.float32(0.5) * last
    position = min(max(position, np.float32(0.0)), last)
    low = min(int(position), cells - 2)
    return low, position - np.float32(low)


@numba.njit(parallel=True, fastmath=True, cache=True)
def _gather(table, points, planes, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    for p in numba.prange(points.shape[0]):
        for k in range(planes.shape[0]):
            start, na, nb, a, b, level = planes[k]
            i, u = _corner(points[p, a], na)
            j, v = _corner(points[p, b], nb)
            row = start + j * na + i
            w11 = u * v
            w10, w01 = v - w11, u - w11
            w00 = np.float32(1.0) - u - w10
            for c in range(CHANNELS):
                out[p, level * CHANNELS + c] += (
                    w00 * table[row, c]
                    + w01 * table[row + 1, c]
                    + w10 * table[row + na, c]
                    + w11 * table[row + na + 1, c]
                )


@numba.njit(parallel=True, fastmath=True, cache=True)
def _scatter(gradient, points, planes, table_gradient):  # type: ignore[no-untyped-def]  # pragma: no cover
    # One thread owns a plane, so that no two threads add to the same row: exact and repeatable.
    for k in numba.prange(planes.shape[0]):
        start, na, nb, a, b, level = planes[k]
        for p in range(points.shape[0]):
            i, u = _corner(points[p, a], na)
            j, v = _corner(points[p, b], nb)
            row = start + j * na + i
            w11 = u * v
            w10, w01 = v - w11, u - w11
            w00 = np.float32(1.0) - u - w10
            for c in range(CHANNELS):
                g = gradient[p, level * CHANNELS + c]
                table_gradient[row, c] += w00 * g
                table_gradient[row + 1, c] += w01 * g
                table_gradient[row + na, c] += w10 * g
                table_gradient[row + na + 1, c] += w11 * g
