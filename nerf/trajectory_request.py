"""What a trajectory is asked to be: its path, how many views, and whether this run has such a path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nerf.camera_paths import Stop, along, between, given, spiral
from utils.artifacts import load_maps
from utils.errors import InputError
from utils.pose_lists import read_pose_list
from utils.scene import Scene
from utils.types import Poses

PATHS = ("between", "along", "spiral")
FRAMES = 60


@dataclass(frozen=True)
class Request:
    """What is asked for: a path's name or a file, a frame (`between`), how many views, pictures a second."""

    path: str
    frame: str | None = None
    frames: int | None = None
    fps: int = 12
    out: Path | None = None
    chunk: int = 16384
    device: str = "auto"


def check(request: Request) -> None:
    """Raise InputError for numbers and flags that mean nothing together."""
    numbers = (request.frames if request.frames is not None else FRAMES, request.fps, request.chunk)
    if numbers[0] < 2 or numbers[1] < 1 or numbers[2] < 1:
        raise InputError(
            "nothing can be rendered with these numbers",
            found="frames {}, fps {}, chunk {}".format(*numbers),
            expected="2 frames or more, fps and chunk 1 or more",
            do="correct the flag",
        )
    if request.path not in PATHS and request.frames is not None:
        raise InputError(
            "--frames means nothing with poses from a file",
            found=f"--frames {request.frames} and --path {request.path}",
            expected="a path that is computed: between, along or spiral",
            do="leave --frames out: every pose of the file is a view",
        )
    if request.frame is not None and request.path != "between":
        raise InputError(
            "--frame belongs to --path between",
            found=f"--frame {request.frame} and --path {request.path}",
            expected="--path between",
            do="leave --frame out",
        )


def choose_stops(request: Request, dataset: Scene, placed: Poses, run: Path) -> list[Stop]:
    """Return the cameras of the path. Raises InputError for a path that this run does not have."""
    camera, count = dataset.rig.camera("left"), request.frames or FRAMES
    train = [name for name in dataset.train if placed.placed(name)]
    positions = np.array([dataset.names.index(name) for name in train], float)
    lefts = np.array([placed.world_from("left", name) for name in train])
    if request.path not in PATHS:
        return given(camera, read_pose_list(Path(request.path)))
    if request.path == "between":
        frame = _frame(request.frame, dataset, placed, train)
        return between(dataset.rig, placed.world_from("left", frame), dataset.names.index(frame), count)
    if request.path == "along":
        return along(camera, lefts, positions, count)
    return spiral(camera, lefts, _working_distance(run, train), dataset.rig.baseline_mm, count)


def _frame(name: str | None, dataset: Scene, placed: Poses, train: list[str]) -> str:
    """Return the frame between whose eyes the path runs: the middle training frame unless one is named."""
    if not dataset.rig.stereo or placed.world_from_right is None:
        raise InputError(
            "there is no path between the eyes",
            found="one eye" if not dataset.rig.stereo else "poses without a metric scale, and so no right eye",
            expected="a stereo rig with metric poses",
            do="choose --path along, spiral or a file",
        )
    chosen = name or train[len(train) // 2]
    if chosen not in dataset.names or not placed.placed(chosen):
        raise InputError(
            f"--frame {chosen} is no frame with a pose",
            found=chosen,
            expected=", ".join(one for one in dataset.names if placed.placed(one)),
            do="name one of these",
        )
    return chosen


def _working_distance(run: Path, train: list[str]) -> float:
    """Return the median depth in the middle of the training images, mm."""
    middles = []
    for name in train:
        depth = load_maps(run / "render", "left", name)["depth_median_mm"]
        height, width = depth.shape
        middles.append(np.nanmedian(depth[height // 3 : -height // 3, width // 3 : -width // 3]))
    return float(np.nanmedian(middles))
