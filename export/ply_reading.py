"""Read binary PLY files as this package writes them: vertices with all their properties, triangles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.errors import InputError
from utils.types import FloatArray

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "<i2", "ushort": "<u2", "int": "<i4", "uint": "<u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2", "int32": "<i4", "uint32": "<u4"},
    **{"float": "<f4", "double": "<f8", "float32": "<f4", "float64": "<f8"},
}


@dataclass(frozen=True, eq=False)
class Shape:
    """`points_world` (n, 3), RGB (n, 3) uint8, confidence (n,) in [0, 1], triangles (m, 3), none for a cloud."""

    points_world: FloatArray
    colours: NDArray[np.uint8]
    confidence: FloatArray
    faces: NDArray[np.int64]


def read_shape(path: Path) -> Shape:
    """Read a coloured cloud or a mesh of triangles; without a confidence it is 1.

    Raises:
        InputError: not a binary little-endian PLY, cut off, without colours, or with other faces than triangles.
    """
    data = path.read_bytes()
    try:
        elements = _elements(path, data)
        vertices = elements["vertex"]
        points = np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(float)
        colours = np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1).astype(np.uint8)
    except (KeyError, ValueError, IndexError, UnicodeDecodeError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error
    names = vertices.dtype.names or ()
    confidence = vertices["confidence"].astype(float) if "confidence" in names else np.ones(len(points))
    faces = np.zeros((0, 3), np.int64)
    if "face" in elements and len(elements["face"]):
        found = elements["face"]
        if (found["count"] != 3).any() or found["corners"].min() < 0 or found["corners"].max() >= len(points):
            raise _unreadable(path, "faces that are no triangles of its vertices")
        faces = found["corners"].astype(np.int64)
    return Shape(points, colours, confidence, faces)


def _elements(path: Path, data: bytes) -> dict[str, NDArray[Any]]:
    end = data.index(b"end_header\n") + len(b"end_header\n")
    lines = [line.split() for line in data[:end].decode("ascii").splitlines()]
    if lines[0] != ["ply"] or ["format", "binary_little_endian", "1.0"] not in lines:
        raise _unreadable(path, "another format")
    layout: dict[str, tuple[int, list[Any]]] = {}
    for words in lines:
        if words[0] == "element":
            layout[words[1]] = (int(words[2]), [])
        elif words[0] == "property":
            fields = layout[list(layout)[-1]][1]
            if words[1] == "list":  # of corners: all faces are taken for triangles, and checked afterwards
                fields += [("count", _TYPES[words[2]]), ("corners", _TYPES[words[3]], 3)]
            else:
                fields.append((words[2], _TYPES[words[1]]))
    elements, offset = {}, end
    for name, (count, fields) in layout.items():
        kind = np.dtype(fields)
        elements[name] = np.frombuffer(data, kind, count, offset)
        offset += count * kind.itemsize
    return elements


def _unreadable(path: Path, found: str) -> InputError:
    return InputError(
        f"{path} cannot be read",
        found=found,
        expected="a binary little-endian PLY with coloured vertices, as the stage `export` writes it",
        do="export again: python run.py with the run's configuration and --from export",
    )
