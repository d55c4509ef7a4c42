"""The viewer: layers as colours, files that it reads, and the page itself, served to this machine alone."""

from __future__ import annotations

import builtins
import json
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from export.measured_run import MeasuredRun
from export.shapes import Shape, read_shape
from export.view import Viewer, main
from export.viewer.layers import UNKNOWN, coloured, frame_pictures, shape_colours, thumbnail
from export.viewer.unlit_glb import linear_rgb, unlit_glb
from tests.measured import make_run, stamp
from tests.synthetic import Plane, parallel_rig, path
from utils.artifacts import write_json, write_npz
from utils.errors import InputError
from utils.geometry import pixel_grid, rigid, transform, unproject
from utils.ply import write_ply
from utils.types import FloatArray

RIG = parallel_rig(80, 64)
WALL = Plane((0.2, 0.0, 1.0), 80.0)


def points_of(run: MeasuredRun) -> FloatArray:
    view = run.views[0]
    depth = run.measured(view).depth_mm
    return transform(run.world_from(view), unproject(RIG.left.matrix, pixel_grid(80, 64), depth).reshape(-1, 3))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("viewer") / "run", WALL, RIG, path(3))
    points = points_of(MeasuredRun.load(folder))
    (folder / "export").mkdir()
    colours = np.tile(np.array([200, 100, 50], np.uint8), (len(points), 1))
    sure = np.linspace(0, 1, len(points))
    write_ply(folder / "export" / "cloud.ply", points, 0 * points, colours, sure, ["unit mm"])
    triangles = np.array([[0, 1, 80], [1, 81, 80]])
    trimesh.Trimesh(points[:82], triangles, vertex_colors=colours[:82], process=False).export(
        folder / "export" / "mesh.ply"
    )
    stamp(folder / "export")
    return folder


def test_clouds_and_meshes_are_read_as_they_were_written(run: Path) -> None:
    points = points_of(MeasuredRun.load(run))
    cloud, mesh = (read_shape(run / "export" / name) for name in ("cloud.ply", "mesh.ply"))
    np.testing.assert_allclose(cloud.points_world, points, atol=1e-4)
    np.testing.assert_allclose(cloud.confidence, np.linspace(0, 1, len(points)), atol=1e-6)
    assert not len(cloud.faces)
    np.testing.assert_allclose(mesh.points_world, points[:82], atol=1e-4)
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 80], [1, 81, 80]])
    np.testing.assert_array_equal(mesh.colours, [[200, 100, 50]] * 82)
    assert (mesh.confidence == 1).all(), "this file has none"


@pytest.mark.parametrize("cut", [0, 60, -7])
def test_broken_files_are_refused(run: Path, tmp_path: Path, cut: int) -> None:
    data = (run / "export" / "mesh.ply").read_bytes()
    (tmp_path / "broken.ply").write_bytes(data[:cut])
    with pytest.raises(InputError, match=r"broken\.ply cannot be read"):
        read_shape(tmp_path / "broken.ply")
    (tmp_path / "text.ply").write_bytes(data.replace(b"binary_little_endian", b"ascii"))
    with pytest.raises(InputError, match="no binary little-endian PLY"):
        read_shape(tmp_path / "text.ply")


def test_layers_of_points_are_their_colours_depth_from_a_camera_and_confidence() -> None:
    shape = Shape(
        np.array([[0.0, 0, 50], [0, 0, 100], [0, 0, -20]]),
        np.arange(9, dtype=np.uint8).reshape(3, 3),
        np.array([0.0, 1.0, 0.5]),
        np.zeros((0, 3), np.int64),
    )
    np.testing.assert_array_equal(shape_colours(shape, "colour", np.eye(4)), shape.colours)
    depth = shape_colours(shape, "depth", np.eye(4)).astype(int)
    assert depth[0, 2] > depth[0, 0], "near is blue"
    assert depth[1, 0] > depth[1, 2], "far is red"
    np.testing.assert_array_equal(depth[2], UNKNOWN)
    behind = shape_colours(shape, "depth", rigid(np.eye(3), np.array([0.0, 0.0, 60.0])))
    np.testing.assert_array_equal(behind[0], UNKNOWN)
    sure = shape_colours(shape, "confidence", np.eye(4))
    np.testing.assert_array_equal(sure, coloured(np.array([0.0, 1.0, 0.5]), 0.0, 1.0))


def test_pictures_of_a_frame_say_what_their_colours_mean(run: Path) -> None:
    measured = MeasuredRun.load(run)
    found = frame_pictures(measured, ("right", "2"))
    np.testing.assert_array_equal(found.pictures["colour"], measured.scene.image("right", "2"))
    assert {picture.shape for picture in found.pictures.values()} == {(64, 80, 3)}
    low, high = np.nanpercentile(measured.measured(("right", "2")).depth_mm, [2, 98])
    assert f"depth: {low:.4g} (blue) to {high:.4g} (red), σ 0.8 mm, known for 100.0 %" in found.legend
    assert thumbnail(found.pictures["depth"], 40).shape == (32, 40, 3)


def test_a_mesh_becomes_a_glb_with_its_colours_and_no_light(run: Path, tmp_path: Path) -> None:
    mesh = read_shape(run / "export" / "mesh.ply")
    colours = np.arange(len(mesh.points_world) * 3, dtype=np.uint8).reshape(-1, 3)
    (tmp_path / "mesh.glb").write_bytes(unlit_glb(mesh, colours))
    found: Any = trimesh.load(tmp_path / "mesh.glb", process=False, force="mesh")
    np.testing.assert_allclose(found.vertices, mesh.points_world, atol=1e-4)
    np.testing.assert_array_equal(found.faces, mesh.faces)
    text = (tmp_path / "mesh.glb").read_bytes()
    header = json.loads(text[20 : 20 + int.from_bytes(text[12:16], "little")])
    assert "KHR_materials_unlit" in header["materials"][0]["extensions"]
    assert len(text) == int.from_bytes(text[8:12], "little")
    start = 20 + int.from_bytes(text[12:16], "little") + 8 + header["bufferViews"][1]["byteOffset"]
    stored = np.frombuffer(text, "<f4", 3 * len(colours), start).reshape(-1, 3)
    # IEC 61966-2-1: 0 is 0, 255 is 1, the middle grey 188 is half the light
    np.testing.assert_allclose(linear_rgb(np.array([0, 255, 188], np.uint8)), [0, 1, 0.5], atol=0.005)
    np.testing.assert_allclose(stored, linear_rgb(colours), atol=1e-6)


@pytest.fixture
def viewer(run: Path) -> Iterator[Viewer]:
    pytest.importorskip("viser", reason="the extra `viewer` is not installed")
    opened = Viewer(run, free_port())
    yield opened
    opened.close()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def listening(port: int) -> set[str]:
    """Return the addresses on which this machine listens at a port, as Linux tells."""
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            words = line.split()
            address, number = words[1].split(":")
            if int(number, 16) == port and words[3] == "0A":
                found.add(address)
    return found


def test_the_page_is_served_to_this_machine_alone(viewer: Viewer) -> None:
    assert viewer.address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(viewer.address, timeout=10) as page:
        text = page.read().decode()
    assert page.status == 200
    assert "<html" in text
    if Path("/proc/net/tcp").exists():
        assert listening(int(viewer.address.rsplit(":", 1)[1])) == {"0100007F"}


def test_clicks_measure_and_sliders_change_what_is_shown(viewer: Viewer) -> None:
    points = viewer.shapes["points"].points_world
    eye = viewer.run.world_from(viewer.run.views[0])[:3, 3]
    for index in (30 * 80 + 10, 30 * 80 + 70):
        viewer.click(eye.tolist(), (points[index] - eye).tolist())
    distance = np.linalg.norm(points[30 * 80 + 70] - points[30 * 80 + 10])
    assert viewer.length.content.startswith(f"**{distance:.2f} ± ")
    assert len(viewer.pins) == 4, "two pins, a line and a label"
    first = np.array(viewer.panels["colour"].image)
    viewer.frame.value, viewer.eye.value = 3, "right"
    viewer.show_frame()
    assert viewer.view == ("right", "3")
    assert viewer.legend.content.startswith("**3**, right eye (train).")
    np.testing.assert_array_equal(viewer.panels["colour"].image, viewer.run.scene.image("right", "3"))
    assert (first != viewer.panels["colour"].image).any()
    viewer.cameras.value = "chosen"
    viewer.show_frame()
    assert [view for view, frustum in viewer.frusta.items() if frustum.visible] == [("right", "3")]


def test_the_mesh_is_drawn_in_the_chosen_layer(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, bytes] = {}
    monkeypatch.setattr(viewer.server.scene, "add_glb", lambda name, data, **_: drawn.update({name: data}))
    viewer.shape.value, viewer.layer.value = "mesh", "confidence"
    viewer.show_shape()
    viewer.show_frame()
    mesh = viewer.shapes["mesh"]
    assert drawn == {"/surface": unlit_glb(mesh, coloured(np.ones(len(mesh.points_world)), 0.0, 1.0))}
    picture = frame_pictures(viewer.run, viewer.view).pictures["confidence"]
    np.testing.assert_array_equal(viewer.frusta[viewer.view].image, picture)


def hide(run: Path, *views: str) -> None:
    """Forget the depth of views."""
    for view in views:
        write_npz(run / "filter" / f"{view}.npz", depth_mm=np.full((64, 80), np.nan, np.float32))


def test_views_without_depth_leave_the_working_distance_to_the_others(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("viser", reason="the extra `viewer` is not installed")
    holes = shutil.copytree(run, tmp_path / "run")
    measured = MeasuredRun.load(holes)
    hide(holes, *("_".join(view) for view in measured.views[1:]))
    opened = Viewer(holes, free_port())
    opened.close()
    assert opened.working_mm == pytest.approx(np.nanmedian(measured.measured(measured.views[0]).depth_mm))
    hide(holes, "_".join(measured.views[0]))
    with pytest.raises(InputError, match="none with known depth in `filter`"):
        Viewer(holes, free_port())


def test_ctrl_c_stops_serving(run: Path) -> None:
    pytest.importorskip("viser", reason="the extra `viewer` is not installed")
    command = [sys.executable, "-m", "export.view", str(run), "--port", "18080"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "Ctrl-C" in line)
        assert line.startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 0
    assert rest.rstrip().endswith("stopped")


def test_without_viser_the_way_to_get_it_is_said(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "viser":
            raise ImportError("No module named 'viser'")
        return plain(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main([str(run)]) == 2
    assert "pip install -e .[viewer]" in capsys.readouterr().err


def test_runs_that_cannot_be_shown_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("viser", reason="the extra `viewer` is not installed")
    assert main([str(tmp_path / "nothing")]) == 2
    assert "is no run" in capsys.readouterr().err
    assert main([str(tmp_path), "--port", "0"]) == 2
    assert "1 to 65535" in capsys.readouterr().err
    run = make_run(tmp_path / "run", WALL, RIG, path(2))
    assert main([str(run)]) == 2
    assert "stage `export` is needed" in capsys.readouterr().err
    stamp(run / "export")
    assert main([str(run)]) == 2
    assert "has no cloud.ply" in capsys.readouterr().err
    write_ply(run / "export" / "cloud.ply", *(np.zeros((1, 3)),) * 2, np.zeros((1, 3), np.uint8), np.ones(1), [])
    for stage in ("render", "filter"):  # their names stay, they were made again
        stamp(run / stage, hash="made again")
    write_json(run / "filter" / "stamp.json", {"hash": "new", "inputs": {"render": "made again"}, "skipped": None})
    MeasuredRun.load(run)
    assert main([str(run)]) == 2
    assert "made from an older `render`" in capsys.readouterr().err


def test_measurements_of_older_poses_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", WALL, RIG, path(2))
    MeasuredRun.load(run)
    stamp(run / "poses", hash="made again")
    with pytest.raises(InputError, match="made from an older `poses`"):
        MeasuredRun.load(run)
