"""Read the images and masks of a checked dataset, and bring them to the scene's cameras."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stereo_prior.calibration import Calibration
from stereo_prior.dataset import Dataset, read_checked
from stereo_prior.tissue import BlackBorder, read_tissue_mask, tissue_in_camera
from utils.errors import InputError
from utils.images import read_rgb, write_rgb
from utils.types import BoolArray, Camera, Side
from utils.undistortion import Lens, bring_to_camera

log = logging.getLogger("specula")


@dataclass(frozen=True)
class Inputs:
    """The dataset with its checked calibration.

    `lenses` belong to the stored images, `cameras` to those of the scene, `checks` are lines of the report.
    """

    dataset: Dataset
    calibration: Calibration
    lenses: dict[Side, Lens]
    cameras: dict[Side, Camera]
    checks: list[str]


def survey(inputs: Inputs, side: Side) -> BoolArray | None:
    """Read all images and masks of one eye, refuse what does not fit, and return training frames' black border.

    None where mask files say what is tissue.
    """
    eye, camera = inputs.dataset.eyes[side], inputs.lenses[side].camera
    size = (camera.width, camera.height)
    border = BlackBorder(size)
    masks = 0
    for name, path in eye.files.items():
        image = read_checked(path)
        if image.shape[1::-1] != size:
            raise InputError(
                f"{eye.folder} has images of different sizes",
                found=f"{path.name} is {image.shape[1]}x{image.shape[0]}",
                expected=f"{size[0]}x{size[1]} like {next(iter(eye.files.values())).name}",
                do=f"write {path.name} again at that size, or take it out of the dataset",
            )
        if name in inputs.dataset.train:  # nothing of a test image may say what is tissue in the others
            border.add(image)
        mask = inputs.dataset.mask(side, name)
        if mask is not None:
            read_tissue_mask(mask, size, path)
            masks += 1
    return _judge_border(inputs, side, border.found(), masks)


def _judge_border(inputs: Inputs, side: Side, border: BoolArray, masks: int) -> BoolArray | None:
    """Say what is taken for tissue; None where mask files say it."""
    eye = inputs.dataset.eyes[side]
    if masks:
        if masks < len(eye.files):
            log.warning(
                "scene: %d of %d %s images have no mask: all of them is tissue",
                len(eye.files) - masks,
                len(eye.files),
                side,
            )
        return None
    if border.all():
        raise InputError(
            f"{eye.folder}: the images are black",
            found="no pixel that is lit in any training frame",
            expected="pictures",
            do="check that the images are what they should be",
        )
    if border.any():
        share = 100 * border.mean()
        log.info("scene: no mask for the %s eye: %.1f %% of it is black in every frame and no tissue", side, share)
    return border


def prepare_image(inputs: Inputs, side: Side, name: str, out: Path) -> tuple[NDArray[np.uint8], str]:
    """Return one image as the scene shows it, and where it lies: the stored file, or one written here."""
    path = inputs.dataset.eyes[side].files[name]
    lens, camera = inputs.lenses[side], inputs.cameras[side]
    image = read_rgb(path)
    if not lens.distorted and camera == lens.camera:
        return image, str(path.resolve())
    image = np.asarray(bring_to_camera(image, lens, camera, nearest=False), np.uint8)
    key = f"images/{side}_{name}.png"
    write_rgb(out / key, image)
    return image, key


def find_tissue(inputs: Inputs, side: Side, name: str, border: BoolArray | None) -> BoolArray:
    """Return (h, w) tissue of one image of the scene. Raises InputError when nothing of it remains."""
    lens, camera = inputs.lenses[side], inputs.cameras[side]
    path = inputs.dataset.mask(side, name)
    size = (lens.camera.width, lens.camera.height)
    if path is not None:
        stored = read_tissue_mask(path, size, inputs.dataset.eyes[side].files[name])
    else:
        stored = np.ones(size[::-1], bool) if border is None else ~border
    tissue = tissue_in_camera(stored, lens, camera)
    if not tissue.any():
        raise InputError(
            f"no tissue is left of the {side} image of frame {name}",
            found="nothing inside its mask after undistortion and resizing",
            expected="some tissue in every frame",
            do="check the mask and the distortion of the calibration, or lower --factor",
        )
    return tissue
