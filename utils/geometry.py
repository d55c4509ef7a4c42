"""Rigid transforms, projection and rays; OpenCV axes, z-depth, pixel centres at integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]


def rigid(rotation: FloatArray, translation: FloatArray) -> FloatArray:
    """Put a (3, 3) rotation and a (3,) translation into one (4, 4) transform."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, np.ravel(translation)
    return matrix


def invert_rigid(b_from_a: FloatArray) -> FloatArray:
    """Invert rigid transforms (..., 4, 4): `a_from_b`."""
    rotation, translation = b_from_a[..., :3, :3], b_from_a[..., :3, 3]
    a_from_b = np.zeros_like(b_from_a)
    a_from_b[..., :3, :3] = np.swapaxes(rotation, -1, -2)
    a_from_b[..., :3, 3] = -np.einsum("...ji,...j->...i", rotation, translation)
    a_from_b[..., 3, 3] = 1.0
    return a_from_b


def transform(b_from_a: FloatArray, points_a: FloatArray) -> FloatArray:
    """Map points (..., 3) from frame a to frame b with one (4, 4) transform."""
    return points_a @ b_from_a[:3, :3].T + b_from_a[:3, 3]


def pixel_grid(width: int, height: int) -> FloatArray:
    """Return (height, width, 2) pixel coordinates (column, row)."""
    columns, rows = np.meshgrid(np.arange(width, dtype=float), np.arange(height, dtype=float))
    return np.stack([columns, rows], axis=-1)


def directions(matrix: FloatArray, pixels: FloatArray) -> FloatArray:
    """Return viewing directions (..., 3) with z = 1, so that the ray parameter is z-depth.

    Args:
        matrix: (3, 3) intrinsics, px.
        pixels: (..., 2) (column, row).
    """
    x = (pixels[..., 0] - matrix[0, 2]) / matrix[0, 0]
    y = (pixels[..., 1] - matrix[1, 2]) / matrix[1, 1]
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def unproject(matrix: FloatArray, pixels: FloatArray, depth_mm: FloatArray) -> FloatArray:
    """Return points (..., 3) in the camera frame from pixels (..., 2) and z-depth (...)."""
    return directions(matrix, pixels) * depth_mm[..., None]


def project(matrix: FloatArray, points_camera: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return pixels (..., 2) and z-depth (...) of points (..., 3) in the camera frame.

    Pixels of points at or behind the camera plane are NaN.
    """
    z = points_camera[..., 2]
    safe = np.where(z > 0, z, np.nan)
    columns = matrix[0, 0] * points_camera[..., 0] / safe + matrix[0, 2]
    rows = matrix[1, 1] * points_camera[..., 1] / safe + matrix[1, 2]
    return np.stack([columns, rows], axis=-1), z


def normals_from_depth(depth_mm: FloatArray, matrix: FloatArray) -> FloatArray:
    """Return unit normals (h, w, 3) in the camera frame, towards the camera; NaN beside unknown depth."""
    height, width = depth_mm.shape
    points = unproject(matrix, pixel_grid(width, height), depth_mm)
    down, right = np.gradient(points, axis=(0, 1))
    normal = np.cross(down, right)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    return np.where((normal * points).sum(-1, keepdims=True) > 0, -normal, normal)


def rotation_angle_degrees(rotation: FloatArray) -> FloatArray:
    """Return the angle of rotations (..., 3, 3); stable near zero, where arccos is not."""
    chord = np.linalg.norm(rotation - np.eye(3), axis=(-2, -1)) / (2 * np.sqrt(2))
    return np.degrees(2 * np.arcsin(np.clip(chord, 0.0, 1.0)))


def nearest_rotation(matrix: FloatArray) -> FloatArray:
    """Return the orthonormal matrix nearest to (3, 3) `matrix`, keeping the sign of its determinant."""
    u, _, vt = np.linalg.svd(matrix)
    return u @ vt


def triangulate(
    matrix_a: FloatArray,
    matrix_b: FloatArray,
    b_from_a: FloatArray,
    pixels_a: FloatArray,
    pixels_b: FloatArray,
) -> FloatArray:
    """Return the points (m, 3) in frame a nearest to both rays of each pixel pair (mid-point method).

    Nearly parallel rays give points far away or behind; callers select by depth.
    """
    rays_a = directions(matrix_a, pixels_a)
    a_from_b = invert_rigid(b_from_a)
    rays_b = directions(matrix_b, pixels_b) @ a_from_b[:3, :3].T
    centre_b = a_from_b[:3, 3]
    aa, bb = (rays_a**2).sum(-1), (rays_b**2).sum(-1)
    ab, ac, bc = (rays_a * rays_b).sum(-1), rays_a @ centre_b, rays_b @ centre_b
    determinant = np.maximum(aa * bb - ab**2, 1e-12)
    along_a = (bb * ac - ab * bc) / determinant
    along_b = (ab * ac - aa * bc) / determinant
    return 0.5 * (along_a[:, None] * rays_a + centre_b + along_b[:, None] * rays_b)


def umeyama(
    source: FloatArray, target: FloatArray, *, with_scale: bool = True
) -> tuple[float, FloatArray, FloatArray]:
    """Return scale, rotation (3, 3), translation (3,) that best map source (n, 3) onto target (n, 3).

    Least squares, Umeyama 1991, equations 38-43; det(rotation) = +1.
    """
    mean_s, mean_t = source.mean(0), target.mean(0)
    centred_s, centred_t = source - mean_s, target - mean_t
    u, singular, vt = np.linalg.svd(centred_t.T @ centred_s / len(source))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(signs) @ vt
    variance = (centred_s**2).sum() / len(source)
    scale = float((singular * signs).sum() / variance) if with_scale and variance > 0 else 1.0
    return scale, rotation, mean_t - scale * rotation @ mean_s
