"""PLY files that other programs wrote, or that are broken: read, or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from utils.errors import InputError
from utils.ply import read_ply, write_ply

POINT = ("element vertex 1", "property float x", "property float y", "property float z")
TRIANGLE = ("element face 1", "property list uchar int vertex_indices")


def written(folder: Path, *lines: str, content: bytes = bytes(200)) -> Path:
    header = "\n".join(("ply", "format binary_little_endian 1.0", *lines, "end_header"))
    (folder / "a.ply").write_bytes(header.encode() + b"\n" + content)
    return folder / "a.ply"


@pytest.mark.parametrize(
    "lines",
    [
        ("element",),
        ("element vertex",),
        ("element vertex x",),
        ("element vertex -1",),
        ("element vertex 1", "property"),
        ("element vertex 1", "property float"),
        ("element vertex 1", "property quaternion x"),
        ("element vertex 1", "property list uchar int x"),
        ("property float x", *POINT),
        ("element vertex 1",),
        (*POINT, *POINT),
        (*POINT, "property float x"),
        (*POINT, "element face 1"),
        (*POINT, "element face 1", "property list"),
        (*POINT, "element face 1", "property list bool int vertex_indices"),
        (*POINT, "element face 1", "property list uchar bool vertex_indices"),
        (*POINT, "element face 1", "property list float float vertex_indices"),
        (*POINT, *TRIANGLE, "property list uchar int more"),
        (*POINT, "element face 1", "property uchar red"),
        ("element vertex 1000000000000000000000", *POINT[1:]),
    ],
)
def test_broken_headers_are_refused(tmp_path: Path, lines: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"a\.ply cannot be read"):
        read_ply(written(tmp_path, *lines))


def test_other_elements_and_properties_are_passed_over(tmp_path: Path) -> None:
    lines = ("comment by hand", "obj_info none", *POINT, "property uchar quality", "element edge 0", *TRIANGLE)
    content = np.array([1.0, 2.0, 3.0], "<f4").tobytes() + b"\x07" + b"\x03" + bytes(12)
    vertices, faces = read_ply(written(tmp_path, *lines, "property uchar red", content=content + b"\xff"))
    assert {name: values.tolist() for name, values in vertices.items()} == {
        "x": [1.0],
        "y": [2.0],
        "z": [3.0],
        "quality": [7],
    }
    assert faces is not None
    assert faces.tolist() == [[0, 0, 0]]


def test_an_empty_cloud_comes_back_empty(tmp_path: Path) -> None:
    nothing = np.zeros((0, 3))
    write_ply(tmp_path / "a.ply", nothing, nothing, nothing.astype(np.uint8), np.zeros(0), [])
    vertices, faces = read_ply(tmp_path / "a.ply")
    assert vertices["x"].shape == (0,)
    assert faces is None
