"""Refine disparity to a fraction of a pixel: weighted Lucas-Kanade steps, smoothed by local planes.

Semi-global matching answers in sixteenths of a pixel and prefers whole ones. Here the right image is warped
by the disparity found so far; what remains is explained per window by a shift, a gain and an offset (two eyes
see one place in different light). Shifts are noisy where texture is weak, so planes are fitted to them,
weighted by what each pixel knows, over the largest of several windows that the smaller ones do not contradict
(intersection of confidence intervals: Goldenshluger and Nemirovski 1997).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from stereo_prior.pair import Pair, sample_other
from utils.types import BoolArray

_ROUNDS = 3
_WINDOW_PX = 3.0  # standard deviation of the window of a Lucas-Kanade step
_PLANES_PX = (1.5, 3.0, 6.0)  # of the windows of planes
_LARGEST_STEP_PX = 0.7
_SMOOTHING_PX = 0.7  # of both images: cubic interpolation blurs noise differently at every fraction
_FLAT = 0.5  # grey levels squared per px squared: gradients below are noise
_GAIN_IS_ONE = 1000.0  # grey levels squared: how firmly the gain is held
_LEAST_NOISE = 0.05  # grey levels squared
_UNTRUSTED = 0.02  # weight of what the search did not confirm
_INTERVALS = 0.8  # half-width of the confidence intervals, standard deviations
_NOISE_FACTOR = 2.5  # errors are larger than independent noise would make them: windows share pixels

Map = NDArray[np.float32]


@dataclass(frozen=True)
class _Step:
    """A disparity step (h, w) px, and the inverse variance of each pixel's own measurement."""

    step_px: Map
    information: Map


def refine(pair: Pair, start_px: Map, trusted: BoolArray) -> tuple[Map, Map]:
    """Refine a dense disparity map (h, w) of the reference eye.

    Args:
        pair: images and what may be matched in them.
        start_px: disparity, px, known everywhere.
        trusted: (h, w) where `start_px` was found rather than filled in.

    Returns:
        Disparity and its standard deviation, px, both (h, w).
    """
    reference, other = _grey(pair.reference.image), _grey(pair.other.image)
    slopes = _column_gradient(reference), _column_gradient(other)
    weight = pair.reference.usable * np.where(trusted, 1.0, _UNTRUSTED).astype(np.float32)
    other_usable = pair.other.usable.astype(np.float32)
    disparity_px = start_px.astype(np.float32)
    sigma_px = np.ones_like(disparity_px)
    for _ in range(_ROUNDS):
        warped = sample_other(other, disparity_px, cv2.INTER_CUBIC)
        slope = sample_other(slopes[1], disparity_px, cv2.INTER_CUBIC)
        seen = sample_other(other_usable, disparity_px, outside=0.0) > 0.99
        step = _lucas_kanade(reference - warped, warped, 0.5 * (slopes[0] + slope), weight * seen + 1e-3)
        disparity_px, sigma_px = smooth_by_planes(disparity_px + step.step_px, step.information)
    return disparity_px, sigma_px


def _lucas_kanade(difference: Map, warped: Map, slope: Map, weight: Map) -> _Step:
    """Solve, per window, difference = -step * slope + gain * warped + offset for the step."""
    total = _blur(weight)

    def mean(values: Map) -> Map:
        return _blur(weight * values) / total

    mean_difference, mean_slope, mean_warped = mean(difference), mean(slope), mean(warped)
    slope_slope = mean(slope * slope) - mean_slope**2
    slope_difference = mean(difference * slope) - mean_difference * mean_slope
    warped_warped = mean(warped * warped) - mean_warped**2 + _GAIN_IS_ONE
    warped_slope = mean(warped * slope) - mean_warped * mean_slope
    warped_difference = mean(difference * warped) - mean_difference * mean_warped
    # eliminate the gain from the two normal equations
    slope_slope = np.maximum(slope_slope - warped_slope**2 / warped_warped, 0)
    slope_difference = slope_difference - warped_difference * warped_slope / warped_warped
    step_px = np.clip(-slope_difference / (slope_slope + _FLAT), -_LARGEST_STEP_PX, _LARGEST_STEP_PX)
    left_over = mean(difference * difference) - mean_difference**2
    left_over = np.maximum(left_over - slope_difference**2 / (slope_slope + _FLAT), 0)
    confirmed = weight > 0.5
    noise = max(float(np.median(left_over[confirmed])) if confirmed.any() else 0.0, _LEAST_NOISE)
    texture = total * slope_slope**2 / (slope_slope + _FLAT) + 0.02 * total + 1e-4
    return _Step(step_px, (texture / np.maximum(mean(left_over), noise)).astype(np.float32))


def smooth_by_planes(values: Map, information: Map, windows_px: tuple[float, ...] = _PLANES_PX) -> tuple[Map, Map]:
    """Fit a plane around every pixel, over the largest window that agrees with the smaller ones.

    Args:
        values: (h, w), known everywhere.
        information: (h, w) inverse variance of each value's own pixel.

    Returns:
        Smoothed values and their standard deviation (h, w).
    """
    sigma = _NOISE_FACTOR / np.sqrt(4 * np.pi * _WINDOW_PX**2 * np.maximum(information, 1e-9))
    best, low, high = values, values - _INTERVALS * sigma, values + _INTERVALS * sigma
    alive = np.ones(values.shape, bool)
    for window_px in windows_px:
        fitted, total = _fit_plane(values.astype(np.float32), information, window_px)
        area = 4 * np.pi * (window_px**2 + _WINDOW_PX**2)  # of a squared Gaussian: independent pixels in it
        spread = _NOISE_FACTOR / np.sqrt(area * np.maximum(total, 1e-9))
        low = np.maximum(low, fitted - _INTERVALS * spread)
        high = np.minimum(high, fitted + _INTERVALS * spread)
        alive = alive & (low <= high)
        best, sigma = np.where(alive, fitted, best), np.where(alive, spread, sigma)
    return best.astype(np.float32), sigma.astype(np.float32)


def _fit_plane(values: Map, information: Map, window_px: float) -> tuple[Map, Map]:
    """Return the value at each pixel of the plane fitted around it, and the information it rests on."""

    def moment(quantity: Map, across: int, down: int) -> Map:
        kernels = _kernels(window_px)
        found = cv2.sepFilter2D(quantity, -1, kernels[across], kernels[down], borderType=cv2.BORDER_REFLECT)
        return np.asarray(found, np.float32)

    product = information * values
    total, along_x, along_y = moment(information, 0, 0), moment(information, 1, 0), moment(information, 0, 1)
    xx = moment(information, 2, 0) + 1e-3 * total
    yy = moment(information, 0, 2) + 1e-3 * total
    xy = moment(information, 1, 1)
    determinant = np.maximum(xx * yy - xy * xy, 1e-12)
    to_x, to_y = (yy * along_x - xy * along_y) / determinant, (xx * along_y - xy * along_x) / determinant
    remaining = np.maximum(total - along_x * to_x - along_y * to_y, 1e-3 * total)
    summed = moment(product, 0, 0) - moment(product, 1, 0) * to_x - moment(product, 0, 1) * to_y
    return summed / remaining, remaining


@cache
def _kernels(window_px: float) -> tuple[Map, Map, Map]:
    """Return a Gaussian and its first and second moments."""
    reach = int(np.ceil(2.5 * window_px))
    offsets = np.arange(-reach, reach + 1, dtype=np.float32) / np.float32(window_px)
    bell = np.exp(-0.5 * offsets**2)
    gaussian: Map = (bell / bell.sum()).astype(np.float32)
    return gaussian, gaussian * offsets, gaussian * offsets**2


def _grey(image: Map) -> Map:
    return np.asarray(cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), _SMOOTHING_PX), np.float32)


def _column_gradient(image: Map) -> Map:
    kernel = np.array([[1, -8, 0, 8, -1]], np.float32) / 12
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT), np.float32)


def _blur(values: Map) -> Map:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), _WINDOW_PX, borderType=cv2.BORDER_REFLECT), np.float32)
