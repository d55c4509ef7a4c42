"""The three ways to place frames: COLMAP, stereo odometry, a file; each with what gives the scale."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from monocular.colmap_sfm import ColmapWorkspace, SparseModel
from monocular.odometry import Odometry
from monocular.pose_files import FilePoses, read_poses
from utils.errors import InputError
from utils.geometry import FloatArray, invert_rigid, transform
from utils.scene import Scene
from utils.stereo_points import stereo_landmarks
from utils.types import Side

log = logging.getLogger("specula")

MEDIAN_DEPTH = 100.0  # of a reconstruction that is not metric
_SMALLEST_TRAVEL = 0.01  # of the median depth: below, --cam_dist gives no scale
_FEWEST_POINTS = 8
_ENOUGH_FRAMES = 5
_SMALLEST_SHARE_IN_THREE = 0.3
_FEWEST_SCALE_PAIRS = 20
_FEWEST_LANDMARKS = 30
_SAME_FEATURE_PX = 1.5
_ONE_PLACE = 1e-6
_SAME_SCALE = 0.02  # what stereo matches can tell


@dataclass(frozen=True)
class Task:
    """What every way of placing frames is given.

    `matches` is the folder of stereo matches or None, `folder` (absolute) is for COLMAP's files, `cam_dist` the
    known travel in mm or None, `file` what `--poses file` reads.
    """

    scene: Scene
    matches: Path | None
    folder: Path
    cam_dist: float | None
    seed: int
    file: Path

    @property
    def stereo(self) -> bool:
        """Whether both eyes are calibrated and have images."""
        return self.scene.rig.stereo and "right" in self.scene.sides

    def workspace(self, sides: tuple[Side, ...], name: str = "all") -> ColmapWorkspace:
        """Return a prepared folder for COLMAP."""
        made = ColmapWorkspace(self.folder / name, self.scene, sides, self.seed)
        made.prepare()
        return made

    @property
    def sides(self) -> tuple[Side, ...]:
        """The eyes that take part."""
        return ("left", "right") if self.stereo else ("left",)

    def scale_rule(self) -> tuple[dict[str, float], bool, str]:
        """Return the worker's rule, whether it makes the result metric, and the same in words."""
        if self.stereo:
            return {}, True, "from the calibrated stereo rig"
        if self.cam_dist is not None:
            return (
                {"travel": self.cam_dist},
                True,
                f"first and last camera {self.cam_dist:g} mm apart (--cam_dist)",
            )
        return {"median_depth": MEDIAN_DEPTH}, False, f"none known: median depth set to {MEDIAN_DEPTH:g}"


@dataclass
class Placement:
    """Where the frames were placed, how, and what gave the scale.

    `model` is None where nothing could be placed; `sparse` is the folder of the COLMAP model; `placed_by` says
    how for each frame; `counts` are COLMAP's; `from_images` False where poses came from a file.
    """

    model: SparseModel | None
    sparse: Path
    metric: bool
    scale: str
    placed_by: dict[str, str] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    from_images: bool = True


def place_by_colmap(task: Task) -> Placement:
    """Place frames by structure from motion, what it leaves by odometry, and adjust those once more."""
    workspace = task.workspace(task.sides)
    rule, metric, words = task.scale_rule()
    model, counts = workspace.map(rule)
    if model is None:
        if task.matches is None:
            return Placement(None, workspace.sparse, metric, words, counts=counts)
        log.warning("poses: COLMAP found no reconstruction; trying stereo odometry")
        placement = _by_odometry(task, workspace)
        placement.counts = counts | placement.counts
        return placement
    placement = Placement(model, workspace.sparse, metric, words, counts=counts)
    placement.placed_by = dict.fromkeys(model.placed, "colmap")
    missing = [name for name in task.scene.names if name not in model.placed]
    if missing:
        _add_missing(task, workspace, placement, missing)
    _check_travel(task, placement)
    return placement


def _add_missing(task: Task, workspace: ColmapWorkspace, placement: Placement, missing: list[str]) -> None:
    """Place the frames that COLMAP left out beside the others; only they move in the adjustment after it."""
    model = placement.model
    if model is None:
        return
    log.info("poses: COLMAP left out %d frames (%s): trying odometry", len(missing), ", ".join(missing[:10]))
    poses = {name: model.world_from_left[model.names.index(name)] for name in model.placed}
    odometry = Odometry(task.scene, task.matches, model, dict(poses))
    how = odometry.place_all(missing)
    if not how:
        return
    rule, _, _ = task.scale_rule()
    world_from_left = _stacked(task.scene, odometry.poses)
    refined, more = workspace.triangulate(
        task.scene.names, world_from_left, scale=rule, refine=True, fixed=tuple(poses)
    )
    placement.model = refined
    placement.placed_by |= how
    placement.counts |= more


def place_by_odometry(task: Task) -> Placement:
    """Place every frame by stereo odometry, then adjust all of them with COLMAP's tracks."""
    if not task.stereo or task.matches is None:
        raise InputError(
            "--poses odometry needs both eyes",
            found="left images only" if not task.stereo else "no stereo matches",
            expected="r/images, a calibration of both eyes, and the stage `matches`",
            do="use --poses colmap, which works with left images too, or --poses file",
        )
    return _by_odometry(task, task.workspace(task.sides))


def _by_odometry(task: Task, workspace: ColmapWorkspace) -> Placement:
    _, metric, words = task.scale_rule()
    odometry = Odometry(task.scene, task.matches)
    counts = {name: len(odometry.landmarks(name).pixels) for name in task.scene.names}
    start = next((name for name in task.scene.names if counts[name] >= _FEWEST_LANDMARKS), None)
    if start is None:
        return Placement(None, workspace.sparse, metric, words, counts={"stereo_points": max(counts.values())})
    odometry.poses[start] = np.eye(4)
    how = {start: "odometry, the first frame"}
    how |= odometry.place_all(name for name in task.scene.names if name != start)
    world_from_left = _stacked(task.scene, odometry.poses)
    names = task.scene.names
    model, found = workspace.triangulate(names, world_from_left, scale={}, refine=True)
    if model is None or len(model.points_world) < _FEWEST_LANDMARKS:
        log.warning("poses: too few tracks to adjust the odometry; its poses are used as they are")
        model, found = workspace.triangulate(names, world_from_left, scale={})
    return Placement(model, workspace.sparse, metric, words, how, found)


def place_by_file(task: Task) -> Placement:
    """Take poses from a file and triangulate points for them; find their scale where the scene knows one."""
    given = read_poses(task.file, task.scene.names, task.scene.rig, task.folder)
    if given.metric or given.scale_mm is not None:
        factor = given.scale_mm or 1.0
        words = "from the file" if given.metric else "the distance between the two eyes in the file"
        return _triangulate_file(task, given, factor, task.sides, words)
    if task.stereo and _stands(given.sfm_from_left):
        words = "from the calibrated stereo rig: all cameras of the file stand at one place"
        return _triangulate_file(task, given, 1.0, task.sides, words)
    if task.stereo and task.matches is not None:
        factor = _scale_from_stereo(task, given)
        words = "stereo matches beside the points that the file's poses give"
        if given.perhaps_mm and abs(factor - 1.0) < _SAME_SCALE:
            factor, words = 1.0, f"from the file: stereo matches say {factor:.4f} mm a unit"
        return _triangulate_file(task, given, factor, task.sides, words)
    return _triangulate_file(task, given, None, ("left",), "")


def _stands(sfm_from_left: FloatArray) -> bool:
    """Whether all cameras stand at one place: no scale changes anything."""
    centres = sfm_from_left[np.isfinite(sfm_from_left).all(axis=(1, 2)), :3, 3]
    size = max(1.0, float(np.abs(centres).max(initial=0.0)))
    return len(centres) > 0 and bool(np.ptp(centres, axis=0).max() < _ONE_PLACE * size)


def _triangulate_file(
    task: Task, given: FilePoses, factor: float | None, sides: tuple[Side, ...], words: str
) -> Placement:
    """Triangulate for the file's poses times `factor`; None applies the rule for left images only."""
    rule: dict[str, float] = {}
    metric = True
    if factor is None:
        rule, metric, words = task.scale_rule()
    poses = _scaled(given.sfm_from_left, factor or 1.0)
    workspace = task.workspace(sides)
    model, counts = workspace.triangulate(task.scene.names, poses, scale=rule)
    placement = Placement(model, workspace.sparse, metric, words, counts=counts, from_images=False)
    placement.warnings = list(given.warnings)
    if model is not None:
        placement.placed_by = dict.fromkeys(model.placed, "file")
        if len(model.points_world) < _FEWEST_POINTS or not _agrees(model):
            raise _poses_do_not_fit(task, model)
    _check_travel(task, placement)
    return placement


def _scale_from_stereo(task: Task, given: FilePoses) -> float:
    """Return mm per unit of the file: stereo depth / depth of the points that its poses triangulate."""
    workspace = task.workspace(("left",), "left_only")
    model, _ = workspace.triangulate(task.scene.names, given.sfm_from_left, scale={})
    ratios: list[FloatArray] = [np.zeros(0)]
    if model is not None and task.matches is not None:
        for frame, name in enumerate(model.names):
            stereo = stereo_landmarks(task.scene, task.matches, name)
            observed = model.frame == frame
            if not observed.any() or len(stereo.pixels) == 0:
                continue
            distance_px, nearest = cKDTree(stereo.pixels).query(model.pixels[observed])
            left_from_world = invert_rigid(model.world_from_left[frame])
            depth = transform(left_from_world, model.points_world[model.point[observed]])[:, 2]
            same = distance_px <= _SAME_FEATURE_PX
            ratios.append(stereo.points_left[nearest[same], 2] / depth[same])
    pooled = np.concatenate(ratios)
    if len(pooled) < _FEWEST_SCALE_PAIRS:
        raise _poses_do_not_fit(task, model)
    return float(np.median(pooled))


def _share_in_three_frames(model: SparseModel) -> float:
    """Return the share of points that three frames or more agree on."""
    frames_of_point = np.unique(np.stack([model.point, model.frame]), axis=1)[0]
    return float((np.bincount(frames_of_point, minlength=1) >= 3).mean())


def _agrees(model: SparseModel) -> bool:
    """Whether points are seen from many frames: with wrong poses two views agree by chance, three do not.

    Seen on the phantom: 0.88 to 0.95 for right poses; 0.21 and less for inverted, shuffled or flipped ones.
    """
    return len(model.placed) < _ENOUGH_FRAMES or _share_in_three_frames(model) > _SMALLEST_SHARE_IN_THREE


def _poses_do_not_fit(task: Task, model: SparseModel | None) -> InputError:
    n_points = len(model.points_world) if model else 0
    share = _share_in_three_frames(model) if model and n_points else 0.0
    return InputError(
        f"the poses of {task.file} do not fit the images",
        found=f"{n_points} points that two views agree on, {100 * share:.0f} % of them seen in three frames",
        expected="most points seen in three frames: camera-to-world poses, OpenCV axes, in the images' order",
        do="check world-to-camera against camera-to-world, the axes, the order of the frames, the focal length",
    )


def _check_travel(task: Task, placement: Placement) -> None:
    """Refuse a scale from `--cam_dist` whose two cameras are not both there, or nearly coincide."""
    if "--cam_dist" not in placement.scale or placement.model is None:
        return
    names, placed = task.scene.names, placement.model.placed
    travel_per_depth = float(placement.counts["travel_per_depth"])
    if (placed[0], placed[-1]) == (names[0], names[-1]) and travel_per_depth > _SMALLEST_TRAVEL:
        return
    raise InputError(
        "--cam_dist gives no scale here",
        found=f"frames {placed[0]} and {placed[-1]} are the first and last placed, "
        f"{100 * travel_per_depth:.2f} % of the median depth apart",
        expected=f"frames {names[0]} and {names[-1]} placed, at least {100 * _SMALLEST_TRAVEL:.0f} % apart",
        do="leave --cam_dist out (the result is not metric then), or take the frames at the ends out",
    )


def _stacked(scene: Scene, poses: dict[str, FloatArray]) -> FloatArray:
    unknown = np.full((4, 4), np.nan)
    return np.stack([poses.get(name, unknown) for name in scene.names])


def _scaled(world_from_left: FloatArray, factor: float) -> FloatArray:
    scaled = world_from_left.copy()
    scaled[:, :3, 3] *= factor
    return scaled
