"""Read a calibration from calib.yaml, from flags or from an LLFF file: cameras, distortion, rotation, baseline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from utils.artifacts import NO_ARRAYS
from utils.calibration_file import read_matrices
from utils.errors import InputError
from utils.geometry import nearest_rotation, rigid
from utils.types import Camera, FloatArray, Rig, Side
from utils.undistortion import Lens

CALIBRATION_FILE = "calib.yaml"
LLFF_FILE = "poses_bounds.npy"
DISTORTION_COUNTS = (0, 4, 5, 8, 12, 14)


@dataclass(frozen=True)
class CalibrationFlags:
    """A calibration given on the command line, and the conventions in which any calibration is written."""

    cam_l: tuple[float, ...] | None = None
    cam_r: tuple[float, ...] | None = None
    R_matrix: tuple[float, ...] | None = None
    t_vec: tuple[float, ...] | None = None
    rotation_convention: str = "opencv"
    pixel_origin: int = 0


@dataclass(frozen=True)
class Intrinsics:
    """One eye as it was written: (3, 3) matrix in px of the stored image, OpenCV distortion terms."""

    matrix: FloatArray
    distortion: tuple[float, ...] = ()


@dataclass(frozen=True)
class Calibration:
    """A calibration in our conventions (OpenCV rotation, pixels from 0, mm), nothing corrected.

    `rotation` (3, 3) and `translation_mm` (3,) map X_right = R X_left + t and are None for one eye;
    `image_size` is (width, height) where the source says it.
    """

    source: str
    left: Intrinsics
    right: Intrinsics | None
    rotation: FloatArray | None
    translation_mm: FloatArray | None
    image_size: tuple[int, int] | None
    rotation_convention: str = "opencv"

    def intrinsics(self, side: Side) -> Intrinsics | None:
        """Return one eye as it was written."""
        return self.left if side == "left" else self.right

    def lens(self, side: Side, size: tuple[int, int], cut_px: int = 0) -> Lens:
        """Return the lens of stored images of (width, height) of which `cut_px` columns are missing."""
        eye = self.intrinsics(side)
        if eye is None:
            raise ValueError(f"no {side} eye in {self.source}")
        (fx, _, cx), (_, fy, cy) = eye.matrix[0], eye.matrix[1]
        camera = Camera(float(fx), float(fy), float(cx) - cut_px, float(cy), *size)
        return Lens(camera, eye.distortion)

    def right_from_left(self) -> FloatArray | None:
        """Return the (4, 4) transform, mm, with the rotation made orthonormal; None for one eye."""
        if self.rotation is None or self.translation_mm is None:
            return None
        return rigid(nearest_rotation(self.rotation), self.translation_mm)

    def rig(self, cameras: dict[Side, Camera]) -> Rig:
        """Return the rig of the given cameras; the right one is left out where it is not among them."""
        if "right" not in cameras:
            return Rig(cameras["left"])
        return Rig(cameras["left"], cameras["right"], self.right_from_left())


def read_calibration(folder: Path, flags: CalibrationFlags, size: tuple[int, int]) -> Calibration:
    """Read the calibration: flags before calib.yaml before poses_bounds.npy.

    Args:
        folder: the dataset.
        flags: calibration flags, and the conventions, which hold for calib.yaml as well.
        size: (width, height) of the left images; only the LLFF file needs it.

    Raises:
        InputError: no calibration, or one that cannot be understood.
    """
    given = [name for name in ("cam_l", "cam_r", "R_matrix", "t_vec") if getattr(flags, name)]
    if given:
        found = _from_flags(flags, given)
    elif (folder / CALIBRATION_FILE).exists():
        found = _from_file(folder / CALIBRATION_FILE)
    elif (folder / LLFF_FILE).exists():
        return _from_llff(folder / LLFF_FILE, size)
    else:
        raise InputError(
            f"{folder} has no calibration",
            found=f"neither {CALIBRATION_FILE} nor --cam_l",
            expected=f"{CALIBRATION_FILE} with M1, D1 and, for two eyes, M2, D2, R, T, or the calibration flags",
            do=f"write {folder / CALIBRATION_FILE} with cv2.FileStorage, or give --cam_l fx,cx,cy",
        )
    return _in_our_conventions(found, flags)


def _in_our_conventions(found: Calibration, flags: CalibrationFlags) -> Calibration:
    """Turn MATLAB's row-vector rotation and its pixels from 1 into ours."""
    if flags.pixel_origin not in (0, 1):
        raise InputError(
            "--pixel_origin is neither 0 nor 1",
            found=str(flags.pixel_origin),
            expected="0 (OpenCV) or 1 (MATLAB): the coordinate of the first pixel",
            do="correct --pixel_origin",
        )
    shift = np.zeros((3, 3))
    shift[:2, 2] = flags.pixel_origin
    rotation = found.rotation
    if rotation is not None and flags.rotation_convention == "matlab":
        rotation = rotation.T
    return Calibration(
        source=found.source,
        left=Intrinsics(found.left.matrix - shift, found.left.distortion),
        right=Intrinsics(found.right.matrix - shift, found.right.distortion) if found.right else None,
        rotation=rotation,
        translation_mm=found.translation_mm,
        image_size=found.image_size,
        rotation_convention=flags.rotation_convention,
    )


def _from_flags(flags: CalibrationFlags, given: list[str]) -> Calibration:
    stereo = ["cam_l", "cam_r", "R_matrix", "t_vec"]
    missing = [name for name in stereo if name not in given]
    if missing and given != ["cam_l"]:
        raise InputError(
            "a calibration from flags lacks " + ", ".join(f"--{name}" for name in missing),
            found=", ".join(f"--{name}" for name in given),
            expected="--cam_l alone for one eye; --cam_l, --cam_r, --R_matrix and --t_vec for two",
            do="give " + ", ".join(f"--{name}" for name in missing),
        )
    left = Intrinsics(_camera_flag("cam_l", flags.cam_l))
    if len(given) == 1:
        return Calibration("--cam_l", left, None, None, None, None)
    return Calibration(
        "--cam_l --cam_r --R_matrix --t_vec",
        left,
        Intrinsics(_camera_flag("cam_r", flags.cam_r)),
        _numbers("--R_matrix", flags.R_matrix, 9).reshape(3, 3),
        _numbers("--t_vec", flags.t_vec, 3),
        None,
    )


def _camera_flag(name: str, values: tuple[float, ...] | None) -> FloatArray:
    """Return the (3, 3) matrix of `fx,cx,cy` (square pixels) or `fx,fy,cx,cy`."""
    numbers = tuple(values or ())
    if len(numbers) == 3:
        numbers = (numbers[0], *numbers)
    if len(numbers) != 4 or not np.isfinite(numbers).all():
        raise InputError(
            f"--{name} is not a camera",
            found=f"{len(values or ())} numbers: {values}",
            expected="fx,cx,cy or fx,fy,cx,cy in px of the stored images",
            do=f"give --{name} three or four numbers",
        )
    fx, fy, cx, cy = numbers
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def _numbers(what: str, values: Any, count: int) -> FloatArray:
    """Return `count` finite numbers, or refuse."""
    numbers = np.ravel(np.asarray(values, float))
    if numbers.size != count or not np.isfinite(numbers).all():
        raise InputError(
            f"{what} cannot be used",
            found=f"{numbers.size} numbers: {numbers.round(4).tolist()}",
            expected=f"{count} finite numbers",
            do="write the calibration again with all of its values",
        )
    return numbers


def _from_file(path: Path) -> Calibration:
    """Read an OpenCV stereo file: M1 D1 M2 D2 R T image_size, or M1 D1 alone."""
    values = read_matrices(path)
    right = None
    if "M2" in values:
        for key in ("R", "T"):
            if key not in values:
                raise _lacking(path, key, "M2 without R or T is no stereo calibration")
        right = _eye(path, values, "2")
    elif "R" in values or "T" in values:
        raise _lacking(path, "M2", "R and T belong to two eyes")
    rotation = translation = size = None
    if right is not None:
        rotation = _rotation(path, values["R"])
        translation = _numbers(f"{path}: T", values["T"], 3)
    if "image_size" in values:
        width, height = _numbers(f"{path}: image_size", values["image_size"], 2)
        size = (round(width), round(height))
    return Calibration(path.name, _eye(path, values, "1"), right, rotation, translation, size)


def _lacking(path: Path, key: str, why: str) -> InputError:
    return InputError(
        f"{path} has no {key}",
        found=f"no {key}: {why}",
        expected="M1 D1 for one eye; M1 D1 M2 D2 R T, and image_size, for two",
        do=f"add {key}, or keep only M1, D1 and image_size for the left eye alone",
    )


def _eye(path: Path, values: dict[str, FloatArray], number: str) -> Intrinsics:
    if f"M{number}" not in values:
        raise _lacking(path, f"M{number}", "every eye needs its matrix")
    what = f"{path}: M{number}"
    matrix = _numbers(what, values[f"M{number}"], 9).reshape(3, 3)
    bottom = np.abs(matrix[2] - [0, 0, 1]).max()
    if bottom > 1e-6 or abs(matrix[1, 0]) > 1e-6 or abs(matrix[0, 1]) > 1e-3 * abs(matrix[0, 0]):
        transposed = bottom > 1e-6 and np.allclose(matrix[:2, 2], 0)
        raise InputError(
            f"{what} is not a camera matrix",
            found=f"{matrix.round(4).tolist()}" + (" (MATLAB's transposed form)" if transposed else ""),
            expected="[[fx, 0, cx], [0, fy, cy], [0, 0, 1]], px, without skew",
            do="write its transpose" if transposed else "calibrate again without skew",
        )
    distortion = np.ravel(values.get(f"D{number}", np.zeros(0)))
    if distortion.size not in DISTORTION_COUNTS or not np.isfinite(distortion).all():
        raise InputError(
            f"{path}: D{number} is no OpenCV distortion",
            found=f"{distortion.size} numbers: {distortion.round(4).tolist()}",
            expected="k1 k2 p1 p2 and more as OpenCV orders them: 4, 5, 8, 12 or 14 finite numbers",
            do="write the distortion in OpenCV's order, or zeros when the images are undistorted",
        )
    return Intrinsics(matrix, tuple(float(value) for value in distortion))


def _rotation(path: Path, values: FloatArray) -> FloatArray:
    """Return the (3, 3) rotation; three numbers are a rotation vector in radians."""
    if np.size(values) == 3:
        return np.asarray(cv2.Rodrigues(_numbers(f"{path}: R", values, 3))[0], float)
    return _numbers(f"{path}: R", values, 9).reshape(3, 3)


def _from_llff(path: Path, size: tuple[int, int]) -> Calibration:
    """Return the one focal length that an LLFF file knows, scaled to the images; centre of the image."""
    try:
        rows = np.load(path, allow_pickle=False)
        height, width, focal_px = (float(value) for value in rows[0, :15].reshape(3, 5)[:, 4])
    except (*NO_ARRAYS, IndexError) as error:
        raise InputError(
            f"{path} is not an LLFF file",
            found=str(error),
            expected="an array (n, 17) of poses and bounds",
            do=f"write it again, or add {CALIBRATION_FILE}",
        ) from error
    scale = size[0] / width
    if abs(size[1] - scale * height) > 0.02 * size[1]:
        raise InputError(
            f"{path} belongs to images of another shape",
            found=f"images of {size[0]}x{size[1]}",
            expected=f"{width:.0f}x{height:.0f} or a scaled copy of it",
            do=f"add {CALIBRATION_FILE}, or use the images that the file was made from",
        )
    fx, fy = focal_px * scale, focal_px * size[1] / height
    matrix = np.array([[fx, 0, (size[0] - 1) / 2], [0, fy, (size[1] - 1) / 2], [0, 0, 1.0]])
    return Calibration(LLFF_FILE, Intrinsics(matrix), None, None, None, size)
