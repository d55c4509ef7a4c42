"""EndoSurf's geometric error: the mean distance from points of the true depth to the mesh's vertices, one way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from evaluation.depth_metrics import known
from evaluation.mesh_scores import MESH_FILE
from evaluation.protocols.scored_run import ScoredRun
from evaluation.surfaces import read_mesh
from utils.geometry import pixel_grid, transform, unproject
from utils.parallel import workers
from utils.types import FloatArray

_MOST_POINTS = 1_000_000  # of all frames together; evenly spaced pixels of longer or larger sequences


def geometric_error(run: ScoredRun, names: Sequence[str], far_mm: float) -> tuple[float, str]:
    """Return the error in mm, or zero and why it cannot be told.

    Every true pixel nearer than `far_mm` counts, on tissue or not, placed by the run's own pose of its frame; mean
    over points, then over frames. Surface that was made up elsewhere costs nothing, and a coarse mesh pays half
    its edge length although its faces may be right: the distance is to vertices.
    """
    path = run.folders["export"] / MESH_FILE if "export" in run.folders else None
    if path is None or not path.is_file():
        return 0.0, "no mesh was exported"
    poses = run.poses
    if poses is None:
        return 0.0, "the run has no poses"
    missing = [name for name in names if name not in poses.names or not poses.placed(name)]
    if missing:
        return 0.0, f"{len(missing)} of the {len(names)} frames it scores have no pose"
    stride = 1 + len(names) * run.scene.rig.left.width * run.scene.rig.left.height // _MOST_POINTS
    points = [transform(poses.world_from("left", name), _points(run, name, far_mm)[::stride]) for name in names]
    distance = mean_to_vertices(points, read_mesh(path).vertices)
    return (0.0, "no true depth in range") if np.isnan(distance) else (distance, "")


def mean_to_vertices(points: Sequence[FloatArray], vertices: FloatArray) -> float:
    """Return the mean over frames of the mean distance of points (n, 3) to vertices (m, 3); NaN for none."""
    tree = cKDTree(vertices)
    means = [float(tree.query(some, workers=workers())[0].mean()) for some in points if len(some)]
    return float(np.mean(means)) if means else float("nan")


def _points(run: ScoredRun, name: str, far_mm: float) -> FloatArray:
    """Return the points (n, 3) of a frame's true depth in the left camera, mm."""
    camera, truth = run.scene.rig.left, run.truth(name)
    if truth is None:
        return np.zeros((0, 3))
    counted = known(truth) & (truth < far_mm)
    pixels = pixel_grid(camera.width, camera.height)[counted]
    return unproject(camera.matrix, pixels, truth[counted].astype(np.float64))
