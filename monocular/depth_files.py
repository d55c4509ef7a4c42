"""Monocular depth from files: a map of relative inverse depth a frame, made by any other program."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn
from zipfile import BadZipFile

import numpy as np

from monocular.depth_source import Map, MonocularOptions, Predict, Task
from utils.artifacts import read_json
from utils.errors import InputError
from utils.images import find_map, frame_name, list_images, read_map
from utils.map_header import image_size
from utils.types import Camera, Side
from utils.undistortion import Lens, bring_to_camera
from utils.views import View

ENDINGS = (".npy", ".npz", ".pfm", ".tiff", ".tif", ".png")
KEY = "relative_inverse_depth"
_FOLDERS: dict[Side, str] = {"left": "l", "right": "r"}
_NEEDED = "a map of inverse depth (higher is nearer) a frame, named like the frame: npy, npz, pfm, tiff or png"


def list_files(options: MonocularOptions) -> list[Path]:
    """Return the maps."""
    folder = Path(options.monocular_path)
    if not options.monocular_path or not folder.is_dir():
        return []
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


def check_files(options: MonocularOptions) -> None:
    """Raise InputError for a missing folder, missing frames, maps of another size or without a number."""
    folder = Path(options.monocular_path)
    if not options.monocular_path or not folder.is_dir():
        raise InputError(
            "--monocular files needs --monocular_path",
            found=f"no folder {folder}" if options.monocular_path else "no --monocular_path",
            expected=f"a folder with {_NEEDED}",
            do="give the folder, or choose another --monocular",
        )
    for side in _FOLDERS:
        if side == "right" and not (folder / _FOLDERS[side]).is_dir():
            continue  # maps of the left eye are enough
        images = list_images(Path(options.datadir) / _FOLDERS[side] / options.image_dir)
        for image in images:
            name = frame_name(image, options.image_dir)[0]
            path = find_relative(folder, side, name) or _refuse_missing(folder, side, name, len(images))
            _check_size(path, read_relative(path), image_size(images[0]))


def prepare_files(task: Task) -> Predict:
    """Return the function that reads a view's map and brings it to the scene's undistorted image."""
    folder, scene = Path(task.options.monocular_path), task.views.scene
    lenses = read_json(scene.folder / "frames.json")["lenses"]

    def read(view: View) -> Map:
        camera, path = scene.rig.camera(view.side), find_relative(folder, view.side, view.name)
        if path is None:
            if view.side == "left":
                _refuse_missing(folder, view.side, view.name, len(scene.names))
            return np.full((camera.height, camera.width), np.nan, np.float32)
        record = lenses[view.side]
        lens = Lens(Camera(**record["camera"]), tuple(record["distortion"]))
        relative = read_relative(path)
        _check_size(path, relative, (lens.camera.width, lens.camera.height))
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
    except (ValueError, OSError, EOFError, BadZipFile) as error:
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
    with np.load(path, allow_pickle=False) as file:
        if KEY not in file.files and len(file.files) != 1:
            raise ValueError(f"the arrays {', '.join(file.files) or 'none'}")
        return np.asarray(file[KEY if KEY in file.files else file.files[0]])


def _check_size(path: Path, relative: Map, size: tuple[int, int]) -> None:
    if relative.shape[::-1] != size:
        raise InputError(
            f"{path} has another size than its image",
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
