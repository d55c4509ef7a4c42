"""Compiled correlation of a view with the images that judge its depth; the slow twin is in `nerf/agreement.py`."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from utils.compiled import INNER, KERNEL

Map = NDArray[np.float32]

HALF_WINDOW_PX = 2  # `_correlate` adds up five columns
MIDDLE_GREY = np.float32(128.0)


@numba.njit(**KERNEL)
def decorrelations(mine, judges, turned, shifts, depths, noise, best_share):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return (k, h, w): 1 - correlation of a view with its judges, the mean over those that fit best.

    Args:
        mine: (h, w) float32 the view's values, NaN where they do not count.
        judges: (j, h', w') float32 the same of the judging images, of one size.
        turned: (j, 3, 3) float32, pixels (column, row, 1) of the view at depth 1 to homogeneous ones of a judge.
        shifts: (j, 3) float32, what depth 0 maps to.
        depths: (k, h, w) float32, mm.
        noise: variance that is added to both windows.
        best_share: of the judges that see a point, so many count; it must not leave out more than two.
    """
    found = np.empty(depths.shape, np.float32)
    warped = np.empty(mine.shape, np.float32)
    known = np.empty((4, *mine.shape), np.float32)
    for k in range(len(depths)):
        known[:] = 0.0
        for j in range(len(judges)):
            _warp(judges[j], turned[j], shifts[j], depths[k], warped)
            _correlate(mine, warped, noise, known)
        _mean_of_best(known[0], known[1], known[2], known[3], best_share, found[k])
    return found


@numba.njit(**INNER)
def _warp(image, turned, shift, depth, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write the image's values, bilinear, where the view's pixels land at their depths; NaN outside."""
    rows, columns = image.shape
    height, width = depth.shape
    nothing, last_column, last_row = np.float32(np.nan), np.float32(columns - 1), np.float32(rows - 1)
    for r in range(height):
        down = np.float32(r)
        start_x = turned[0, 1] * down + turned[0, 2]
        start_y = turned[1, 1] * down + turned[1, 2]
        start_z = turned[2, 1] * down + turned[2, 2]
        for c in range(width):
            d, along = depth[r, c], np.float32(c)
            z = d * (turned[2, 0] * along + start_z) + shift[2]
            x = (d * (turned[0, 0] * along + start_x) + shift[0]) / z
            y = (d * (turned[1, 0] * along + start_y) + shift[1]) / z
            out[r, c] = nothing
            if not (z > np.float32(1e-3) and 0 <= x <= last_column and 0 <= y <= last_row):
                continue
            left, top = min(int(x), columns - 2), min(int(y), rows - 2)
            u, v = x - np.float32(left), y - np.float32(top)
            upper = image[top, left] + u * (image[top, left + 1] - image[top, left])
            lower = image[top + 1, left] + u * (image[top + 1, left + 1] - image[top + 1, left])
            out[r, c] = upper + v * (lower - upper)


@numba.njit(**INNER)
def _sum_columns(first, second, row, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write for every column the sums over the rows of a window: number, a, b, a a, b b, a b of what both know."""
    height, width = first.shape
    offset = HALF_WINDOW_PX
    for c in range(sums.shape[1]):
        for k in range(6):
            sums[k, c] = np.float32(0.0)
    n, a, b, aa, bb, ab = sums[0], sums[1], sums[2], sums[3], sums[4], sums[5]
    for r in range(max(row - HALF_WINDOW_PX, 0), min(row + HALF_WINDOW_PX + 1, height)):
        mine, theirs = first[r], second[r]
        for c in range(width):
            p, q = mine[c], theirs[c]
            known = (p == p) and (q == q)
            # Around the middle of the grey levels squares are small: single precision is enough.
            x = p - MIDDLE_GREY if known else np.float32(0.0)
            y = q - MIDDLE_GREY if known else np.float32(0.0)
            n[c + offset] += np.float32(1.0) if known else np.float32(0.0)
            a[c + offset] += x
            b[c + offset] += y
            aa[c + offset] += x * x
            bb[c + offset] += y * y
            ab[c + offset] += x * y


@numba.njit(**INNER)
def _correlate(first, second, noise, known):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add 1 - normalised cross-correlation to what is known of all judges: see `_count`.

    It counts over windows of which at least half is known in both.
    """
    height, width = first.shape
    size = 2 * HALF_WINDOW_PX + 1
    least, one = np.float32(0.5 * size**2), np.float32(1.0)
    floor, nothing = np.float32(noise), np.float32(np.nan)
    # Columns are padded with nothing, so that windows may reach over the sides.
    sums = np.empty((6, width + 2 * HALF_WINDOW_PX), np.float32)
    window, found = np.empty((6, width), np.float32), np.empty(width, np.float32)
    for r in range(height):
        _sum_columns(first, second, r, sums)
        for k in range(6):
            of_columns, of_windows = sums[k], window[k]
            for c in range(width):
                of_windows[c] = (
                    of_columns[c] + of_columns[c + 1] + of_columns[c + 2] + of_columns[c + 3] + of_columns[c + 4]
                )
        n, a, b, aa, bb, ab = window[0], window[1], window[2], window[3], window[4], window[5]
        for c in range(width):
            share = one / max(n[c], one)
            mean_a, mean_b = a[c] * share, b[c] * share
            variance_a = max(aa[c] * share - mean_a * mean_a, np.float32(0.0)) + floor
            variance_b = max(bb[c] * share - mean_b * mean_b, np.float32(0.0)) + floor
            value = one - (ab[c] * share - mean_a * mean_b) / np.sqrt(variance_a * variance_b)
            found[c] = value if n[c] >= least else nothing
        _count(found, known[0, r], known[1, r], known[2, r], known[3, r])


@numba.njit(**INNER)
def _count(cost, count, total, worst, second):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add a row of a judge's costs to what is known of all: how many, their sum, the two largest."""
    for c in range(len(cost)):
        value = cost[c]
        known = value == value
        number = value if known else np.float32(0.0)
        count[c] += np.float32(1.0) if known else np.float32(0.0)
        total[c] += number
        second[c] = max(second[c], min(worst[c], number))
        worst[c] = max(worst[c], number)


@numba.njit(**INNER)
def _mean_of_best(count, total, worst, second, best_share, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write the mean (h, w) of the best share of the costs, NaN without any; not more than two are left out."""
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            seen = count[r, c]
            if seen == 0:
                out[r, c] = np.nan
                continue
            taken = np.ceil(best_share * seen)
            left_out = seen - taken
            rest = total[r, c]
            if left_out >= 1:
                rest -= worst[r, c]
            if left_out >= 2:
                rest -= second[r, c]
            out[r, c] = rest / taken
