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
from export.formats.outgoing import Outgoing, off_centre, one_focal_length
from export.formats.sidecar import NAME, restore, write_sidecar
from export.formats.transforms import image_size
from utils.broken_files import load_arrays
from utils.images import list_images
from utils.llff_rows import (
    EXPECTED,
    OPENCV_FROM_LLFF_AXES,
    POSES_BOUNDS,
    read_rows,
    row_camera,
    world_from_camera,
)

_IMAGE_FOLDERS = ("images", "l/images")
_SAME_SHAPE = 0.01  # relative difference of aspect ratios that rounding explains


def recognises(path: Path) -> bool:
    """Whether a file is an npy of 17 columns, or a folder has `poses_bounds.npy` and is not something else."""
    if path.is_dir():
        return (path / POSES_BOUNDS).is_file()
    return path.suffix == ".npy" and path.is_file() and load_arrays(path, EXPECTED)["array"].shape[1:] == (17,)


def read(path: Path) -> CameraSet:
    """Read the file, or that of a folder; calibration is brought to the size of the images found beside it."""
    file = path / POSES_BOUNDS if path.is_dir() else path
    rows = read_rows(file)
    images, notes = _images(file.parent, len(rows))
    cameras = CameraSet(
        names=tuple(image.name for image in images) or tuple(f"{index:04d}" for index in range(len(rows))),
        world_from_camera=world_from_camera(rows),
        cameras=tuple(row_camera(row) for row in rows),
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
