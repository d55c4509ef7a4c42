"""Bilinear lookup in several feature planes at once: compiled for the CPU, `grid_sample` elsewhere."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nerf.table import look_up
from utils.compiled import INNER, KERNEL, share
from utils.types import FloatArray

CHANNELS = 8
AXES = ((0, 1), (0, 2), (1, 2))


class PlaneLayout:
    """Where each plane lies in one table of rows with `CHANNELS` numbers.

    Args:
        levels: for each level the number of cells along x, y, z.
    """

    def __init__(self, levels: list[tuple[int, int, int]]) -> None:
        self.levels = levels
        rows, starts = 0, list[list[int]]()
        for cells in levels:
            starts.append([])
            for a, b in AXES:
                starts[-1].append(rows)
                rows += cells[a] * cells[b]
        self.cells, self.starts = np.array(levels, np.uint64), np.array(starts, np.uint64)
        self.rows, self.channels, self.features = rows, CHANNELS, len(levels) * CHANNELS

    def lookup(self, table: Tensor, points_box: Tensor) -> Tensor:
        """Return (points, levels * CHANNELS): for each level the sum of its three planes; see `Layout`."""
        return look_up(self, table, points_box)

    def lookup_plainly(self, table: Tensor, points_box: Tensor) -> Tensor:
        """Do the same with `grid_sample`: any device and precision."""
        features = []
        for cells, starts in zip(self.levels, self.starts.tolist(), strict=True):
            total: Tensor | float = 0.0
            for (a, b), start in zip(AXES, starts, strict=True):
                rows = table[start : start + cells[a] * cells[b]]
                plane = rows.view(1, cells[b], cells[a], CHANNELS).permute(0, 3, 1, 2)
                where = torch.stack([points_box[:, a], points_box[:, b]], dim=1)[None, :, None]
                found = functional.grid_sample(plane, where, align_corners=True, padding_mode="border")
                total = total + found[0, :, :, 0].T
            features.append(total)
        return torch.cat([part for part in features if isinstance(part, Tensor)], dim=1)

    def gather(self, table: FloatArray, points_box: FloatArray, out: FloatArray) -> None:
        """Write the features of points (n, 3) to `out` (n, features)."""
        share(_gather, len(points_box), table, points_box, self.cells, self.starts, out)

    def scatter(self, pull: FloatArray, points_box: FloatArray, gradient: FloatArray) -> None:
        """Add the gradient of the table to `gradient`, given that of the features, `pull` (n, features)."""
        share(_scatter, 3 * len(self.cells), pull, points_box, self.cells, self.starts, gradient)

    def slopes(self, table: FloatArray, points_box: FloatArray, pull: FloatArray, out: FloatArray) -> None:
        """Write the gradient of the points to `out` (n, 3), given that of the features, `pull` (n, features)."""
        share(_slopes, len(points_box), table, points_box, self.cells, self.starts, pull, out)


@numba.njit(**INNER)
def _corner(coordinate, cells):  # type: ignore[no-untyped-def]
    """Return the lower cell and the fraction beyond it of a coordinate in [-1, 1]."""
    last = np.float32(cells) - np.float32(1.0)
    position = (coordinate + np.float32(1.0)) * (np.float32(0.5) * last)
    position = min(max(position, np.float32(0.0)), last)
    # Unsigned: an index that may be negative would be checked at every access.
    low = np.uint64(min(np.int64(position), np.int64(cells) - 2))
    return low, position - np.float32(low)


@numba.njit(**INNER)
def _weights(u, v):  # type: ignore[no-untyped-def]
    """Return what the corners (0, 0), (1, 0), (0, 1), (1, 1) count at fractions u, v."""
    both = u * v
    return np.float32(1.0) - u - v + both, u - both, v - both, both


@numba.njit(**KERNEL)
def _gather(first, last, table, points, cells, starts, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    for point in range(first, last):
        p, next_ = np.uint64(point), np.uint64(1)
        for level in range(len(cells)):
            nx, ny = cells[level, 0], cells[level, 1]
            i, u = _corner(points[p, 0], nx)
            j, v = _corner(points[p, 1], ny)
            k, w = _corner(points[p, 2], cells[level, 2])
            xy, xz, yz = (
                starts[level, 0] + j * nx + i,
                starts[level, 1] + k * nx + i,
                starts[level, 2] + k * ny + j,
            )
            a0, a1, a2, a3 = _weights(u, v)
            b0, b1, b2, b3 = _weights(u, w)
            c0, c1, c2, c3 = _weights(v, w)
            for c in range(CHANNELS):
                out[p, level * CHANNELS + c] = (
                    a0 * table[xy, c] + a1 * table[xy + next_, c]
                    + a2 * table[xy + nx, c] + a3 * table[xy + nx + next_, c]
                    + b0 * table[xz, c] + b1 * table[xz + next_, c]
                    + b2 * table[xz + nx, c] + b3 * table[xz + nx + next_, c]
                    + c0 * table[yz, c] + c1 * table[yz + next_, c]
                    + c2 * table[yz + ny, c] + c3 * table[yz + ny + next_, c]
                )  # fmt: skip


@numba.njit(**KERNEL)
def _scatter(first_task, last_task, pull, points, cells, starts, gradient):  # type: ignore[no-untyped-def]  # pragma: no cover
    # One thread owns a plane, so that no two threads add to the same row: exact and repeatable. Coarse and fine
    # planes alternate, so that each thread has its share of both.
    levels = len(cells)
    for task in range(first_task, last_task):
        level, axes = task % levels, task // levels
        first, second = (0 if axes < 2 else 1), (1 if axes < 1 else 2)
        na, next_ = cells[level, first], np.uint64(1)
        for point in range(len(points)):
            p = np.uint64(point)
            size = np.float32(0.0)
            for c in range(CHANNELS):
                size += abs(pull[p, level * CHANNELS + c])
            if size == 0:
                continue
            i, u = _corner(points[p, first], na)
            j, v = _corner(points[p, second], cells[level, second])
            row = starts[level, axes] + j * na + i
            w00, w01, w10, w11 = _weights(u, v)
            for c in range(CHANNELS):
                given = pull[p, level * CHANNELS + c]
                gradient[row, c] += w00 * given
                gradient[row + next_, c] += w01 * given
                gradient[row + na, c] += w10 * given
                gradient[row + na + next_, c] += w11 * given


@numba.njit(**INNER)
def _steepness(coordinate, cells):  # type: ignore[no-untyped-def]
    """Return how fast the fraction of a cell grows with the coordinate: nought beyond the border."""
    inside = abs(coordinate) <= np.float32(1.0)
    return np.float32(0.5) * (np.float32(cells) - np.float32(1.0)) if inside else np.float32(0.0)


@numba.njit(**KERNEL)
def _slopes(first, last, table, points, cells, starts, pull, of_points):  # type: ignore[no-untyped-def]  # pragma: no cover
    for point in range(first, last):
        p, next_ = np.uint64(point), np.uint64(1)
        of_points[p] = 0.0
        for level in range(len(cells)):
            for axes in range(3):
                first, second = (0 if axes < 2 else 1), (1 if axes < 1 else 2)
                na, nb = cells[level, first], cells[level, second]
                i, u = _corner(points[p, first], na)
                j, v = _corner(points[p, second], nb)
                row = starts[level, axes] + j * na + i
                of_u, of_v = np.float32(0.0), np.float32(0.0)
                for c in range(CHANNELS):
                    t00, t01 = table[row, c], table[row + next_, c]
                    t10, t11 = table[row + na, c], table[row + na + next_, c]
                    given = pull[p, level * CHANNELS + c]
                    of_u += given * ((t01 - t00) * (np.float32(1.0) - v) + (t11 - t10) * v)
                    of_v += given * ((t10 - t00) * (np.float32(1.0) - u) + (t11 - t01) * u)
                of_points[p, first] += of_u * _steepness(points[p, first], na)
                of_points[p, second] += of_v * _steepness(points[p, second], nb)
