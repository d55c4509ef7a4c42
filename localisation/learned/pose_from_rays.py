"""The rigid pose that fits bundles of rays best: Kabsch for the rotation, least squares for the centre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.types import FloatArray

_ROUNDS = 5  # of reweighting
_MAD = 1.4826  # standard deviation of a normal distribution, in median absolute deviations
_DOUBTFUL = 2.0  # standard deviations from which a ray counts less (Huber 1964)


@dataclass(frozen=True, eq=False)
class RayFit:
    """Poses that were fitted to rays.

    Attributes:
        world_from_camera: (n, 4, 4), lengths as those of the moments.
        turned_degrees: (n,) rms angle between the rays and those of the fitted pose, weighted.
        missed: (n,) rms distance by which the rays miss the fitted centre, weighted; a length.
        eigenvalues: (n, 3), rising, of the mean of I - d d^T: how well the rays fix the centre. They are 2/3 each
            where rays go everywhere; the smallest belongs to the optical axis of a narrow view.
    """

    world_from_camera: FloatArray
    turned_degrees: FloatArray
    missed: FloatArray
    eigenvalues: FloatArray


def fit_pose(directions: FloatArray, moments: FloatArray, camera_directions: FloatArray) -> RayFit:
    """Return the poses of cameras whose rays are known in the world; float64 throughout.

    The rotation minimises the weighted sum of |d - R r|^2 (Kabsch 1976, with the sign that keeps det R = +1), the
    centre c solves sum w (I - d d^T) c = sum w d x m. Rays far off both count less (Huber weights, in rounds).

    Args:
        directions: (n, p, 3) of the rays in the world, any length.
        moments: (n, p, 3) c x d for unit d; what is not orthogonal to d is taken off.
        camera_directions: (p, 3) of the same rays in the camera's frame, any length.
    """
    d = _unit(np.asarray(directions, np.float64))
    m = np.asarray(moments, np.float64)
    m = m - (m * d).sum(-1, keepdims=True) * d
    r = _unit(np.asarray(camera_directions, np.float64))
    turning: FloatArray = np.ones(d.shape[:2])
    aiming = turning
    for _ in range(_ROUNDS):
        rotation = _rotation(d, r, turning)
        centre, eigenvalues = _centre(d, m, aiming)
        angle = _angle(d, r @ np.swapaxes(rotation, -1, -2))
        missed = np.linalg.norm(np.cross(centre[:, None], d) - m, axis=-1)
        turning, aiming = _huber(angle), _huber(missed)
    pose = np.tile(np.eye(4), (len(d), 1, 1))
    pose[:, :3, :3], pose[:, :3, 3] = rotation, centre
    return RayFit(pose, np.degrees(_rms(angle, turning)), _rms(missed, aiming), eigenvalues)


def _rotation(d: FloatArray, r: FloatArray, weights: FloatArray) -> FloatArray:
    u, _, vt = np.linalg.svd(np.einsum("np,npi,pj->nij", weights, d, r))
    u[:, :, 2] *= np.sign(np.linalg.det(u) * np.linalg.det(vt))[:, None]
    return np.asarray(u @ vt)


def _centre(d: FloatArray, m: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    weights = weights / weights.sum(1, keepdims=True)
    across = np.eye(3) - np.einsum("np,npi,npj->nij", weights, d, d)
    wanted = np.einsum("np,npi->ni", weights, np.cross(d, m))
    return np.linalg.solve(across, wanted[..., None])[..., 0], np.linalg.eigvalsh(across)


def _huber(error: FloatArray) -> FloatArray:
    """Return weights (n, p): 1 up to two robust standard deviations, falling with the inverse of the error."""
    limit = _DOUBTFUL * _MAD * np.median(error, axis=1, keepdims=True)
    return np.asarray(np.minimum(1.0, limit / np.maximum(error, 1e-12)).clip(1e-6))


def _angle(a: FloatArray, b: FloatArray) -> FloatArray:
    return 2.0 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=-1) / 2.0, 0.0, 1.0))


def _rms(error: FloatArray, weights: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt((weights * error**2).sum(1) / weights.sum(1)))


def _unit(vectors: FloatArray) -> FloatArray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
