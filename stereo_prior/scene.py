"""Stage `scene`: check the dataset and its calibration; undistort, resize; tissue and highlight masks."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from stereo_prior.calibration import (
    CALIBRATION_FILE,
    LLFF_FILE,
    Calibration,
    CalibrationFlags,
    read_calibration,
)
from stereo_prior.calibration_checks import check_calibration, raise_refusals
from stereo_prior.dataset import MASK_FOLDER, Dataset, EyeImages, read_checked, read_dataset, stray_masks
from stereo_prior.preparation import Inputs, find_tissue, prepare_image, survey
from utils.artifacts import file_hash, save_maps
from utils.errors import InputError
from utils.highlights import detect_highlights
from utils.images import list_images
from utils.options import option
from utils.scene import Scene
from utils.stages import Stage
from utils.types import Camera

SMALLEST_SIDE_PX = 16

log = logging.getLogger("specula")


@dataclass(frozen=True)
class SceneOptions:
    """Which images, and how they were calibrated. Calibration flags belong to the stored images' size."""

    datadir: str = option("", "dataset folder with l/images, calib.yaml and, for two eyes, r/images")
    image_dir: str = option(
        "images", "folder of the images inside l and r: images or rectify", choices=("images", "rectify")
    )
    factor: int = option(1, "work on images whose sides are divided by this")
    train_binocular: bool = option(False, "train on both eyes; right images must be there", affects_result=False)
    cam_l: tuple[float, ...] | None = option(None, "left camera, px: fx,cx,cy or fx,fy,cx,cy")
    cam_r: tuple[float, ...] | None = option(None, "right camera, px: fx,cx,cy or fx,fy,cx,cy")
    R_matrix: tuple[float, ...] | None = option(None, "rotation right from left, 9 numbers row by row")
    t_vec: tuple[float, ...] | None = option(None, "translation right from left, 3 numbers, mm")
    rotation_convention: str = option(
        "opencv", "matlab: the rotation is written for row vectors", choices=("opencv", "matlab")
    )
    pixel_origin: int = option(0, "coordinate of the first pixel in the calibration: 0, or 1 (MATLAB)")


def files(options: SceneOptions) -> list[Path]:
    """Return the files that the stage reads."""
    folder = Path(options.datadir)
    if not options.datadir or not folder.is_dir():
        return []
    single = [folder / name for name in (CALIBRATION_FILE, LLFF_FILE, "train.txt", "test.txt")]
    folders = [folder / side / options.image_dir for side in ("l", "r")]
    folders += [folder / name for name in MASK_FOLDER.values()]
    images = [path for images in folders for path in list_images(images)]
    return [path for path in single if path.exists()] + images


def check(options: SceneOptions) -> None:
    """Refuse what is wrong with the dataset as far as it shows without reading all images."""
    read_inputs(options)


def run(options: SceneOptions, *, out: Path) -> str:
    """Write `frames.json`, `rig.json`, masks and, where they differ from the stored ones, images.

    Raises:
        InputError: images, masks, names or calibration that do not fit together.
    """
    inputs = read_inputs(options)
    for line in inputs.checks:
        log.log(logging.WARNING if line.startswith("[warn]") else logging.DEBUG, "scene: %s", line)
    passed = sum(line.startswith("[ok]") for line in inputs.checks)
    log.info("scene: %d of %d checks passed, listed in frames.json", passed, len(inputs.checks))
    borders = {side: survey(inputs, side) for side in inputs.dataset.eyes}
    images: dict[str, str] = {}
    hashes: dict[str, str] = {}
    shares = []
    for side, eye in inputs.dataset.eyes.items():
        for name, path in tqdm(eye.files.items(), desc=f"scene, {side}", unit="image"):
            image, images[f"{side}_{name}"] = prepare_image(inputs, side, name, out)
            tissue = find_tissue(inputs, side, name, borders[side])
            highlight = detect_highlights(image, tissue)
            save_maps(out / "masks", side, name, tissue=tissue, highlight=highlight)
            hashes[f"{side}_{name}"] = file_hash(path)
            shares.append((tissue.mean(), (highlight & tissue).mean()))
    scene = Scene(
        folder=out,
        rig=inputs.calibration.rig(inputs.cameras),
        names=inputs.dataset.names,
        train=inputs.dataset.train,
        test=inputs.dataset.test,
        sides=tuple(inputs.dataset.eyes),
        images=images,
    )
    scene.save(_record(options, inputs, hashes))
    return _summary(scene, *np.mean(shares, axis=0))


def read_inputs(options: SceneOptions) -> Inputs:
    """List the dataset, read its calibration, and check one against the other by the first images.

    Raises:
        InputError: anything that does not fit together.
    """
    if not options.datadir:
        raise InputError(
            "--datadir is not given",
            found="no dataset folder",
            expected="a folder with l/images, calib.yaml and, for two eyes, r/images",
            do="give --datadir on the command line or in the configuration file",
        )
    folder = Path(options.datadir)
    left = read_dataset(folder, options.image_dir, use_right=False, need_right=False)
    sizes = {side: _first_size(eye) for side, eye in left.eyes.items()}
    flags = {field.name: getattr(options, field.name) for field in fields(CalibrationFlags)}
    calibration = read_calibration(folder, CalibrationFlags(**flags), sizes["left"])
    use_right = calibration.right is not None
    if options.train_binocular and not use_right:
        raise InputError(
            "--train_binocular needs a calibrated right eye",
            found=f"a calibration of one eye ({calibration.source})",
            expected="M2 D2 R T in calib.yaml, or --cam_r --R_matrix --t_vec",
            do="calibrate the right eye, or leave --train_binocular out",
        )
    need_right = options.train_binocular
    dataset = read_dataset(folder, options.image_dir, use_right=use_right, need_right=need_right)
    sizes = {side: _first_size(eye) for side, eye in dataset.eyes.items()}
    cuts = {side: eye.cut_px for side, eye in dataset.eyes.items()}
    rectified = options.image_dir == "rectify"
    checks = raise_refusals(check_calibration(calibration, sizes, cuts, rectified=rectified))
    checks += [*_right_eye_notes(folder, options, calibration, dataset), *stray_masks(dataset)]
    lenses = {side: calibration.lens(side, sizes[side], cuts[side]) for side in dataset.eyes}
    cameras = {side: _divided(lens.camera, options.factor) for side, lens in lenses.items()}
    if calibration.right is not None and "right" not in cameras:
        # Without images of its own this eye is still rendered: its camera has the size of the left one.
        size = calibration.image_size or sizes["left"]
        cameras["right"] = _divided(calibration.lens("right", size).camera, options.factor)
    return Inputs(dataset, calibration, lenses, cameras, checks)


def _first_size(eye: EyeImages) -> tuple[int, int]:
    """Return (width, height) of the first image of an eye."""
    image = read_checked(next(iter(eye.files.values())))
    return image.shape[1], image.shape[0]


def _right_eye_notes(folder: Path, options: SceneOptions, calibration: Calibration, dataset: Dataset) -> list[str]:
    """Say why a right eye that is there by half takes no part."""
    if "right" in dataset.eyes:
        return []
    if calibration.right is not None:
        return [f"[ok] left images only: {folder / 'r' / options.image_dir} has none; the right eye is rendered"]
    if list_images(folder / "r" / options.image_dir):
        return [f"[warn] right images are ignored: {calibration.source} calibrates the left eye alone"]
    return []


def _divided(camera: Camera, factor: int) -> Camera:
    """Return the camera of images whose sides are divided by `factor`."""
    if factor < 1 or min(camera.width, camera.height) // factor < SMALLEST_SIDE_PX:
        largest = min(camera.width, camera.height) // SMALLEST_SIDE_PX
        raise InputError(
            f"--factor {factor} cannot be used",
            found=f"images of {camera.width}x{camera.height}",
            expected=f"1 to {largest}: at least {SMALLEST_SIDE_PX} px remain",
            do="correct --factor",
        )
    return camera.resized(camera.width // factor, camera.height // factor)


def _record(options: SceneOptions, inputs: Inputs, hashes: dict[str, str]) -> dict[str, Any]:
    """Return what `frames.json` says beside the names: sizes, lenses, hashes, the report of the checks."""
    left = inputs.cameras["left"]
    return {
        "image_size": [left.width, left.height],
        "factor": options.factor,
        "datadir": str(inputs.dataset.folder.resolve()),
        "undistorted": any(lens.distorted for lens in inputs.lenses.values()),
        "lenses": {
            side: {"camera": asdict(lens.camera), "distortion": list(lens.distortion)}
            for side, lens in inputs.lenses.items()
        },
        "hashes": hashes,
        "checks": inputs.checks,
    }


def _summary(scene: Scene, tissue: float, highlight: float) -> str:
    rig, left = scene.rig, scene.rig.left
    kind = "stereo frames" if "right" in scene.sides else "left frames"
    words = [
        f"{len(scene.names)} {kind} {left.width}x{left.height}",
        f"{len(scene.train)} train {len(scene.test)} test",
    ]
    if rig.stereo:
        words += [f"baseline {rig.baseline_mm:.2f} mm", f"vergence {rig.vergence_degrees:.1f} degrees"]
    return ", ".join([*words, f"tissue {100 * tissue:.1f} %", f"highlights {100 * highlight:.1f} %"])


STAGE = Stage("scene", run, SceneOptions, reads=(), version=2, files=files, check=check)
