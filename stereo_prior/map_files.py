"""The maps that `--stereo files` is given: which belongs to which image, and what is wrong early."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stereo_prior import colmap_maps
from stereo_prior.dataset import list_eye
from stereo_prior.source import Map, StereoOptions, Task
from utils.errors import InputError
from utils.map_header import Kind, Unit
from utils.stored_maps import (
    SIDES,
    StoredMap,
    check_stored,
    find_stored,
    load_lenses,
    read_stored,
    stored_depth,
    stored_files,
)
from utils.types import FloatArray, Side
from utils.undistortion import bring_to_camera

log = logging.getLogger("specula")

# measurements before pictures of them
ENDINGS = (".npy", ".npz", ".pfm", ".tiff", ".tif", ".exr", ".png")
_MARKER_SHARE = 1e-3  # of the pixels that hold the smallest value, when it says "unknown"
_NEEDED = (
    "l/depth/<frame>.* (mm) or l/disparity/<frame>.* (px, x_left - x_right), r/ likewise, "
    "or COLMAP's stereo/depth_maps/<image>.geometric.bin"
)


@dataclass(frozen=True, eq=False)
class GivenMap:
    """A map (h, w) in the scene's pixels: its values as given, NaN unknown, and the depth that they mean, mm.

    Attributes:
        values: mm, px of the stored image, or COLMAP's unit.
        depth_mm: NaN where the values are unknown or behind the camera.
        stored: its file.
    """

    values: Map
    depth_mm: FloatArray
    stored: StoredMap


Reader = Callable[[Side, str], GivenMap | None]


def units(options: StereoOptions) -> dict[Kind, Unit]:
    """Return what a unit of a PNG is worth."""
    return {
        "depth": Unit(options.stereo_png_mm or None, "--stereo_png_mm"),
        "disparity": Unit(options.stereo_png_px or None, "--stereo_png_px"),
    }


def files(options: StereoOptions) -> list[Path]:
    """Return every map file of the folder, sorted."""
    folder = Path(options.stereo_path)
    if not options.stereo_path or not folder.is_dir():
        return []
    return stored_files(folder, ENDINGS) or colmap_maps.files(folder)


def check(options: StereoOptions) -> None:
    """Find what is wrong with the maps from names and headers, before any stage runs.

    Raises:
        InputError: no folder, nothing in it that is known, frames without a map, a map of another size than its
            image, a PNG without its unit, disparity of a pair that is not rectified.
    """
    folder = _existing(options)
    for unit in units(options).values():
        unit.check()
    images = _images(options)
    if images and not images["right"]:
        raise InputError(
            "--stereo files needs two eyes",
            found=f"left images only in {options.datadir}",
            expected="l/ and r/",
            do="add the right images; maps of a single eye go to --monocular files",
        )
    if stored_files(folder, ENDINGS):
        calibration = Path(options.datadir) / "calib.yaml"
        found = [
            check_stored(folder, side, of_eye, units(options), calibration, ENDINGS)
            for side, of_eye in images.items()
        ]
        if images:
            _require_frames(folder, images["left"], {name for one in found for name in one})
        return
    colmap_maps.check(folder, list(images.get("left", {})))


def _existing(options: StereoOptions) -> Path:
    """Return the folder. Raises InputError where there is none, or none with maps."""
    folder = Path(options.stereo_path)
    if not options.stereo_path or not folder.is_dir():
        raise InputError(
            "--stereo files needs --stereo_path",
            found=f"no folder {folder}" if options.stereo_path else "no --stereo_path",
            expected=f"a folder with {_NEEDED}",
            do="give the folder, or choose another --stereo",
        )
    if not files(options):
        inside = sorted(path.name for path in folder.iterdir())
        listed = ", ".join(inside[:6]) + (", ..." if len(inside) > 6 else "")
        raise InputError(
            f"--stereo_path {folder} has no maps",
            found=colmap_maps.unusable(folder) or listed or "an empty folder",
            expected=f"{_NEEDED}; {', '.join(ending[1:] for ending in ENDINGS)}",
            do="put the maps into these folders, named like their images",
        )
    return folder


def _images(options: StereoOptions) -> dict[Side, dict[str, Path]]:
    """Return frame -> stored image of each eye; nothing where the dataset is not at hand."""
    if not options.datadir:
        return {}
    eyes: dict[Side, dict[str, Path]] = {
        side: list_eye(Path(options.datadir), side, options.image_dir).files for side in SIDES
    }
    return eyes if eyes["left"] else {}


def _require_frames(folder: Path, names: Collection[str], found: Collection[str]) -> None:
    """Refuse frames that have a map in neither eye."""
    missing = [name for name in names if name not in found]
    if not missing:
        return
    strays = sorted({path.stem for path in stored_files(folder, ENDINGS)} - set(names))
    raise InputError(
        f"{folder}: frames without a map",
        found=f"no map of {len(missing)} of {len(names)} frames: {', '.join(missing[:5])}"
        + (", ..." if len(missing) > 5 else "")
        + (f"; maps of no frame: {', '.join(strays[:3])}" if strays else ""),
        expected="a map of the left eye, the right one or both for every frame, named like its image",
        do="add the missing maps, rename those that are there, or take the frames out of the dataset",
    )


def stored_reader(task: Task, folder: Path) -> Reader:
    """Return the function that reads a map of l/ or r/, undistorted and resized as its image is.

    Raises:
        InputError: frames without a map.
    """
    lenses, scene = load_lenses(task.scene.folder), task.scene
    found = [name for name in scene.names if any(find_stored(folder, side, name, ENDINGS) for side in SIDES)]
    _require_frames(folder, scene.names, found)

    def read(side: Side, name: str) -> GivenMap | None:
        stored = find_stored(folder, side, name, ENDINGS)
        if stored is None:
            return None
        values = _without_markers(read_stored(stored, units(task.options), scene, lenses, name))
        camera = scene.rig.camera(side)
        values = bring_to_camera(values, lenses[side], camera, nearest=True, outside=float("nan"))
        return GivenMap(values, stored_depth(values, stored, scene.rig, lenses), stored)

    return read


def _without_markers(values: FloatArray) -> Map:
    """Return values with NaN where they say "unknown": not finite, 0, or one negative value held by many pixels.

    Programs write -1, -16 or the smallest disparity less one; real negative values do not repeat exactly.
    """
    known = np.isfinite(values) & (values != 0)
    lowest = values[known].min() if known.any() else 0.0
    if lowest < 0 and (values == lowest).sum() > _MARKER_SHARE * values.size:
        known &= values != lowest
    return np.where(known, values, np.nan).astype(np.float32)


def colmap_reader(task: Task, folder: Path) -> Reader:
    """Return the function that reads a map of a COLMAP dense workspace, in the unit of its model.

    Raises:
        InputError: maps of another size than the images, or of none of the frames.
    """
    found, scene = colmap_maps.find(folder, task.scene.names), task.scene
    colmap_maps.check(folder, scene.names)
    lenses = load_lenses(scene.folder)
    held_out = sorted({name for _, name in found} & set(scene.test))
    if held_out:
        log.warning(
            "stereo: the COLMAP workspace has maps of test frames (%s): if test images helped to make its maps of "
            "training frames, scores of test frames are too good. Make it from the training images",
            ", ".join(held_out[:5]),
        )
    for (side, _), path in found.items():
        camera, lens = scene.rig.camera(side), lenses[side]
        fitting = {(camera.width, camera.height)}
        if not lens.distorted:
            fitting.add((lens.camera.width, lens.camera.height))
        size = colmap_maps.read_size(path)
        if size not in fitting:
            raise InputError(
                f"{path} has another size than the image",
                found=f"{size[0]} x {size[1]}",
                expected=" or ".join(f"{width} x {height}" for width, height in sorted(fitting)),
                do="run image_undistorter and patch_match_stereo on the scene's undistorted images "
                f"({scene.folder.name}/images, if there are some), without max_image_size",
            )

    def read(side: Side, name: str) -> GivenMap | None:
        path = found.get((side, name))
        if path is None:
            return None
        camera = scene.rig.camera(side)
        values = colmap_maps.read_depth(path).astype(np.float32)
        if values.shape != (camera.height, camera.width):
            values = bring_to_camera(values, lenses[side], camera, nearest=True, outside=float("nan"))
        return GivenMap(values, values, StoredMap(path, "depth", side))

    return read
