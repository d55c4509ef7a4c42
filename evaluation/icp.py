"""Iterative closest point: the rigid motion that a surface is off by, estimated from the surfaces themselves."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from evaluation.surfaces import Surface
from utils.geometry import rigid, transform
from utils.types import FloatArray

_ROUNDS = 40
_STILL = 1e-5  # radians, and share of the surface's extent
_TUKEY = 4.685  # times the robust spread: residuals beyond it have no say
_WEAK = 1e-6  # directions in which a surface slides along itself (a plane, a ball) are left as they are


def icp(points: FloatArray, truth: Surface) -> FloatArray:
    """Return the motion (4, 4) that brings points (n, 3) onto a surface.

    Point-to-plane (Chen and Medioni 1991) with Tukey weights. It finds the nearest minimum: start within a few
    millimetres and degrees.
    """
    motion = np.eye(4)
    centre = points.mean(axis=0)
    extent = float(np.linalg.norm(points - centre, axis=1).mean())
    for _ in range(_ROUNDS):
        moved = transform(motion, points)
        _, closest, triangle = truth.nearest(moved)
        step = _step(moved, closest, truth.normals[triangle], transform(motion, centre), extent)
        motion = step @ motion
        turn = Rotation.from_matrix(step[:3, :3]).magnitude()
        if turn < _STILL and np.linalg.norm(transform(step, centre) - centre) < _STILL * extent:
            break
    return motion


def _step(
    points: FloatArray, closest: FloatArray, normals: FloatArray, centre: FloatArray, extent: float
) -> FloatArray:
    """Return the motion (4, 4) that lessens the distances along the normals most."""
    residual = ((closest - points) * normals).sum(axis=1)
    spread = 1.4826 * np.median(np.abs(residual)) + 1e-9 * extent
    weight = np.clip(1 - (residual / (_TUKEY * spread)) ** 2, 0, None) ** 2
    arms = (points - centre) / max(extent, 1e-9)  # of length about 1, as the normals
    rows = np.concatenate([np.cross(arms, normals), normals], axis=1)
    values, vectors = np.linalg.eigh((weight[:, None] * rows).T @ rows)
    firm = values > _WEAK * values[-1]
    target = (weight * residual) @ rows
    solution = vectors[:, firm] @ ((vectors[:, firm].T @ target) / values[firm])
    rotation = Rotation.from_rotvec(solution[:3] / max(extent, 1e-9)).as_matrix()
    return rigid(rotation, centre + solution[3:] - rotation @ centre)
