"""Read and write COLMAP models as datasets: `sparse/0` with the model, `images` beside it.

COLMAP maps world to camera, and the centre of the top-left pixel is (0.5, 0.5): its cx is ours + 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2  # noqa: F401 - before pycolmap: in the other order cv2.imwrite aborts the process
import numpy as np

from export.camera_set import UNKNOWN_UNIT, CameraSet
from export.formats.outgoing import Outgoing
from export.formats.sidecar import NAME, restore, write_sidecar
from utils.broken_files import broken
from utils.colmap_files import EXPECTED, HALF_PIXEL, read_model
from utils.geometry import invert_rigid

IMAGES = "images/"  # where a dataset keeps what the model names
MODEL_FOLDERS = (".", "sparse/0", "sparse", "0")


def model_folder(path: Path) -> Path | None:
    """Return the folder of the model at or below a path; None where there is none."""
    for place in MODEL_FOLDERS:
        for ending in ("bin", "txt"):
            if (path / place / f"images.{ending}").is_file() and (path / place / f"cameras.{ending}").is_file():
                return path / place
    return None


def recognises(path: Path) -> bool:
    """Whether a folder is a model, or has one in `sparse/0` or `sparse`."""
    return path.is_dir() and model_folder(path) is not None


def read(path: Path) -> CameraSet:
    """Read the registered images of a model in the order of their ids."""
    folder = model_folder(path)
    if folder is None:
        raise broken(path, "no model in it", EXPECTED)
    cameras, images = read_model(folder)
    if not images:
        raise broken(folder, "no image with a pose", "a model with at least one")
    names = tuple(image.name for image in images)
    bent = sorted({cameras[image.camera].bent for image in images} - {""})
    found = CameraSet(
        names=names,
        world_from_camera=invert_rigid(np.stack([image.camera_from_world for image in images])),
        cameras=tuple(cameras[image.camera].pinhole for image in images),
        unit=UNKNOWN_UNIT,
        images=_images(folder, names),
        missing=(f"lens distortion ({', '.join(bent)}): undistort the images",) if bent else (),
    )
    root = path if (path / NAME).exists() else folder
    return restore(found, root / NAME)


def _images(folder: Path, names: Sequence[str]) -> tuple[Path | None, ...]:
    """Return where the images lie: in `images`, beside the model or up to two folders above it."""
    roots = [root / "images" for root in (folder, folder.parent, folder.parent.parent)]
    found = next((root for root in roots if (root / names[0]).is_file()), None)
    if found is None:
        return ()
    return tuple(found / name if (found / name).is_file() else None for name in names)


def write_binary(out: Outgoing, folder: Path) -> None:
    """Write `sparse/0` with .bin files."""
    _write(out, folder, text=False)


def write_text(out: Outgoing, folder: Path) -> None:
    """Write `sparse/0` with .txt files."""
    _write(out, folder, text=True)


def _write(out: Outgoing, folder: Path, *, text: bool) -> None:
    """Write PINHOLE cameras (one for all images that share it), poses, and points that no image observes."""
    import pycolmap

    model, calibration = pycolmap.Reconstruction(), out.calibration()
    numbers = {camera: number for number, camera in enumerate(dict.fromkeys(calibration), 1)}
    for camera, number in numbers.items():
        parameters = [camera.fx, camera.fy, camera.cx + HALF_PIXEL, camera.cy + HALF_PIXEL]
        size = {"width": camera.width, "height": camera.height}
        model.add_camera_with_trivial_rig(
            pycolmap.Camera(camera_id=number, model="PINHOLE", params=parameters, **size)
        )
    camera_from_world = invert_rigid(out.cameras.world_from_camera)
    for index, (file, camera) in enumerate(zip(out.files, calibration, strict=True)):
        image = pycolmap.Image(name=file.removeprefix(IMAGES), camera_id=numbers[camera], image_id=index + 1)
        rotation = pycolmap.Rotation3d(camera_from_world[index, :3, :3])
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(rotation, camera_from_world[index, :3, 3]))
    for point, colour in zip(out.points_world, out.colours, strict=True):
        model.add_point3D(point, pycolmap.Track(), colour)
    place = folder / "sparse" / "0"
    place.mkdir(parents=True)
    (model.write_text if text else model.write_binary)(place)
    write_sidecar(folder / NAME, out.record)
