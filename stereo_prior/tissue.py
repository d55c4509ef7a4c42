"""Say which pixels of an image are tissue: the mask file, or all but the black border of an endoscope."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.errors import InputError
from utils.images import read_mask
from utils.types import BoolArray, Camera
from utils.undistortion import Lens, bring_to_camera

log = logging.getLogger("specula")

BLACK = 12  # of 255: what is darker in every frame gets no light; noise and JPEG stay below
SOFT_EDGE_PX = 2  # the border of the picture is blurred
SMALLEST_BORDER = 0.005  # share of the image; less is a shadow


class BlackBorder:
    """Collects the brightest value of each pixel over all frames of one eye."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.brightest = np.zeros(size[::-1], np.uint8)

    def add(self, image: NDArray[np.uint8]) -> None:
        """Take one (h, w, 3) image into account."""
        for channel in cv2.split(cv2.blur(image, (3, 3))):
            np.maximum(self.brightest, channel, out=self.brightest)

    def found(self) -> BoolArray:
        """Return (h, w): pixels that are black in all frames and connected to the image's edge."""
        dark = (self.brightest < BLACK).astype(np.uint8)
        _, labels = cv2.connectedComponents(dark, connectivity=4)
        edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        border = np.isin(labels, edge[edge > 0]) & (dark > 0)
        if border.mean() < SMALLEST_BORDER:
            return np.zeros(border.shape, bool)
        reach = 2 * SOFT_EDGE_PX + 1
        return cv2.dilate(border.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0


def read_tissue_mask(path: Path, size: tuple[int, int], image: Path) -> BoolArray:
    """Read a mask of an image of (width, height). Raises InputError for another size, or nothing in it."""
    mask = read_mask(path)
    if mask.shape != size[::-1]:
        raise InputError(
            f"{path} is a mask of another size than its image {image}",
            found=f"{mask.shape[1]}x{mask.shape[0]}",
            expected=f"{size[0]}x{size[1]}, the size of the stored image",
            do=f"draw the mask on {image.name} at its own size, or remove {path.name}: without it all is tissue",
        )
    if not mask.any():
        raise InputError(
            f"{path} is an empty mask",
            found="no pixel above 0",
            expected="tissue = nonzero pixels",
            do=f"draw the tissue, or remove {path.name} (all is tissue), or take the frame out of the dataset",
        )
    return mask


def tissue_in_camera(tissue: BoolArray, lens: Lens, camera: Camera) -> BoolArray:
    """Bring (h, w) tissue of a stored image to the scene's camera.

    Pixels whose colour was made with anything from beyond the stored image are not tissue.
    """
    if not lens.distorted and tissue.shape == (camera.height, camera.width):
        return tissue
    moved = bring_to_camera(tissue.astype(np.uint8), lens, camera, nearest=True) > 0
    # 255 everywhere, interpolated like colour: what comes out darker saw the outside
    white = np.full((*tissue.shape, 3), 255, np.uint8)
    seen = bring_to_camera(white, lens, camera, nearest=False)[..., 0] >= 254
    return moved & seen
