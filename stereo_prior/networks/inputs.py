"""A rectified pair as the networks want it, and their disparity back in the pair's own pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stereo_prior.pair import Eye, Pair
from utils.types import BoolArray

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of ImageNet, RGB in 0..1
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


@dataclass(frozen=True, eq=False)
class Framing:
    """How a pair was framed: `pair column = column - left_px`, `pair disparity = disparity + shift_px`.

    The right image is moved until the smallest disparity searched is zero, and both get columns on the left, so
    that what the move pushes out is kept, and what the network sees has sides that it can halve.
    """

    shift_px: int
    left_px: int
    height: int
    width: int
    framed_height: int
    framed_width: int

    @classmethod
    def of(cls, pair: Pair, multiple_px: int, least_px: int = 0) -> Framing:
        """Frame a pair so that its sides are multiples, and not below `least_px`."""
        low, high = int(np.floor(pair.search_px[0])), int(np.ceil(pair.search_px[1]))
        height, width = pair.reference.tissue.shape
        framed_width = max(_up(width + high - low + 1, multiple_px), _up(least_px, multiple_px))
        framed_height = max(_up(height, multiple_px), _up(least_px, multiple_px))
        return cls(low, framed_width - width, height, width, framed_height, framed_width)

    @property
    def range_px(self) -> int:
        """Disparities from 0 to below this many px are of interest; never more than the columns added."""
        return self.left_px

    def images(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """Return the left and the right image (1, 3, h, w), normalised."""
        left = self._frame(_normalised(pair.reference), 0)
        right = self._frame(_normalised(pair.other), self.shift_px)
        return left, right

    def masks(self, left: BoolArray, right: BoolArray) -> tuple[Tensor, Tensor]:
        """Return masks (h, w) of the left and the right image as (1, 1, h, w) of 0 and 1, 0 outside the images."""
        return self._frame(left, 0, outside=0.0), self._frame(right, self.shift_px, outside=0.0)

    def disparity_px(self, framed: Tensor) -> NDArray[np.float32]:
        """Return a disparity (h, w) of the pair, px, from one (framed_height, framed_width) of the network."""
        inside = framed[: self.height, self.left_px : self.left_px + self.width]
        return np.ascontiguousarray(inside.float().cpu().numpy()) + np.float32(self.shift_px)

    def _frame(self, values: NDArray[Any], shift_px: int, outside: float | None = None) -> Tensor:
        move = np.array([[1, 0, self.left_px + shift_px], [0, 1, 0]], np.float32)
        framed = cv2.warpAffine(
            values.astype(np.float32),
            move,
            (self.framed_width, self.framed_height),
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT,
            borderValue=[0.0 if outside is None else outside] * 4,
        )
        planes = framed[..., None] if framed.ndim == 2 else framed
        return torch.from_numpy(np.ascontiguousarray(planes.transpose(2, 0, 1)))[None]


def _normalised(eye: Eye) -> NDArray[np.float32]:
    return (eye.image / np.float32(255.0) - _MEAN) / _DEVIATION


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
