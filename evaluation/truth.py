"""Read the truth of one frame and eye from the dataset, in the scene's camera; check its files before any work."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.options import EvaluationOptions
from utils.images import frame_name, list_images
from utils.map_header import Kind, Unit
from utils.scene import Scene
from utils.stored_maps import (
    SIDES,
    StoredMap,
    check_stored,
    find_stored,
    read_stored,
    stored_depth,
    stored_files,
)
from utils.stored_maps import load_lenses as load_lenses
from utils.types import Side
from utils.undistortion import Lens, bring_to_camera

_CACHE_BYTES = 256_000_000


def find_truth(datadir: Path, side: Side, name: str) -> StoredMap | None:
    """Return the truth of a frame: depth where there is one, else disparity, else None."""
    return find_stored(datadir, side, name)


def files(options: EvaluationOptions) -> list[Path]:
    """Return every truth file of the dataset, sorted; none for a demonstration."""
    return [] if options.demo or not options.datadir else stored_files(Path(options.datadir))


def check(options: EvaluationOptions) -> None:
    """Find what is wrong with the truth from headers alone, before any stage runs.

    Raises:
        InputError: a depth PNG that is not 16-bit grey, or a PNG without its unit; a unit that is not
            positive; a truth map of another size than its image; disparity of a pair that is not rectified.
    """
    if options.demo or not options.datadir:
        return
    units, datadir = _units(options), Path(options.datadir)
    for unit in units.values():
        unit.check()
    for side in SIDES:
        images = _image_files(datadir / side[0], options.image_dir)
        check_stored(datadir, side, images, units, datadir / "calib.yaml")


def _units(options: EvaluationOptions) -> dict[Kind, Unit]:
    return {
        "depth": Unit(options.depth_png_mm, "--depth_png_mm"),
        "disparity": Unit(options.disparity_png_px, "--disparity_png_px"),
    }


def _image_files(folder: Path, image_dir: str) -> dict[str, Path]:
    """Return frame name -> image of one eye."""
    return {frame_name(path, image_dir)[0]: path for path in list_images(folder / image_dir)}


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
    values = read_stored(truth, _units(options), scene, lenses, name)
    depth_mm = stored_depth(values, truth, scene.rig, lenses).astype(np.float32)
    return bring_to_camera(depth_mm, lenses[side], scene.rig.camera(side), nearest=True, outside=float("nan"))


def truth_reader(options: EvaluationOptions, scene: Scene) -> Callable[[Side, str], NDArray[np.float32] | None]:
    """Return what reads the truth of an eye and frame, and keeps as many maps as memory allows."""
    pixels = scene.rig.left.width * scene.rig.left.height
    lenses = functools.cache(lambda: load_lenses(scene.folder))

    @functools.lru_cache(maxsize=max(1, _CACHE_BYTES // (4 * pixels)))
    def read(side: Side, name: str) -> NDArray[np.float32] | None:
        return read_truth(options, scene, lenses(), side, name)

    return read


def stray_truth(datadir: Path, names: tuple[str, ...]) -> int:
    """Return how many truth files belong to none of the frames: a sign of misnamed files."""
    options = EvaluationOptions(datadir=str(datadir))
    return sum(path.stem not in names for path in files(options))
