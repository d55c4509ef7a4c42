"""Write the phantom's surface as a mesh, hidden flanks included: the truth of reconstructed meshes."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.phantom_render import Eye, ray_directions, sheared
from utils.phantom_surface import Organ
from utils.types import FloatArray

STEP = 2  # samples of the organ's map from vertex to vertex: within 0.02 mm of the surface that is rendered
_QUAD = np.dtype([("count", "u1"), ("vertices", "<i4", (4,))])


def write_truth_mesh(path: Path, organ: Organ, eyes: Iterable[Eye]) -> None:
    """Write the part of the sheet that lies in any eye's picture as a binary PLY of quads, world frame, mm."""
    vertices, quads = sheet_mesh(organ, *_seen_samples(organ, eyes))
    records = np.zeros(len(quads), _QUAD)
    records["count"], records["vertices"] = 4, quads
    header = [
        *("ply", "format binary_little_endian 1.0", "comment unit mm", "comment frame world of truth_poses.npz"),
        *(f"element vertex {len(vertices)}", *(f"property float {axis}" for axis in "xyz")),
        *(f"element face {len(quads)}", "property list uchar int vertex_indices", "end_header"),
    ]
    with open(path, "wb") as file:
        file.write(("\n".join(header) + "\n").encode("ascii"))
        file.write(vertices.astype("<f4").tobytes())
        file.write(records.tobytes())


def sheet_mesh(organ: Organ, first: NDArray[np.int64], last: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Return vertices (n, 3) of the world and quads (m, 4), facing the endoscope, of a rectangle of the sheet.

    Args:
        organ: the surface.
        first: (column, row) of the rectangle's first sample in the organ's maps.
        last: the same of its last one; up to `STEP` - 1 samples before it may be left out.
    """
    columns, rows = np.arange(first[0], last[0] + 1, STEP), np.arange(first[1], last[1] + 1, STEP)
    height_mm = organ.height_mm[np.ix_(rows, columns)].astype(np.float64)
    middle = (organ.height_mm.shape[0] - 1) / 2
    x_mm, y_mm = np.meshgrid((columns - middle) * organ.mm_per_px, (rows - middle) * organ.mm_per_px)
    vertices = np.stack([x_mm + organ.lean * height_mm, y_mm, -height_mm], -1).reshape(-1, 3)
    index = np.arange(len(vertices)).reshape(height_mm.shape)
    # Columns run along x, rows along y: this order turns the normals towards -z, where the endoscope is.
    quads = np.stack([index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]], -1).reshape(-1, 4)
    return vertices, quads


def _seen_samples(organ: Organ, eyes: Iterable[Eye]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and last (column, row) of the map that any ray of the eyes can meet, inside the map."""
    corners = []
    for eye in eyes:
        origin = sheared(organ, eye.world_from_camera[:3, 3])
        rays = sheared(organ, ray_directions(eye, 1)[[0, 0, -1, -1], [0, -1, 0, -1]])
        for height_mm in (float(organ.height_mm.min()), float(organ.height_mm.max())):
            corners.append(origin + (-height_mm - origin[2]) / rays[:, 2:] * rays)
    on_sheet = np.concatenate(corners)[:, :2] / organ.mm_per_px
    size = organ.height_mm.shape[0]
    inside = np.clip(on_sheet + (size - 1) / 2, 0, size - 1)
    return np.floor(inside.min(0)).astype(np.int64), np.ceil(inside.max(0)).astype(np.int64)
