"""Cameras as any file format may hold them: the common ground of conversions and checks."""

from __future__ import annotations

from dataclasses import dataclass

from utils.types import Camera, FloatArray


@dataclass(frozen=True)
class CameraSet:
    """Posed cameras, one an image.

    `names` are image file names relative to the folder that the format names images from (`left/1.png`), or
    stems where a format holds no more; `world_from_camera` (n, 4, 4) has OpenCV axes (x right, y down, z forward),
    rows of NaN where an image has no pose; `cameras` has one entry an image, None where the format holds no
    intrinsics. `unit` is `mm`, or words that say what lengths mean instead.
    """

    names: tuple[str, ...]
    world_from_camera: FloatArray
    cameras: tuple[Camera | None, ...]
    unit: str
