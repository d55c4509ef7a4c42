"""Read the cameras of a Specula run: calibration of `scene`, poses of `poses`, or those that training refined."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from export.camera_set import CameraSet
from utils.errors import InputError
from utils.scene import Scene, load_poses
from utils.stages import STAMP, skipped
from utils.types import Poses

_ONE_PAIR = "one stereo pair has no poses: its left eye is the world"


def is_run(path: Path) -> bool:
    """Whether a folder is a run, finished or not."""
    return path.is_dir() and any((path / f"scene{ending}").is_dir() for ending in ("", ".partial"))


def read_run(path: Path) -> CameraSet:
    """Read all eyes and frames of `logs/<expname>`; the left eye of all frames comes first.

    Raises:
        InputError: the run has not come as far as its poses.
    """
    _require_finished(path, "scene")
    _require_finished(path, "poses")
    scene = Scene.load(path / "scene")
    poses, notes = _poses(path, scene)
    views = [(side, name) for side in scene.rig.sides for name in scene.names if _has_pose(poses, side)]
    files = [scene.image_path(side, name) if f"{side}_{name}" in scene.images else None for side, name in views]
    endings = [file.suffix if file else "" for file in files]
    return CameraSet(
        names=tuple(f"{side}/{name}{ending}" for (side, name), ending in zip(views, endings, strict=True)),
        world_from_camera=np.stack([poses.world_from(side, name) for side, name in views]),
        cameras=tuple(scene.rig.camera(side) for side, _ in views),
        unit=poses.unit,
        images=tuple(files),
        splits=tuple(scene.split(name) for _, name in views),
        notes=notes,
    )


def _poses(path: Path, scene: Scene) -> tuple[Poses, tuple[str, ...]]:
    """Return the poses of a run, and what there is to say of them; of a stereo pair, its rig."""
    reason = skipped(path / "poses")
    if reason is None:
        return load_poses(path / "poses", path / "nerf"), ()
    if len(scene.names) != 1 or not scene.rig.stereo:
        raise InputError(
            f"{path} has no camera poses",
            found=reason,
            expected="a run whose stage `poses` placed frames",
            do="run it with --poses file, or with more images",
        )
    world_from_right = scene.rig.left_from("right")
    return Poses(scene.names, np.eye(4)[None], world_from_right[None], True), (_ONE_PAIR,)


def _has_pose(poses: Poses, side: str) -> bool:
    return side == "left" or poses.world_from_right is not None


def _require_finished(path: Path, stage: str) -> None:
    if (path / stage / STAMP).exists():
        return
    half = (path / f"{stage}.partial").exists()
    raise InputError(
        f"the run {path} is not finished: it has no `{stage}`",
        found=f"{stage}.partial, in the making or interrupted" if half else f"no folder {stage}",
        expected="the finished stages `scene` and `poses`",
        do="run `python run.py` again with the run's configuration: it goes on from there",
    )
