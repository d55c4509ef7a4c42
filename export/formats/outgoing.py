"""Cameras on their way into a file: what every writer is given, and what several of them ask of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.camera_set import CameraSet
from utils.geometry import transform, unproject
from utils.types import Camera, FloatArray

_OFF_CENTRE_PX = 1e-3
_FOCAL_DIFFERS = 1e-6
_MARGIN = 1.1  # of the region around what is seen


@dataclass(frozen=True)
class Outgoing:
    """Cameras to write, all with a pose and, but for formats of poses alone, a calibration.

    Lengths of `cameras`, `points_world` (m, 3) with `colours` (m, 3), and `region` (centre (3,), half side (3,) of
    the box that is seen; None where no depth says it) are the file's: mm times a scale. `files` are the images as
    the file names them, relative to its folder. `record` restores what the format cannot hold.
    """

    cameras: CameraSet
    files: tuple[str, ...]
    record: dict[str, Any]
    points_world: FloatArray
    colours: NDArray[np.uint8]
    region: tuple[FloatArray, FloatArray] | None

    def calibration(self) -> list[Camera]:
        """Return the calibration of each image."""
        return [camera for camera in self.cameras.cameras if camera is not None]


def seen_region(cameras: CameraSet, points_world: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    """Return centre and half sides of a box around the points, or around the views between their depth bounds."""
    points = points_world
    if not len(points):
        if cameras.bounds is None or None in cameras.cameras:
            return None
        points = np.concatenate([_corners(cameras, index) for index in range(len(cameras.names))])
    low, high = np.percentile(points, [0.1, 99.9], axis=0)
    return (low + high) / 2, (high - low) / 2 * _MARGIN


def _corners(cameras: CameraSet, index: int) -> FloatArray:
    """Return (8, 3): the corners of one image at its nearest and farthest depth."""
    camera, bounds = cameras.cameras[index], cameras.bounds
    assert camera is not None
    assert bounds is not None
    right, bottom = camera.width - 1.0, camera.height - 1.0
    pixels = np.array([[0.0, 0.0], [right, 0.0], [0.0, bottom], [right, bottom]])
    corners = [unproject(camera.matrix, pixels, np.full(4, depth)) for depth in bounds[index]]
    return transform(cameras.world_from_camera[index], np.concatenate(corners))


def off_centre(cameras: Sequence[Camera | None]) -> list[str]:
    """Say how far principal points lie from the centre of the image, where a format knows the centre alone."""
    offsets = [
        float(np.hypot(camera.cx - (camera.width - 1) / 2, camera.cy - (camera.height - 1) / 2))
        for camera in cameras
        if camera is not None
    ]
    if max(offsets, default=0.0) <= _OFF_CENTRE_PX:
        return []
    return [f"no principal point: others take the image's centre, up to {max(offsets):.2f} px away"]


def one_focal_length(cameras: Sequence[Camera | None]) -> list[str]:
    """Say how much fx and fy differ, where a format has one focal length, fx."""
    ratios = [abs(camera.fy / camera.fx - 1) for camera in cameras if camera is not None]
    if max(ratios, default=0.0) <= _FOCAL_DIFFERS:
        return []
    return [f"one focal length: others take fx for fy, which differs by up to {100 * max(ratios):.2g} %"]


def same_camera(cameras: Sequence[Camera | None]) -> list[str]:
    """Say how much the focal lengths of the images differ, where a format has one for all of them."""
    widths = [camera.fx / camera.width for camera in cameras if camera is not None]
    if max(widths) / min(widths) - 1 <= _FOCAL_DIFFERS:
        return []
    spread = 100 * (max(widths) / min(widths) - 1)
    return [f"one focal length for all images: others take the first one's, {spread:.2g} % off for some"]
