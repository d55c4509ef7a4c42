"""SIFT features inside the usable part of an image, and their mutual ratio-test matches."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.types import BoolArray, FloatArray

# Tissue has little contrast: OpenCV's default of 0.04 finds a tenth of what matches.
CONTRAST_THRESHOLD = 0.005
RATIO = 0.8


def usable_pixels(tissue: BoolArray, highlight: BoolArray, margin_px: int) -> BoolArray:
    """Return (h, w): tissue without highlights and their surroundings, which move with the lamp."""
    excluded = (~tissue | highlight).astype(np.uint8)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin_px + 1, 2 * margin_px + 1))
    return np.asarray(cv2.dilate(excluded, disk)) == 0


def detect(
    image: NDArray[np.uint8], usable: BoolArray, *, max_features: int = 4000
) -> tuple[FloatArray, NDArray[np.float32]]:
    """Return pixels (n, 2) and RootSIFT descriptors (n, 128) of the features of an RGB image (h, w, 3)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # Features, layers, contrast, edge, sigma, type, and `enable_precise_upscale`: without it every feature
    # lies a quarter of a pixel too far right and down.
    sift = cv2.SIFT.create(max_features, 3, CONTRAST_THRESHOLD, 10, 1.6, cv2.CV_32F, True)
    keypoints, descriptors = sift.detectAndCompute(grey, usable.astype(np.uint8))
    if descriptors is None or len(keypoints) == 0:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    pixels = np.array([keypoint.pt for keypoint in keypoints], float)
    descriptors = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6))
    return pixels, descriptors.astype(np.float32)


def mutual_matches(
    descriptors_a: NDArray[np.float32],
    descriptors_b: NDArray[np.float32],
    *,
    ratio: float = RATIO,
    allowed: NDArray[Any] | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.intp], FloatArray]:
    """Match unit descriptors (n, 128) and (m, 128): nearest both ways, and clearly nearer than the second.

    Args:
        descriptors_a, descriptors_b: unit vectors.
        ratio: largest distance ratio of the nearest to the second nearest.
        allowed: (n, m) bool, pairs that geometry permits; all where None.

    Returns:
        Indices into a (k,), into b (k,), and scores (k,) = 1 - ratio in [0, 1], 1 best.
    """
    nothing = np.zeros(0, np.intp)
    if len(descriptors_a) < 2 or len(descriptors_b) < 2:
        return nothing, nothing, np.zeros(0)
    squared = np.maximum(2.0 - 2.0 * descriptors_a @ descriptors_b.T, 0.0)
    if allowed is not None:
        squared = np.where(allowed, squared, 4.0)
    two = np.partition(squared, 1, axis=1)[:, :2]
    nearest_b, nearest_a = squared.argmin(axis=1), squared.argmin(axis=0)
    quotient = np.sqrt(two[:, 0] / np.maximum(two[:, 1], 1e-12))
    indices = np.arange(len(descriptors_a))
    good = (nearest_a[nearest_b] == indices) & (quotient <= ratio) & (two[:, 0] < 4.0)
    return indices[good], np.asarray(nearest_b[good]), 1.0 - quotient[good]
