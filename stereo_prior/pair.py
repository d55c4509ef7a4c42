"""One stereo frame as the matchers see it: rectified images, what may be matched, where to search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from stereo_prior.rectification import Rectification
from utils.scene import Scene
from utils.types import BoolArray, Side

Scalar = TypeVar("Scalar", bound=np.generic)
_HALO = 0.005  # of the image's width: light of a highlight reaches beyond its mask


@dataclass(frozen=True, eq=False)
class Eye:
    """A rectified image (h, w, 3) float32 0-255, its tissue and what of it may be matched (h, w)."""

    image: NDArray[np.float32]
    tissue: BoolArray
    usable: BoolArray

    def mirrored(self) -> Eye:
        """Return the eye with left and right exchanged."""
        return Eye(flip(self.image), flip(self.tissue), flip(self.usable))


@dataclass(frozen=True, eq=False)
class Pair:
    """A reference eye, the other eye, and the disparities (smallest, largest) to search, px.

    Disparity is the column in the left image minus the column in the right one.
    """

    reference: Eye
    other: Eye
    search_px: tuple[float, float]

    def exchanged(self) -> Pair:
        """Return the pair seen from the other eye; mirroring keeps the sign of its disparities."""
        return replace(self, reference=self.other.mirrored(), other=self.reference.mirrored())


@dataclass(frozen=True, eq=False)
class Disparity:
    """Disparity (h, w) px of the reference eye, its standard deviation px, and whether it was unique."""

    disparity_px: NDArray[np.float32]
    sigma_px: NDArray[np.float32]
    unique: BoolArray

    def mirrored(self) -> Disparity:
        """Return the maps with left and right exchanged."""
        return Disparity(flip(self.disparity_px), flip(self.sigma_px), flip(self.unique))


def flip(values: NDArray[Scalar]) -> NDArray[Scalar]:
    """Return a map (h, w[, c]) with left and right exchanged."""
    return np.ascontiguousarray(values[:, ::-1])


def sample_other(
    values: NDArray[np.float32],
    disparity_px: NDArray[np.float32],
    how: int = cv2.INTER_LINEAR,
    outside: float | None = None,
) -> NDArray[np.float32]:
    """Sample a map of the other eye where the pixels of the reference eye land, column - disparity.

    Args:
        values: (h, w) of the other eye.
        disparity_px: (h, w) of the reference eye; NaN lands outside.
        how: OpenCV's interpolation.
        outside: the value past the border; None repeats the border.
    """
    height, width = disparity_px.shape
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    there = np.nan_to_num(columns - disparity_px, nan=-1e4).astype(np.float32)
    border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
    found = cv2.remap(values, there, rows, how, borderMode=border, borderValue=outside or 0.0)
    return np.asarray(found, np.float32)


def load_pair(scene: Scene, rectification: Rectification, name: str, search_px: tuple[float, float]) -> Pair:
    """Rectify one frame; highlights and what is no tissue are filled from around, so that they match nothing."""
    return Pair(
        load_eye(scene, rectification, "left", name), load_eye(scene, rectification, "right", name), search_px
    )


def load_eye(scene: Scene, rectification: Rectification, side: Side, name: str) -> Eye:
    """Rectify one image and its masks."""
    tissue, highlight = scene.masks(side, name)
    image = rectification.rectify(scene.image(side, name), side).astype(np.float32)
    tissue = rectification.rectify(tissue, side) & rectification.valid(side)
    reach = 2 * max(1, round(_HALO * tissue.shape[1])) + 1
    spoilt = rectification.rectify(highlight, side).astype(np.uint8)
    usable = tissue & (cv2.dilate(spoilt, np.ones((reach, reach), np.uint8)) == 0)
    return Eye(fill_unknown(image, usable), tissue, usable)


def fill_unknown(values: NDArray[Any], known: BoolArray) -> NDArray[np.float32]:
    """Replace unknown values of a map (h, w[, c]) by a smooth continuation of the known ones around them.

    Known values are averaged into coarser and coarser maps and interpolated back (push-pull).
    """
    weight = known.astype(np.float32)
    wide = weight[..., None] if values.ndim == 3 else weight
    filled = np.where(wide > 0, values, 0).astype(np.float32)
    if known.all() or not known.any():
        return filled
    size = (known.shape[1] + 1) // 2, (known.shape[0] + 1) // 2
    coarse_weight = cv2.pyrDown(weight, dstsize=size)
    coarse = cv2.pyrDown(filled * wide, dstsize=size)
    seen = coarse_weight > 1e-3
    divisor = np.maximum(coarse_weight, 1e-3)
    coarse = fill_unknown(coarse / (divisor[..., None] if values.ndim == 3 else divisor), seen)
    around = cv2.resize(coarse, known.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.where(wide > 0, filled, around).astype(np.float32)
