"""Unfold a mesh into charts, and say for every texel of the picture which point of the surface it shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from export.mesh.charts import charts_of
from export.mesh.surface import Faces, Mesh
from utils.compiled import KERNEL
from utils.types import BoolArray, FloatArray

# Free texels around a chart, so that neighbours do not bleed into it in smaller copies of the picture.
PADDING_PX = 4
LARGEST_PX = 4096
# A triangle may be drawn so many times as long as others of its size, and by so many texels.
STRAY = 4.0


@dataclass(frozen=True)
class Atlas:
    """A mesh with a place in a picture for every corner.

    `vertex` (v,) says which vertex of the mesh each of `uv` (v, 2), in [0, 1], v upwards, belongs to; `faces`
    (m, 3) number them. The picture is `width` x `height` px.
    """

    mesh: Mesh
    vertex: NDArray[np.int64]
    uv: FloatArray
    faces: Faces
    width: int
    height: int


@dataclass(frozen=True)
class Texels:
    """The texels that show the surface: (h, w) bool, their points (t, 3), mm, and unit normals (t, 3), world."""

    inside: BoolArray
    points_world: FloatArray
    normals_world: FloatArray


def unfold(mesh: Mesh, texel_mm: float) -> Atlas:
    """Return the mesh cut into charts, each laid flat along its mean normal, and packed (xatlas).

    Texels have about `texel_mm`, or more where the picture would not fit into 4096 x 4096 px.
    """
    import xatlas

    chart, normals = charts_of(mesh)
    # A vertex has a place in each chart that it borders on.
    keys = chart[:, None] * len(mesh.vertices) + mesh.faces
    unique, inverse = np.unique(keys, return_inverse=True)
    corner_chart, vertex = np.divmod(unique, len(mesh.vertices))
    flat = _laid_flat(mesh.vertices[vertex], corner_chart, normals)
    largest = float(np.sqrt(0.6 * LARGEST_PX**2 / max(mesh.area_mm2, 1e-9)))
    packing: Any = xatlas.PackOptions()
    packing.padding, packing.texels_per_unit, packing.bilinear = PADDING_PX, min(1.0 / texel_mm, largest), True
    faces = inverse.reshape(-1, 3)
    width = height = LARGEST_PX + 1
    while max(width, height) > LARGEST_PX:
        atlas: Any = xatlas.Atlas()
        atlas.add_uv_mesh(flat.astype(np.float32), faces.astype(np.uint32), chart[:, None].astype(np.uint32))
        atlas.generate(pack_options=packing)
        width, height = int(atlas.width), int(atlas.height)
        packing.texels_per_unit *= 0.95 * min(1.0, LARGEST_PX / max(width, height))
        packing.padding = max(packing.padding - 1, 1)
    source, faces, uv = atlas[0]
    found = Atlas(mesh, vertex[source.astype(np.int64)], uv.astype(float), faces.astype(np.int64), width, height)
    return _without_stray_triangles(found)


def _without_stray_triangles(atlas: Atlas) -> Atlas:
    """Return the atlas with triangles that reach much farther in the picture than on the surface drawn together.

    Triangles with next to no area are not packed with their chart: a corner stays behind, and they would be
    painted across other charts.
    """
    size = np.array([atlas.width, atlas.height], float)
    edges = [(0, 1), (1, 2), (2, 0)]
    corners, points = atlas.uv[atlas.faces] * size, atlas.mesh.vertices[atlas.vertex[atlas.faces]]
    drawn, real = (
        np.stack([np.linalg.norm(p[:, a] - p[:, b], axis=1) for a, b in edges]).max(axis=0)
        for p in (corners, points)
    )
    scale = float(np.median(drawn[real > 0] / real[real > 0])) if (real > 0).any() else 1.0
    outside = ((atlas.uv[atlas.faces] < 0) | (atlas.uv[atlas.faces] > 1)).any(axis=(1, 2))
    stray = np.flatnonzero(outside | (drawn > STRAY * scale * real + STRAY))
    if not len(stray):
        return atlas
    inside = ((corners[stray] >= 0) & (corners[stray] <= size)).all(axis=-1)
    kept = atlas.uv[atlas.faces[stray, np.argmax(inside, axis=1)]].clip(0.0, 1.0)
    faces = atlas.faces.copy()
    faces[stray] = len(atlas.uv) + np.arange(3 * len(stray)).reshape(-1, 3)
    return replace(
        atlas,
        vertex=np.concatenate([atlas.vertex, atlas.vertex[atlas.faces[stray]].ravel()]),
        uv=np.concatenate([atlas.uv.clip(0.0, 1.0), np.repeat(kept, 3, axis=0)]),
        faces=faces,
    )


def _laid_flat(points: FloatArray, chart: NDArray[np.int64], normals: FloatArray) -> FloatArray:
    """Return points (v, 3) in the planes (v, 2) of their charts, mm."""
    aside = np.where(np.abs(normals[:, :1]) < 0.9, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    across = np.cross(aside, normals)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    along = np.cross(normals, across)
    return np.stack([(points * across[chart]).sum(1), (points * along[chart]).sum(1)], axis=1)


def texels(atlas: Atlas) -> Texels:
    """Return the points of the surface under the centres of all texels that a triangle covers."""
    size = np.array([atlas.width, atlas.height], float)
    corners = np.column_stack([atlas.uv[:, 0], 1.0 - atlas.uv[:, 1]]) * size - 0.5
    face = np.full((atlas.height, atlas.width), -1, np.int64)
    place = np.zeros((atlas.height, atlas.width, 3), np.float32)
    _rasterise(corners, atlas.faces, face, place)
    inside = face >= 0
    vertices, shares = atlas.vertex[atlas.faces[face[inside]]], place[inside]
    points, normals = _mixed(atlas.mesh.vertices, vertices, shares), _mixed(atlas.mesh.normals, vertices, shares)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return Texels(inside, points, normals)


def _mixed(values: FloatArray, vertices: NDArray[np.int64], shares: NDArray[np.float32]) -> FloatArray:
    """Return sums (t, 3) of three vertices' values each, weighted; corner by corner, for there may be millions."""
    total = np.zeros((len(shares), 3))
    for corner in range(3):
        total += shares[:, corner, None] * values[vertices[:, corner]]
    return total


@numba.njit(**KERNEL)
def _rasterise(corners, faces, face, place):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write the triangle at every texel's centre and its three barycentric coordinates there."""
    height, width = face.shape
    for n in range(len(faces)):
        a, b, c = corners[faces[n, 0]], corners[faces[n, 1]], corners[faces[n, 2]]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area == 0.0:
            continue
        left, right = min(a[0], b[0], c[0]), max(a[0], b[0], c[0])
        top, bottom = min(a[1], b[1], c[1]), max(a[1], b[1], c[1])
        for y in range(max(int(np.ceil(top - 1e-6)), 0), min(int(np.floor(bottom + 1e-6)), height - 1) + 1):
            for x in range(max(int(np.ceil(left - 1e-6)), 0), min(int(np.floor(right + 1e-6)), width - 1) + 1):
                first = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) / area
                second = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) / area
                third = 1.0 - first - second
                if first >= -1e-6 and second >= -1e-6 and third >= -1e-6:
                    face[y, x] = n
                    place[y, x, 0], place[y, x, 1], place[y, x, 2] = first, second, third
