"""Bring stored images, masks and truth maps to the undistorted, resized image that all stages work in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.types import Camera


@dataclass(frozen=True)
class Lens:
    """The camera of the stored images: pinhole values in px of the stored size, OpenCV distortion terms."""

    camera: Camera
    distortion: tuple[float, ...] = ()

    @property
    def distorted(self) -> bool:
        """Whether any distortion term differs from zero."""
        return any(value != 0 for value in self.distortion)


def bring_to_camera(
    values: NDArray[Any], lens: Lens, camera: Camera, *, nearest: bool, outside: float = 0
) -> NDArray[Any]:
    """Undistort (same matrix, same size) and then resize a stored image or map to `camera`'s size.

    Args:
        values: (h, w) or (h, w, 3) of the stored size.
        lens: camera and distortion of the stored image.
        camera: camera of the result: `lens.camera` resized.
        nearest: pick the nearest value (masks, depth, disparity) instead of averaging (colour).
        outside: the value where the undistorted image sees past the stored one.
    """
    if lens.distorted:
        maps = cv2.initUndistortRectifyMap(
            lens.camera.matrix,
            np.array(lens.distortion),
            np.eye(3),
            lens.camera.matrix,
            (lens.camera.width, lens.camera.height),
            cv2.CV_32FC1,
        )
        how = cv2.INTER_NEAREST if nearest else cv2.INTER_CUBIC
        values = cv2.remap(values, *maps, how, borderMode=cv2.BORDER_CONSTANT, borderValue=(outside,) * 4)
    if values.shape[:2] != (camera.height, camera.width):
        how = cv2.INTER_NEAREST_EXACT if nearest else cv2.INTER_AREA
        values = cv2.resize(values, (camera.width, camera.height), interpolation=how)
    return np.asarray(values)
