"""Read a folder that is in this program's own layout already, to check it or to take some of its frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from utils.artifacts import NO_ARRAYS, read_json
from utils.calibration_file import read_matrices
from utils.datasets.files import depth_map, list_files, name_frames, nonzero_is_tool, tissue_mask
from utils.datasets.options import ReaderOptions
from utils.datasets.source import DepthMap, Finding, Frame, Lens, Source
from utils.datasets.splits import read_lists
from utils.errors import InputError
from utils.geometry import rigid
from utils.images import IMAGE_ENDINGS, MAP_ENDINGS, find_map, without_ending
from utils.llff_rows import POSES_BOUNDS, read_rows, row_camera, world_from_camera
from utils.map_header import image_size
from utils.types import FloatArray, Side

KIND = "specula"
CALIBRATION = "calib.yaml"
RECORD = "dataset.json"  # of a conversion
POSES = "poses.npz"  # truth_poses.npz is scored against, and never an input
_EYES: dict[Side, str] = {"left": "l", "right": "r"}


def looks_like(folder: Path) -> bool:
    """Whether the left images lie where this program looks for them."""
    return (folder / "l" / "images").is_dir()


def read(folder: Path, options: ReaderOptions) -> Source:
    """Return a dataset folder. Raises InputError where files are missing or do not fit together."""
    eyes = {side: name_frames(list_files(folder / eye / "images", IMAGE_ENDINGS)) for side, eye in _EYES.items()}
    if not eyes["left"]:
        raise InputError(
            f"{folder} has no left images",
            found="nothing in l/images",
            expected="l/images/1.png and so on, as data_layout.md describes",
            do="correct the path",
        )
    size, findings = image_size(next(iter(eyes["left"].values()))), list[Finding]()
    lenses, right_from_left = _calibration(folder, size, findings)
    if eyes["right"] and "right" not in lenses:
        findings.append(Finding("warn", "right eye", "images without a calibration: they are left out"))
    sides: list[Side] = [side for side in lenses if eyes[side]]
    names = [list(eyes["left"])[index] for index in options.chosen(len(eyes["left"]))]
    poses, metric = _poses(folder, list(eyes["left"]), findings)
    tool = nonzero_is_tool(options, "tissue")
    frames = []
    for name in names:
        masks = {side: find_map(folder / f"mask_{_EYES[side]}", name, IMAGE_ENDINGS) for side in sides}
        depth = {side: _depth(folder / _EYES[side] / "depth", name, options, findings) for side in sides}
        frames.append(
            Frame(
                name=name,
                images={side: eyes[side][name] for side in sides if name in eyes[side]},
                tissue={side: tissue_mask(path, nonzero_is_tool=tool) for side, path in masks.items() if path},
                depth_mm={side: read for side, read in depth.items() if read is not None},
            )
        )
    train, test = read_lists(folder, names)
    return Source(
        kind=KIND,
        folder=folder,
        frames=tuple(frames),
        image_size=size,
        lenses={side: lenses[side] for side in sides},
        right_from_left=right_from_left if "right" in sides else None,
        world_from_left=None if poses is None else np.stack([poses[name] for name in names]),
        metric=metric,
        train=train,
        test=test,
        moving_camera=_recorded_motion(folder),
        findings=findings,
    )


def _calibration(
    folder: Path, size: tuple[int, int], findings: list[Finding]
) -> tuple[dict[Side, Lens], FloatArray | None]:
    """Return the lens of each calibrated eye and right_from_left (4, 4), mm."""
    if not (folder / CALIBRATION).is_file():
        if not (folder / POSES_BOUNDS).is_file():
            findings.append(
                Finding("refuse", "calibration", f"no {CALIBRATION}", "write it, as data_layout.md says")
            )
            return {"left": Lens(np.eye(3))}, None
        return {"left": Lens(row_camera(read_rows(folder / POSES_BOUNDS)[0]).resized(*size).matrix)}, None
    values = read_matrices(folder / CALIBRATION)
    numbers = ("1", "2") if {"M2", "R", "T"} <= set(values) else ("1",)
    lenses: dict[Side, Lens] = {}
    for side, number in zip(_EYES, numbers, strict=False):
        matrix, terms = values.get(f"M{number}", np.zeros(0)), np.ravel(values.get(f"D{number}", np.zeros(0)))
        if matrix.shape != (3, 3):
            findings.append(Finding("refuse", "calibration", f"{CALIBRATION} has no 3x3 M{number}"))
            matrix = np.eye(3)
        lenses[side] = Lens(matrix, tuple(float(term) for term in terms) if terms.any() else ())
    stated = tuple(int(length) for length in np.ravel(values.get("image_size", np.array(size))))
    if stated != size:
        words = f"{CALIBRATION} was made for {stated}, the images have {size}"
        findings.append(Finding("refuse", "calibration", words, "use the images that were calibrated"))
    if len(numbers) == 1 or values["R"].size != 9 or values["T"].size != 3:
        return {"left": lenses["left"]}, None
    return lenses, rigid(values["R"].reshape(3, 3), values["T"])


def _poses(folder: Path, names: list[str], findings: list[Finding]) -> tuple[dict[str, FloatArray] | None, bool]:
    """Return the pose of each frame (NaN: none) and whether lengths are mm; None where no file has poses."""
    unknown = np.full((4, 4), np.nan)
    path = folder / POSES
    if not path.is_file():
        if not (folder / POSES_BOUNDS).is_file():
            return None, True
        rows = read_rows(folder / POSES_BOUNDS)
        if len(rows) != len(names):
            findings.append(Finding("refuse", "poses", f"{len(rows)} rows in {POSES_BOUNDS}, {len(names)} images"))
            return None, False
        return dict(zip(names, world_from_camera(rows), strict=True)), False
    try:
        with np.load(path, allow_pickle=False) as file:
            given = [without_ending(str(name)) for name in file["names"]]
            poses = file["world_from_left"].astype(float)
            metric = bool(file["metric"]) if "metric" in file.files else False
    except NO_ARRAYS as error:
        findings.append(Finding("refuse", "poses", f"{path.name} cannot be read: {error}"))
        return None, False
    if poses.shape != (len(given), 4, 4):
        findings.append(
            Finding("refuse", "poses", f"{path.name}: {len(given)} names, poses of shape {poses.shape}")
        )
        return None, False
    by_name = dict(zip(given, poses, strict=True))
    return {name: by_name.get(name, unknown) for name in names}, metric


def _recorded_motion(folder: Path) -> bool | None:
    """Return whether the camera moves where an earlier conversion knew it, else None."""
    try:
        return read_json(folder / RECORD).get("moving_camera")
    except (OSError, AttributeError, InputError):
        return None


def _depth(folder: Path, name: str, options: ReaderOptions, findings: list[Finding]) -> DepthMap | None:
    path = find_map(folder, name, MAP_ENDINGS)
    if path is None:
        return None
    if path.suffix.lower() == ".png" and options.depth_scale is None:
        said = Finding("warn", "depth", "PNG without a unit is not looked at", "give mm a unit: --depth_scale")
        if said not in findings:
            findings.append(said)
        return None
    return depth_map(path, (options.depth_scale or 1.0) if path.suffix.lower() == ".png" else 1.0)
