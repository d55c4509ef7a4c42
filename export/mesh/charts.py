"""Cut a mesh into charts that lie nearly flat: regions whose normals stay within a cone."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from export.mesh.surface import Mesh
from utils.compiled import KERNEL
from utils.types import FloatArray

# Cosine of the angle to which a chart's triangles may be turned away from its seed's surroundings.
CONE = 0.55


def charts_of(mesh: Mesh) -> tuple[NDArray[np.int64], FloatArray]:
    """Return the chart (m,) of every triangle, from nought, and the mean unit normals (c, 3) of the charts.

    Regions grow from triangle to triangle over common edges (as in Lévy et al. 2002), the largest flat ones first.
    """
    normals = mesh.face_normals
    # Around a seed the mean counts, not its own noise.
    calm = mesh.normals[mesh.faces].sum(axis=1)
    calm /= np.maximum(np.linalg.norm(calm, axis=1, keepdims=True), 1e-12)
    typical = normals.sum(axis=0) / max(float(np.linalg.norm(normals.sum(axis=0))), 1e-12)
    order = np.argsort(-(calm @ typical), kind="stable")
    chart = np.full(len(mesh.faces), -1, np.int64)
    count = _grow(order, neighbours_of(mesh), calm, CONE, chart)
    mean = np.stack([np.bincount(chart, normals[:, axis], count) for axis in range(3)], axis=1)
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    # Triangles without area have no normal: any will do.
    return chart, np.where(length > 1e-12, mean / np.maximum(length, 1e-12), [[0.0, 0.0, -1.0]])


def neighbours_of(mesh: Mesh) -> NDArray[np.int64]:
    """Return the triangles (m, 3) beyond the three edges of every triangle; -1 at a border."""
    faces = mesh.faces
    ends = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1), axis=-1).reshape(-1, 2)
    keys = ends[:, 0] * (int(faces.max(initial=0)) + 1) + ends[:, 1]
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    beyond = np.full(len(keys), -1, np.int64)
    first, second = order[:-1][same], order[1:][same]
    beyond[first], beyond[second] = second // 3, first // 3
    return beyond.reshape(-1, 3)


@numba.njit(**KERNEL)
def _grow(order, neighbours, normals, cone, chart):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write the chart of every triangle; return how many charts there are."""
    count = 0
    queue = np.empty(len(order), np.int64)
    for seed in order:
        if chart[seed] >= 0:
            continue
        chart[seed], queue[0], done, known = count, seed, 0, 1
        while done < known:
            here = queue[done]
            done += 1
            for edge in range(3):
                there = neighbours[here, edge]
                if there < 0 or chart[there] >= 0:
                    continue
                cosine = 0.0
                for a in range(3):
                    cosine += normals[there, a] * normals[seed, a]
                if cosine >= cone:
                    chart[there] = count
                    queue[known] = there
                    known += 1
        count += 1
    return count
