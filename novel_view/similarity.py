"""Similarity transforms between two worlds that share posed cameras: fitted to centres and rotations together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from utils.geometry import rotation_angle_degrees
from utils.types import BoolArray, FloatArray

MOST_PAIRS = 300  # of cameras that a fit is started from
ROUNDS = 12  # of rotation and scale in turn; they settle in three or four
SAME_PLACE = 1e-6  # of the extent: centres nearer than this say nothing about scale


@dataclass(frozen=True, eq=False)
class Similarity:
    """x_ours = scale * rotation @ x_theirs + translation; `rotation` (3, 3), `translation` (3,) in our unit."""

    scale: float
    rotation: FloatArray
    translation: FloatArray

    def apply(self, theirs_from_camera: FloatArray) -> FloatArray:
        """Return camera-to-world poses (n, 4, 4) in our world; camera axes stay as they are."""
        ours = np.tile(np.eye(4), (len(theirs_from_camera), 1, 1))
        ours[:, :3, :3] = self.rotation @ theirs_from_camera[:, :3, :3]
        ours[:, :3, 3] = self.scale * theirs_from_camera[:, :3, 3] @ self.rotation.T + self.translation
        return ours

    @property
    def matrix(self) -> FloatArray:
        """The (4, 4) matrix that maps points of theirs to ours."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.scale * self.rotation, self.translation
        return matrix


@dataclass(frozen=True)
class Limits:
    """How far a camera may be off before it contradicts the others: its centre in our unit, its axes."""

    centre: float
    degrees: float


@dataclass(frozen=True, eq=False)
class Fit:
    """A similarity, how far each camera is off (n,), and which cameras (n,) it was fitted to.

    `errors` (n,) are the larger of both residuals as shares of their limits: above 1 a camera contradicts.
    """

    similarity: Similarity
    centres: FloatArray
    degrees: FloatArray
    errors: FloatArray
    used: BoolArray

    @property
    def median(self) -> float:
        """The median of `errors`."""
        return float(np.median(self.errors))


def extent(centres: FloatArray) -> float:
    """Return the largest distance between two of the centres (n, 3)."""
    return float(np.linalg.norm(centres[:, None] - centres[None], axis=-1).max())


def fit_similarity(theirs: FloatArray, ours: FloatArray) -> Similarity | None:
    """Return the similarity that best maps poses onto poses (n, 4, 4), camera-to-world with the same camera axes.

    Least squares over centres (Umeyama 1991) and camera rotations (Kabsch 1976) in one: centres count in units of
    their spread in our world, so that a line of centres, or two of them, takes the missing turn from the
    rotations. None where the centres of either world coincide or run the other way: there is no such scale.
    """
    from_mean, to_mean = theirs[:, :3, 3].mean(0), ours[:, :3, 3].mean(0)
    source, target = theirs[:, :3, 3] - from_mean, ours[:, :3, 3] - to_mean
    source_spread, target_spread = (float(np.sqrt((part**2).sum(1).mean())) for part in (source, target))
    if min(source_spread, target_spread) <= 0:
        return None
    of_axes = (ours[:, :3, :3] @ np.swapaxes(theirs[:, :3, :3], 1, 2)).sum(0)
    of_centres = target.T @ source / target_spread**2
    scale = target_spread / source_spread
    for _ in range(ROUNDS):
        u, _, vt = np.linalg.svd(of_axes + scale * of_centres)
        rotation = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
        scale = float((target * (source @ rotation.T)).sum() / (source**2).sum())
        if scale <= 0:
            return None
    return Similarity(scale, rotation, to_mean - scale * rotation @ from_mean)


def robust_fit(theirs: FloatArray, ours: FloatArray, limits: Limits) -> Fit | None:
    """Return the similarity that most cameras agree on, and how far each is off; None where there is none.

    Every pair of cameras proposes one (its rotations make up for the third camera); the proposal with the least
    median error wins (Rousseeuw 1984) and is fitted again to the cameras that do not stand out.

    Args:
        theirs, ours: (n, 4, 4) camera-to-world with the same camera axes, n of 2 or more.
        limits: what counts as one unit of error.
    """
    pairs = list(combinations(range(len(ours)), 2))
    if len(pairs) > MOST_PAIRS:
        chosen = np.random.default_rng(0).choice(len(pairs), MOST_PAIRS, replace=False)
        pairs = [pairs[k] for k in sorted(chosen)]
    apart = SAME_PLACE * extent(theirs[:, :3, 3])
    best: Fit | None = None
    for pair in pairs:
        one, other = theirs[pair[0], :3, 3], theirs[pair[1], :3, 3]
        found = (
            fit_similarity(theirs[list(pair)], ours[list(pair)]) if np.linalg.norm(one - other) > apart else None
        )
        if found is not None:
            fit = _judged(found, theirs, ours, limits, np.isin(np.arange(len(ours)), pair))
            best = fit if best is None or fit.median < best.median else best
    return None if best is None else _refitted(best, theirs, ours, limits)


def _refitted(fit: Fit, theirs: FloatArray, ours: FloatArray, limits: Limits) -> Fit:
    for _ in range(5):
        # Beyond the limits, or ten times as far off as the usual camera where all are far below the limits.
        used = fit.errors <= min(1.0, max(0.1, 10.0 * fit.median))
        if used.sum() < 2 or np.array_equal(used, fit.used):
            break
        found = fit_similarity(theirs[used], ours[used])
        if found is None:
            break
        fit = _judged(found, theirs, ours, limits, used)
    return fit


def _judged(similarity: Similarity, theirs: FloatArray, ours: FloatArray, limits: Limits, used: BoolArray) -> Fit:
    moved = similarity.apply(theirs)
    centres = np.linalg.norm(moved[:, :3, 3] - ours[:, :3, 3], axis=1)
    degrees = rotation_angle_degrees(np.swapaxes(moved[:, :3, :3], 1, 2) @ ours[:, :3, :3])
    return Fit(similarity, centres, degrees, np.maximum(centres / limits.centre, degrees / limits.degrees), used)
