"""Pictures of maps, for eyes: depth and confidence in colours, unknown in black."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.types import FloatArray

Image = NDArray[np.uint8]


def coloured(values: FloatArray, low: float, high: float) -> Image:
    """Return (h, w, 3) RGB: `low` blue, `high` red, NaN black."""
    share = (np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-9)
    colours = cv2.applyColorMap(np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8), cv2.COLORMAP_TURBO)
    image = np.asarray(cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), np.uint8)
    image[~np.isfinite(values)] = 0
    return image


def limits(values: FloatArray) -> tuple[float, float]:
    """Return the 2nd and 98th percentile of the known values; (0, 1) where none is."""
    known = values[np.isfinite(values)]
    if known.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(known, [2, 98])
    return float(low), float(high)


def beside(images: Sequence[NDArray[Any]]) -> Image:
    """Put images (h, w, 3) of one height beside each other."""
    return np.ascontiguousarray(np.concatenate(list(images), axis=1), np.uint8)
