"""Monocular depth from files: a map of relative inverse depth a frame, made by any other program."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np

from monocular.depth_source import Map, MonocularOptions, Predict, Task
from utils.artifacts import NO_ARRAYS
from utils.errors import InputError
from utils.images import find_map, frame_name, list_images, read_map
from utils.map_header import Unit, check_map_file, image_size
from utils.stored_maps import load_lenses
from utils.types import Side
from utils.undistortion import bring_to_camera
from utils.views import View

ENDINGS = (".npy", ".npz", ".pfm", ".tiff", ".tif", ".png")
KEY = "relative_inverse_depth"
_FOLDERS: dict[Side, str] = {"left": "l", "right": "r"}
_UNIT = Unit(1.0, "--monocular_path")  # of PNG maps: any does
_NEEDED = "a map of inverse depth (higher is nearer) a frame, named like the frame: npy, npz, pfm, tiff or png"


def list_files(options: MonocularOptions) -> list[Path]:
    """Return the maps."""
    folder = Path(options.monocular_path)
    if not options.monocular_path or not folder.is_dir():
        return []
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


def check_files(options: MonocularOptions) -> None:
    """Raise InputError for a missing folder, missing frames, maps of another size or without a number.

    Every left image needs its map; right images may lack theirs, but not all of them where `r/` holds maps.
    """
    folder = Path(options.monocular_path)
    if not options.monocular_path or not folder.is_dir():
        raise InputError(
            "--monocular files needs --monocular_path",
            found=f"no folder {folder}" if options.monocular_path else "no --monocular_path",
            expected=f"a folder with {_NEEDED}",
            do="give the folder, or choose another --monocular",
        )
    for side in _FOLDERS:
        images = list_images(Path(options.datadir) / _FOLDERS[side] / options.image_dir)
        names = {frame_name(image, options.image_dir)[0]: image for image in images}
        found = {name: path for name in names if (path := find_relative(folder, side, name))}
        missing = [name for name in names if name not in found]
        given = [path for path in (folder / _FOLDERS[side]).glob("*") if path.suffix.lower() in ENDINGS]
        if missing and (side == "left" or (given and not found)):
            _refuse_missing(folder, side, missing[0], len(images))
        size = image_size(images[0]) if found else (0, 0)  # the scene stage refuses images of several sizes
        for name, path in found.items():
            _check_size(path, read_relative(path), names[name], size)


def prepare_files(task: Task) -> Predict:
    """Return the function that reads a view's map and brings it to the scene's undistorted image."""
    folder, scene = Path(task.options.monocular_path), task.views.scene
    lenses = load_lenses(scene.folder)

    def read(view: View) -> Map:
        camera, path = scene.rig.camera(view.side), find_relative(folder, view.side, view.name)
        if path is None:
            if view.side == "left":
                _refuse_missing(folder, view.side, view.name, len(scene.names))
            return np.full((camera.height, camera.width), np.nan, np.float32)
        lens, relative = lenses[view.side], read_relative(path)
        image = Path(scene.images.get(f"{view.side}_{view.name}", view.name))
        _check_size(path, relative, image, (lens.camera.width, lens.camera.height))
        return bring_to_camera(relative, lens, camera, nearest=True, outside=float("nan"))

    return read


def find_relative(folder: Path, side: Side, name: str) -> Path | None:
    """Return the map of a frame: in `l/` or `r/`, the left eye's also in the folder itself; None without one."""
    found = find_map(folder / _FOLDERS[side], name, ENDINGS)
    return found if found or side == "right" else find_map(folder, name, ENDINGS)


def read_relative(path: Path) -> Map:
    """Return a map (h, w) of relative inverse depth; what is not finite and above 0 is unknown, NaN.

    Raises:
        InputError: the file is no map, or nothing in it is known.
    """
    try:
        values = _npz_array(path) if path.suffix.lower() == ".npz" else read_map(path)
        relative = np.asarray(values, np.float32)
    except NO_ARRAYS as error:
        raise InputError(
            f"{path} cannot be read as a map",
            found=f"{type(error).__name__}: {error}",
            expected=f"one channel of numbers; npz: one array, or several of which one is `{KEY}`",
            do="write the file again",
        ) from error
    known = np.isfinite(relative) & (relative > 0)
    if relative.ndim != 2 or not known.any():
        raise InputError(
            f"{path} holds no inverse depth",
            found=f"an array of shape {relative.shape}" if relative.ndim != 2 else "no number above 0",
            expected="(height, width) of numbers above 0, higher is nearer; NaN or 0 where unknown",
            do="write the network's inverse depth itself, or take the file out",
        )
    return np.where(known, relative, np.nan).astype(np.float32)


def _npz_array(path: Path) -> Map:
    """Read an npz as `read_npz_map` does, by another name: depth among several arrays is no inverse depth."""
    with np.load(path, allow_pickle=False) as file:
        if KEY not in file.files and len(file.files) != 1:
            raise ValueError(f"the arrays {', '.join(file.files) or 'none'}")
        return np.asarray(file[KEY if KEY in file.files else file.files[0]])


def _check_size(path: Path, relative: Map, image: Path, size: tuple[int, int]) -> None:
    """Raise InputError for a map of another size than its image, and for a PNG of colours."""
    if path.suffix.lower() != ".npz":
        check_map_file(path, "disparity", _UNIT, image, size)  # inverse depth is disparity of no unit
    elif relative.shape[::-1] != size:  # check_map_file would look for an array of another name
        raise InputError(
            f"{path} has another size than its image {image}",
            found=f"{relative.shape[1]} x {relative.shape[0]}",
            expected=f"{size[0]} x {size[1]}",
            do="give maps in the pixels of the stored image (before --factor and undistortion)",
        )


def _refuse_missing(folder: Path, side: Side, name: str, count: int) -> NoReturn:
    there = len({path.stem for path in (folder / _FOLDERS[side]).glob("*")} | {p.stem for p in folder.glob("*.*")})
    raise InputError(
        f"--monocular_path {folder} has no map of frame {name}, {side} eye",
        found=f"{there} files for {count} images",
        expected=f"{name} with one of the endings {', '.join(ENDINGS)}, in {folder} or {folder / _FOLDERS[side]}",
        do="add the map, or take the frame out of the dataset",
    )
