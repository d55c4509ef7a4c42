"""The report's 3-D data: meshes thinned, PLY files read, points drawn in front of each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluation.report.space import Stand, project, splat, stand_of
from evaluation.report.surface import MOST_POINTS, MOST_VERTICES, Surface, thinned
from utils.errors import InputError
from utils.geometry import rigid
from utils.ply import read_ply
from utils.types import Poses


def mesh(side: int) -> Surface:
    """A square of 100 mm, bent in z, of side x side vertices."""
    columns, rows = np.meshgrid(np.linspace(0, 100, side), np.linspace(0, 100, side))
    points = np.stack([columns, rows, 5 * np.sin(columns / 20)], axis=-1).reshape(-1, 3)
    index = np.arange(side * side).reshape(side, side)
    corners = [index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]]
    quads = np.stack(corners, axis=-1).reshape(-1, 4)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    colours = np.full(points.shape, 90, np.uint8)
    return Surface("mesh.ply", points, colours, points[:, 0] / 100, faces, None, len(points))


def area(surface: Surface) -> float:
    assert surface.faces is not None
    a, b, c = (surface.points_world[surface.faces[:, k]] for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def test_a_thinned_mesh_is_the_same_surface() -> None:
    full = mesh(300)
    small = thinned(full)
    assert small.faces is not None
    assert small.confidence is not None
    assert MOST_VERTICES / 2 < len(small.points_world) <= MOST_VERTICES
    assert small.faces.max() < len(small.points_world)
    assert (small.faces[:, 0] != small.faces[:, 1]).all()
    assert area(small) == pytest.approx(area(full), rel=0.02)
    assert small.points_world[:, 2] == pytest.approx(5 * np.sin(small.points_world[:, 0] / 20), abs=0.05)
    assert small.confidence == pytest.approx(small.points_world[:, 0] / 100)
    assert (small.colours == 90).all()


def test_a_small_mesh_stays_as_it_is() -> None:
    surface = mesh(20)
    assert thinned(surface) is surface


def test_a_thinned_cloud_keeps_its_points_together_with_their_colours() -> None:
    count = MOST_POINTS + 5000
    points = np.random.default_rng(0).uniform(0, 200, (count, 3))
    surface = Surface("cloud.ply", points, points.astype(np.uint8), points[:, 1], None, -points, count)
    small = thinned(surface)
    assert len(small.points_world) == MOST_POINTS
    assert (small.colours == small.points_world.astype(np.uint8)).all()
    assert small.confidence is not None
    assert (small.confidence == small.points_world[:, 1]).all()
    assert small.normals is not None
    assert (small.normals == -small.points_world).all()


def write_mesh(path: Path, corners: int = 3, form: str = "binary_little_endian", cut: int = 0) -> None:
    vertices = np.zeros(4, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1")])
    vertices["x"], vertices["red"] = range(4), range(4)
    faces = np.zeros(2, [("n", "u1"), ("i", "<i4", corners)])
    faces["n"], faces["i"][1, :3] = corners, (1, 2, 3)
    header = (
        f"ply\nformat {form} 1.0\ncomment unit mm\nelement vertex 4\nproperty float x\n"
        "property float y\nproperty float z\nproperty uchar red\n"
        "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
    )
    content = header.encode() + vertices.tobytes() + faces.tobytes()
    path.write_bytes(content[: len(content) - cut])


def test_vertices_and_faces_are_read(tmp_path: Path) -> None:
    write_mesh(tmp_path / "mesh.ply")
    vertices, faces = read_ply(tmp_path / "mesh.ply")
    assert vertices["x"].tolist() == vertices["red"].tolist() == [0, 1, 2, 3]
    assert faces is not None
    assert faces.tolist() == [[0, 0, 0], [1, 2, 3]]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"corners": 4}, "other than three corners"),
        ({"form": "ascii"}, "no binary little-endian PLY"),
        ({"cut": 1}, "fewer bytes"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, change: dict[str, object], found: str) -> None:
    write_mesh(tmp_path / "mesh.ply", **change)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"mesh\.ply") as error:
        read_ply(tmp_path / "mesh.ply")
    assert found in error.value.found


def test_the_nearest_point_is_seen() -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    pixels, depth = np.array([[20.0, 20.0]] * 3), np.array([5.0, 1.0, 9.0])
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        picture = splat(pixels[order], depth[order], colours[order], (60, 40))
        assert picture[20, 20].tolist() == [0, 255, 0, 255]
    assert picture[0, 0, 3] == 0


def test_one_stands_behind_the_cameras_and_sees_all() -> None:
    points = np.random.default_rng(0).uniform([-20, -20, 80], [20, 20, 100], (2000, 3))
    left = np.stack([rigid(np.eye(3), np.array([float(x), 0, 0])) for x in range(5)])
    stand = stand_of(Poses(tuple("abcde"), left, None, True), points, 28.0, -24.0)
    pixels, depth = project(stand, points, (560, 420))
    cameras, nearer = project(stand, left[:, :3, 3], (560, 420))
    assert np.mean(((pixels >= 0) & (pixels <= [560, 420])).all(axis=1)) > 0.98
    assert (cameras >= 0).all()
    assert nearer.max() < depth.min()
    assert pixels[:, 1].mean() < cameras[:, 1].mean()  # from above: what is far stands higher
    alone = stand_of(Poses(tuple("abcde"), left, None, True), points, 28.0, -24.0, margin=0.1)
    assert alone.reach < stand.reach


def test_pixels_are_those_of_the_axes() -> None:
    stand = Stand(np.eye(3), np.array([1.0, 2.0, 3.0]), 10.0)
    pixels, depth = project(stand, np.array([[1.0, 2.0, 3.0], [11.0, -3.0, 7.0]]), (100, 100))
    assert pixels.tolist() == [[50, 50], [100, 25]]
    assert depth.tolist() == [0, 4]
