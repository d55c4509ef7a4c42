"""Normalised correlation of windows along rows, compiled: whole pixels first, then a fraction of slanted ones.

The fraction is found as in digital image correlation (Pan, Li and Tong 2013): a window may be shifted, stretched
and sheared along its rows, and its light may have another gain and offset; Gauss-Newton steps with the slopes of
the left image make the zero-mean normalised difference smallest, which is where the NCC is largest.
"""

from __future__ import annotations

from typing import Any

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from utils.compiled import KERNEL, share
from utils.types import BoolArray, FloatArray

REACH = 5  # px: the window is 11 x 11
SEARCH = 3  # px: disparities to either side of the given one
LEAST_NCC = 0.8
_LEAST_LEAD = 0.05  # how far the peak stands above every other one in the interval
_FLATTEST = 4.0  # grey levels squared: the variance that a window needs, or it shows noise
_STEPS = 6
_SMALL_STEP_PX = 0.01
_LARGEST_SLOPE = 0.6  # px of disparity per px
_SLOPE_PRIOR = 50.0  # grey levels squared: noise over the usual variance of slopes
_FINER = 4  # samples of the right image per px, linear in between
_COUNT = (2 * REACH + 1) ** 2

Map = NDArray[np.float32]


def correlate(
    left: Map, right: Map, asked: BoolArray, right_usable: BoolArray, centre_px: FloatArray
) -> tuple[Map, Map]:
    """Return the disparity (h, w) px, NaN unknown, and the NCC there, 0 unknown.

    Args:
        left, right: grey images (h, w) of a rectified pair.
        asked: (h, w) which pixels of the left image are matched.
        right_usable: (h, w) where in the right image they may lie.
        centre_px: (h, w) the disparity around which each is searched.
    """
    height, width = left.shape
    disparity_px = np.full(left.shape, np.nan, np.float32)
    score = np.zeros(left.shape, np.float32)
    kernel = np.array([[1, -8, 0, 8, -1]], np.float32) / 12
    slope = np.asarray(cv2.filter2D(left, -1, kernel, borderType=cv2.BORDER_REFLECT), np.float32)
    finer = np.asarray(cv2.resize(right, (_FINER * width, height), interpolation=cv2.INTER_LANCZOS4), np.float32)
    centre = np.rint(centre_px).astype(np.int64)
    share(_correlate, height, left, slope, right, finer, asked, right_usable, centre, disparity_px, score)
    return disparity_px, score


@numba.njit(**KERNEL)
def _correlate(
    first_row: int,
    last_row: int,
    left: Any,
    slope: Any,
    right: Any,
    finer: Any,
    asked: Any,
    right_usable: Any,
    centre: Any,
    disparity_px: Any,
    score: Any,
) -> None:
    height, width = left.shape
    ncc = np.empty(2 * SEARCH + 1)
    for row in range(max(first_row, REACH), min(last_row, height - REACH)):
        for column in range(REACH, width - REACH):
            first = column - centre[row, column] - SEARCH
            if not asked[row, column] or first < REACH or first + 2 * SEARCH >= width - REACH:
                continue
            for k in range(2 * SEARCH + 1):
                ncc[k] = _whole_ncc(left, right, row, column, first + k)
            peak = _only_peak(ncc)
            if peak < 0:
                continue
            start = first + peak + _vertex(ncc[peak - 1], ncc[peak], ncc[peak + 1])
            there, found = _refined(left, slope, finer, row, column, start)
            if found >= LEAST_NCC and abs(there - first - peak) <= 1 and right_usable[row, round(there)]:
                disparity_px[row, column] = column - there
                score[row, column] = min(found, 1.0)


@numba.njit(**KERNEL)
def _whole_ncc(left: Any, right: Any, row: int, column: int, there: int) -> float:
    """Return the NCC of two windows at whole pixels; 0 where one of them is flat."""
    base = left[row, column]
    l1 = l2 = r1 = r2 = lr = np.float32(0)
    for y in range(row - REACH, row + REACH + 1):
        for x in range(-REACH, REACH + 1):
            a, b = left[y, column + x] - base, right[y, there + x] - base
            l1 += a
            l2 += a * a
            r1 += b
            r2 += b * b
            lr += a * b
    left_left, right_right = l2 - l1 * l1 / _COUNT, r2 - r1 * r1 / _COUNT
    if min(left_left, right_right) < _COUNT * _FLATTEST:
        return 0.0
    return (lr - l1 * r1 / _COUNT) / np.sqrt(left_left * right_right)


@numba.njit(**KERNEL)
def _only_peak(ncc: Any) -> int:
    """Return the index of the highest value; -1 where it lies at an end or another peak comes near it."""
    last = len(ncc) - 1
    peak = np.argmax(ncc)
    if peak == 0 or peak == last:
        return -1
    for k in range(last + 1):
        falls_left = k == 0 or ncc[k - 1] <= ncc[k]
        falls_right = k == last or ncc[k + 1] <= ncc[k]
        if k != peak and falls_left and falls_right and ncc[k] > ncc[peak] - _LEAST_LEAD:
            return -1
    return int(peak)


@numba.njit(**KERNEL)
def _vertex(before: float, middle: float, after: float) -> float:
    """Return where between -0.5 and 0.5 the parabola through three values at -1, 0, 1 is highest."""
    bend = before + after - 2 * middle
    return 0.5 * (before - after) / bend if bend < 0 else 0.0


@numba.njit(**KERNEL)
def _refined(left: Any, slope: Any, finer: Any, row: int, column: int, there: float) -> tuple[float, float]:
    """Return the column in the right image and the NCC there; 0 where the window leaves the image or is flat."""
    base = left[row, column]
    l1 = l2 = g0 = gx = gy = gl = gxl = gyl = np.float32(0)
    g00 = g0x = g0y = gxx = gxy = gyy = np.float32(0)
    for j in range(-REACH, REACH + 1):
        y = np.float32(j)
        for i in range(-REACH, REACH + 1):
            x, g, a = np.float32(i), slope[row + j, column + i], left[row + j, column + i] - base
            l1 += a
            l2 += a * a
            g0 += g
            gx += g * x
            gy += g * y
            g00 += g * g
            g0x += g * g * x
            g0y += g * g * y
            gxx += g * g * x * x
            gxy += g * g * x * y
            gyy += g * g * y * y
            gl += g * a
            gxl += g * x * a
            gyl += g * y * a
    left_left = l2 - l1 * l1 / _COUNT
    h00, h0x, h0y = g00 - g0 * g0 / _COUNT, g0x - g0 * gx / _COUNT, g0y - g0 * gy / _COUNT
    hxx, hxy, hyy = gxx - gx * gx / _COUNT, gxy - gx * gy / _COUNT, gyy - gy * gy / _COUNT
    hxx, hyy = hxx + _SLOPE_PRIOR, hyy + _SLOPE_PRIOR
    c00, c0x, c0y = hxx * hyy - hxy * hxy, h0y * hxy - h0x * hyy, h0x * hxy - h0y * hxx
    cxx, cxy, cyy = h00 * hyy - h0y * h0y, h0x * h0y - h00 * hxy, h00 * hxx - h0x * h0x
    determinant = h00 * c00 + h0x * c0x + h0y * c0y
    if determinant <= 0 or left_left <= 0:
        return there, 0.0
    stretch = shear = ncc = 0.0
    for _ in range(_STEPS):
        extent = REACH * (1 + abs(stretch) + abs(shear)) + 1
        if there < extent or there >= finer.shape[1] // _FINER - 1 - extent:
            return there, 0.0
        r1, r2, lr, gr, gxr, gyr = _warped(left, slope, finer, row, column, there, stretch, shear)
        right_right, left_right = r2 - r1 * r1 / _COUNT, lr - l1 * r1 / _COUNT
        if right_right <= 0 or left_right <= 0:
            return there, 0.0
        ncc, gain = left_right / np.sqrt(left_left * right_right), left_right / right_right
        off = (l1 - gain * r1) / _COUNT
        e0 = gl - gain * gr - off * g0
        ex = gxl - gain * gxr - off * gx - _SLOPE_PRIOR * stretch
        ey = gyl - gain * gyr - off * gy - _SLOPE_PRIOR * shear
        step = (c00 * e0 + c0x * ex + c0y * ey) / determinant
        there += min(max(step, -0.5), 0.5)
        stretch += (c0x * e0 + cxx * ex + cxy * ey) / determinant
        shear += (c0y * e0 + cxy * ex + cyy * ey) / determinant
        stretch = min(max(stretch, -_LARGEST_SLOPE), _LARGEST_SLOPE)
        shear = min(max(shear, -_LARGEST_SLOPE), _LARGEST_SLOPE)
        if abs(step) < _SMALL_STEP_PX:
            break
    return there, ncc


@numba.njit(**KERNEL)
def _warped(
    left: Any, slope: Any, finer: Any, row: int, column: int, there: float, stretch: float, shear: float
) -> Any:
    """Return the sums over the window of r, r r, l r, g r, g x r and g y r.

    l is the left image, g its slope along the row, r the right image where the window comes to lie.
    """
    base = left[row, column]
    r1 = r2 = lr = gr = gxr = gyr = np.float32(0)
    across = np.float32(_FINER * (1 + stretch))
    for j in range(-REACH, REACH + 1):
        y = np.float32(j)
        middle = np.float32(_FINER * (there + shear * j) + 0.5 * (_FINER - 1))
        for i in range(-REACH, REACH + 1):
            x = np.float32(i)
            position = middle + across * x
            k = np.int32(position)
            before, after = finer[row + j, k], finer[row + j, k + 1]
            r = before + (position - np.float32(k)) * (after - before) - base
            a, g = left[row + j, column + i] - base, slope[row + j, column + i]
            r1 += r
            r2 += r * r
            lr += a * r
            gr += g * r
            gxr += g * x * r
            gyr += g * y * r
    return r1, r2, lr, gr, gxr, gyr
