"""Read the cameras of a Specula run: calibration of `scene`, poses of `poses`, or those that training refined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.camera_set import CameraSet, eye_and_frame
from export.shapes import read_shape
from utils.artifacts import has_maps, load_maps
from utils.errors import InputError
from utils.finished_run import made_from, require_finished
from utils.scene import POSES, Scene, load_poses
from utils.stages import STAMP, read_stamp, skipped
from utils.types import BoolArray, FloatArray, Poses

CLOUD = "cloud.ply"
DEPTH_STAGES = ("filter", "render", "prior")  # the best first
_ONE_PAIR = "one stereo pair has no poses: its left eye is the world"
_OLD_FIELD = "poses are those of the stage `poses`: `nerf` refined others, of an older one"


def is_run(path: Path) -> bool:
    """Whether a folder is a run, finished or not."""
    return path.is_dir() and any((path / f"scene{ending}").is_dir() for ending in ("", ".partial"))


def read_run(path: Path) -> CameraSet:
    """Read all eyes and frames of `logs/<expname>`; the left eye of all frames comes first.

    Raises:
        InputError: the run has not come as far as its poses.
    """
    require_finished(path, "scene", "poses")
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


def depth_bounds(path: Path, cameras: CameraSet) -> FloatArray | None:
    """Return (n, 2): the 0.1 and 99.9 % quantile of each image's z-depth, as LLFF takes them; None without depth.

    Images whose own depth is unknown get the bounds of all others.
    """
    bounds = np.full((len(cameras.names), 2), np.nan)
    for index, name in enumerate(cameras.names):
        depth = depth_of(path, name)
        if depth is not None and np.isfinite(depth).any():
            bounds[index] = np.quantile(depth[np.isfinite(depth)], [0.001, 0.999])
    known = np.isfinite(bounds[:, 0])
    if not known.any():
        return None
    bounds[~known] = bounds[known, 0].min(), bounds[known, 1].max()
    return bounds


def depth_of(path: Path, name: str) -> FloatArray | None:
    """Return the best depth (h, w) that a run has of an image: filtered, rendered, of the prior; None without."""
    view = eye_and_frame(name)
    folder = next((path / stage for stage in DEPTH_STAGES if has_maps(path / stage, *view)), None)
    return None if folder is None else load_maps(folder, *view)["depth_mm"]


def run_points(path: Path) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Return points (n, 3) and RGB (n, 3) of a run's cloud; none where it has none, or one of other poses."""
    if (path / "export" / CLOUD).exists() and (path / "export" / STAMP).exists():
        made_from = read_stamp(path / "export")["inputs"]
        stages = [stage for stage in ("poses", "nerf") if stage in made_from and (path / stage / STAMP).exists()]
        if all(made_from[stage] == read_stamp(path / stage)["hash"] for stage in stages):
            cloud = read_shape(path / "export" / CLOUD)
            return cloud.points_world, cloud.colours
    return np.zeros((0, 3)), np.zeros((0, 3), np.uint8)


def tissue_of(path: Path, name: str) -> BoolArray:
    """Return the tissue (h, w) of an image of a run."""
    return load_maps(path / "scene" / "masks", *eye_and_frame(name))["tissue"]


def _poses(path: Path, scene: Scene) -> tuple[Poses, tuple[str, ...]]:
    """Return the poses of a run, and what there is to say of them; of a stereo pair, its rig."""
    reason = skipped(path / "poses")
    if reason is None:
        if not (path / "nerf" / STAMP).exists() or made_from(path, "nerf", "poses"):
            return load_poses(path / "poses", path / "nerf"), ()
        return load_poses(path / "poses"), (_OLD_FIELD,) if (path / "nerf" / POSES).exists() else ()
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
