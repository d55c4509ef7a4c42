"""Depth of SCARED: points per pixel, measured in a keyframe and carried along its video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.datasets.archives import FrameFiles
from utils.datasets.point_maps import USABLE_PX, decode_points, judge_landing, landing
from utils.datasets.scared_calibration import StereoCalibration
from utils.datasets.source import Finding
from utils.errors import InputError
from utils.types import FloatArray, Side

_CARRIED = (
    "carried from the keyframe's measurement by the robot's kinematics: not measured, less true the farther the "
    "camera moves; image and pose may be apart in time"
)


@dataclass(frozen=True)
class ScenePoints:
    """`scene_points`: a map of points a frame, the left eye's above the right eye's.

    `size` is (width, height) of one eye's images; `scale` turns the stored unit into mm.
    """

    files: FrameFiles
    size: tuple[int, int]
    scale: float

    def points(self, number: int, side: Side) -> NDArray[np.float32]:
        """Return (h, w, 3) points in one eye's camera, mm, NaN unknown. Raises InputError."""
        where = f"{self.files.place}: frame {number}"
        stored = decode_points(self.files.read(number), where)
        width, height = self.size
        if stored.shape[:2] not in ((height, width), (2 * height, width)):
            raise _another_size(where, stored, f"{width}x{2 * height} (left above right) or {width}x{height}")
        if side == "right" and len(stored) == height:
            return np.full((height, width, 3), np.nan, np.float32)
        return np.float32(self.scale) * (stored[:height] if side == "left" else stored[height:])

    def depth(self, number: int, side: Side) -> NDArray[np.float32]:
        """Return (h, w) z-depth of one eye, mm, NaN unknown."""
        return self.points(number, side)[..., 2]

    def usable(self, number: int, calibration: StereoCalibration) -> tuple[tuple[Side, ...], list[Finding]]:
        """Return the eyes whose points fit their camera in one frame, and what was found."""
        if not self.files.exists:
            return (), [Finding("warn", "scene points", "not there: no depth to compare the video's frames with")]
        findings = [Finding("warn", "depth of the video", _CARRIED, "--part keyframe takes the measured pair")]
        sides: list[Side] = []
        for side in ("left", "right"):
            judged = judge(self.points(number, side), calibration, side, f"{side} scene points")
            if side == "right" and judged.verdict != "ok":
                findings.append(Finding("warn", judged.subject, f"{judged.words}; left out"))
                continue
            sides.append(side)
            findings.append(judged)
        return tuple(sides), findings


def judge(points: FloatArray, calibration: StereoCalibration, side: Side, subject: str) -> Finding:
    """Say whether points, mm, fall on their pixels in one eye's camera, and whether their unit can be mm."""
    height, width = points.shape[:2]
    rectified = calibration.rectified_left((width, height)) if side == "left" else None
    found = landing(points, calibration.lenses[side], rectified)
    if found and found.distorted <= USABLE_PX and not 5 <= found.z_mm <= 1000:
        return Finding(
            "refuse", subject, f"z has a median of {found.z_mm:.3g}: that is not mm", "give --depth_scale"
        )
    return judge_landing(found, subject)


def need_size(points: FloatArray, size: Sequence[int], path: Path) -> None:
    """Refuse a map that is not of the images' (width, height). Raises InputError."""
    if points.shape[:2] != (size[1], size[0]):
        raise _another_size(str(path), points, f"{size[0]}x{size[1]}")


def _another_size(where: str, points: FloatArray, expected: str) -> InputError:
    return InputError(
        f"{where} has another size than the images",
        found=f"{points.shape[1]}x{points.shape[0]}",
        expected=expected,
        do="put the files of one keyframe together",
    )
