"""The calibration files of SCARED: the stereo YAML of a keyframe and what each frame's JSON says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from utils.calibration_file import read_matrices
from utils.datasets.source import Finding, Lens, Verdict
from utils.errors import InputError
from utils.geometry import invert_rigid, nearest_rotation, rigid
from utils.types import FloatArray, Side

_KEYS = {"left": ("M1", "D1"), "right": ("M2", "D2")}


@dataclass(frozen=True)
class StereoCalibration:
    """Both eyes' lenses and `right_from_left` (4, 4), mm."""

    lenses: dict[Side, Lens]
    right_from_left: FloatArray

    def rectified_left(self, size: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
        """Return rotation and matrix of OpenCV's rectified left camera, as the public toolkits make it."""
        left, right = self.lenses["left"], self.lenses["right"]
        turned, _, projection, *_ = cv2.stereoRectify(
            left.matrix, np.array(left.distortion), right.matrix, np.array(right.distortion), size,
            self.right_from_left[:3, :3], self.right_from_left[:3, 3].reshape(3, 1),
        )  # fmt: skip
        return np.asarray(turned), np.asarray(projection[:, :3])


def read_calibration(path: Path) -> StereoCalibration:
    """Read `endoscope_calibration.yaml`. Raises InputError where it is missing or not whole."""
    values = _matrices(path)
    lenses: dict[Side, Lens] = {}
    for side in ("left", "right"):
        matrix, terms = (values[key] for key in _KEYS[side])
        if matrix.shape != (3, 3) or matrix[0, 0] <= 0 or terms.size not in (4, 5, 8, 12, 14):
            raise _refusal(
                path, f"{_KEYS[side][0]} of shape {matrix.shape}, {_KEYS[side][1]} of {terms.size} numbers"
            )
        lenses[side] = Lens(matrix, tuple(float(term) for term in terms.ravel()))
    if values["R"].shape != (3, 3) or values["T"].size != 3:
        raise _refusal(path, f"R of shape {values['R'].shape}, T of {values['T'].size} numbers")
    return StereoCalibration(lenses, rigid(nearest_rotation(values["R"]), values["T"]))


def _matrices(path: Path) -> dict[str, FloatArray]:
    if not path.exists():
        raise _refusal(path, "no such file")
    values = read_matrices(path)
    missing = [key for key in ("M1", "D1", "M2", "D2", "R", "T") if key not in values or not values[key].size]
    if missing or not all(np.isfinite(value).all() for value in values.values()):
        raise _refusal(path, f"no {', '.join(missing)}" if missing else "numbers that are not finite")
    return values


def _refusal(path: Path, found: str) -> InputError:
    return InputError(
        f"{path} is no calibration of SCARED",
        found=found,
        expected="OpenCV's YAML with M1 D1 M2 D2 R T",
        do="put the keyframe's endoscope_calibration.yaml there",
    )


@dataclass(frozen=True)
class FrameData:
    """What one frame's JSON says: (4, 4) `camera_from_world` as it is stored, mm; the left matrix or None."""

    camera_from_world: FloatArray
    left_matrix: FloatArray | None


def read_frame_data(data: bytes, where: str) -> FrameData:
    """Read a frame's JSON: `camera-pose`, and `KL` of `camera-calibration`. Raises InputError."""
    try:
        record: dict[str, Any] = json.loads(data)
        pose = np.array(record["camera-pose"], float).reshape(4, 4)
        matrix = record.get("camera-calibration", {}).get("KL")
        left_matrix = None if matrix is None else np.array(matrix, float).reshape(3, 3)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{where} cannot be read",
            found=f"{type(error).__name__}: {error}",
            expected="JSON with `camera-pose`, a 4x4 matrix",
            do="get frame_data.tar.gz again",
        ) from error
    return FrameData(pose, left_matrix)


def world_from_left(frames: list[FrameData]) -> tuple[FloatArray, list[Finding]]:
    """Return poses (n, 4, 4) of frames whose `camera-pose` maps keyframe points into the frame's camera, mm.

    Matrices that are no rigid motion become NaN, and a finding.
    """
    stored = np.stack([frame.camera_from_world for frame in frames])
    turned = np.stack(
        [nearest_rotation(pose[:3, :3]) if np.isfinite(pose).all() else pose[:3, :3] for pose in stored]
    )
    off = np.abs(turned - stored[:, :3, :3]).max(axis=(1, 2))
    good = np.isfinite(stored).all(axis=(1, 2)) & (off < 0.01) & (np.linalg.det(np.nan_to_num(turned)) > 0)
    poses = np.full(stored.shape, np.nan)
    for index in np.flatnonzero(good):
        poses[index] = invert_rigid(rigid(turned[index], stored[index, :3, 3]))
    if good.all():
        return poses, []
    words = f"{int((~good).sum())} of {len(frames)} are no rigid motion (rotation off by {np.nanmax(off):.2g})"
    verdict: Verdict = "warn" if good.any() else "refuse"
    return poses, [Finding(verdict, "camera poses", words, "leave these frames out")]
