"""Find the true surface of a scene and bring it together with the run: from a mesh, or from true depth maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from evaluation.options import EvaluationOptions
from evaluation.scores import ReadTruth
from evaluation.surfaces import MOST_SAMPLES, SPACING_MM, Mesh, Surface, facets, read_mesh, sampled
from evaluation.visibility import View
from utils.errors import InputError
from utils.geometry import (
    invert_rigid,
    normals_from_depth,
    pixel_grid,
    project,
    rigid,
    transform,
    umeyama,
    unproject,
)
from utils.parallel import each
from utils.scene import Scene
from utils.triangle_kernels import draw_depth
from utils.types import Camera, FloatArray, Poses, Side

MESH, POSES = "truth_mesh.ply", "truth_poses.npz"

_MOST_FRAMES, _MOST_VIEWED = 40, 64_000_000  # frames that crop, pixels of their true depth: evenly chosen beyond
_PATCH = 1.5  # pixels: of this size voxels have a point, and triangles no gaps, where a single image looks too
_MOST_PIXELS = 4_000_000  # of all depth maps together
_ORTHONORMAL = 1e-3
_STRAY = 3.0  # times the median: cameras that disagree by more do not align the worlds


@dataclass(frozen=True)
class Truth:
    """A true surface and the training views that crop it, in one world; how to get there; words about it."""

    surface: Surface
    views: list[View]
    truth_from_world: FloatArray
    note: str


def mesh_file(options: EvaluationOptions) -> Path | None:
    """Return the file of the true surface: the one that was named, else the dataset's own; None without one."""
    if options.truth_mesh:
        return Path(options.truth_mesh).expanduser()
    default = Path(options.datadir) / MESH
    return default if options.datadir and default.is_file() else None


def files(options: EvaluationOptions) -> list[Path]:
    """Return the files that `from_mesh` reads and that are there; none without a true mesh."""
    mesh = mesh_file(options)
    return [path for path in (mesh, Path(options.datadir) / POSES) if mesh and path and path.is_file()]


def check(options: EvaluationOptions) -> None:
    """Raise InputError for a true mesh, or poses in its world, that cannot be read."""
    mesh = mesh_file(options)
    if mesh:
        read_true_poses(Path(options.datadir) / POSES)
        read_mesh(mesh, "--truth_mesh" if options.truth_mesh else "")


def read_true_poses(path: Path) -> dict[str, FloatArray]:
    """Return `world_from_left` (4, 4) by frame, in the world of the true mesh; frames with NaN are left out.

    Raises:
        InputError: there is no such file, arrays are missing or do not match, or a matrix is no rigid motion.
    """
    try:
        with np.load(path) as file:
            names, matrices = [str(name) for name in file["names"]], np.asarray(file["world_from_left"], float)
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, BadZipFile) as error:
        raise _no_poses(path, f"{type(error).__name__}: {error}") from error
    if matrices.shape != (len(names), 4, 4):
        raise _no_poses(path, f"{len(names)} names, matrices of shape {matrices.shape}")
    poses = {name: pose for name, pose in zip(names, matrices, strict=True) if np.isfinite(pose).all()}
    for name, pose in poses.items():
        rotation = pose[:3, :3]
        if np.abs(rotation.T @ rotation - np.eye(3)).max() > _ORTHONORMAL or np.linalg.det(rotation) < 0:
            raise _no_poses(path, f"frame {name}: no rotation with determinant +1")
    return poses


def _no_poses(path: Path, found: str) -> InputError:
    return InputError(
        f"{path} does not tell where the cameras stand in the world of the true mesh",
        found=found,
        expected="an npz with `names` (n,) and `world_from_left` (n, 4, 4), camera-to-world, OpenCV axes, mm",
        do="write the file, or take the true mesh away: truth is then made from depth maps, where there are some",
    )


def from_mesh(options: EvaluationOptions, scene: Scene, poses: Poses) -> Truth | str:
    """Return the true mesh with its views in its own world, or why it cannot be used.

    The crop is made by all training frames with a true pose, whether the run placed them or not.
    """
    path = mesh_file(options)
    if path is None:
        raise ValueError("no true mesh is known")
    mesh, true_poses = read_mesh(path), read_true_poses(Path(options.datadir) / POSES)
    names = evenly([name for name in scene.train if name in true_poses], scene)
    eyes: list[tuple[Side, str]] = [(side, name) for name in names for side in scene.sides]
    touched = np.zeros(len(mesh.faces), bool)

    def view(eye: tuple[Side, str]) -> View:
        side, name = eye
        camera, world_from_camera = scene.rig.camera(side), true_poses[name] @ scene.rig.left_from(side)
        depth_mm, drawn = true_depth(mesh, camera, world_from_camera)
        touched[drawn] = True
        tissue, _ = scene.masks(side, name)
        return View(camera, world_from_camera, np.where(tissue & np.isfinite(depth_mm), depth_mm, np.nan))

    views = each(eyes, "evaluation: true depth", view)
    depths = np.concatenate(
        [one.depth_mm[np.isfinite(one.depth_mm)] for one in views] or [np.zeros(0, np.float32)]
    )
    if not len(depths):
        return f"{path.name} lies in front of no training camera of {POSES}: is it in mm, and in their world?"
    shared = [name for name in poses.names if poses.placed(name) and name in true_poses]
    if not shared:
        return f"none of the frames that were placed is named in {POSES}"
    distance_mm = float(np.median(depths))
    motion, apart_mm = align_cameras(
        np.stack([poses.world_from("left", name) for name in shared]),
        np.stack([true_poses[name] for name in shared]),
        distance_mm,
    )
    note = (
        f"truth is {path.name}, brought together by the poses of {len(shared)} frames alone (rigid, without "
        f"scale; they agree to {apart_mm:.2f} mm at {distance_mm:.0f} mm before the cameras)"
    )
    surface = sampled(Mesh(mesh.vertices, mesh.faces[touched]), np.random.default_rng(0))
    return Truth(surface, views, motion, note)


def true_depth(
    mesh: Mesh, camera: Camera, world_from_camera: FloatArray
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the z-depth (h, w) of a mesh in a camera, infinite beside it, and which faces lie in the picture."""
    pixels, z = project(camera.matrix, transform(invert_rigid(world_from_camera), mesh.vertices))
    depth_mm = np.full((camera.height, camera.width), np.inf, np.float32)
    columns, rows = np.ascontiguousarray(pixels.T)
    return depth_mm, draw_depth(columns, rows, z, mesh.faces, depth_mm)


def align_cameras(
    world_from_left: FloatArray, truth_from_left: FloatArray, distance_mm: float
) -> tuple[FloatArray, float]:
    """Return the rigid motion (4, 4) from the run's world to the truth's, and how far (mm, rms) cameras disagree.

    Least squares over five points of every camera at the working distance: the middle of its view and a square
    around it. Camera centres alone would leave the rotation open where the path is short against that distance.
    Cameras that disagree by more than three times the median are left out of a second fit.

    Args:
        world_from_left: (n, 4, 4) of the run.
        truth_from_left: (n, 4, 4) of the same frames.
        distance_mm: from the cameras to the tissue.
    """
    square = np.array([[0, 0, 1], [0.3, 0.3, 1], [0.3, -0.3, 1], [-0.3, 0.3, 1], [-0.3, -0.3, 1]]) * distance_mm
    source = np.stack([transform(pose, square) for pose in world_from_left])
    target = np.stack([transform(pose, square) for pose in truth_from_left])
    kept = np.ones(len(source), bool)
    for _ in range(2):
        _, rotation, shift = umeyama(source[kept].reshape(-1, 3), target[kept].reshape(-1, 3), with_scale=False)
        motion = rigid(rotation, shift)
        apart_mm = np.sqrt(((transform(motion, source) - target) ** 2).sum(-1).mean(-1))
        kept = apart_mm <= _STRAY * np.median(apart_mm) + 1e-9
    return motion, float(np.sqrt(np.mean(apart_mm**2)))


def from_depth(scene: Scene, poses: Poses, read_truth: ReadTruth) -> Truth | str:
    """Return true depth maps of placed training frames as one surface in the run's world, or why there is none.

    Flanks that are seen at a grazing angle have few pixels: they weigh less than in a true mesh.
    """
    rng = np.random.default_rng(0)
    names = evenly([name for name in scene.train if name in poses.names and poses.placed(name)], scene)
    views = []
    sides = scene.sides if poses.world_from_right is not None else scene.sides[:1]
    for side, name in ((side, name) for name in names for side in sides):
        depth_mm = read_truth(side, name)
        if depth_mm is None:
            continue
        tissue, _ = scene.masks(side, name)
        known = tissue & np.isfinite(depth_mm) & (depth_mm > 0)
        if known.any():
            pose = poses.world_from(side, name)
            shown = np.where(known, depth_mm, np.nan).astype(np.float32)
            views.append(View(scene.rig.camera(side), pose, shown))
    parts = [_points_of(view, _MOST_PIXELS // len(views), rng) for view in views]
    points, normals = (np.concatenate([part[k] for part in parts] or [np.zeros((0, 3))]) for k in (0, 1))
    if not len(points):
        return "there is neither a true mesh nor true depth of a training frame that was placed"
    footprint_mm = float(np.median([np.nanmedian(view.depth_mm) / view.camera.fx for view in views]))
    left_out = max(1.0, sum(int(np.isfinite(view.depth_mm).sum()) for view in views) / _MOST_PIXELS)
    chosen, spacing_mm = _thinned(points, max(SPACING_MM, _PATCH * footprint_mm * left_out**0.5), rng)
    note = (
        f"truth is made of the true depth maps of {len(views)} training images, placed by the run's own poses: "
        "errors of the poses cancel, and what no image shows is unknown"
    )
    return Truth(facets(points[chosen], normals[chosen], spacing_mm), views, np.eye(4), note)


def _points_of(view: View, most: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return points (n, 3) and normals (n, 3) of a view's true depth in the world, at most `most`."""
    camera = view.camera
    normals = normals_from_depth(view.depth_mm.astype(np.float64), camera.matrix)
    points = unproject(camera.matrix, pixel_grid(camera.width, camera.height), view.depth_mm)
    known = np.flatnonzero(np.isfinite(normals).all(axis=-1) & np.isfinite(view.depth_mm))
    if len(known) > most:
        known = rng.choice(known, most, replace=False)
    points, normals = (values.reshape(-1, 3)[known] for values in (points, normals))
    return transform(view.world_from_camera, points), normals @ view.world_from_camera[:3, :3].T


def _thinned(points: FloatArray, spacing_mm: float, rng: np.random.Generator) -> tuple[NDArray[np.int64], float]:
    """Return one random point a voxel, and the voxels' side: `spacing_mm`, or what leaves `MOST_SAMPLES`."""
    order = rng.permutation(len(points))
    while True:
        cells = np.floor((points[order] - points.min(axis=0)) / spacing_mm).astype(np.int64)
        spans = cells.max(axis=0) + 1
        _, first = np.unique((cells[:, 0] * spans[1] + cells[:, 1]) * spans[2] + cells[:, 2], return_index=True)
        if len(first) <= MOST_SAMPLES:
            return order[first], spacing_mm
        spacing_mm *= 1.05 * float(np.sqrt(len(first) / MOST_SAMPLES))


def evenly(names: Sequence[str], scene: Scene) -> list[str]:
    """Return the names, or evenly chosen ones where there are more frames than time and memory allow."""
    pixels = sum(scene.rig.camera(side).width * scene.rig.camera(side).height for side in scene.sides)
    most = min(len(names), max(2, min(_MOST_FRAMES, _MOST_VIEWED // pixels)))
    return [names[index] for index in np.linspace(0, len(names) - 1, most).round().astype(int)]
