"""The calibration of StereoMIS, and how the rectified view that its masks are drawn on sees the stored one."""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.datasets.source import Lens
from utils.errors import InputError
from utils.geometry import invert_rigid, nearest_rotation, pixel_grid, rigid
from utils.types import BoolArray, FloatArray, Side

_SECTIONS: dict[Side, str] = {"left": "StereoLeft", "right": "StereoRight"}


@dataclass(frozen=True)
class Calibration:
    """Both eyes' lenses, `right_from_left` (4, 4) in mm, and the (width, height) of one eye's stored image."""

    lenses: dict[Side, Lens]
    right_from_left: FloatArray
    size: tuple[int, int]

    def rectified(self) -> Calibration:
        """Return the calibration of the pairs that the authors' tool unpacks: OpenCV's rectification, alpha 0."""
        _, projections = self._rectification()
        lenses = {side: Lens(matrix[:, :3]) for side, matrix in zip(_SECTIONS, projections, strict=True)}
        shift = np.array([projections[1][0, 3] / projections[1][0, 0], 0.0, 0.0])
        return Calibration(lenses, rigid(np.eye(3), shift), self.size)

    @property
    def left_from_rectified(self) -> FloatArray:
        """(4, 4) from the rectified left camera to the stored one: a rotation."""
        rotations, _ = self._rectification()
        return rigid(rotations[0].T, np.zeros(3))

    def resized(self, size: tuple[int, int]) -> Calibration:
        """Return the calibration of images resized to (width, height): c' = s (c + 1/2) - 1/2."""
        scale = np.array([size[0] / self.size[0], size[1] / self.size[1]])
        lenses: dict[Side, Lens] = {}
        for side, lens in self.lenses.items():
            matrix = lens.matrix.copy()
            matrix[:2] *= scale[:, None]
            matrix[:2, 2] += 0.5 * scale - 0.5
            lenses[side] = Lens(matrix, lens.distortion)
        return Calibration(lenses, self.right_from_left, size)

    def mask_of_stored(self, rectified_tissue: BoolArray) -> BoolArray:
        """Carry a mask of the rectified left view, of any size, to the stored left image (h, w).

        What the rectified view does not show is not known to be tissue: false.
        """
        seen, (width, height) = self._rectified_pixels, self.size
        mask_height, mask_width = rectified_tissue.shape
        scale = np.array([mask_width / width, mask_height / height])
        where = np.rint((seen + 0.5) * scale - 0.5).astype(np.int64)
        inside = ((where >= 0) & (where < (mask_width, mask_height))).all(axis=-1)
        carried = np.zeros((height, width), bool)
        carried[inside] = rectified_tissue[where[inside][:, 1], where[inside][:, 0]]
        return carried

    @cached_property
    def _rectified_pixels(self) -> FloatArray:
        """(h, w, 2): where the rectified left view shows what each pixel of the stored left image shows."""
        rotations, projections = self._rectification()
        lens, (width, height) = self.lenses["left"], self.size
        stored = pixel_grid(width, height).reshape(-1, 1, 2)
        terms = np.array(lens.distortion)
        seen = cv2.undistortPoints(stored, lens.matrix, terms, R=rotations[0], P=projections[0])
        return np.asarray(seen, float).reshape(height, width, 2)

    def _rectification(self) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
        left, right = self.lenses["left"], self.lenses["right"]
        r1, r2, p1, p2, *_ = cv2.stereoRectify(
            left.matrix, np.array(left.distortion), right.matrix, np.array(right.distortion), self.size,
            self.right_from_left[:3, :3], self.right_from_left[:3, 3].reshape(3, 1),
            flags=cv2.CALIB_ZERO_DISPARITY, alpha=0,
        )  # fmt: skip
        return [np.asarray(r1, float), np.asarray(r2, float)], [np.asarray(p1, float), np.asarray(p2, float)]


def read_calibration(path: Path) -> Calibration:
    """Read `StereoCalibration.ini`. Raises InputError where it is missing or not whole."""
    parser = configparser.ConfigParser()
    try:
        parser.read_string(path.read_text())
        lenses: dict[Side, Lens] = {side: _lens(parser[name]) for side, name in _SECTIONS.items()}
        placed = {side: _placed(parser[name]) for side, name in _SECTIONS.items()}
        sizes = [
            (int(float(parser[name]["res_x"])), int(float(parser[name]["res_y"]))) for name in _SECTIONS.values()
        ]
    except (OSError, KeyError, ValueError, configparser.Error) as error:
        raise _refusal(path, f"{type(error).__name__}: {' '.join(str(error).split())[:120]}") from error
    if sizes[0] != sizes[1] or min(lens.matrix[0, 0] for lens in lenses.values()) <= 0:
        raise _refusal(path, f"views of {sizes[0]} and {sizes[1]}, fx {lenses['left'].matrix[0, 0]:g}")
    return Calibration(lenses, placed["right"] @ invert_rigid(placed["left"]), sizes[0])


def _lens(section: configparser.SectionProxy) -> Lens:
    fx, fy, cx, cy = (float(section[key]) for key in ("fc_x", "fc_y", "cc_x", "cc_y"))
    terms = tuple(float(section[f"kc_{index}"]) for index in range(5))
    more = tuple(float(section.get(f"kc_{index}", "0")) for index in range(5, 8))
    return Lens(np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]), terms + more if any(more) else terms)


def _placed(section: configparser.SectionProxy) -> FloatArray:
    """Return (4, 4) camera from rig, mm; the identity where a section says nothing."""
    if "R_0" not in section:
        return np.eye(4)
    rotation = np.array([float(section[f"R_{index}"]) for index in range(9)]).reshape(3, 3)
    if np.abs(nearest_rotation(rotation) - rotation).max() > 0.01:
        raise ValueError("R_0 … R_8 are no rotation")
    return rigid(nearest_rotation(rotation), np.array([float(section[f"T_{index}"]) for index in range(3)]))


def _refusal(path: Path, found: str) -> InputError:
    return InputError(
        f"{path} is no calibration of StereoMIS",
        found=found,
        expected="sections StereoLeft and StereoRight with res_x, fc_x, cc_x, kc_0 … and R_0 …, T_0 … (mm)",
        do="put the sequence's StereoCalibration.ini there",
    )
