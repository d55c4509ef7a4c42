"""Compare a reconstructed surface with the true one: accuracy, completeness, Chamfer, F-scores, normals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.surfaces import Surface
from evaluation.visibility import View, mesh_that_counts
from utils.types import BoolArray, FloatArray

THRESHOLDS_MM = (0.25, 0.5, 1.0, 2.0)

_ACCURACY = ("accuracy", "precision")
_COMPLETENESS = ("completeness", "recall")


def mesh_metrics(mesh: Surface, truth: Surface, views: Sequence[View], wanted: BoolArray) -> dict[str, float]:
    """Score a surface against the truth, both in the world of `views`, in the crop of evaluation/visibility.py.

    Accuracy is the distance of each sample of the mesh to the nearest point of the truth, completeness that of
    each sample of the truth to the nearest point of the mesh.

    Args:
        mesh: the reconstruction.
        truth: the true surface.
        views: the training images that crop both.
        wanted: (n,) which samples of the truth count, from `truth_that_counts`.

    Returns:
        `accuracy_mean_mm`, `_median_mm`, `_p95_mm` (95th percentile), `completeness_…` likewise;
        `chamfer_mm`, the mean of the two means; for each threshold `precision_…` (share of mesh samples
        nearer than it), `recall_…` (share of truth samples) and `f_score_…`, their harmonic mean (Knapitsch et al.
        2017); `normal_consistency`, mean |cosine| between the normals of a sample and of its nearest triangle, the
        two directions averaged; `n_mesh_points` and `n_truth_points`, the samples that counted. A mesh without any
        sample in the crop has recall and F-score 0, and no distances; empty where no truth counts.
    """
    if not wanted.any():
        return {}
    counts = {"n_mesh_points": 0, "n_truth_points": int(wanted.sum())}
    nothing = {f"{name}_{limit:g}mm": 0.0 for limit in THRESHOLDS_MM for name in ("recall", "f_score")}
    if not len(mesh.samples):
        return nothing | counts
    to_truth_mm, closest, triangle = truth.nearest(mesh.samples)
    scored = mesh_that_counts(views, mesh.samples, closest)
    if not scored.any():
        return nothing | counts
    to_mesh_mm, _, mesh_triangle = mesh.nearest(truth.samples[wanted])
    forth = _aligned(mesh.normals[mesh.owner[scored]], truth.normals[triangle[scored]])
    back = _aligned(truth.normals[truth.owner[wanted]], mesh.normals[mesh_triangle])
    scores = _distances(_ACCURACY, to_truth_mm[scored]) | _distances(_COMPLETENESS, to_mesh_mm)
    scores["chamfer_mm"] = (scores["accuracy_mean_mm"] + scores["completeness_mean_mm"]) / 2
    for limit in THRESHOLDS_MM:
        precision, recall = scores[f"precision_{limit:g}mm"], scores[f"recall_{limit:g}mm"]
        scores[f"f_score_{limit:g}mm"] = 2 * precision * recall / max(precision + recall, 1e-12)
    scores["normal_consistency"] = (forth + back) / 2
    return scores | counts | {"n_mesh_points": int(scored.sum())}


def _distances(words: tuple[str, str], distance_mm: FloatArray) -> dict[str, float]:
    name, share = words
    return {
        f"{name}_mean_mm": float(np.mean(distance_mm)),
        f"{name}_median_mm": float(np.median(distance_mm)),
        f"{name}_p95_mm": float(np.percentile(distance_mm, 95)),
        **{f"{share}_{limit:g}mm": float(np.mean(distance_mm < limit)) for limit in THRESHOLDS_MM},
    }


def _aligned(normals: FloatArray, others: FloatArray) -> float:
    return float(np.mean(np.abs((normals * others).sum(axis=1))))
