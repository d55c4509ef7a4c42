"""Compiled correlation of a view with the images that judge its depth; the slow twin is in `nerf/agreement.py`."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from utils.compiled import INNER, KERNEL

Map = NDArray[np.float32]

HALF_WINDOW_PX = 2


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
    warped, cost = np.empty(mine.shape, np.float32), np.empty(mine.shape, np.float32)
    known = np.empty((4, *mine.shape), np.float32)
    for k in range(len(depths)):
        known[:] = 0.0
        for j in range(len(judges)):
            _warp(judges[j], turned[j], shifts[j], depths[k], warped)
            _correlate(mine, warped, noise, cost)
            _count(cost, known[0], known[1], known[2], known[3])
        _mean_of_best(known[0], known[1], known[2], known[3], best_share, found[k])
    return found


@numba.njit(**KERNEL)
def _warp(image, turned, shift, depth, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write the image's values, bilinear, where the view's pixels land at their depths; NaN outside."""
    rows, columns = image.shape
    height, width = depth.shape
    nothing = np.float32(np.nan)
    for r in range(height):
        for c in range(width):
            d = depth[r, c]
            z = d * (turned[2, 0] * c + turned[2, 1] * r + turned[2, 2]) + shift[2]
            out[r, c] = nothing
            if not z > np.float32(1e-3):
                continue
            x = (d * (turned[0, 0] * c + turned[0, 1] * r + turned[0, 2]) + shift[0]) / z
            y = (d * (turned[1, 0] * c + turned[1, 1] * r + turned[1, 2]) + shift[1]) / z
            if not (0 <= x <= columns - 1 and 0 <= y <= rows - 1):
                continue
            left, top = min(int(x), columns - 2), min(int(y), rows - 2)
            u, v = np.float32(x - left), np.float32(y - top)
            upper = image[top, left] + u * (image[top, left + 1] - image[top, left])
            lower = image[top + 1, left] + u * (image[top + 1, left + 1] - image[top + 1, left])
            out[r, c] = upper + v * (lower - upper)


@numba.njit(**INNER)
def _add_row(first, second, row, sign, n, a, b, aa, bb, ab):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add a row's sums to those of the columns, or take them away."""
    for c in range(first.shape[1]):
        p, q = first[row, c], second[row, c]
        known = (p == p) and (q == q)
        weight = sign if known else 0.0
        x, y = (float(p), float(q)) if known else (0.0, 0.0)
        n[c] += weight
        a[c] += weight * x
        b[c] += weight * y
        aa[c] += weight * x * x
        bb[c] += weight * y * y
        ab[c] += weight * x * y


@numba.njit(**KERNEL)
def _correlate(first, second, noise, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write 1 - normalised cross-correlation over windows of which at least half is known in both.

    Sums of a window slide: down the columns row by row, then along the row.
    """
    height, width = first.shape
    half = HALF_WINDOW_PX
    least = 0.5 * (2 * half + 1) ** 2
    # Columns are padded with nothing, so that windows may reach over the sides.
    sums = np.zeros((6, width + 2 * half + 1))
    n, a, b, aa, bb, ab = sums[0], sums[1], sums[2], sums[3], sums[4], sums[5]
    inside = slice(half + 1, half + 1 + width)
    for r in range(-half, height):
        if r + half < height:
            _add_row(
                first, second, r + half, 1.0,
                n[inside], a[inside], b[inside], aa[inside], bb[inside], ab[inside],
            )  # fmt: skip
        if r - half - 1 >= 0:
            _add_row(
                first, second, r - half - 1, -1.0,
                n[inside], a[inside], b[inside], aa[inside], bb[inside], ab[inside],
            )  # fmt: skip
        if r < 0:
            continue
        n0 = a0 = b0 = aa0 = bb0 = ab0 = 0.0
        for c in range(2 * half):
            n0 += n[c + 1]
            a0 += a[c + 1]
            b0 += b[c + 1]
            aa0 += aa[c + 1]
            bb0 += bb[c + 1]
            ab0 += ab[c + 1]
        for c in range(width):
            new, old = c + 2 * half + 1, c
            n0 += n[new] - n[old]
            a0 += a[new] - a[old]
            b0 += b[new] - b[old]
            aa0 += aa[new] - aa[old]
            bb0 += bb[new] - bb[old]
            ab0 += ab[new] - ab[old]
            if n0 < least:
                out[r, c] = np.nan
                continue
            share = 1.0 / n0
            mean_a, mean_b = a0 * share, b0 * share
            variances = (aa0 * share - mean_a * mean_a + noise) * (bb0 * share - mean_b * mean_b + noise)
            out[r, c] = 1.0 - (ab0 * share - mean_a * mean_b) / np.sqrt(variances)


@numba.njit(**KERNEL)
def _count(cost, count, total, worst, second):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add a judge's costs (h, w) to what is known of all: how many, their sum, the two largest."""
    for r in range(cost.shape[0]):
        for c in range(cost.shape[1]):
            value = cost[r, c]
            known = value == value
            number = value if known else np.float32(0.0)
            count[r, c] += np.float32(1.0) if known else np.float32(0.0)
            total[r, c] += number
            second[r, c] = max(second[r, c], min(worst[r, c], number))
            worst[r, c] = max(worst[r, c], number)


@numba.njit(**KERNEL)
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
