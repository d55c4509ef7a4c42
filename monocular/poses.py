"""Stage `poses`: where the cameras stood, and the sparse points that they saw."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from monocular.colmap_sfm import ColmapWorkspace, SparseModel
from monocular.placement import Placement, Task, place_by_colmap, place_by_file, place_by_odometry
from monocular.pose_files import check_poses
from utils.artifacts import read_json, write_json, write_npz
from utils.errors import InputError, NotApplicable
from utils.geometry import invert_rigid, transform
from utils.images import frame_name, list_images
from utils.options import option
from utils.scene import Scene, save_poses
from utils.scene_motion import RECORD as MOTION
from utils.scene_motion import SceneMotion, measure_motion
from utils.stages import Stage
from utils.types import ARBITRARY_UNITS, Poses

log = logging.getLogger("specula")

LLFF_FILE = "poses_bounds.npy"
_METHODS = {"colmap": place_by_colmap, "odometry": place_by_odometry, "file": place_by_file}


@dataclass(frozen=True)
class PosesOptions:
    """Where camera poses come from, and what gives them their scale."""

    datadir: str = option("", "dataset folder with l/images, calib.yaml and, for two eyes, r/images")
    image_dir: str = option(
        "images",
        "folder of the images inside l and r: images or rectify",
        choices=("images", "rectify"),
        affects_result=False,
    )
    poses: str = option(
        "colmap",
        "colmap: structure from motion; odometry: stereo only; file: --poses_path; none: every stereo frame by "
        "itself, for a camera that stands or tissue that moves: no field, depth and its scores",
        choices=("colmap", "file", "odometry", "none"),
    )
    poses_path: str | None = option(
        None, "LLFF npy, npz or COLMAP model folder; default <datadir>/poses_bounds.npy"
    )
    cam_dist: float | None = option(None, "left images only: distance between the first and the last camera, mm")
    min_registered: int = option(3, "stop where fewer frames than this can be placed")
    seed: int = option(0, "makes a run repeat")


def poses_file(options: PosesOptions, datadir: str | Path) -> Path:
    """Return the file or folder that `--poses file` reads."""
    return Path(options.poses_path) if options.poses_path else Path(datadir) / LLFF_FILE


def files(options: PosesOptions) -> list[Path]:
    """Return the files outside `logs/` that the stage reads."""
    if options.poses != "file":
        return []
    path = poses_file(options, options.datadir)
    if path.is_dir():
        return sorted(entry for entry in path.iterdir() if entry.is_file())
    return [path] if path.exists() else []


def check(options: PosesOptions) -> None:
    """Raise InputError for what is wrong with the options, before any stage runs."""
    if options.poses == "file":
        images = list_images(Path(options.datadir) / "l" / options.image_dir)
        names = [frame_name(image, options.image_dir)[0] for image in images]
        path = poses_file(options, options.datadir)
        if names or not path.exists():  # without images the scene is refused, or was made elsewhere
            check_poses(path, names)
    if options.cam_dist is not None and not options.cam_dist > 0:
        raise InputError(
            "--cam_dist is not a distance",
            found=f"{options.cam_dist:g}",
            expected="the distance between the first and the last camera, mm, above 0",
            do="correct it, or leave it out: the result is then not metric",
        )
    if options.min_registered < 2:
        raise InputError(
            "--min_registered is too small",
            found=str(options.min_registered),
            expected="2 or more: one frame has no motion",
            do="raise it",
        )


def run(options: PosesOptions, *, out: Path, scene: Path, matches: Path) -> str:
    """Place the frames and write poses, sparse points and the COLMAP model, and `motion.json` before all.

    Raises:
        NotApplicable: the scene is a single frame, or `--poses none`.
        InputError: too few frames could be placed, or a pose file is wrong.
    """
    loaded = Scene.load(scene)
    if len(loaded.names) == 1:
        raise NotApplicable("one stereo pair has no motion: there are no camera poses to estimate")
    check(options)
    workspace = out.resolve() / "colmap"
    task = Task(
        scene=loaded,
        matches=matches if "right" in loaded.sides and any(matches.glob("*.npz")) else None,
        folder=workspace,
        cam_dist=options.cam_dist,
        seed=options.seed,
        file=poses_file(options, read_json(scene / "frames.json").get("datadir", options.datadir)),
    )
    motion = _look_at_motion(out, task)
    if options.poses == "none":
        raise _frame_by_frame(task)
    placement = _METHODS[options.poses](task)
    n_placed = len(placement.model.placed) if placement.model else 0
    if placement.model is None or n_placed < options.min_registered:
        raise _too_few(options, task, placement, n_placed, motion)
    _write(out, loaded, placement, placement.model)
    _write_points(out, _training_model(task, placement, placement.model))
    shutil.rmtree(workspace)
    return _summary(placement, placement.model)


def _look_at_motion(out: Path, task: Task) -> SceneMotion:
    """Measure whether camera and tissue move, write it, and warn where a static field is not valid."""
    motion = measure_motion(task.scene, task.matches)
    write_json(out / MOTION, motion.to_json())
    if motion.warning:
        log.warning("poses: %s", motion.warning)
    else:
        log.info("poses: %s", motion.seen)
    return motion


def _frame_by_frame(task: Task) -> Exception:
    """Return why nothing is placed with `--poses none`: a reason with two eyes, a mistake with one."""
    if task.stereo:
        return NotApplicable("every frame stands for itself (--poses none)")
    return InputError(
        "--poses none needs both eyes",
        found="left images only",
        expected="r/images and a calibration of both eyes: without motion they alone measure depth",
        do="use --poses colmap, or --poses file",
    )


def _write(out: Path, scene: Scene, placement: Placement, model: SparseModel) -> None:
    """Write poses.npz, sparse/ and report.json."""
    rig = scene.rig
    world_from_right = None
    if rig.right_from_left is not None and placement.metric:  # its baseline is in mm
        world_from_right = model.world_from_left @ invert_rigid(rig.right_from_left)
    save_poses(out, Poses(model.names, model.world_from_left, world_from_right, placement.metric))
    shutil.copytree(placement.sparse, out / "sparse")
    missing = [name for name in model.names if name not in model.placed]
    if missing:
        log.warning("poses: %d frames could not be placed: %s", len(missing), ", ".join(missing))
    for warning in placement.warnings:
        log.warning("poses: %s", warning)
    report: dict[str, Any] = {
        "n_registered": len(model.placed),
        "n_frames": len(model.names),
        "metric": placement.metric,
        "unit": "mm" if placement.metric else ARBITRARY_UNITS,
        "scale": placement.scale,
        "n_points": len(model.points_world),
        "placed_by": {name: placement.placed_by[name] for name in model.placed},
        "not_placed": missing,
        "world": f"the left camera of frame {model.placed[0]}",
        "test_poses": "test images took part in estimating the poses"
        if placement.from_images
        else "poses come from a file",
        "warnings": placement.warnings,
        "colmap": placement.counts,
    }
    if len(model.error_px):
        report["reprojection_px"] = float(np.nanmean(model.error_px))
        report["median_reprojection_px"] = float(np.nanmedian(model.error_px))
    write_json(out / "report.json", report)


def _training_model(task: Task, placement: Placement, model: SparseModel) -> SparseModel:
    """Return the points that training images alone show, for the poses that were found.

    Points feed priors: with the test images among them, those would say which tracks there are.
    """
    scene = task.scene
    training = np.array([name in scene.train for name in scene.names])
    placed = [name for name in scene.train if name in model.placed]
    if training.all() or not placed:
        return model
    poses = np.where(training[:, None, None], model.world_from_left, np.nan)
    workspace = ColmapWorkspace(placement.sparse.parents[1], scene, task.sides, task.seed)
    found, _ = workspace.triangulate(scene.names, poses, scale={})
    if found is None:
        return model
    # The worker puts its world into the first of its frames.
    world_from_first = model.world_from_left[scene.names.index(placed[0])]
    return replace(found, points_world=transform(world_from_first, found.points_world))


def _write_points(out: Path, model: SparseModel) -> None:
    """Write points.npz: points of the world and who saw them."""
    write_npz(
        out / "points.npz",
        points_world=model.points_world,
        point=model.point,
        frame=model.frame,
        side=model.side,
        pixels=model.pixels,
    )


def _too_few(
    options: PosesOptions, task: Task, placement: Placement, n_placed: int, motion: SceneMotion
) -> InputError:
    """Return the error for too few placed frames, with what was found and what may help."""
    counts = placement.counts
    found = f"{n_placed} of {len(task.scene.names)} frames"
    if "keypoints" in counts:
        found += f"; {counts['keypoints']} features an image (median), {counts['pairs']} image pairs that match"
    if counts.get("models"):
        found += f"; models of {', '.join(str(size) for size in counts['models'])} frames"
    help_stereo = "--poses odometry, " if task.stereo and options.poses != "odometry" else ""
    if motion.warning:
        found += f". {motion.warning}"
    return InputError(
        f"--poses {options.poses} could place too few frames",
        found=found,
        expected=f"{options.min_registered} frames or more (--min_registered)",
        do=f"give frames that overlap more and move more, masks (mask_l/) that keep tools and borders away, "
        f"larger images; or try {help_stereo}--poses file",
    )


def _summary(placement: Placement, model: SparseModel) -> str:
    error = f", reprojection {np.nanmean(model.error_px):.2f} px" if len(model.error_px) else ""
    unit = "metric" if placement.metric else ARBITRARY_UNITS
    return (
        f"{len(model.placed)} of {len(model.names)} frames placed ({unit}: {placement.scale}), "
        f"{len(model.points_world)} points{error}"
    )


STAGE = Stage("poses", run, PosesOptions, ("scene", "matches"), version=3, files=files, check=check)
