"""Read a keyframe of SCARED: its measured stereo pair, or its video with kinematic poses and carried depth.

The layout is that of the challenge's release (dataset_k/keyframe_j) and of what public tools unpack from it.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.datasets.archives import FrameFiles
from utils.datasets.carried_depth import check_carried
from utils.datasets.numbered_files import common_size, need_the_same, numbered
from utils.datasets.options import ReaderOptions
from utils.datasets.point_maps import read_points
from utils.datasets.scared_calibration import (
    FrameData,
    StereoCalibration,
    read_calibration,
    read_frame_data,
    world_from_left,
)
from utils.datasets.scared_depth import ScenePoints, judge, need_size
from utils.datasets.source import DepthMap, Finding, Frame, Source
from utils.datasets.stacked_video import StackedVideo, StereoImages, UnpackedPairs
from utils.errors import InputError
from utils.types import Side

CALIBRATION = "endoscope_calibration.yaml"
_BAD_CALIBRATIONS = (4, 5)
_EYES: tuple[Side, Side] = ("left", "right")


def looks_like(folder: Path) -> bool:
    """Whether the folder is a keyframe of SCARED."""
    return (folder / CALIBRATION).exists() and (_pair(folder) is not None or (folder / "data").is_dir())


def read(folder: Path, options: ReaderOptions) -> Source:
    """Read a keyframe folder; `part` says whether its pair or its video.

    Raises:
        InputError: a part is missing, damaged, or does not fit the others.
    """
    calibration = read_calibration(folder / CALIBRATION)
    pair = _pair(folder)
    images = None if options.part == "keyframe" else _images(folder)
    if images is not None:
        return _read_video(folder, images, calibration, options)
    if pair is None or options.part == "video":
        raise _no_images(folder, options.part)
    return _read_pair(folder, pair, calibration, options)


def _no_images(folder: Path, part: str) -> InputError:
    do = "add them, or choose another --part"
    rectified = ("left_rectified", "data/left_finalpass", "data/video_frames")
    if any((folder / name).is_dir() for name in rectified):
        do = f"the rectified images are not those of {CALIBRATION}: put the release's data/rgb.mp4 there"
    expected = {"keyframe": "Left_Image.png and Right_Image.png", "video": "data/rgb.mp4, or left/ and right/"}
    return InputError(
        f"{folder} has no images of SCARED",
        found="none that belong to the calibration",
        expected=expected.get(part, " or ".join(expected.values())),
        do=do,
    )


def _pair(folder: Path) -> dict[Side, Path] | None:
    by_name = {path.name.lower(): path for path in folder.glob("*.png")}
    if "left_image.png" not in by_name or "right_image.png" not in by_name:
        return None
    return {"left": by_name["left_image.png"], "right": by_name["right_image.png"]}


def _read_pair(
    folder: Path, pair: dict[Side, Path], calibration: StereoCalibration, options: ReaderOptions
) -> Source:
    size = common_size(pair.values())
    scale = options.depth_scale or 1.0
    depth: dict[Side, DepthMap] = {}
    findings = _known_bad(folder)
    for side in _EYES:
        path = folder / f"{side}_depth_map.tiff"
        if not path.exists():
            findings.append(Finding("warn", path.name, "not there: this eye has no depth to compare with"))
            continue
        points = read_points(path)
        need_size(points, size, path)
        findings.append(judge(scale * points, calibration, side, f"{side} depth map"))
        depth[side] = partial(_depth_of_file, path, scale)
    if depth:
        findings.append(Finding("ok", "depth", "measured with structured light"))
    parts = folder.resolve().parts[-2:]
    name = "_".join(part for part in parts if re.match(r"(dataset|keyframe)_?\d", part)) or "keyframe"
    return Source(
        kind="scared",
        folder=folder,
        frames=(Frame(name, dict(pair), depth_mm=depth),),
        image_size=size,
        lenses=dict(calibration.lenses),
        right_from_left=calibration.right_from_left,
        metric=True,
        findings=tuple(findings),
    )


def _depth_of_file(path: Path, scale: float) -> NDArray[np.float32]:
    return np.float32(scale) * read_points(path)[..., 2]


def _images(folder: Path) -> StereoImages | None:
    """Return left/ and right/ where a tool unpacked the video, here or in data/; else the video itself."""
    for home in (folder, folder / "data"):
        found: dict[Side, dict[int, Path]] = {
            side: numbered([*(home / side).glob("*.png"), *(home / side).glob("*.jpg")]) for side in _EYES
        }
        if found["left"]:
            need_the_same(found["left"], found["right"], "image of the other eye")
            return UnpackedPairs(found)
    video = folder / "data" / "rgb.mp4"
    return StackedVideo(video) if video.exists() else None


def _read_video(
    folder: Path, images: StereoImages, calibration: StereoCalibration, options: ReaderOptions
) -> Source:
    data = _frame_data(folder)
    shared = [number for number in images.numbers if number in data]
    if not shared:
        raise _no_poses(folder)
    chosen = [shared[position] for position in options.chosen(len(shared))]
    size = images.size(chosen)
    poses, findings = world_from_left([data[number] for number in chosen])
    findings = [
        *_known_bad(folder),
        *_counts(len(images.numbers), len(data)),
        *_matrix_findings(calibration, data[chosen[0]]),
        *findings,
    ]
    files = FrameFiles(folder / "data" / "scene_points", folder / "data" / "scene_points.tar.gz", ".tiff")
    scene = ScenePoints(files, size, options.depth_scale or 1.0)
    sides, about_depth = scene.usable(chosen[0], calibration)
    findings += about_depth
    if "left" in sides:
        lens = calibration.lenses["left"]
        findings += check_carried(chosen, poses, lens, partial(scene.points, side="left"), files.unpacked)
    return Source(
        kind="scared",
        folder=folder,
        frames=tuple(_frame(number, images, scene, sides) for number in chosen),
        image_size=size,
        lenses=dict(calibration.lenses),
        right_from_left=calibration.right_from_left,
        world_from_left=poses,
        metric=True,
        moving_camera=True,
        findings=tuple(findings),
    )


def _frame(number: int, images: StereoImages, scene: ScenePoints, sides: tuple[Side, ...]) -> Frame:
    depth: dict[Side, DepthMap] = {side: partial(scene.depth, number, side) for side in sides}
    return Frame(f"{number:06d}", {side: images.picture(number, side) for side in _EYES}, depth_mm=depth)


def _frame_data(folder: Path) -> dict[int, FrameData]:
    files = FrameFiles(folder / "data" / "frame_data", folder / "data" / "frame_data.tar.gz", ".json")
    if not files.exists:
        raise _no_poses(folder)
    return {
        number: read_frame_data(text, f"{files.place}: frame {number}")
        for number, text in files.read_all().items()
    }


def _no_poses(folder: Path) -> InputError:
    return InputError(
        f"{folder} has a video and no poses of its frames",
        found="no data/frame_data.tar.gz or data/frame_data/ with frames of the video",
        expected="frame_data000000.json … with `camera-pose`",
        do="put frame_data.tar.gz there, or take the measured pair alone: --part keyframe",
    )


def _counts(images: int, poses: int) -> list[Finding]:
    words = f"{images} in the video, {poses} with a pose"
    if images == poses:
        return [Finding("ok", "frames", words)]
    return [Finding("warn", "frames", f"{words}; those without the other are left out")]


def _matrix_findings(calibration: StereoCalibration, data: FrameData) -> list[Finding]:
    if data.left_matrix is None:
        return []
    off = float(np.abs(data.left_matrix - calibration.lenses["left"].matrix).max())
    if off <= 0.5:
        return []
    words = f"{CALIBRATION} and the frames' own KL differ by {off:.1f} px"
    return [Finding("warn", "calibration", words, "are both of one keyframe?")]


def _known_bad(folder: Path) -> list[Finding]:
    for part in reversed(folder.resolve().parts):
        match = re.match(r"dataset_?(\d+)", part)
        if match:
            if int(match[1]) not in _BAD_CALIBRATIONS:
                return []
            words = f"that of dataset {match[1]} is known to be wrong: rectified pairs do not fit"
            return [Finding("warn", "calibration", words, "leave the dataset out of tables, as most papers do")]
    return []
