"""Find specular highlights in one image: brighter and whiter than their surroundings, small and sharp.

The lamp's reflection on the wet surface adds white light. Against the local median it raises the darkest
channel, and it raises that channel's share of the brightest one, which shading alone never changes. Both
excesses are added. A core must stand out from the spread of its neighbourhood, so that rich texture is not
taken for reflections; it must be bright, nearly white and have a sharp edge, so that broad, well-lit tissue
is not either. Cores then grow into their halo.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.types import BoolArray

Float32Array = NDArray[np.float32]

# lengths are shares of the image's longer side, values shares of full scale
WINDOW = 1 / 8  # of the local median: highlights are smaller than half of it
HALO = 0.02  # how far a halo reaches beyond its core
EDGE = 0.008  # how near to a core its sharp edge lies
MEDIAN_SIDE_PX = 160  # medians are taken in an image reduced to about this: their window is wide anyway
CORE_EXCESS = 0.35
CORE_SPREADS = 3.5  # by how many local spreads a core stands out
CORE_BRIGHTNESS = 0.6
CORE_WHITENESS = 0.6
CORE_RISE = 0.2  # of the darkest channel within EDGE
HALO_EXCESS = 0.12
COLOURLESS = 0.85  # whiteness of surroundings above which colour tells nothing
DARKEST = 20 / 255  # below, noise decides the ratio of two channels


def detect_highlights(image: NDArray[np.uint8], tissue: BoolArray) -> BoolArray:
    """Return where an image shows reflections of the lamp instead of tissue.

    Args:
        image: (h, w, 3) RGB.
        tissue: (h, w); what lies outside is neither searched nor part of the surroundings.

    Returns:
        (h, w) bool, inside the tissue.
    """
    if not tissue.any():
        return np.zeros(tissue.shape, bool)
    side = max(tissue.shape)
    red, green, blue = cv2.split(cv2.GaussianBlur(image, (3, 3), 0.7))
    dark8 = cv2.min(cv2.min(red, green), blue)
    dark = dark8 * np.float32(1 / 255)
    bright = cv2.max(cv2.max(red, green), blue) * np.float32(1 / 255)
    white = dark / np.maximum(bright, np.float32(DARKEST))
    around = _Surroundings(tissue, side)
    excess, spread = _excess(dark, bright, white, around)
    edge = 2 * max(1, round(EDGE * side)) + 1
    rise = dark8 - cv2.erode(dark8, np.ones((edge, edge), np.uint8))
    core = tissue & (excess > np.maximum(CORE_EXCESS, CORE_SPREADS * spread))
    core &= (bright > CORE_BRIGHTNESS) & (white > CORE_WHITENESS)
    near = tissue & (excess > np.maximum(HALO_EXCESS, spread))
    return _grow(core, near, rise > 255 * CORE_RISE, max(1, round(HALO * side)))


def _excess(
    dark: Float32Array, bright: Float32Array, white: Float32Array, around: _Surroundings
) -> tuple[Float32Array, Float32Array]:
    """Return how much brighter and whiter (h, w) pixels are than their surroundings, and its local spread.

    Pixels that are only brighter or only whiter have no excess.
    """
    usual_white = around.median(white)
    brighter = dark - around.median(dark)
    # dark = (1 - s) usual_white bright + s bright, solved for the white light s bright
    whiter = (dark - usual_white * bright) / (1 - np.minimum(usual_white, np.float32(COLOURLESS)))
    whiter = np.where(usual_white < COLOURLESS, whiter, brighter)
    both = brighter + whiter
    spread = np.float32(1.48) * around.median(np.abs(both))  # 1.48: median deviation to standard deviation
    return np.where((brighter > 0) & (whiter > 0), both, np.float32(0)), spread


def _grow(core: BoolArray, near: BoolArray, sharp: BoolArray, reach_px: int) -> BoolArray:
    """Return the connected areas of `near`, no farther than `reach_px` from a core, that hold a sharp core."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach_px + 1,) * 2)
    within = cv2.dilate(core.astype(np.uint8), disc) > 0
    count, labels = cv2.connectedComponents((near & within).astype(np.uint8), connectivity=8)
    kept = np.zeros(count, bool)
    kept[labels[core & sharp]] = True
    kept[0] = False
    return kept[labels]


class _Surroundings:
    """Local medians over the tissue of one image, taken in a reduced image."""

    def __init__(self, tissue: BoolArray, side: int) -> None:
        reduced_by = max(1, round(side / MEDIAN_SIDE_PX))
        height, width = tissue.shape
        self.size = (width, height)
        self.small_size = (max(1, width // reduced_by), max(1, height // reduced_by))
        self.window_px = max(3, round(WINDOW * side / reduced_by) | 1)
        self.weight = tissue.astype(np.float32)
        self.share = self._reduced(self.weight)
        self.near_share = np.maximum(self._mean(self.share), np.float32(1e-3))

    def median(self, values: Float32Array) -> Float32Array:
        """Return the local median of (h, w) values in [0, 1]; a black border does not pull it down."""
        small = self._reduced(values * self.weight)
        inside = small / np.maximum(self.share, np.float32(1e-3))
        filled = np.where(self.share > 0.5, inside, self._mean(small) / self.near_share)
        levels = (np.clip(filled, 0, 1) * 255).astype(np.uint8)
        window = self.window_px
        padded = cv2.copyMakeBorder(levels, *(window,) * 4, cv2.BORDER_REFLECT)
        # the brighter side of an edge wins, or the reduced image's jagged edge would look like a reflection
        local = cv2.dilate(cv2.medianBlur(padded, window), np.ones((3, 3), np.uint8))
        local = local[window:-window, window:-window]
        enlarged = cv2.resize(local, self.size, interpolation=cv2.INTER_LINEAR)
        return np.asarray(enlarged, np.float32) / np.float32(255)

    def _reduced(self, values: Float32Array) -> Float32Array:
        return np.asarray(cv2.resize(values, self.small_size, interpolation=cv2.INTER_AREA), np.float32)

    def _mean(self, small: Float32Array) -> Float32Array:
        window = (2 * self.window_px + 1,) * 2
        return np.asarray(cv2.blur(small, window, borderType=cv2.BORDER_REFLECT), np.float32)
