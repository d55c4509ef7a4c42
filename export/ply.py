"""Write points and meshes as binary PLY with colour, confidence, unit and frame; read points back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.errors import InputError
from utils.types import FloatArray

_VERTEX = np.dtype(
    [(name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")]
    + [(name, "u1") for name in ("red", "green", "blue")]
    + [("confidence", "<f4")]
)
_FACE = np.dtype([("count", "u1"), ("corners", "<i4", (3,))])
_PLY_NAMES = {"<f4": "float", "|u1": "uchar"}


def write_ply(
    path: Path,
    points_world: FloatArray,
    normals_world: FloatArray,
    colours: NDArray[np.uint8],
    confidence: FloatArray,
    comments: list[str],
    faces: NDArray[np.int64] | None = None,
) -> None:
    """Write points (n, 3), unit normals (n, 3), RGB (n, 3), confidence (n,) in [0, 1], and triangles (m, 3)."""
    vertices = np.zeros(len(points_world), _VERTEX)
    for axis, name in enumerate("xyz"):
        vertices[name] = points_world[:, axis]
        vertices[f"n{name}"] = normals_world[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = colours[:, channel]
    vertices["confidence"] = confidence
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {text}" for text in comments)]
    header.append(f"element vertex {len(vertices)}")
    names = _VERTEX.names or ()
    header += [f"property {_PLY_NAMES[_VERTEX[name].str]} {name}" for name in names]
    triangles = np.zeros(0 if faces is None else len(faces), _FACE)
    if faces is not None:
        triangles["count"], triangles["corners"] = 3, faces
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    with open(path, "wb") as file:
        file.write(("\n".join([*header, "end_header"]) + "\n").encode("ascii"))
        file.write(vertices.tobytes())
        file.write(triangles.tobytes())


def read_cloud(path: Path) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Read points (n, 3) and RGB (n, 3) of a cloud that `write_ply` wrote.

    Raises:
        InputError: another kind of PLY, or a file that ends too early.
    """
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = header.decode("ascii", "replace").splitlines()
    counts = [line.split()[-1] for line in lines if line.startswith("element vertex ")]
    names = [line.split()[-1] for line in lines if line.startswith("property ")]
    size = int(counts[0]) * _VERTEX.itemsize if counts and counts[0].isdecimal() else -1
    if names != list(_VERTEX.names or ()) or len(body) != size:
        raise InputError(
            f"{path} is not a point cloud of this program",
            found=f"the properties {', '.join(names) or 'none'}, {len(body)} bytes of points",
            expected=f"the properties {', '.join(_VERTEX.names or ())}, {max(size, 0)} bytes of points",
            do="run the stage `export` again, or remove the file: models are then written without points",
        )
    vertices = np.frombuffer(body, _VERTEX)
    points = np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(float)
    return points, np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1)
