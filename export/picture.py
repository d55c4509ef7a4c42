"""Pictures of a point cloud and of a mesh for eyes: orthographic, from the front and from oblique sides."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from export.mesh.surface import Mesh
from utils.types import FloatArray

SIZE_PX = 480


def cloud_picture(points_world: FloatArray, colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (480, 1440, 3): the cloud as the first camera sees it, and turned 50 degrees about x and y."""
    angles = [(0.0, 0.0), (0.0, np.radians(50.0)), (np.radians(-50.0), 0.0)]
    return np.hstack([_splat(points_world, colours, *angle) for angle in angles])


def _turn(about_x: float, about_y: float) -> FloatArray:
    cx, sx, cy, sy = np.cos(about_x), np.sin(about_x), np.cos(about_y), np.sin(about_y)
    return np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])


def _splat(
    points_world: FloatArray, colours: NDArray[np.uint8], about_x: float, about_y: float
) -> NDArray[np.uint8]:
    turned = (points_world - np.median(points_world, axis=0)) @ _turn(about_x, about_y).T
    reach = float(np.percentile(np.abs(turned[:, :2]), 99.5)) * 1.05 + 1e-9
    pixels = np.rint((turned[:, :2] / reach + 1.0) * 0.5 * (SIZE_PX - 2)).astype(int)
    inside = ((pixels >= 0) & (pixels < SIZE_PX - 1)).all(axis=1)
    far_first = np.flatnonzero(inside)[np.argsort(-turned[inside, 2], kind="stable")]
    picture = np.full((SIZE_PX, SIZE_PX, 3), 24, np.uint8)
    for rows, columns in ((0, 0), (0, 1), (1, 0), (1, 1)):
        picture[pixels[far_first, 1] + rows, pixels[far_first, 0] + columns] = colours[far_first]
    return picture


def mesh_picture(mesh: Mesh, colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (480, 1440, 3): a mesh from the sides of `cloud_picture`, and grey under a light beside the viewer.

    Colours above hide what shape shows: the second and third picture are of the shape alone.
    """
    angles = [(0.0, 0.0), (0.0, np.radians(50.0)), (np.radians(-50.0), 0.0)]
    pictures = []
    for index, angle in enumerate(angles):
        turn = _turn(*angle)
        normals = mesh.face_normals @ turn.T
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        light = np.array([-0.4, -0.5, -0.77])
        grey = 40 + 200 * np.clip(normals @ light, 0.0, 1.0)
        shaded = np.repeat(grey[:, None], 3, axis=1) if index else colours[mesh.faces].mean(axis=1)
        pictures.append(_paint(mesh.vertices @ turn.T, mesh.faces, shaded))
    return np.hstack(pictures)


def _paint(vertices: FloatArray, faces: NDArray[np.int64], colours: FloatArray) -> NDArray[np.uint8]:
    """Paint triangles as an orthographic camera sees them, the farthest first."""
    centred = vertices - np.median(vertices, axis=0)
    reach = float(np.percentile(np.abs(centred[:, :2]), 99.5)) * 1.05 + 1e-9
    # OpenCV takes fractions of a pixel as whole numbers of 1/16.
    pixels = np.rint((centred[:, :2] / reach + 1.0) * 0.5 * SIZE_PX * 16).astype(np.int32)
    picture = np.full((SIZE_PX, SIZE_PX, 3), 24, np.uint8)
    for face in np.argsort(-centred[faces, 2].mean(axis=1), kind="stable"):
        cv2.fillConvexPoly(picture, pixels[faces[face]], colours[face].tolist(), shift=4)
    return picture
