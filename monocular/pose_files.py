"""Poses from elsewhere: LLFF `poses_bounds.npy`, COLMAP model folders, npz with `world_from_left`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monocular.colmap_sfm import read_colmap_model
from utils.artifacts import NO_ARRAYS
from utils.errors import InputError
from utils.geometry import FloatArray, nearest_rotation
from utils.images import without_ending
from utils.llff_rows import world_from_camera
from utils.types import Camera, Rig

_ORTHONORMAL = 0.02  # largest deviation that printed digits explain
_FOCAL_DIFFERS = 0.02


@dataclass(frozen=True)
class FilePoses:
    """Poses as a file gives them, in its own world and scale.

    `sfm_from_left` (n, 4, 4) camera-to-world, OpenCV axes, in the order of the scene's frames, NaN where the
    file has none; `metric` True when lengths are mm, `perhaps_mm` when the file does not say, `scale_mm` mm per
    unit where the file reveals it (both eyes of a calibrated rig); `warnings` in words.
    """

    sfm_from_left: FloatArray
    metric: bool
    scale_mm: float | None = None
    warnings: list[str] = field(default_factory=list)
    perhaps_mm: bool = False


def read_poses(path: Path, names: Sequence[str], rig: Rig, folder: Path) -> FilePoses:
    """Read poses of a scene's frames from any of the known formats.

    Args:
        path: `.npy` (LLFF), `.npz`, or a COLMAP model folder.
        names: the scene's frames in order.
        rig: its calibration, to check focal lengths and to find the scale.
        folder: where a helper process may write.

    Raises:
        InputError: no such file, wrong count, NaN, mirrored or skewed axes, no frame in common.
    """
    if path.is_dir():
        return _read_colmap(path, names, rig, folder)
    loaded = _load(path)
    if isinstance(loaded, dict):
        return _read_npz(path, loaded, names)
    return _read_llff(path, loaded, names, rig.left)


def check_poses(path: Path, names: Sequence[str]) -> None:
    """Raise InputError for a file that cannot give poses, as far as that shows without the calibration."""
    if path.is_dir():
        _require_model(path)
        return
    loaded = _load(path)
    if isinstance(loaded, dict):
        _read_npz(path, loaded, names)
    else:
        _llff_poses(path, loaded, names)


def _load(path: Path) -> FloatArray | dict[str, FloatArray]:
    """Read the array of an npy file, or those of an npz file by name."""
    if not path.exists():
        raise InputError(
            f"--poses file: {path} does not exist",
            found="no such file or folder",
            expected="poses_bounds.npy (LLFF), an npz with names and world_from_left, or a COLMAP model folder",
            do="give the place with --poses_path",
        )
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except NO_ARRAYS as error:
        raise InputError(
            f"{path} cannot be read",
            found=(str(error).splitlines() or [type(error).__name__])[0],
            expected="an npy or npz file of numbers",
            do="write it again with numpy.save or numpy.savez",
        ) from error


def _read_llff(path: Path, rows: FloatArray, names: Sequence[str], camera: Camera) -> FilePoses:
    """Read poses, and compare height, width and focal length with the calibration."""
    poses = _llff_poses(path, rows, names)
    warnings = _compare_focal(rows[0, [4, 9, 14]].astype(float), camera)
    return FilePoses(poses, metric=False, warnings=warnings)


def _llff_poses(path: Path, rows: FloatArray, names: Sequence[str]) -> FloatArray:
    """Read (n, 17): 3x4 pose with columns (down, right, back), height, width, focal, two depth bounds."""
    if rows.ndim != 2 or rows.shape[1] != 17 or len(rows) != len(names):
        raise InputError(
            f"{path} does not belong to these images",
            found=f"an array of shape {rows.shape}",
            expected=f"({len(names)}, 17): one row an image of l/images, in natural order of the names",
            do="give the file that was made for these images, or take images out",
        )
    return _checked(path, world_from_camera(rows.astype(float)), names)


def _compare_focal(height_width_focal: FloatArray, camera: Camera) -> list[str]:
    """Compare the file's focal length, brought to our image size, with the calibration."""
    height, width, focal = (float(value) for value in height_width_focal)
    warnings = []
    scaled = focal * camera.width / width
    if abs(scaled / camera.fx - 1) > _FOCAL_DIFFERS:
        warnings.append(
            f"the file's focal length is {focal:.1f} px at {width:.0f} px of width, {scaled:.1f} px here, "
            f"but the calibration says {camera.fx:.1f} px"
        )
    if abs(width / height / (camera.width / camera.height) - 1) > _FOCAL_DIFFERS:
        warnings.append(
            f"the file was made for {width:.0f} x {height:.0f} px, another shape than "
            f"{camera.width} x {camera.height} px: were the images cropped?"
        )
    return warnings


def _read_npz(path: Path, arrays: dict[str, FloatArray], names: Sequence[str]) -> FilePoses:
    """Read `names`, `world_from_left` (n, 4, 4) and, optionally, `metric`; without it the unit is unknown."""
    missing = {"names", "world_from_left"} - set(arrays)
    if missing:
        raise InputError(
            f"{path} lacks {' and '.join(sorted(missing))}",
            found=f"the keys {', '.join(sorted(arrays)) or 'none'}",
            expected="names (n,), world_from_left (n, 4, 4) and, optionally, metric",
            do="write these keys with numpy.savez",
        )
    given_names = [Path(without_ending(str(name))).name for name in arrays["names"]]
    poses = arrays["world_from_left"]
    if poses.shape != (len(given_names), 4, 4):
        raise InputError(
            f"{path}: world_from_left does not fit names",
            found=f"{len(given_names)} names and an array of shape {poses.shape}",
            expected=f"({len(given_names)}, 4, 4)",
            do="write one 4 x 4 camera-to-world matrix a name",
        )
    poses = _checked(path, poses.astype(float), given_names)
    in_order = _in_order(path, dict(zip(given_names, poses, strict=True)), names)
    return FilePoses(in_order, metric=bool(arrays.get("metric", False)), perhaps_mm="metric" not in arrays)


def _read_colmap(path: Path, names: Sequence[str], rig: Rig, folder: Path) -> FilePoses:
    """Read a COLMAP model; with both eyes in it, their distance gives the scale."""
    _require_model(path)
    model, examples = read_colmap_model(path, names, folder)
    if not model.placed:
        _refuse_names(path, examples, names)
    between = np.linalg.norm(model.world_from_left[:, :3, 3] - model.world_from_right[:, :3, 3], axis=1)
    baselines = between[np.isfinite(between)]
    scale_mm = rig.baseline_mm / float(np.median(baselines)) if rig.stereo and baselines.any() else None
    return FilePoses(model.world_from_left, metric=False, scale_mm=scale_mm)


def _require_model(path: Path) -> None:
    if not any((path / f"images.{ending}").exists() for ending in ("bin", "txt")):
        raise InputError(
            f"--poses file: {path} holds no COLMAP model",
            found=", ".join(sorted(entry.name for entry in path.iterdir())[:6]) or "an empty folder",
            expected="cameras, images and points3D files, .bin or .txt",
            do="point --poses_path at the model's folder, for example sparse/0",
        )


def _in_order(path: Path, given: dict[str, FloatArray], names: Sequence[str]) -> FloatArray:
    """Return the poses of the scene's frames (n, 4, 4), NaN for those that the file lacks."""
    if not set(given) & set(names):
        _refuse_names(path, list(given), names)
    unknown = np.full((4, 4), np.nan)
    return np.stack([given.get(name, unknown) for name in names])


def _refuse_names(path: Path, given: Sequence[str], names: Sequence[str]) -> None:
    raise InputError(
        f"{path} has poses of other images",
        found=", ".join(given[:3]) + ", ...",
        expected="names of l/images without ending: " + ", ".join(names[:3]) + ", ...",
        do="give the poses that belong to these images, or rename them",
    )


def _checked(path: Path, sfm_from_left: FloatArray, names: Sequence[str]) -> FloatArray:
    """Return poses (n, 4, 4) with exact rotations. Raises InputError for what is not a rigid motion."""
    broken = np.asarray(~np.isfinite(sfm_from_left).all(axis=(1, 2)))
    if broken.any():
        _refuse(
            path, names, broken, "NaN or infinity", "take these frames out of the file: they are left out then"
        )
    rotations = sfm_from_left[:, :3, :3]
    mirrored = np.asarray(np.linalg.det(rotations) < 0)
    if mirrored.any():
        do = "negate the axis that was flipped: the camera's axes are x right, y down, z forward"
        _refuse(path, names, mirrored, "a rotation with determinant -1 (a mirrored world)", do)
    skew = np.abs(np.swapaxes(rotations, 1, 2) @ rotations - np.eye(3)).max(axis=(1, 2))
    if (skew > _ORTHONORMAL).any():
        found = f"axes that are not orthonormal (off by {skew.max():.3f})"
        _refuse(path, names, skew > _ORTHONORMAL, found, "write rotations without scale or shear")
    last_row = np.abs(sfm_from_left[:, 3] - [0.0, 0.0, 0.0, 1.0]).max(axis=1)
    if (last_row > 1e-6).any():
        do = "write camera-to-world matrices whose translation is the last column"
        _refuse(path, names, last_row > 1e-6, "a last row other than 0 0 0 1 (transposed?)", do)
    exact = sfm_from_left.copy()
    exact[:, :3, :3] = np.stack([nearest_rotation(rotation) for rotation in rotations])
    return exact


def _refuse(path: Path, names: Sequence[str], wrong: NDArray[np.bool_], found: str, do: str) -> None:
    which = [name for name, is_wrong in zip(names, wrong, strict=True) if is_wrong]
    shown = ", ".join(which[:5]) + (", ..." if len(which) > 5 else "")
    raise InputError(
        f"{path}: impossible poses of {len(which)} frames ({shown})",
        found=found,
        expected="finite camera-to-world rotations with determinant +1, and positions",
        do=do,
    )
