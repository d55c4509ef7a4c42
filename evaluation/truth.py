"""Read the truth of one frame and eye from the dataset, in the scene's camera; check its files before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.options import EvaluationOptions
from evaluation.truth_header import check_map_file, image_size
from utils.artifacts import read_json
from utils.errors import InputError
from utils.geometry import rotation_angle_degrees
from utils.images import MAP_ENDINGS, find_map, list_images, read_map
from utils.scene import Scene
from utils.types import Camera, FloatArray, Rig, Side
from utils.undistortion import Lens, bring_to_camera

Kind = Literal["depth", "disparity"]
SIDES: tuple[Side, ...] = ("left", "right")
_KINDS: tuple[Kind, ...] = ("depth", "disparity")  # where a frame has both, depth is the truth

_ROTATION_DEGREES = 0.05  # a rectified pair is rotated by less; 0.05 degrees are 0.3 px of 350
_OFF_AXIS = 0.005  # share of the baseline that may point off the x axis
_FOCAL = 0.001  # relative difference of the focal lengths
_ROW_PX = 0.5  # difference of cy


@dataclass(frozen=True)
class TruthFile:
    """Where the truth of one frame and eye lies."""

    path: Path
    kind: Kind
    side: Side


def find_truth(datadir: Path, side: Side, name: str) -> TruthFile | None:
    """Return the truth of a frame: depth where there is one, else disparity, else None."""
    for kind in _KINDS:
        path = find_map(datadir / side[0] / kind, name)
        if path is not None:
            return TruthFile(path, kind, side)
    return None


def files(options: EvaluationOptions) -> list[Path]:
    """Return every truth file of the dataset, sorted; none for a demonstration."""
    if options.demo or not options.datadir:
        return []
    folders = [Path(options.datadir) / side[0] / kind for side in SIDES for kind in _KINDS]
    return sorted(
        path
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
        if path.suffix.lower() in MAP_ENDINGS
    )


def check(options: EvaluationOptions) -> None:
    """Find what is wrong with the truth from headers alone, before any stage runs.

    Raises:
        InputError: a depth PNG that is not 16-bit grey, or a PNG without its unit; a unit that is not
            positive; a truth map of another size than its image; disparity of a pair that is not rectified.
    """
    if options.demo or not options.datadir:
        return
    for flag, unit in (
        ("--depth_png_mm", options.depth_png_mm),
        ("--disparity_png_px", options.disparity_png_px),
    ):
        if unit is not None and not (np.isfinite(unit) and unit > 0):
            raise InputError(
                f"{flag} is no unit",
                found=str(unit),
                expected="a positive number",
                do="give what one unit of the PNG is worth",
            )
    for side in SIDES:
        _check_eye(options, side)


def _check_eye(options: EvaluationOptions, side: Side) -> None:
    datadir = Path(options.datadir)
    size: tuple[int, int] | None = None  # one for all images: the scene stage refuses anything else
    for name, image in _image_files(datadir / side[0], options.image_dir).items():
        truth = find_truth(datadir, side, name)
        if truth is None:
            continue
        size = size or image_size(image)
        check_map_file(truth.path, truth.kind, _unit(options, truth.kind), image, size)
        if truth.kind == "disparity":
            _check_calibration_file(datadir / "calib.yaml", truth.path)


def _image_files(folder: Path, image_dir: str) -> dict[str, Path]:
    """Return frame name -> image of one eye; rectified images are called `<frame>_<cut>`."""
    paths = list_images(folder / image_dir)
    cut = image_dir == "rectify"
    return {path.stem.rpartition("_")[0] if cut else path.stem: path for path in paths}


def _check_calibration_file(path: Path, truth: Path) -> None:
    """Refuse disparity truth beside a calibration file of a pair that is not rectified.

    Calibration may come from flags instead; reading the truth checks that, at the end.
    """
    if not path.is_file():
        return
    try:
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
        rotation, translation = storage.getNode("R").mat(), storage.getNode("T").mat()
    except (cv2.error, SystemError):
        return  # the scene stage says what is wrong with the file
    if rotation is not None and translation is not None and rotation.shape == (3, 3):
        _require_rectified(np.asarray(rotation, float), np.ravel(translation).astype(float), truth)


def load_lenses(scene_folder: Path) -> dict[Side, Lens]:
    """Return the cameras of the stored images, as the scene stage recorded them in `frames.json`."""
    record = read_json(scene_folder / "frames.json")["lenses"]
    return {
        side: Lens(Camera(**record[side]["camera"]), tuple(record[side]["distortion"]))
        for side in SIDES
        if record.get(side)
    }


def read_truth(
    options: EvaluationOptions, scene: Scene, lenses: Mapping[Side, Lens], side: Side, name: str
) -> NDArray[np.float32] | None:
    """Return the true z-depth of one frame and eye in the scene's camera, or None where there is no file.

    Args:
        options: dataset folder and units.
        scene: the prepared dataset; its camera gives the size of the result.
        lenses: camera and distortion of the stored images.
        side: eye.
        name: frame.

    Returns:
        (h, w) mm; NaN where the truth is unknown.

    Raises:
        InputError: a corrupt file, another size than the stored image, a PNG without unit, or disparity of a
            pair that is not rectified.
    """
    truth = find_truth(Path(options.datadir), side, name)
    if truth is None:
        return None
    lens = lenses[side]
    check_map_file(
        truth.path,
        truth.kind,
        _unit(options, truth.kind),
        Path(scene.images.get(f"{side}_{name}", name)),
        (lens.camera.width, lens.camera.height),
    )
    values = _decode(truth.path)
    unit = _unit(options, truth.kind)
    if truth.path.suffix.lower() == ".png" and unit is not None:
        values = np.where(values == 0, np.nan, values * unit)
    if truth.kind == "disparity":
        left, right = _rectified_pair(scene.rig, lenses, truth.path)
        depth_mm = depth_from_disparity(values, left, right, scene.rig.baseline_mm)
    else:
        depth_mm = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    depth_mm = depth_mm.astype(np.float32)
    return bring_to_camera(depth_mm, lens, scene.rig.camera(side), nearest=True, outside=float("nan"))


def depth_from_disparity(disparity_px: FloatArray, left: Camera, right: Camera, baseline_mm: float) -> FloatArray:
    """Return z-depth, mm, of a rectified pair: fx B / (d - (cx_left - cx_right)).

    `disparity_px` is x_left - x_right on the grid of either eye. NaN where it is unknown (not finite) or not
    larger than cx_left - cx_right: there the point would lie at infinity or behind the cameras.
    """
    parallax_px = np.asarray(disparity_px, float) - (left.cx - right.cx)
    parallax_px[~(np.isfinite(parallax_px) & (parallax_px > 0))] = np.nan
    return np.asarray(left.fx * baseline_mm / parallax_px)


def _decode(path: Path) -> FloatArray:
    try:
        return np.asarray(read_map(path), dtype=np.float64)
    except (ValueError, OSError, EOFError, TypeError, cv2.error) as error:
        raise InputError(
            f"{path} cannot be read as truth",
            found=f"{type(error).__name__}: {error}",
            expected="one channel of numbers",
            do="write the file again, or remove it: the frame is then not scored",
        ) from error


def _unit(options: EvaluationOptions, kind: Kind) -> float | None:
    return options.depth_png_mm if kind == "depth" else options.disparity_png_px


def _rectified_pair(rig: Rig, lenses: Mapping[Side, Lens], path: Path) -> tuple[Camera, Camera]:
    """Return the cameras of the stored pair. Raises InputError unless the eyes differ by a shift along x alone."""
    if rig.right is None or rig.right_from_left is None:
        raise _unusable_disparity(path, "no calibrated right eye")
    _require_rectified(rig.right_from_left[:3, :3], rig.right_from_left[:3, 3], path)
    if any(lens.distorted for lens in lenses.values()):
        raise _unusable_disparity(path, "lens distortion in the calibration: stored images are not rectified")
    left = lenses["left"].camera
    # a right eye that is calibrated but has no images has no lens on record: undo --factor
    right = lenses["right"].camera if "right" in lenses else rig.right.resized(left.width, left.height)
    if abs(left.fx / right.fx - 1) > _FOCAL or abs(left.cy - right.cy) > _ROW_PX:
        found = f"fx {left.fx:.2f} and {right.fx:.2f} px, cy {left.cy:.2f} and {right.cy:.2f} px"
        raise _unusable_disparity(path, found)
    return left, right


def _require_rectified(rotation: FloatArray, translation_mm: FloatArray, path: Path) -> None:
    angle = float(rotation_angle_degrees(rotation))
    if angle > _ROTATION_DEGREES:
        raise _unusable_disparity(path, f"eyes rotated by {angle:.3f} degrees against each other")
    baseline_mm = float(np.linalg.norm(translation_mm))
    if -translation_mm[0] < baseline_mm * (1 - _OFF_AXIS) or baseline_mm == 0:
        shown = ", ".join(f"{value:.4g}" for value in translation_mm)
        raise _unusable_disparity(path, f"T = ({shown}) mm, X_right = X_left + T")


def _unusable_disparity(path: Path, found: str) -> InputError:
    return InputError(
        f"{path}: disparity is truth for a rectified pair alone, this rig is not one",
        found=found,
        expected="equal orientation, fx and cy of both eyes, T = (-baseline, 0, 0), no distortion",
        do=f"give the truth as depth maps in {path.parent.parent / 'depth'}, or the calibration of the "
        "rectified images",
    )


def stray_truth(datadir: Path, names: tuple[str, ...]) -> int:
    """Return how many truth files belong to none of the frames: a sign of misnamed files."""
    options = EvaluationOptions(datadir=str(datadir))
    return sum(path.stem not in names for path in files(options))
