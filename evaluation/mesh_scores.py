"""Score the exported mesh against the true surface: once as it stands, once after a rigid registration."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evaluation import mesh_truth
from evaluation.icp import icp
from evaluation.mesh_metrics import mesh_metrics
from evaluation.mesh_truth import Truth
from evaluation.options import EvaluationOptions
from evaluation.scores import ReadTruth
from evaluation.surfaces import Mesh, Surface, read_mesh, sampled
from evaluation.visibility import least, mesh_that_counts, truth_that_counts
from utils.artifacts import read_json
from utils.errors import InputError
from utils.geometry import rotation_angle_degrees, transform
from utils.scene import Scene
from utils.types import ARBITRARY_UNITS, FloatArray, Poses

MESH_FILE = "mesh.ply"

_ICP_POINTS, _FEWEST_POINTS = 20_000, 10


def score_mesh(
    options: EvaluationOptions,
    scene: Scene,
    poses: Poses | None,
    export: Path,
    read_truth: ReadTruth,
    notes: list[str],
) -> dict[str, dict[str, float]]:
    """Return the block `mesh` of metrics.json: alignment -> scores; say in `notes` what was done, or why not.

    `raw` is the mesh where the cameras put it: the result. `icp` is the mesh moved onto the truth as a whole
    (evaluation/icp.py), with `icp_rotation_degrees` and `icp_shift_mm`, the way of the middle of what was scored:
    it tells how much of the error is one rigid motion.

    Args:
        options: where the truth lies.
        scene: cameras, frames, tissue.
        poses: where the run's cameras stand; None for a single pair, whose left eye is the world.
        export: folder of the stage that wrote `mesh.ply`, in the run's world.
        read_truth: (side, name) -> true depth (h, w) mm, or None: the truth where there is no true mesh.
        notes: sentences under the tables; added to.

    Raises:
        InputError: a true mesh or its poses cannot be read.
    """
    if not (export / MESH_FILE).is_file():
        record = read_json(export / "mesh.json") if (export / "mesh.json").is_file() else {}
        if "left_out" in record:
            notes.append(f"mesh: none was made, since {record['left_out'].splitlines()[0]}")
        return {}
    poses = poses or _single_pair(scene)
    if not poses.metric:
        notes.append(f"mesh: not scored, since its lengths are in {ARBITRARY_UNITS}")
        return {}
    found = (
        mesh_truth.from_mesh(options, scene, poses)
        if mesh_truth.mesh_file(options)
        else mesh_truth.from_depth(scene, poses, read_truth)
    )
    if isinstance(found, str):
        notes.append(f"mesh: not scored, since {found}")
        return {}
    try:
        mesh = read_mesh(export / MESH_FILE)
    except InputError as error:
        notes.append(f"mesh: not scored, since {error.what} ({error.found})")
        return {}
    return _score(mesh, found, notes)


def _score(mesh: Mesh, truth: Truth, notes: list[str]) -> dict[str, dict[str, float]]:
    surface = _moved(mesh, truth.truth_from_world)
    wanted = truth_that_counts(truth.views, truth.surface)
    raw = mesh_metrics(surface, truth.surface, truth.views, wanted)
    if not raw:
        notes.append("mesh: not scored, since no two training images see the same piece of the truth")
        return {}
    notes.append(f"mesh: {truth.note}")
    notes.append(
        f"mesh: scored is what {least(truth.views)} or more of {len(truth.views)} training images tell about on "
        "tissue, ghosts behind the true surface included; Chamfer is the mean of mean accuracy and completeness"
    )
    if not raw["n_mesh_points"]:
        notes.append("mesh: nothing of it lies where the truth can be seen")
        return {"raw": raw}
    motion, middle = _registration(surface, truth)
    registered = mesh_metrics(_moved(mesh, motion @ truth.truth_from_world), truth.surface, truth.views, wanted)
    registered["icp_rotation_degrees"] = float(rotation_angle_degrees(motion[:3, :3]))
    registered["icp_shift_mm"] = float(np.linalg.norm(transform(motion, middle) - middle))
    return {"raw": raw, "icp": registered}


def _registration(surface: Surface, truth: Truth) -> tuple[FloatArray, FloatArray]:
    """Return the motion (4, 4) of the mesh onto the truth, and the middle (3,) of what of the mesh counts."""
    some = surface.samples[:: max(1, len(surface.samples) // _ICP_POINTS)]
    _, closest, _ = truth.surface.nearest(some)
    points = some[mesh_that_counts(truth.views, some, closest)]
    if len(points) < _FEWEST_POINTS:
        return np.eye(4), np.zeros(3)
    return icp(points, truth.surface), points.mean(axis=0)


def _moved(mesh: Mesh, motion: FloatArray) -> Surface:
    """Return the moved mesh as a surface; the same places are sampled whatever the motion."""
    return sampled(Mesh(transform(motion, mesh.vertices), mesh.faces), np.random.default_rng(1))


def _single_pair(scene: Scene) -> Poses:
    """Return the poses of a run without any: the left eye of the first training frame is the world."""
    names, stereo = scene.train[:1], "right" in scene.sides
    left = np.eye(4)[None].repeat(len(names), 0)
    return Poses(names, left, left @ scene.rig.left_from("right") if stereo else None, stereo)
