"""Cameras as any file format may hold them: the common ground of conversions and checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from utils.images import without_ending
from utils.types import BoolArray, Camera, FloatArray, Side

UNKNOWN_UNIT = "units of the file, which does not say what they are"


@dataclass(frozen=True)
class CameraSet:
    """Posed cameras, one an image.

    `names` are image file names relative to the folder that the format names images from (`left/1.png`), or
    stems where a format holds no more; `world_from_camera` (n, 4, 4) has OpenCV axes (x right, y down, z forward),
    rows of NaN where an image has no pose; `cameras` has one entry an image, None where the format holds no
    intrinsics. `unit` is `mm`, or words that say what lengths mean instead.

    Empty or None where a format holds none: `images`, the file of each image (None where it was not found);
    `splits`, `train`, `test` or an empty string; `bounds` (n, 2), nearest and farthest z-depth. `notes` say
    how the file was read, `missing` what it holds and a CameraSet cannot.
    """

    names: tuple[str, ...]
    world_from_camera: FloatArray
    cameras: tuple[Camera | None, ...]
    unit: str
    images: tuple[Path | None, ...] = ()
    splits: tuple[str, ...] = ()
    bounds: FloatArray | None = None
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def placed(self) -> BoolArray:
        """(n,) whether a camera has a pose."""
        return np.asarray(np.isfinite(self.world_from_camera).all(axis=(1, 2)))

    def only(self, chosen: Sequence[int]) -> CameraSet:
        """Return the cameras at these places, in this order."""
        return replace(
            self,
            names=tuple(self.names[k] for k in chosen),
            world_from_camera=self.world_from_camera[list(chosen)],
            cameras=tuple(self.cameras[k] for k in chosen),
            images=tuple(self.images[k] for k in chosen) if self.images else (),
            splits=tuple(self.splits[k] for k in chosen) if self.splits else (),
            bounds=self.bounds[list(chosen)] if self.bounds is not None else None,
        )

    def scaled(self, factor: float) -> CameraSet:
        """Return the cameras with all lengths multiplied by `factor`; `unit` is left to the caller."""
        world_from_camera = self.world_from_camera.copy()
        world_from_camera[:, :3, 3] *= factor
        bounds = None if self.bounds is None else self.bounds * factor
        return replace(self, world_from_camera=world_from_camera, bounds=bounds)


def eye_and_frame(name: str) -> tuple[Side, str]:
    """Return the eye and the frame of an image's name; without a folder `right` or `r` it is the left eye."""
    stem = Path(without_ending(name))
    return "right" if {"right", "r"} & set(stem.parent.parts) else "left", stem.name
