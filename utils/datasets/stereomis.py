"""Read a sequence of StereoMIS: stacked video (or frames unpacked by the authors' tool), masks, kinematic poses.

The layout is that of the Zenodo release (P1, P2_0 … P3) and of robust-pose-estimator's preprocessing.
"""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from utils.datasets.files import nonzero_is_tool
from utils.datasets.numbered_files import need_the_same, numbered
from utils.datasets.options import ReaderOptions
from utils.datasets.source import Finding, Frame, Mask, Source
from utils.datasets.stacked_video import StackedVideo, StereoImages, UnpackedPairs
from utils.datasets.stereomis_calibration import Calibration, read_calibration
from utils.errors import InputError
from utils.geometry import rigid
from utils.images import read_mask, resize_mask
from utils.types import BoolArray, FloatArray, Side

CALIBRATION = "StereoCalibration.ini"
_EYES: tuple[Side, Side] = ("left", "right")
_MASK_REACH = 2  # frames: some sequences have a mask every other frame, and tools move little in 33 ms
_STILL_MM, _STILL_DEGREES = 1.0, 0.5


def looks_like(folder: Path) -> bool:
    """Whether the folder is a sequence of StereoMIS."""
    return (folder / CALIBRATION).exists()


def read(folder: Path, options: ReaderOptions) -> Source:
    """Read one sequence.

    Frames carry the number that the dataset's masks use: the video's first frame is 000001.

    Raises:
        InputError: a part is missing, damaged, or does not fit the others.
    """
    calibration = read_calibration(folder / CALIBRATION)
    images = _images(folder)
    unpacked = isinstance(images, UnpackedPairs)
    numbers = images.numbers
    chosen = [numbers[position] for position in options.chosen(len(numbers))]
    size = images.size(chosen)
    left_from_seen = calibration.left_from_rectified if unpacked else np.eye(4)
    calibration = _fitted(calibration, size, folder, unpacked)
    first = 0 if not unpacked or 0 in numbers else 1  # the authors' tool counts its files from 1, others from 0
    positions = [number - first for number in chosen]
    masks = numbered((folder / "masks").glob("*l.png"))
    tissue_is_nonzero = not nonzero_is_tool(options, "tissue")
    frames = []
    for number in chosen:
        named = number if unpacked else number + 1
        path = _nearest(masks, named)
        tissue: dict[Side, Mask] = {}
        if path is not None:
            tissue["left"] = partial(_tissue, path, tissue_is_nonzero, None if unpacked else calibration, size)
        pictures = {side: images.picture(number, side) for side in _EYES}
        frames.append(Frame(f"{named:06d}", pictures, tissue=tissue))
    poses, findings = _poses(folder / "groundtruth.txt", positions)
    with_mask = sum("left" in frame.tissue for frame in frames)
    findings = [*_about_images(unpacked, size), *_about_masks(masks, with_mask, len(frames)), *findings]
    findings += [*_about_splits(folder, positions), Finding("warn", "depth", "the dataset has none")]
    return Source(
        kind="stereomis",
        folder=folder,
        frames=tuple(frames),
        image_size=size,
        lenses=dict(calibration.lenses),
        right_from_left=calibration.right_from_left,
        world_from_left=None if poses is None else poses @ left_from_seen,
        metric=True,
        moving_camera=_moves(poses),
        findings=tuple(findings),
    )


def _images(folder: Path) -> StereoImages:
    unpacked = folder / "video_frames"
    if unpacked.is_dir():
        found: dict[Side, dict[int, Path]] = {side: numbered(unpacked.glob(f"*{side[0]}.png")) for side in _EYES}
        if found["left"]:
            need_the_same(found["left"], found["right"], "image of the other eye")
            return UnpackedPairs(found)
    videos = sorted(folder.glob("*.mp4"))
    if len(videos) != 1:
        raise InputError(
            f"{folder}: which video is the sequence?",
            found=", ".join(path.name for path in videos) or "no mp4, and no video_frames",
            expected="one mp4, the left eye above the right one",
            do="keep one mp4 in the folder",
        )
    return StackedVideo(videos[0])


def _fitted(calibration: Calibration, size: tuple[int, int], folder: Path, unpacked: bool) -> Calibration:
    """Return the calibration of the images: rectified and resized where a tool unpacked them."""
    if unpacked and size[0] * calibration.size[1] == size[1] * calibration.size[0]:
        return calibration.rectified().resized(size)
    if not unpacked and size == calibration.size:
        return calibration
    raise InputError(
        f"{folder}: the calibration is not of these images",
        found=f"images of {size[0]}x{size[1]}",
        expected=f"{calibration.size[0]}x{calibration.size[1]}, as {CALIBRATION} says",
        do="put the calibration of this sequence there; a video holds two such views in each frame",
    )


def _nearest(masks: dict[int, Path], number: int) -> Path | None:
    for step in range(_MASK_REACH + 1):
        for candidate in (number - step, number + step):
            if candidate in masks:
                return masks[candidate]
    return None


def _tissue(path: Path, tissue_is_nonzero: bool, stored: Calibration | None, size: tuple[int, int]) -> BoolArray:
    """Return (h, w) tissue of a left image; masks are drawn on the rectified view, often at half its size."""
    mask = read_mask(path)
    tissue = mask if tissue_is_nonzero else ~mask
    return stored.mask_of_stored(tissue) if stored else resize_mask(tissue, *size)


def _poses(path: Path, positions: list[int]) -> tuple[FloatArray | None, list[Finding]]:
    """Return (n, 4, 4) camera-to-world, mm, of frames by their position in the video; NaN: no row for it."""
    if not path.exists():
        return None, [Finding("warn", "camera poses", "no groundtruth.txt")]
    rows = _rows(path)
    poses = np.full((len(positions), 4, 4), np.nan)
    for index, position in enumerate(positions):
        if position < len(rows):
            turned = Rotation.from_quat(rows[position, 4:8]).as_matrix()
            poses[index] = rigid(turned, 1000.0 * rows[position, 1:4])
    without = int(np.isnan(poses[:, 0, 0]).sum())
    words = (
        "of the robot's kinematics, m turned into mm, row i for frame i of the video; other users measured that "
        "they run some 2 to 6 frames apart from the images"
    )
    findings = [Finding("warn", "camera poses", words, "estimate poses from the images, and compare")]
    if without:
        words = f"{len(rows)} rows: {without} of the chosen frames have none"
        findings.append(Finding("warn" if without < len(positions) else "refuse", "camera poses", words))
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=-1) if len(poses) > 1 else np.zeros(0)
    per_frame = steps / np.maximum(np.diff(positions), 1)
    if (per_frame > 5).any():
        where = int(np.nanargmax(per_frame))
        words = f"they jump by {steps[where]:.0f} mm after row {positions[where]}: a break in the record"
        findings.append(Finding("warn", "camera poses", words, "cut the clip there"))
    return poses, findings


def _rows(path: Path) -> FloatArray:
    try:
        rows = np.loadtxt(path, ndmin=2, comments="#")
    except (ValueError, OSError) as error:
        raise _no_rows(path, f"{type(error).__name__}: {error}") from error
    if rows.shape[1] != 8:
        raise _no_rows(path, f"{rows.shape[1]} numbers a line")
    if not np.isfinite(rows).all():
        raise _no_rows(path, "numbers that are not finite")
    lengths = np.linalg.norm(rows[:, 4:8], axis=1)
    if np.abs(lengths - 1).max() > 0.01:
        raise _no_rows(path, f"quaternions of length {lengths.min():.3g} to {lengths.max():.3g}")
    return rows


def _no_rows(path: Path, found: str) -> InputError:
    return InputError(
        f"{path} cannot be read",
        found=found,
        expected="a line a frame: index, x y z in m, quaternion x y z w (camera to world)",
        do="put the sequence's groundtruth.txt there, or take it out",
    )


def _moves(poses: FloatArray | None) -> bool | None:
    """Whether the camera of these frames moves, by its poses; None where too few are known."""
    known = poses[np.isfinite(poses).all(axis=(1, 2))] if poses is not None else np.zeros((0, 4, 4))
    if len(known) < 2:
        return None
    far = np.linalg.norm(known[:, :3, 3] - known[0, :3, 3], axis=-1).max()
    turned = Rotation.from_matrix(known[:, :3, :3] @ known[0, :3, :3].T).magnitude().max()
    return bool(far > _STILL_MM or np.degrees(turned) > _STILL_DEGREES)


def _about_images(unpacked: bool, size: tuple[int, int]) -> list[Finding]:
    words = f"{size[0]}x{size[1]}, stored and distorted; the video's first frame is called 000001"
    if unpacked:
        words = (
            f"{size[0]}x{size[1]}, from video_frames: taken as rectified with OpenCV's alpha 0, as the authors do"
        )
    return [Finding("ok", "images", words)]


def _about_masks(masks: dict[int, Path], with_mask: int, count: int) -> list[Finding]:
    if not masks:
        return [
            Finding("warn", "masks", "none: instruments count as tissue", "draw masks, or choose other frames")
        ]
    words = (
        f"{with_mask} of {count} frames have one, their own or of at most {_MASK_REACH} frames away; nonzero is "
        "tissue (EndoNeRF's are the other way round), drawn on the rectified left view; none for the right eye"
    )
    return [Finding("ok", "masks", words)]


def _about_splits(folder: Path, positions: list[int]) -> list[Finding]:
    """Warn of frames outside the ranges that the dataset itself uses: setting up, cleaning the lens."""
    for name in ("test_split.csv", "train_split.csv"):
        path = folder / name
        if not path.exists():
            continue
        try:
            rows = list(csv.DictReader(path.read_text().splitlines()))
            ranges = [(int(row["start"]), int(row["end"])) for row in rows]
        except (KeyError, ValueError, TypeError) as error:
            return [Finding("warn", name, f"cannot be read: {type(error).__name__}")]
        outside = sum(not any(start <= position <= end for start, end in ranges) for position in positions)
        spans = ", ".join(f"{start} to {end}" for start, end in ranges[:4])
        if outside:
            words = f"{outside} of {len(positions)} frames lie outside the frames that the dataset uses: {spans}"
            return [Finding("warn", name, words, f"--start {ranges[0][0]} --stop {ranges[0][1] + 1}")]
        return [Finding("ok", name, f"all frames lie in the frames that the dataset uses: {spans}")]
    return []
