"""Read and write LLFF's `poses_bounds.npy`, 17 numbers an image, beside the folder `images`.

A row is a 3x5 matrix (camera-to-world with axes down, right, back; then height, width, focal length) and two
depth bounds. There is no principal point, which is the centre of the image, and no name: rows follow the images
in order. Images of another size than the file's are read as resized ones.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from export.camera_set import UNKNOWN_UNIT, CameraSet
from export.formats.broken import broken, load_arrays
from export.formats.outgoing import Outgoing, off_centre, one_focal_length
from export.formats.sidecar import NAME, restore, write_sidecar
from export.formats.transforms import image_size
from utils.images import list_images
from utils.types import Camera

POSES_BOUNDS = "poses_bounds.npy"
OPENCV_FROM_LLFF_AXES = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])  # its own inverse
_IMAGE_FOLDERS = ("images", "l/images")
_EXPECTED = "an array of shape (n, 17), one row an image, as LLFF's imgs2poses writes it"
_SAME_SHAPE = 0.01  # relative difference of aspect ratios that rounding explains


def recognises(path: Path) -> bool:
    """Whether a file is an npy of 17 columns, or a folder has `poses_bounds.npy` and is not something else."""
    if path.is_dir():
        return (path / POSES_BOUNDS).is_file()
    return path.suffix == ".npy" and path.is_file() and load_arrays(path, _EXPECTED)["array"].shape[1:] == (17,)


def read(path: Path) -> CameraSet:
    """Read the file, or that of a folder; calibration is brought to the size of the images found beside it."""
    file = path / POSES_BOUNDS if path.is_dir() else path
    rows = load_arrays(file, _EXPECTED).get("array", np.zeros(0))
    if rows.ndim != 2 or rows.shape[1] != 17 or not len(rows) or rows.dtype.kind not in "fiu":
        raise broken(file, f"an array of shape {rows.shape}, type {rows.dtype}", _EXPECTED)
    rows = rows.astype(float)
    if not np.isfinite(rows).all():
        wrong = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise broken(file, f"NaN or infinity in row {wrong}", _EXPECTED)
    if (rows[:, [4, 9, 14]] <= 0).any():
        raise broken(file, "a height, width or focal length of 0 or below", _EXPECTED)
    table = rows[:, :15].reshape(-1, 3, 5)
    world_from_camera = np.tile(np.eye(4), (len(rows), 1, 1))
    world_from_camera[:, :3, :3] = table[:, :, :3] @ OPENCV_FROM_LLFF_AXES
    world_from_camera[:, :3, 3] = table[:, :, 3]
    images, notes = _images(file.parent, len(rows))
    cameras = CameraSet(
        names=tuple(image.name for image in images) or tuple(f"{index:04d}" for index in range(len(rows))),
        world_from_camera=world_from_camera,
        cameras=tuple(_camera(*row) for row in table[:, :, 4]),
        unit=UNKNOWN_UNIT,
        images=images,
        bounds=rows[:, 15:],
        notes=notes,
    )
    return restore(_at_size_of_images(cameras), file.with_name(NAME))


def losses(cameras: CameraSet) -> list[str]:
    """Return what a row of 17 numbers cannot hold."""
    return one_focal_length(cameras.cameras) + off_centre(cameras.cameras)


def write(out: Outgoing, folder: Path) -> None:
    """Write the rows, and the record that keeps names and principal points."""
    bounds = out.cameras.bounds
    assert bounds is not None
    table = np.zeros((len(out.files), 3, 5))
    table[:, :, :3] = out.cameras.world_from_camera[:, :3, :3] @ OPENCV_FROM_LLFF_AXES
    table[:, :, 3] = out.cameras.world_from_camera[:, :3, 3]
    table[:, :, 4] = [(camera.height, camera.width, camera.fx) for camera in out.calibration()]
    with open(folder / POSES_BOUNDS, "wb") as file:
        np.save(file, np.concatenate([table.reshape(-1, 15), bounds], axis=1))
    write_sidecar(folder / NAME, out.record)


def layout(index: int, name: str) -> str:
    """Return where an image goes: numbered, so that every way of sorting gives the order of the rows."""
    return f"images/{index:04d}_{name.replace('/', '_')}"


def _camera(height: float, width: float, focal: float) -> Camera:
    return Camera(focal, focal, (width - 1) / 2, (height - 1) / 2, round(width), round(height))


def _images(folder: Path, count: int) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Return the images that belong to the rows, and what is wrong with them."""
    images = next((found for name in _IMAGE_FOLDERS if (found := list_images(folder / name))), [])
    if len(images) == count or not images:
        return tuple(images), ()
    return (), (f"{len(images)} images beside {count} rows: which belongs to which is unknown, names are numbers",)


def _at_size_of_images(cameras: CameraSet) -> CameraSet:
    """Return cameras of the size that their images have; refuse images of another shape."""
    if not cameras.images or cameras.cameras[0] is None:
        return cameras
    size, stated = image_size(cameras.images[0]), cameras.cameras[0]
    if size is None or size == (stated.width, stated.height):
        return cameras
    said = f"written for images of {stated.width}x{stated.height} px, these have {size[0]}x{size[1]}"
    if abs(size[0] / size[1] * stated.height / stated.width - 1) > _SAME_SHAPE:
        return replace(cameras, images=(), notes=(*cameras.notes, f"{said}: another shape, not used"))
    resized = tuple(camera.resized(*size) for camera in cameras.cameras if camera is not None)
    return replace(cameras, cameras=resized, notes=(*cameras.notes, f"{said}: calibration is resized"))
