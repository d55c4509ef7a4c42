"""Depth and disparity maps that lie beside stored images: find them, check them, turn them into depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from utils.artifacts import read_json
from utils.errors import InputError
from utils.geometry import rotation_angle_degrees
from utils.images import MAP_ENDINGS, find_map, read_map
from utils.map_header import Kind, Unit, check_map_file, image_size
from utils.scene import Scene
from utils.types import Camera, FloatArray, Rig, Side
from utils.undistortion import Lens

SIDES: tuple[Side, ...] = ("left", "right")
KINDS: tuple[Kind, ...] = ("depth", "disparity")  # where a frame has both, depth is taken

_ROTATION_DEGREES = 0.05  # a rectified pair is rotated by less; 0.05 degrees are 0.3 px of 350
_OFF_AXIS = 0.005  # share of the baseline that may point off the x axis
_FOCAL = 0.001  # relative difference of the focal lengths
_ROW_PX = 0.5  # difference of cy


@dataclass(frozen=True)
class StoredMap:
    """A map of one image, in the pixels of the stored image: its file, what it holds, and its eye."""

    path: Path
    kind: Kind
    side: Side


def find_stored(folder: Path, side: Side, name: str, endings: Sequence[str] = MAP_ENDINGS) -> StoredMap | None:
    """Return a frame's map, `<folder>/l/depth/<frame>.*` or `l/disparity` (`r` likewise); None without one."""
    for kind in KINDS:
        path = find_map(folder / side[0] / kind, name, tuple(endings))
        if path is not None:
            return StoredMap(path, kind, side)
    return None


def stored_files(folder: Path, endings: Sequence[str] = MAP_ENDINGS) -> list[Path]:
    """Return every map file of both eyes, sorted."""
    folders = [folder / side[0] / kind for side in SIDES for kind in KINDS]
    files = [path for one in folders if one.is_dir() for path in one.iterdir()]
    return sorted(path for path in files if path.suffix.lower() in endings)


def check_stored(
    folder: Path,
    side: Side,
    images: Mapping[str, Path],
    units: Mapping[Kind, Unit],
    calibration: Path,
    endings: Sequence[str] = MAP_ENDINGS,
) -> dict[str, StoredMap]:
    """Check the maps of one eye by their headers, and return them by frame.

    Args:
        folder: it holds `l/depth` and the like.
        side: eye.
        images: frame -> stored image of that eye.
        units: of PNG maps.
        calibration: calib.yaml, if there is one.
        endings: of the files that are looked for.

    Raises:
        InputError: a map that cannot be what it claims, or disparity beside a calibration that is not rectified.
    """
    size: tuple[int, int] | None = None  # one for all images: the scene stage refuses anything else
    found = {}
    for name, image in images.items():
        stored = find_stored(folder, side, name, endings)
        if stored is None:
            continue
        size = size or image_size(image)
        check_map_file(stored.path, stored.kind, units[stored.kind], image, size)
        if stored.kind == "disparity":
            _check_calibration_file(calibration, stored.path)
        found[name] = stored
    return found


def _check_calibration_file(path: Path, stored: Path) -> None:
    """Refuse disparity beside a calibration file of a pair that is not rectified.

    Calibration may come from flags instead; reading the map checks that, at the end.
    """
    if not path.is_file():
        return
    try:
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
        rotation, translation = storage.getNode("R").mat(), storage.getNode("T").mat()
    except (cv2.error, SystemError):
        return  # the scene stage says what is wrong with the file
    if rotation is not None and translation is not None and rotation.shape == (3, 3):
        _require_rectified(np.asarray(rotation, float), np.ravel(translation).astype(float), stored)


def load_lenses(scene_folder: Path) -> dict[Side, Lens]:
    """Return the cameras of the stored images, as the scene stage recorded them in `frames.json`."""
    record = read_json(scene_folder / "frames.json")["lenses"]
    return {
        side: Lens(Camera(**record[side]["camera"]), tuple(record[side]["distortion"]))
        for side in SIDES
        if record.get(side)
    }


def read_stored(
    stored: StoredMap, units: Mapping[Kind, Unit], scene: Scene, lenses: Mapping[Side, Lens], name: str
) -> FloatArray:
    """Return the values (h, w) of a map, mm or px of the stored image; NaN where a PNG holds 0.

    Raises:
        InputError: a corrupt file, another size than the stored image, or a PNG without unit.
    """
    camera, unit = lenses[stored.side].camera, units[stored.kind]
    image = Path(scene.images.get(f"{stored.side}_{name}", name))
    check_map_file(stored.path, stored.kind, unit, image, (camera.width, camera.height))
    values = _decode(stored.path)
    if stored.path.suffix.lower() == ".png" and unit.worth is not None:
        values = np.where(values == 0, np.nan, values * unit.worth)
    return values


def stored_depth(values: FloatArray, stored: StoredMap, rig: Rig, lenses: Mapping[Side, Lens]) -> FloatArray:
    """Return z-depth, mm, of a map's values; NaN where they are unknown, or behind the camera.

    Raises:
        InputError: disparity of a pair that is not rectified.
    """
    if stored.kind == "disparity":
        left, right = rectified_pair(rig, lenses, stored.path)
        return depth_from_disparity(values, left, right, rig.baseline_mm)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


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
            f"{path} cannot be read as a map",
            found=f"{type(error).__name__}: {error}",
            expected="one channel of numbers",
            do="write the file again, or remove it",
        ) from error


def rectified_pair(rig: Rig, lenses: Mapping[Side, Lens], path: Path) -> tuple[Camera, Camera]:
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
        f"{path}: disparity means depth for a rectified pair alone, this rig is not one",
        found=found,
        expected="equal orientation, fx and cy of both eyes, T = (-baseline, 0, 0), no distortion",
        do=f"give depth maps in {path.parent.parent / 'depth'}, or the calibration of the rectified images",
    )
