"""Bring pictures to one contrast, so that exposure and the lamp's fall-off play no part in comparing them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.types import FloatArray

Float32Array = NDArray[np.float32]

WINDOW = 0.1  # spread of the neighbourhood that gives mean and contrast, as a share of the longer side
BLUR_PX = (
    1.0  # without it bilinear sampling between pixels would lower a picture's contrast, and places on them win
)
LEAST_CONTRAST = 0.02  # of full scale; below, noise is not blown up into structure
ROUNDING = 1e-4  # of the even contrast; a flat picture has none
LEAST_SHARE = 0.15  # of a neighbourhood that must be usable


def even_contrast(
    image: NDArray[np.uint8] | Float32Array, usable: FloatArray
) -> tuple[Float32Array, Float32Array]:
    """Subtract the local mean of a picture's brightness and divide by its local standard deviation.

    Args:
        image: (h, w, 3) RGB, uint8 or float in 0 to 255.
        usable: (h, w) in [0, 1]; what is not usable enters neither mean nor contrast.

    Returns:
        (h, w) values, about -2 to 2, 0 where nothing around is usable; (h, w) weight in [0, 1].
    """
    grey = cv2.cvtColor(np.asarray(image, np.float32) / np.float32(255), cv2.COLOR_RGB2GRAY)
    weight = np.asarray(usable, np.float32)
    near = cv2.GaussianBlur(weight, (0, 0), BLUR_PX)
    grey = cv2.GaussianBlur(weight * grey, (0, 0), BLUR_PX) / np.maximum(near, np.float32(1e-3))
    sigma = WINDOW * max(grey.shape)
    share = cv2.GaussianBlur(weight, (0, 0), sigma)
    safe = np.maximum(share, np.float32(1e-3))
    mean = cv2.GaussianBlur(weight * grey, (0, 0), sigma) / safe
    square = cv2.GaussianBlur(weight * grey * grey, (0, 0), sigma) / safe
    spread = np.sqrt(np.maximum(square - mean * mean, 0) + np.float32(LEAST_CONTRAST**2))
    kept = np.where(share > LEAST_SHARE, weight, np.float32(0))
    even = (grey - mean) / spread
    even[np.abs(even) < ROUNDING] = 0
    return np.asarray(np.where(share > LEAST_SHARE, even, 0), np.float32), np.asarray(kept, np.float32)
