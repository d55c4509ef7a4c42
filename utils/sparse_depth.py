"""Sparse depth of one view, from training points and its frame's own matches, and which of it to believe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from utils.geometry import invert_rigid, project, transform, triangulate
from utils.sparse_points import Observations
from utils.types import BoolArray, FloatArray
from utils.views import View, Views

_HELPERS = 6  # training views whose points a view is given
_NEIGHBOURS = 12
_FEWEST_POINTS = 8
_ROUNDS = 8
_RIDGE = 0.05  # keeps planes through points on a line from tilting
_NOISE_SIGMAS, _OCCLUSION_SIGMAS = 3.0, 2.0
_NOISE_SHARES = (0.03, 0.25)  # of the inverse depth: differences below are never noise, those above always


@dataclass(frozen=True, eq=False)
class SparseDepth:
    """Points of one view: `pixels` (m, 2), z-depth (m,) mm, and which of them the view itself observed (m,)."""

    pixels: FloatArray
    depth_mm: FloatArray
    observed: BoolArray

    def chosen(self, which: BoolArray) -> SparseDepth:
        """Return some of the points."""
        return SparseDepth(self.pixels[which], self.depth_mm[which], self.observed[which])

    def __len__(self) -> int:
        return len(self.depth_mm)


@dataclass(frozen=True)
class Cleaning:
    """How many points there were, and how many were dropped as noise and as hidden from the view."""

    before: int
    noisy: int
    occluded: int

    def __add__(self, other: Cleaning) -> Cleaning:
        return Cleaning(self.before + other.before, self.noisy + other.noisy, self.occluded + other.occluded)

    def __str__(self) -> str:
        after = self.before - self.noisy - self.occluded
        return f"{after} of {self.before} points kept, {self.noisy} noisy, {self.occluded} occluded"


def sparse_depth(views: Views, view: View, points: Observations | None, matches: Path | None) -> SparseDepth:
    """Return all sparse depth that is known of a view, outliers included.

    Args:
        views: cameras and poses.
        view: the view; a test view observes no points, it is given those of the training views around it.
        points: of the poses stage, as training images saw them; None where there are none.
        matches: folder of the stage `matches`; the frame's own matches are used where lengths are in mm.
    """
    found = [SparseDepth(np.zeros((0, 2)), np.zeros(0), np.zeros(0, bool))]
    if points is not None and len(points.points_world) and views.placed(view):
        found.append(_from_points(views, view, points))
    if matches is not None and (views.poses is None or views.poses.metric):
        found.append(_from_matches(views, view, matches))
    return SparseDepth(
        np.concatenate([one.pixels for one in found]),
        np.concatenate([one.depth_mm for one in found]),
        np.concatenate([one.observed for one in found]),
    )


def cleaned(sparse: SparseDepth) -> tuple[SparseDepth, Cleaning]:
    """Drop points that contradict the surface around them: wrong matches, and what the surface hides.

    A point is compared with the plane through its neighbours (inverse depth of a plane is linear in the image).
    Points seen by other views alone are dropped earlier where they lie behind it.
    """
    if len(sparse) < _FEWEST_POINTS:
        return sparse, Cleaning(len(sparse), 0, 0)
    off = differences(sparse.pixels, 1.0 / sparse.depth_mm)
    sigma = 1.4826 * float(np.median(np.abs(off)))
    noisy = np.abs(off) > np.clip(_NOISE_SIGMAS * sigma, *_NOISE_SHARES)
    behind = ~sparse.observed & (off < -max(_OCCLUSION_SIGMAS * sigma, _NOISE_SHARES[0]))
    dropped = Cleaning(len(sparse), int((noisy & ~behind).sum()), int(behind.sum()))
    return sparse.chosen(np.asarray(~(noisy | behind))), dropped


def differences(pixels: FloatArray, inverse_depth: FloatArray) -> FloatArray:
    """Return how far each point (m,) is off the plane through its neighbours, as a share of its inverse depth.

    Args:
        pixels: (m, 2) px, eight points or more.
        inverse_depth: (m,) in any unit; positive differences are nearer than what is around.
    """
    count = min(_NEIGHBOURS, len(pixels) - 1)
    distance, around = cKDTree(pixels).query(pixels, k=count + 1)
    around = around[:, 1:]
    reach = np.maximum(np.median(distance[:, 1:], axis=1), 1e-6)
    offsets = (pixels[around] - pixels[:, None]) / reach[:, None, None]
    design = np.concatenate([offsets, np.ones((*around.shape, 1))], axis=-1)
    values = inverse_depth[around]
    weights = np.ones(around.shape)
    ridge = _RIDGE * count * np.diag([1.0, 1.0, 0.0])
    level = np.zeros(len(pixels))
    for _ in range(_ROUNDS):  # least absolute differences by re-weighting
        weighted = design * weights[..., None]
        share = weights.mean(axis=1)[:, None, None]
        normal = np.swapaxes(weighted, 1, 2) @ design + share * ridge
        solved = np.linalg.solve(normal, (np.swapaxes(weighted, 1, 2) @ values[..., None]))[..., 0]
        level = solved[:, 2]
        left = np.abs((design @ solved[..., None])[..., 0] - values) / np.abs(values)
        weights = 1.0 / np.maximum(left, 1e-3)
    return np.asarray(inverse_depth / np.maximum(level, 1e-12) - 1.0)


def _from_points(views: Views, view: View, points: Observations) -> SparseDepth:
    camera, view_from_world = views.camera(view), invert_rigid(views.world_from(view))
    distance = np.linalg.norm(points.points_world - views.world_from(view)[:3, 3], axis=1)
    helpers = views.ordered(view, views.training(), float(np.median(distance)))[:_HELPERS]
    chosen = points.seen_by({view, *helpers})
    pixels, z = project(camera.matrix, transform(view_from_world, points.points_world[chosen]))
    with np.errstate(invalid="ignore"):
        inside = (z > 0) & (pixels >= 0).all(axis=1)
        inside &= (pixels[:, 0] <= camera.width - 1) & (pixels[:, 1] <= camera.height - 1)
    observed = np.isin(chosen, points.seen_by({view}))
    return SparseDepth(pixels[inside], z[inside], observed[inside])


def _from_matches(views: Views, view: View, matches: Path) -> SparseDepth:
    """Triangulate a frame's own matches by the rig; they lie where the view saw them."""
    rig, path = views.scene.rig, matches / f"{view.name}.npz"
    if rig.right is None or rig.right_from_left is None or not path.exists():
        return SparseDepth(np.zeros((0, 2)), np.zeros(0), np.zeros(0, bool))
    with np.load(path) as file:
        pixels: dict[str, NDArray[np.float64]] = {
            "left": np.asarray(file["pixels_left"], float).reshape(-1, 2),
            "right": np.asarray(file["pixels_right"], float).reshape(-1, 2),
        }
    points_left = triangulate(
        rig.left.matrix, rig.right.matrix, rig.right_from_left, pixels["left"], pixels["right"]
    )
    depth_mm = transform(invert_rigid(rig.left_from(view.side)), points_left)[:, 2]
    good = np.isfinite(depth_mm) & (depth_mm > 0) & (points_left[:, 2] > 0)
    return SparseDepth(pixels[view.side][good], depth_mm[good], np.ones(int(good.sum()), bool))
