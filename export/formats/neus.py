"""Read and write `cameras.npz` of IDR and NeuS: a projection matrix an image, and the sphere of interest.

`world_mat_<i>` is K [R | t], world to pixels; rays are shot through whole pixel numbers, so that the centre of
the top-left pixel is (0, 0), as ours. `scale_mat_<i>` maps the unit sphere to the region of interest: lengths of
`world_mat` stay what they are. Image size and names are not in the file: they are those of the folder `image`.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from scipy.linalg import rq

from export.camera_set import UNKNOWN_UNIT, CameraSet
from export.formats.outgoing import Outgoing
from export.formats.sidecar import NAME, restore, write_sidecar
from export.formats.transforms import image_size
from utils.broken_files import as_floats, broken, load_arrays
from utils.geometry import invert_rigid, rigid
from utils.images import list_images, write_rgb
from utils.types import Camera, FloatArray

CAMERAS = "cameras.npz"
_FILES = (CAMERAS, "cameras_sphere.npz", "cameras_linear_init.npz")
_EXPECTED = "world_mat_0, world_mat_1, ... of shape (4, 4) or (3, 4), and scale_mat_0, ..."
_KEY = "world_mat_"
_SKEWED = 1e-6


def recognises(path: Path) -> bool:
    """Whether a file is an npz with `world_mat_0`, or a folder has one by its usual name."""
    if path.is_dir():
        return any((path / name).is_file() for name in _FILES)
    return path.suffix == ".npz" and path.is_file() and f"{_KEY}0" in load_arrays(path, _EXPECTED)


def read(path: Path) -> CameraSet:
    """Read the file, or that of a folder; cameras are None where no image says their size."""
    file = next((path / name for name in _FILES if (path / name).is_file()), path)
    arrays = load_arrays(file, _EXPECTED)
    numbers = sorted(
        int(key[len(_KEY) :]) for key in arrays if key[len(_KEY) :].isdecimal() and key.startswith(_KEY)
    )
    if not numbers:
        raise broken(file, f"the keys {', '.join(sorted(arrays)[:4]) or 'none'}", _EXPECTED)
    if len(set(numbers)) < len(numbers) or not all(f"{_KEY}{number}" in arrays for number in numbers):
        raise broken(file, f"keys like {_KEY}01, which are no plain numbers", _EXPECTED)
    parts = [_decompose(file, f"{_KEY}{number}", arrays[f"{_KEY}{number}"]) for number in numbers]
    images = list_images(file.parent / "image") or list_images(file.parent / "rgb")
    notes, missing = [], []
    if images and len(images) != len(parts):
        notes.append(f"{len(images)} images beside {len(parts)} cameras: which belongs to which is unknown")
        images = []
    if not images and not (file.parent / NAME).exists():
        missing.append("calibration, for no image beside the file says their size")
    matrices = [matrix for matrix, _ in parts]
    if any(abs(matrix[0, 1]) > _SKEWED * matrix[0, 0] for matrix in matrices):
        missing.append("the skew of the pixels' axes")
    sizes = [image_size(image) for image in images] or [None] * len(parts)
    cameras = CameraSet(
        names=tuple(image.name for image in images) or tuple(f"{number:06d}" for number in numbers),
        world_from_camera=np.stack([invert_rigid(camera_from_world) for _, camera_from_world in parts]),
        cameras=tuple(_camera(matrix, size) for matrix, size in zip(matrices, sizes, strict=True)),
        unit=UNKNOWN_UNIT,
        images=tuple(images),
        notes=tuple(notes),
        missing=tuple(missing),
    )
    return restore(cameras, file.with_name(NAME))


def write(out: Outgoing, folder: Path) -> None:
    """Write world and scale matrices, and masks where images were written: their alpha, or all inside."""
    camera_from_world = invert_rigid(out.cameras.world_from_camera)
    scale_matrix = np.eye(4)
    if out.region is not None:
        centre, half = out.region
        scale_matrix = np.diag([*[float(np.linalg.norm(half))] * 3, 1.0])
        scale_matrix[:3, 3] = centre
    arrays = {}
    for index, camera in enumerate(out.calibration()):
        matrix = np.eye(4)
        matrix[:3, :3] = camera.matrix
        arrays[f"{_KEY}{index}"] = matrix @ camera_from_world[index]
        arrays[f"scale_mat_{index}"] = scale_matrix
    with open(folder / CAMERAS, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    for index, name in enumerate(out.files):
        if (folder / name).is_file():
            _write_mask(folder / name, folder / "mask" / f"{index:06d}.png")
    write_sidecar(folder / NAME, out.record)


def layout(index: int, name: str) -> str:
    """Return where an image goes."""
    del name  # files are sorted and counted
    return f"image/{index:06d}.png"


def _write_mask(image: Path, mask: Path) -> None:
    """Write the alpha of an image as a mask; 255 where it has none."""
    pixels = np.asarray(cv2.imread(str(image), cv2.IMREAD_UNCHANGED))
    opaque = np.full(pixels.shape[:2], 255, np.uint8)
    write_rgb(mask, pixels[..., 3] if pixels.shape[2:] == (4,) else opaque)


def _decompose(file: Path, key: str, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Split a projection into (3, 3) calibration with 1 in its corner and (4, 4) camera_from_world."""
    values = as_floats(file, key, values, _EXPECTED)
    if values.shape not in ((4, 4), (3, 4)) or not np.isfinite(values).all():
        raise broken(file, f"{key} of shape {values.shape}, or not finite", _EXPECTED)
    projection = values[:3]
    determinant = float(np.linalg.det(projection[:, :3]))
    if determinant == 0:
        raise broken(file, f"{key} is singular", _EXPECTED)
    projection = projection * np.sign(determinant)  # a projection has no sign; a rotation has determinant 1
    calibration, rotation = rq(projection[:, :3])
    signs = np.sign(np.diag(calibration))
    calibration, rotation = calibration * signs, signs[:, None] * rotation
    translation = np.linalg.solve(calibration, projection[:, 3])
    return calibration / calibration[2, 2], rigid(rotation, translation)


def _camera(matrix: FloatArray, size: tuple[int, int] | None) -> Camera | None:
    if size is None:
        return None
    return Camera(float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2]), *size)
