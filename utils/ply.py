"""Read and write clouds and meshes as binary PLY, with colour, confidence, and comments for unit and frame."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from utils.errors import InputError
from utils.types import FloatArray

_KINDS = {
    **dict.fromkeys(("char", "int8"), "<i1"),
    **dict.fromkeys(("uchar", "uint8"), "<u1"),
    **dict.fromkeys(("short", "int16"), "<i2"),
    **dict.fromkeys(("ushort", "uint16"), "<u2"),
    **dict.fromkeys(("int", "int32"), "<i4"),
    **dict.fromkeys(("uint", "uint32"), "<u4"),
    **dict.fromkeys(("float", "float32"), "<f4"),
    **dict.fromkeys(("double", "float64"), "<f8"),
}
_INTEGERS = {kind for kind, code in _KINDS.items() if code[1] != "f"}
_Field = tuple[str, str] | tuple[str, str, tuple[int]]
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


def read_ply(path: Path) -> tuple[dict[str, NDArray[np.generic]], NDArray[np.int64] | None]:
    """Return the vertex properties by name, each (n,), and the triangles (m, 3), None where there are no faces.

    Raises:
        InputError: a file of another kind: text, big-endian, cut off, or with faces of more than three corners.
    """
    with open(path, "rb") as file:
        elements = _header(file, path)
        vertices: dict[str, NDArray[np.generic]] = {}
        faces: NDArray[np.int64] | None = None
        for name, (count, fields) in elements.items():
            if not fields:
                continue
            rows = _rows(file, path, np.dtype(fields), count)
            if name == "vertex":
                vertices = {key: rows[key] for key in rows.dtype.names or ()}
            elif name == "face" and count:
                if not (rows["corners"] == 3).all():
                    raise _strange(path, "faces of other than three corners")
                faces = rows["indices"].astype(np.int64)
                if faces.min() < 0 or faces.max() >= len(next(iter(vertices.values()), ())):
                    raise _strange(path, "faces of vertices that are not there")
    if not {"x", "y", "z"} <= set(vertices):
        raise _strange(path, "no vertices")
    return vertices, faces


def _header(file: BinaryIO, path: Path) -> dict[str, tuple[int, list[_Field]]]:
    """Return count and fields of every element by name; the list of a face is three indices."""
    if file.readline().strip() != b"ply" or file.readline().split()[:2] != [b"format", b"binary_little_endian"]:
        raise _strange(path, "no binary little-endian PLY")
    elements: dict[str, tuple[int, list[_Field]]] = {}
    last = ""
    while (line := file.readline()).strip() != b"end_header":
        if not line:
            raise _strange(path, "a header without an end")
        match line.decode("ascii", "replace").split():
            case ["element", name, count] if count.isdecimal() and name not in elements:
                elements[name] = (int(count), [])
                last = name
            case ["property", *words] if fields := _fields(words, last):
                elements[last][1].extend(fields)
            case ["element" | "property", *_] as words:
                raise _strange(path, f"a header with `{' '.join(words)[:80]}`")
    for element, (rows, known) in elements.items():
        keys = [field[0] for field in known]
        if len(set(keys)) < len(keys) or (rows and not keys) or (element == "face" and "corners" not in keys):
            raise _strange(path, f"an element {element} with the properties {', '.join(keys) or 'none'}")
    return elements


def _fields(words: list[str], element: str) -> list[_Field]:
    """Return what a property is in bytes; nothing for one that is not known, or has no element."""
    match words:
        case ["list", count, kind, _] if element == "face" and {count, kind} <= _INTEGERS:
            return [("corners", _KINDS[count]), ("indices", _KINDS[kind], (3,))]
        case [kind, name] if element and kind in _KINDS:
            return [(name, _KINDS[kind])]
    return []


def _rows(file: BinaryIO, path: Path, kind: np.dtype[np.void], count: int) -> NDArray[np.void]:
    if path.stat().st_size - file.tell() < count * kind.itemsize:
        raise _strange(path, "fewer bytes than its header says")
    return np.frombuffer(file.read(count * kind.itemsize), kind)


def _strange(path: Path, found: str) -> InputError:
    return InputError(
        f"{path} cannot be read",
        found=found,
        expected="a binary little-endian PLY of vertices and triangles",
        do="run the stage `export` again",
    )
