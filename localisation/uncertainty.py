"""The covariance of a pose: what noise in the image leaves open, times what the field itself gets wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from localisation.agreement import correlated_pixels
from localisation.alignment import align
from localisation.query import Query
from localisation.refinement import FINE, Pair, refine
from nerf.finished_field import FinishedField
from utils.geometry import invert_rigid
from utils.types import FloatArray

EXPECTED_CHI2 = 5.348  # median of a chi-squared of six degrees of freedom
LEAST_SCALE = 1.0


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Covariance (6, 6) of a twist on the left camera's side: rotation in rad, then translation in mm."""

    covariance: FloatArray

    @property
    def std_degrees(self) -> float:
        """Standard deviation of the rotation, all three axes together."""
        return float(np.degrees(np.sqrt(np.trace(self.covariance[:3, :3]))))

    @property
    def std_mm(self) -> float:
        """Standard deviation of the camera's centre, all three axes together."""
        return float(np.sqrt(np.trace(self.covariance[3:, 3:])))


def uncertainty_of(pairs: Sequence[Pair], scale: float) -> Uncertainty:
    """Return the covariance of a refined pose from its images and what is rendered there.

    (J' W J)^-1 sigma^2 over all pixels, times the number of neighbouring pixels whose differences count as one,
    times `scale`: see `field_error`.
    """
    return Uncertainty(scale * _from_noise(pairs))


def _from_noise(pairs: Sequence[Pair]) -> FloatArray:
    information = align(pairs, 0).information
    if not np.isfinite(information).all() or np.linalg.matrix_rank(information) < 6:
        return np.full((6, 6), np.inf)
    covariance = np.linalg.inv(information)
    return np.asarray(covariance * correlated_pixels(pairs))


def field_error(field: FinishedField, queries: Sequence[tuple[Query, FloatArray]]) -> float:
    """Return by how much errors (squared) exceed what noise explains, from views whose pose (4, 4) is known.

    The images of training views are aligned with the field, starting where they were taken. Where they end up is
    off by the field's own errors, which noise knows nothing of. The median of the squared error in units of the
    covariance from noise, over that of a chi-squared of six degrees of freedom; 1 at least, infinite where no view
    could tell.
    """
    squared = []
    for query, world_from_left in queries:
        found = refine(field, query, world_from_left, FINE)
        error = twist_between(found.world_from_left, world_from_left)
        covariance = _from_noise(found.pairs)
        if np.isfinite(covariance).all():
            squared.append(float(error @ np.linalg.solve(covariance, error)))
    return max(LEAST_SCALE, float(np.median(squared)) / EXPECTED_CHI2) if squared else float("inf")


def twist_between(world_from_a: FloatArray, world_from_b: FloatArray) -> FloatArray:
    """Return the twist (6,) from pose a to pose b on a's side: rotation vector in rad, translation in mm."""
    from scipy.spatial.transform import Rotation

    a_from_b = invert_rigid(world_from_a) @ world_from_b
    return np.concatenate([Rotation.from_matrix(a_from_b[:3, :3]).as_rotvec(), a_from_b[:3, 3]])
