"""Write a source as a dataset folder of this program: images, masks, depth, calibration, poses, settings."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils.calibration_file import write_matrices
from utils.datasets.check_maps import odd_depths
from utils.datasets.check_poses import STATIC
from utils.datasets.samples import decode
from utils.datasets.source import Finding, Frame, Picture, Source
from utils.datasets.truth_mesh import write_truth_mesh
from utils.images import IMAGE_ENDINGS, write_rgb
from utils.scene import POSES, save_poses
from utils.types import Poses, Side

SETTINGS = "specula.txt"
EYES: dict[Side, str] = {"left": "l", "right": "r"}


def write_source(source: Source, folder: Path) -> list[Finding]:
    """Write everything into a new folder; return what only showed while all of it was read.

    Raises:
        InputError: an image, mask or map cannot be decoded.
        OSError: the disk is full, or refuses.
    """
    medians: dict[str, float] = {}
    files: dict[str, str] = {}
    for frame in tqdm(source.frames, desc=source.kind, unit="frame", disable=None):
        for side in source.lenses:
            file = _write_image(frame.images[side], folder / EYES[side] / "images", frame.name)
            files.setdefault(frame.name, file)
        medians |= _write_maps(frame, folder, source.lenses)
    _write_calibration(source, folder)
    _write_poses(source, folder)
    write_truth_mesh(source, folder)
    for split, names in (("train", source.train), ("test", source.test)):
        if names is not None:
            (folder / f"{split}.txt").write_text("".join(f"{files[name]}\n" for name in names))
    return odd_depths(medians) if medians else []


def _write_image(picture: Picture, folder: Path, name: str) -> str:
    """Take a file as it is (a hard link, or a copy on another disk), or write what decodes as PNG; its name."""
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(picture, Path) or picture.suffix.lower() not in IMAGE_ENDINGS:
        write_rgb(folder / f"{name}.png", decode(picture))
        return f"{name}.png"
    target = folder / f"{name}{picture.suffix.lower()}"
    try:
        os.link(picture.resolve(), target)
    except OSError:
        shutil.copyfile(picture, target)
    return target.name


def _write_maps(frame: Frame, folder: Path, sides: Collection[Side]) -> dict[str, float]:
    """Write masks and depth of one frame; return its median depth, mm, where any is known."""
    medians: dict[str, float] = {}
    for side in (side for side in sides if side in frame.tissue):
        write_rgb(folder / f"mask_{EYES[side]}" / f"{frame.name}.png", frame.tissue[side]().astype(np.uint8) * 255)
    for side in (side for side in sides if side in frame.depth_mm):
        depth = np.asarray(frame.depth_mm[side](), np.float32)
        target = folder / EYES[side] / "depth"
        target.mkdir(parents=True, exist_ok=True)
        np.save(target / f"{frame.name}.npy", depth)
        if side == "left" and np.isfinite(depth).any():
            medians[frame.name] = float(np.nanmedian(depth))
    return medians


def _write_calibration(source: Source, folder: Path) -> None:
    eyes = [(source.lenses[side].matrix, source.lenses[side].distortion) for side in EYES if side in source.lenses]
    write_matrices(folder / "calib.yaml", eyes, source.right_from_left, source.image_size)


def has_poses(source: Source) -> bool:
    """Whether the source has poses that can place a camera: not where it is known to stand still."""
    poses = source.world_from_left
    return poses is not None and source.moving_camera is not False and bool(np.isfinite(poses).any())


def _write_poses(source: Source, folder: Path) -> None:
    """Write the poses of the frames that have one, as `--poses file` reads them."""
    if not has_poses(source):
        return
    assert source.world_from_left is not None
    known = np.asarray(np.isfinite(source.world_from_left).all(axis=(1, 2)))
    names = tuple(frame.name for frame, has_pose in zip(source.frames, known, strict=True) if has_pose)
    save_poses(folder, Poses(names, source.world_from_left[known], None, source.metric))


def settings(source: Source, folder: Path) -> list[str]:
    """Return the lines of a configuration for `run.py` that uses the folder where it will lie."""
    place = folder.resolve()
    lines = [f"expname = {place.name}", f"datadir = {place}"]
    if "right" in source.lenses:
        lines.append("train_binocular = True")
    if has_poses(source):
        lines += ["poses = file", f"poses_path = {place / POSES}"]
    return lines


def write_settings(source: Source, folder: Path, partial: Path) -> None:
    """Write the settings into the folder in the making, for the place where it will lie."""
    comments = [
        f"# {source.folder.resolve()}, read as {source.kind}.",
        "# Depth is in mm (npy): it needs no flag.",
    ]
    if source.moving_camera is False:
        comments.append(f"# {STATIC}.")
    (partial / SETTINGS).write_text("\n".join([*comments, *settings(source, folder)]) + "\n")


def list_written(folder: Path) -> list[str]:
    """Return every file below a folder, relative to it, sorted."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return []
