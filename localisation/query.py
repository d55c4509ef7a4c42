"""The images to be located: brought to the cameras of the run, with what of them is usable."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from localisation.alignment import Observed
from localisation.contrast import even_contrast
from utils.highlights import detect_highlights
from utils.types import BoolArray, Camera, FloatArray, Side

MARGIN = 0.01  # kept off borders and highlights, as a share of the longer side


@dataclass(frozen=True, eq=False)
class Eye:
    """One image of a query: (h, w, 3) uint8 as the run's camera sees it, and its `usable` pixels (h, w)."""

    side: Side
    camera: Camera
    eye_from_left: FloatArray
    image: NDArray[np.uint8]
    usable: BoolArray

    @staticmethod
    def of(
        side: Side, camera: Camera, eye_from_left: FloatArray, image: NDArray[np.uint8], tissue: BoolArray
    ) -> Eye:
        """Find what is usable: tissue without highlights, and off the borders of both."""
        excluded = (~tissue | detect_highlights(image, tissue)).astype(np.uint8)
        reach = max(1, round(MARGIN * max(tissue.shape)))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
        padded = cv2.copyMakeBorder(excluded, *(reach,) * 4, cv2.BORDER_CONSTANT, value=1)
        usable = cv2.dilate(padded, disc)[reach:-reach, reach:-reach] == 0
        return Eye(side, camera, eye_from_left, image, np.asarray(usable))

    def small(self, longest_px: int) -> Camera:
        """Return its camera for pictures whose longer side is at most `longest_px`."""
        scale = min(1.0, longest_px / max(self.camera.width, self.camera.height))
        return self.camera.resized(
            *(max(8, round(side * scale)) for side in (self.camera.width, self.camera.height))
        )


@dataclass(frozen=True, eq=False)
class Query:
    """The images of one moment: the left one, the right one, or both."""

    name: str
    eyes: tuple[Eye, ...]
    _observed: dict[int, list[Observed]] = field(default_factory=dict)

    def observed(self, longest_px: int) -> list[Observed]:
        """Return its images at one size in even contrast, an eye each."""
        if longest_px not in self._observed:
            self._observed[longest_px] = [_observe(eye, eye.small(longest_px)) for eye in self.eyes]
        return self._observed[longest_px]


def _observe(eye: Eye, camera: Camera) -> Observed:
    size = (camera.width, camera.height)
    share = eye.usable.astype(np.float32)
    # Averaged over usable pixels alone: a highlight does not leak into its neighbours.
    total = cv2.resize(eye.image.astype(np.float32) * share[..., None], size, interpolation=cv2.INTER_AREA)
    weight = cv2.resize(share, size, interpolation=cv2.INTER_AREA)
    image = np.asarray(total / np.maximum(weight, 1e-3)[..., None], np.float32)
    values, kept = even_contrast(image, np.where(weight > 0.5, weight, 0))
    return Observed.of(camera, eye.eye_from_left, values, kept)
