"""From a volume of distances to a clean, open triangle mesh whose normals look at the cameras."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from export.mesh.fusion import Volume
from utils.errors import InputError
from utils.types import BoolArray, FloatArray

Faces = NDArray[np.int64]
# Of Taubin 1995, figure 4: a step that smooths, and a larger one back, so that nothing shrinks.
LAMBDA, MU = 0.5, -0.53


@dataclass(frozen=True)
class Mesh:
    """Vertices (n, 3) of the world, mm; triangles (m, 3), counter-clockwise as the cameras see them."""

    vertices: FloatArray
    faces: Faces

    @property
    def face_normals(self) -> FloatArray:
        """Normals (m, 3) of the triangles; their length is twice the area, mm²."""
        a, b, c = (self.vertices[self.faces[:, corner]] for corner in range(3))
        return np.cross(b - a, c - a)

    @property
    def area_mm2(self) -> float:
        """Area of all triangles."""
        return float(0.5 * np.linalg.norm(self.face_normals, axis=1).sum())

    @property
    def normals(self) -> FloatArray:
        """Unit normals (n, 3) of the vertices: means of their triangles' by area."""
        total, faces = np.zeros_like(self.vertices), self.face_normals
        for corner in range(3):
            np.add.at(total, self.faces[:, corner], faces)
        return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)

    def chosen(self, keep: BoolArray) -> Mesh:
        """Return the triangles that `keep` (m,) marks, with the vertices that they need, in their order."""
        faces = self.faces[keep]
        used = np.unique(faces)
        number = np.full(len(self.vertices), -1, np.int64)
        number[used] = np.arange(len(used))
        return Mesh(self.vertices[used], number[faces])


def extract(volume: Volume, least_views: int, level_mm: float = 0.0) -> Mesh:
    """Return the surface where the distance is `level_mm`, in the cells whose eight corners enough views saw.

    Marching cubes (Lewiner et al. 2003, scikit-image); open where a corner is unknown. Raises InputError where
    nothing is left.
    """
    from skimage.measure import marching_cubes

    grid, distance = volume.grid, volume.distance_mm
    seen = np.isfinite(distance) & (volume.views >= least_views)
    filled = np.where(np.isfinite(distance), distance, np.float32(grid.truncation_mm))
    if not seen.any() or not (filled.min() < level_mm < filled.max()):
        raise InputError(
            "there is no surface to make a mesh of",
            found=f"{int(seen.sum())} voxels that {least_views} views or more saw near a surface",
            expected="some",
            do="lower --mesh_voxel, --mesh_min_views or --mesh_min_confidence, or look at the maps of `render`",
        )
    vertices, faces, _, _ = marching_cubes(filled, level_mm, gradient_direction="descent")
    corners = [seen[i : i - 1 or None, j : j - 1 or None, k : k - 1 or None] for i, j, k in _CORNERS]
    whole = np.logical_and.reduce(corners)
    cell = np.floor(vertices[faces].mean(axis=1)).astype(np.int64)
    cell = np.minimum(cell, np.array(whole.shape) - 1)
    mesh = Mesh(grid.origin + grid.voxel_mm * vertices.astype(float), faces.astype(np.int64))
    return mesh.chosen(whole[cell[:, 0], cell[:, 1], cell[:, 2]])


_CORNERS = [(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]


def without_specks(mesh: Mesh, least_share: float) -> Mesh:
    """Leave out connected pieces of less than a share of the largest piece's area."""
    if not len(mesh.faces):
        return mesh
    ends = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]]])
    links = sparse.coo_matrix(
        (np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(len(mesh.vertices),) * 2
    )
    _, piece = csgraph.connected_components(links, directed=False)
    areas = 0.5 * np.linalg.norm(mesh.face_normals, axis=1)
    of_face = piece[mesh.faces[:, 0]]
    sizes = np.bincount(of_face, areas)
    return mesh.chosen(sizes[of_face] >= least_share * sizes.max())


def without_degenerate(mesh: Mesh) -> Mesh:
    """Merge vertices that coincide and leave out triangles without area: other programs stumble over them."""
    _, first, inverse = np.unique(np.round(mesh.vertices, 6), axis=0, return_index=True, return_inverse=True)
    merged = Mesh(mesh.vertices[first], inverse.reshape(-1)[mesh.faces])
    return merged.chosen(np.linalg.norm(merged.face_normals, axis=1) > 1e-9)


def smoothed(mesh: Mesh, rounds: int) -> Mesh:
    """Return the mesh after so many rounds of Taubin's smoothing (1995): it does not shrink; borders stay."""
    if not rounds:
        return mesh
    ends = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    count = len(mesh.vertices)
    links = sparse.coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count)).tocsr()
    edges = links + links.T
    # An edge with one triangle is a border: it was counted once.
    border = np.unique(np.concatenate((edges == 1).nonzero()))
    edges.data[:] = 1.0
    mean = sparse.diags(1.0 / np.maximum(np.asarray(edges.sum(axis=1)).ravel(), 1.0)) @ edges
    free = np.ones((count, 1))
    free[border] = 0.0
    vertices = mesh.vertices
    for _ in range(rounds):
        for step in (LAMBDA, MU):
            vertices = vertices + step * free * (mean @ vertices - vertices)
    return replace(mesh, vertices=vertices)


def decimated(mesh: Mesh, faces: int) -> Mesh:
    """Return the mesh with at most so many triangles (quadric error metric, Garland and Heckbert 1997)."""
    if not faces or len(mesh.faces) <= faces:
        return mesh
    import fast_simplification

    simplify: Any = fast_simplification.simplify
    vertices, kept = simplify(mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32), target_count=faces)
    return without_degenerate(Mesh(np.asarray(vertices, float), np.asarray(kept, np.int64)))
