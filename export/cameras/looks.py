"""What each camera's image shows, to hold against where the camera is said to be: features, contrast, depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.images import natural_key
from utils.sift import detect, mutual_matches, usable_pixels
from utils.types import BoolArray, Camera, FloatArray, Side
from utils.warping import sample_depth

MOST_FEATURES = 1500
FEWEST_MATCHES = 20
ALL_PAIRS_UP_TO = 12  # frames of one eye; of more, each is paired with those 1, 2 and 4 frames on
STEPS = (1, 2, 4)
SIDES: tuple[Side, Side] = ("left", "right")
_DENSE_WIDTH = 320
_HIGHLIGHT_PX = 3
_WINDOW = 15
_NOISE = 3.0  # grey levels: below it contrast is not worth comparing
_EPIPOLAR_PX = 1.5


@dataclass(frozen=True, eq=False)
class Look:
    """One image.

    `frame` is shared by the two eyes of one moment; `size` is (width, height); `pixels` (n, 2) and
    `descriptors` (n, 128) are its features, `depth_at` (n,) their z-depth, mm, NaN unknown; `contrast` (h', w')
    is the small image less its local mean, over its local spread, NaN where it is not to be used, and `depth_mm`
    (h', w') its z-depth or None; `calibrated` is the camera that a calibration gives for this image, if any.
    """

    frame: str
    side: Side
    size: tuple[int, int]
    pixels: FloatArray
    descriptors: NDArray[np.float32]
    depth_at: FloatArray
    contrast: NDArray[np.float32]
    depth_mm: FloatArray | None
    calibrated: Camera | None

    @property
    def dense_size(self) -> tuple[int, int]:
        """(width, height) of `contrast` and `depth_mm`."""
        return self.contrast.shape[1], self.contrast.shape[0]


def look(
    frame: str,
    side: Side,
    image: NDArray[np.uint8],
    *,
    usable: tuple[BoolArray, BoolArray] | None = None,
    depth_mm: FloatArray | None = None,
    calibrated: Camera | None = None,
) -> Look:
    """Find what an image (h, w, 3) shows.

    Args:
        frame, side: which moment, which eye.
        image: RGB.
        usable: its tissue and its highlights (h, w); None: all of it.
        depth_mm: its z-depth, NaN unknown, of any size of the same shape.
        calibrated: its camera by a calibration.
    """
    height, width = image.shape[:2]
    tissue, highlight = usable or (np.ones((height, width), bool), np.zeros((height, width), bool))
    chosen = usable_pixels(tissue, highlight, _HIGHLIGHT_PX)
    pixels, descriptors = detect(image, chosen, max_features=MOST_FEATURES)
    small = (min(width, _DENSE_WIDTH), round(height * min(1.0, _DENSE_WIDTH / width)))
    depth_at, dense = np.full(len(pixels), np.nan), None
    if depth_mm is not None:
        full = np.asarray(depth_mm, np.float32)
        if full.shape != (height, width):
            full = _nearest(full, (width, height))
        depth_at = sample_depth(full, pixels)
        dense = _nearest(full, small)
    contrast = _contrast(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8), chosen, small)
    return Look(frame, side, (width, height), pixels, descriptors, depth_at, contrast, dense, calibrated)


def _nearest(depth_mm: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize depth to (width, height): a mean over a jump is the depth of nothing."""
    return np.asarray(cv2.resize(depth_mm, size, interpolation=cv2.INTER_NEAREST_EXACT), np.float32)


def _contrast(grey: NDArray[np.uint8], chosen: BoolArray, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the local contrast (h', w') of the pixels that may be used: light that changes slowly is gone."""
    weight = cv2.resize(chosen.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    values = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    inside = np.maximum(cv2.boxFilter(weight, -1, (_WINDOW, _WINDOW)), 1e-3)
    mean = cv2.boxFilter(values * weight, -1, (_WINDOW, _WINDOW)) / inside
    square = cv2.boxFilter(values**2 * weight, -1, (_WINDOW, _WINDOW)) / inside
    spread = np.sqrt(np.maximum(square - mean**2, 0) + _NOISE**2)
    return np.where(weight > 0.5, (values - mean) / spread, np.nan).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two images (their indices) and the places (m, 2), px, and z-depths (m,), mm, of what both show."""

    a: int
    b: int
    pixels_a: FloatArray
    pixels_b: FloatArray
    depth_a: FloatArray
    depth_b: FloatArray


def match(looks: Sequence[Look | None], a: int, b: int) -> Pair | None:
    """Match two images by their features alone, whatever the cameras are said to be.

    Matches must share some epipolar geometry. Returns None where too few do.
    """
    one, other = looks[a], looks[b]
    if one is None or other is None:
        return None
    first, second, _ = mutual_matches(one.descriptors, other.descriptors)
    if len(first) < FEWEST_MATCHES:
        return None
    pixels_a, pixels_b = one.pixels[first], other.pixels[second]
    cv2.setRNGSeed(0)
    _, inliers = cv2.findFundamentalMat(pixels_a, pixels_b, cv2.FM_RANSAC, _EPIPOLAR_PX, 0.999, 2000)
    if inliers is None or inliers.sum() < FEWEST_MATCHES:
        return None
    kept = inliers.ravel() > 0
    return Pair(a, b, pixels_a[kept], pixels_b[kept], one.depth_at[first[kept]], other.depth_at[second[kept]])


def neighbours(looks: Sequence[Look | None]) -> list[tuple[int, int]]:
    """Return the pairs of images that may show the same place: left and right of a frame, frames near in order."""
    at = {(one.side, one.frame): index for index, one in enumerate(looks) if one is not None}
    frames = sorted({frame for _, frame in at}, key=natural_key)
    steps = STEPS if len(frames) > ALL_PAIRS_UP_TO else range(1, len(frames))
    wanted: list[tuple[tuple[Side, str], tuple[Side, str]]] = [
        (("left", name), ("right", name)) for name in frames
    ]
    for side in SIDES:
        for step in steps:
            wanted += [((side, name), (side, other)) for name, other in zip(frames, frames[step:], strict=False)]
    return [(at[a], at[b]) for a, b in wanted if a in at and b in at]
