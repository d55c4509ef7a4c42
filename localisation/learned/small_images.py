"""Images as the flow sees them: the left eye's view at a few pixels, one colour where no tissue ever was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.errors import InputError
from utils.images import resize_mask
from utils.scene import Scene
from utils.types import BoolArray, Camera

_SAME_SHAPE = 0.02  # by how much width / height may differ from the run's camera


def never_tissue(dataset: Scene) -> BoolArray:
    """Return (h, w) of the left eye: where no training frame's mask has tissue; nowhere where none has any."""
    tissue = dataset.ever_tissue("left")
    return ~tissue & tissue.any()


@dataclass(frozen=True, eq=False)
class Shrinker:
    """Makes small square images of the left eye's view.

    Attributes:
        camera: of the left eye's whole image.
        border: (h, w) of that image, black in every small image.
        size: width and height of the small image.
    """

    camera: Camera
    border: BoolArray
    size: int

    @property
    def border_share(self) -> NDArray[np.float32]:
        """Return (size, size): how much of each small pixel the border covers."""
        whole = self.border.astype(np.float32)
        return np.asarray(cv2.resize(whole, (self.size, self.size), interpolation=cv2.INTER_AREA), np.float32)

    def shrink(self, image: NDArray[Any], camera: Camera | None = None) -> NDArray[np.float32]:
        """Return (size, size, 3) in [0, 1] of an image, by area.

        Args:
            image: (h, w, 3), uint8, or floats in [0, 1]; undistorted. Any size of the camera's shape.
            camera: that took it where it is not the left eye: the image is shifted and scaled to that view first.

        Raises:
            InputError: no colour image, or one of another shape than the run's.
        """
        pixels = _unit_range(image)
        if camera is not None:
            pixels = self._as_left(pixels, camera)
        height, width = pixels.shape[:2]
        ratio = (width / height) / (self.camera.width / self.camera.height)
        if abs(ratio - 1.0) > _SAME_SHAPE:
            raise InputError(
                "an image does not fit the run's left camera",
                found=f"{width}x{height}",
                expected=f"{self.camera.width}x{self.camera.height}, or another size of that shape",
                do="give images of the camera that the run was made with, whole and undistorted",
            )
        if width < self.size or height < self.size:
            raise InputError(
                "an image is too small",
                found=f"{width}x{height}",
                expected=f"at least {self.size}x{self.size}",
                do="give the image as the camera took it",
            )
        return self.area(pixels)

    def area(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Return (size, size, 3) in [0, 1] of the left camera's whole view, whatever its pixels' shape."""
        pixels = _unit_range(pixels)
        height, width = pixels.shape[:2]
        pixels = np.where(resize_mask(self.border, width, height)[..., None], np.float32(0.0), pixels)
        return np.asarray(cv2.resize(pixels, (self.size, self.size), interpolation=cv2.INTER_AREA), np.float32)

    def _as_left(self, pixels: NDArray[np.float32], camera: Camera) -> NDArray[np.float32]:
        """Return the image that the left camera would have taken from the same place, its edges drawn out."""
        height, width = pixels.shape[:2]
        camera, left = camera.resized(width, height), self.camera
        if (camera.fx, camera.fy, camera.cx, camera.cy) == (left.fx, left.fy, left.cx, left.cy):
            return pixels
        sx, sy = camera.fx / left.fx, camera.fy / left.fy
        from_left = np.array([[sx, 0.0, camera.cx - sx * left.cx], [0.0, sy, camera.cy - sy * left.cy]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(
                pixels, from_left, (left.width, left.height), flags=flags, borderMode=cv2.BORDER_REPLICATE
            ),
            np.float32,
        )


def _unit_range(image: NDArray[Any]) -> NDArray[np.float32]:
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(
            "an image has no three colours",
            found=f"an array of shape {image.shape}",
            expected="(h, w, 3), RGB",
            do="give colour images",
        )
    return np.asarray(image, np.float32) / (255.0 if image.dtype == np.uint8 else 1.0)
