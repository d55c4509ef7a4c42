"""Compare rendered images with the recorded ones: PSNR of a region, SSIM as a map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.types import BoolArray, FloatArray

SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5
SSIM_C1 = 0.01**2
SSIM_C2 = 0.03**2


def unit_range(image: NDArray[np.uint8]) -> FloatArray:
    """Return a uint8 image as float64 in [0, 1]."""
    return image.astype(np.float64) / 255.0


def psnr(image: FloatArray, reference: FloatArray, region: BoolArray) -> float:
    """Return the peak signal-to-noise ratio, dB, of the region's pixels alone.

    Args:
        image: (h, w, 3) in [0, 1].
        reference: (h, w, 3) in [0, 1].
        region: (h, w) pixels that count; the others enter neither the sum nor the count.

    Returns:
        -10 log10 of the mean squared difference over the region's pixels and the three channels; infinite
        for equal pixels, NaN for an empty region.
    """
    if not region.any():
        return float("nan")
    squared = float(np.mean((image[region] - reference[region]) ** 2))
    return float("inf") if squared == 0 else -10.0 * float(np.log10(squared))


def ssim_map(image: FloatArray, reference: FloatArray) -> FloatArray:
    """Return the structural similarity (h, w) of two RGB images (h, w, 3) in [0, 1], mean over the channels.

    Wang et al. 2004, equation 13, with the Gaussian window of 11 x 11 px and sigma 1.5 px, weighted moments
    (no sample correction), K1 0.01, K2 0.03, data range 1. The image is mirrored at its border.

    A window is centred on its pixel and looks 5 px around, over the border of any region: both images enter it
    whole and untouched. Near a region's border the value therefore also tells about the 5 px outside, for
    better or worse; masking the images first would count what is masked as a perfect match.
    """
    return similarity(image, reference, gaussian_mean)


def similarity(image: FloatArray, reference: FloatArray, mean: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Return the map of `ssim_map` for another local mean (h, w, 3) -> (..., 3): another border, for instance."""
    mean_a, mean_b = mean(image), mean(reference)
    variance_a = mean(image * image) - mean_a * mean_a
    variance_b = mean(reference * reference) - mean_b * mean_b
    covariance = mean(image * reference) - mean_a * mean_b
    values = ((2 * mean_a * mean_b + SSIM_C1) * (2 * covariance + SSIM_C2)) / (
        (mean_a**2 + mean_b**2 + SSIM_C1) * (variance_a + variance_b + SSIM_C2)
    )
    return np.asarray(values.mean(axis=-1))


def mean_in_region(values: NDArray[Any], region: BoolArray) -> float:
    """Return the mean of a map (h, w) over the region's pixels; NaN for an empty region."""
    return float(np.mean(values[region], dtype=np.float64)) if region.any() else float("nan")


def gaussian_mean(values: FloatArray) -> FloatArray:
    """Return the mean of every pixel's window (h, w, 3); the image is mirrored at its border."""
    window = (SSIM_WINDOW_PX, SSIM_WINDOW_PX)
    return np.asarray(cv2.GaussianBlur(values, window, SSIM_SIGMA_PX, borderType=cv2.BORDER_REFLECT))
