"""Surfaces made of triangles: read them, sample them evenly by area, find the nearest point on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from utils.errors import InputError
from utils.parallel import workers
from utils.triangle_kernels import nearest_of
from utils.types import FloatArray

SPACING_MM = 0.25  # one sample a square of this side
MOST_SAMPLES = 100_000  # larger surfaces are sampled more thinly
ENDINGS = (".ply", ".obj", ".stl", ".off")

_CENTRES, _SAMPLES = 8, 4  # triangles that are tried for each point: by their centres, and by samples on them
_AT_A_TIME = 1 << 16


@dataclass(frozen=True)
class Mesh:
    """Vertices (v, 3) and the three vertices (f, 3) of each triangle."""

    vertices: FloatArray
    faces: NDArray[np.int64]


@dataclass(frozen=True)
class Surface:
    """Triangles to measure distances to, and the points that stand for them when they are scored.

    Args:
        triangles: (f, 3, 3) corners, none without area.
        samples: (n, 3) points on them, evenly by area.
        owner: (n,) the triangle that each sample lies on.
    """

    triangles: FloatArray
    samples: FloatArray
    owner: NDArray[np.int64]

    @cached_property
    def normals(self) -> FloatArray:
        """Unit normals (f, 3) of the triangles."""
        crossed = _crossed(self.triangles)
        return crossed / np.linalg.norm(crossed, axis=1, keepdims=True)

    @cached_property
    def _trees(self) -> list[cKDTree]:
        """The centres of the triangles, and the samples."""
        points = (self.triangles.mean(axis=1), self.samples)
        return [cKDTree(some, balanced_tree=False, compact_nodes=False) for some in points]

    def nearest(self, points: FloatArray) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
        """Return the distance (n,) of points (n, 3), the point (n, 3) of the surface nearest to it, its triangle.

        Exact for the triangles with the 8 nearest centres and those of the 4 nearest samples, which find large
        triangles among small ones. So it does not depend on how densely the surface is sampled (the distance to
        the nearest of samples 0.25 mm apart is 0.12 mm where it should be nought). Never too small; too large by
        less than the spacing of samples, and that only where triangles of very different shape meet.
        """
        closest, chosen = np.empty((len(points), 3)), np.empty(len(points), np.int64)
        for first in range(0, len(points), _AT_A_TIME):
            part = slice(first, first + _AT_A_TIME)
            some = np.ascontiguousarray(points[part], np.float64)
            centres, samples = (
                np.reshape(tree.query(some, k=min(count, tree.n), workers=workers())[1], (len(some), -1))
                for tree, count in zip(self._trees, (_CENTRES, _SAMPLES), strict=True)
            )
            candidates = np.concatenate([centres, self.owner[samples]], axis=1)
            chosen[part] = nearest_of(some, self.triangles, candidates, closest[part])
        return np.linalg.norm(points - closest, axis=1), closest, chosen


def sampled(mesh: Mesh, rng: np.random.Generator) -> Surface:
    """Return a mesh with random points on it, one a square of `SPACING_MM`, at most `MOST_SAMPLES`."""
    triangles = np.ascontiguousarray(mesh.vertices[mesh.faces], np.float64)
    area = np.linalg.norm(_crossed(triangles), axis=1) / 2
    triangles, area = triangles[area > 0], area[area > 0]
    if not len(area):
        return Surface(triangles, np.zeros((0, 3)), np.zeros(0, np.int64))
    upto = np.cumsum(area)
    count = int(np.clip(np.ceil(upto[-1] / SPACING_MM**2), 1, MOST_SAMPLES))
    # One point in each of `count` equal parts of the area: fewer gaps than drawing them independently.
    places = (np.arange(count) + rng.random(count)) / count * upto[-1]
    owner = np.minimum(np.searchsorted(upto, places), len(area) - 1)
    root, share = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - root, root * (1 - share), root * share], axis=1)
    return Surface(triangles, np.einsum("nk,nkx->nx", weights, triangles[owner]), owner)


def facets(points: FloatArray, normals: FloatArray, size_mm: float) -> Surface:
    """Return points (n, 3) with unit normals (n, 3) as a surface: around each a triangle in its tangent plane.

    `size_mm` is the distance from a point to its triangle's corners.
    """
    helper = np.where(np.abs(normals[:, :1]) < 0.9, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    along = np.cross(normals, helper)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.cross(normals, along)
    angles = np.radians([0.0, 120.0, 240.0])
    corners = [points + size_mm * (np.cos(angle) * along + np.sin(angle) * across) for angle in angles]
    return Surface(np.stack(corners, axis=1), points, np.arange(len(points)))


def _crossed(triangles: FloatArray) -> FloatArray:
    """Return (f, 3): normals as long as twice the area."""
    return np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])


def read_mesh(path: Path, flag: str = "") -> Mesh:
    """Read a file of triangles (or polygons, which are cut into triangles).

    Args:
        path: a PLY, OBJ, STL or OFF file.
        flag: the option that names it, for messages.

    Raises:
        InputError: no such file, another format, no triangles, or numbers that are not finite.
    """
    named = f"{flag} {path}".strip()
    if not path.is_file() or path.suffix.lower() not in ENDINGS:
        raise InputError(
            f"{named}: no mesh that can be read",
            found="another kind of file" if path.is_file() else "no such file",
            expected=f"a file ending in {', '.join(ENDINGS)}",
            do="correct the path, or write the mesh in one of these formats",
        )
    import trimesh

    try:
        read: Any = trimesh.load(path, force="mesh", process=False)
        mesh = Mesh(np.asarray(read.vertices, np.float64), np.asarray(read.faces, np.int64))
    except Exception as error:  # trimesh raises nearly everything for a broken file
        raise _broken(named, f"{type(error).__name__}: {error}") from error
    if not len(mesh.faces) or mesh.faces.max() >= len(mesh.vertices) or not np.isfinite(mesh.vertices).all():
        found = "a vertex that is missing or not finite" if len(mesh.faces) else "no triangles"
        raise _broken(named, f"{len(mesh.vertices)} vertices, {found}")
    return mesh


def _broken(named: str, found: str) -> InputError:
    return InputError(
        f"{named} cannot be read as a mesh",
        found=found,
        expected="vertices with finite coordinates and triangles between them",
        do="write the file again",
    )
