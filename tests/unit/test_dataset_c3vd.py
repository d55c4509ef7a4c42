"""C3VD's layout, made of a plane seen through its fisheye lens as its renderer draws it, a sixth of its size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from evaluation.mesh_truth import read_true_poses
from evaluation.surfaces import read_mesh
from tests.clinical_world import NORMAL, OFFSET_MM, PATH, Seen, assert_refused, look, misses
from utils.datasets import c3vd
from utils.datasets.conversion import Order, convert
from utils.datasets.fisheye import Omnidirectional, PinholeView
from utils.datasets.options import ReaderOptions
from utils.datasets.samples import decode
from utils.datasets.source import Source
from utils.errors import InputError
from utils.geometry import directions, invert_rigid, pixel_grid
from utils.images import write_rgb
from utils.types import FloatArray

SIZE = (225, 180)
SMALL = 1 / 6
# The published CF-HQ190L lens; stretch exaggerated tenfold, so that its transpose would show.
LENS: dict[str, float] = {
    "width": SIZE[0], "height": SIZE[1], "cx": 678.544839263292 * SMALL, "cy": 542.975887548343 * SMALL,
    "a0": 769.243600037458 * SMALL, "a1": 0.0, "a2": -0.000812770624150226 / SMALL,
    "a3": 6.25674244578925e-07 / SMALL**2, "a4": -1.19662182144280e-09 / SMALL**3,
    "c": 0.999986882249990, "d": 0.0288273829525059, "e": -0.0296316513429569,
}  # fmt: skip


def omnidirectional() -> Omnidirectional:
    numbers = {key: LENS[key] for key in ("cx", "cy", "a0", "a2", "a3", "a4", "c", "d", "e")}
    return Omnidirectional(SIZE[0], SIZE[1], **numbers)


def rendered_rays(lens: dict[str, float] = LENS) -> FloatArray:
    """Return rays (h, w, 3) as the dataset's renderer casts them, with the 2x2 stretch inverted by hand."""
    pixels = pixel_grid(*SIZE)
    u, v = pixels[..., 0] - lens["cx"], pixels[..., 1] - lens["cy"]
    c, d, e = lens["c"], lens["d"], lens["e"]  # u = c x + e y, v = d x + y
    x = (u - e * v) / (c - d * e)
    y = (c * v - d * u) / (c - d * e)
    r = np.hypot(x, y)
    z = lens["a0"] + lens["a2"] * r**2 + lens["a3"] * r**3 + lens["a4"] * r**4
    rays = np.stack([x, y, z], axis=-1)
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def stored_depth(view: Seen) -> Any:
    """Depth as the renderer stores it: 0 to 100 mm over 16 bits, clamped."""
    return (65535 * np.nan_to_num(view.depth_mm / 100).clip(0, 1)).astype(np.uint16)


def pose_lines(places: list[FloatArray]) -> str:
    """As the renderer writes: column by column, commas between."""
    return "".join(",".join(f"{value:.9g}" for value in place.T.ravel()) + "\n" for place in places)


def write_lens(path: Path) -> None:
    lines = ["; omnidirectional camera intrinsics", *(f"{key} = {value!r} \t\t" for key, value in LENS.items())]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """cecum_t1_a as released, its lens in the dataset's folder above."""
    home = tmp_path / "C3VD" / "cecum_t1_a"
    home.mkdir(parents=True)
    write_lens(home.parent / "camera_intrinsics.txt")
    for index, place in enumerate(PATH):
        view = look(rendered_rays(), place)
        write_rgb(home / f"{index}_color.png", view.image)
        tifffile.imwrite(home / f"{index:04d}_depth.tiff", stored_depth(view))
    (home / "pose.txt").write_text(pose_lines(PATH))
    return home


def said(source: Source, verdict: str) -> str:
    return "\n".join(f"{one.subject}: {one.words} {one.do}" for one in source.findings if one.verdict == verdict)


def test_a_sequence_is_recognised(folder: Path) -> None:
    assert c3vd.looks_like(folder)
    assert not c3vd.looks_like(folder.parent)


@pytest.mark.parametrize("index", range(4))
def test_the_pinhole_view_shows_each_pixel_the_right_place(folder: Path, index: int) -> None:
    source = c3vd.read(folder, ReaderOptions())
    assert not said(source, "refuse")
    assert list(source.lenses) == ["left"]
    assert not source.lenses["left"].distortion
    found = misses(source, index, "left")
    beside_the_clamp = 0.7  # frame 3 reaches beyond 100 mm: there the nearest pixel is taken
    assert found.plane_mm < (beside_the_clamp if index == 3 else 0.05)
    assert found.colour <= 2.0
    assert found.colour_99 <= 6.0
    assert found.known > 0.95


def test_poses_depth_and_options_are_the_releases(folder: Path) -> None:
    source = c3vd.read(folder, ReaderOptions(start=1, every=2))
    assert [frame.name for frame in source.frames] == ["0001", "0003"]
    assert source.world_from_left is not None
    np.testing.assert_allclose(source.world_from_left, [PATH[1], PATH[3]], atol=1e-6)
    assert source.metric
    assert source.moving_camera
    assert "camera to world, mm, written column by column" in said(source, "ok")


def test_the_lens_inverts_its_own_rays() -> None:
    lens = omnidirectional()
    rays = rendered_rays()
    np.testing.assert_allclose(lens.rays(pixel_grid(*SIZE)), rays, atol=1e-12)
    wide = rays[..., 2] > 0.3  # up to 72 degrees from the axis
    assert 0.8 < wide.mean() < 1
    pixels = lens.pixels(rays[wide][:, :2] / rays[wide][:, 2:])
    np.testing.assert_allclose(pixels, pixel_grid(*SIZE)[wide], atol=1e-6)
    assert lens.half_angle_degrees(0) == 0


def test_depth_at_the_clamp_and_under_the_mask_is_unknown(folder: Path) -> None:
    path = folder / "0000_depth.tiff"
    stored = tifffile.imread(path)
    stored[60:80, 60:80] = 65535
    stored[100:120, 60:80] = 0
    tifffile.imwrite(path, stored)
    depth_mm = c3vd.read(folder, ReaderOptions()).frames[0].depth_mm["left"]()
    view = PinholeView(omnidirectional())
    for row, column in ((70, 70), (110, 70)):
        ray = rendered_rays()[row, column]
        pinhole = view.matrix @ (ray / ray[2])
        assert np.isnan(depth_mm[round(pinhole[1]), round(pinhole[0])])
    assert np.isfinite(depth_mm[90, 112])


def test_depth_does_not_mix_across_an_edge() -> None:
    steps = np.where(pixel_grid(*SIZE)[..., 0] < 100, 30.0, 60.0).astype(np.float32)
    seen = PinholeView(omnidirectional()).depth(steps)
    assert set(np.unique(seen[np.isfinite(seen)])) == {30.0, 60.0}


def test_the_corner_mask_becomes_tissue(folder: Path) -> None:
    mask = np.full((*SIZE[::-1], 3), 255, np.uint8)
    mask[:, :90] = 0
    write_rgb(folder / "mask.png", mask)
    tissue = c3vd.read(folder, ReaderOptions()).frames[0].tissue["left"]()
    assert tissue[:, 120:].all()
    assert not tissue[:, :70].any()
    turned = c3vd.read(folder, ReaderOptions(mask_polarity="tool")).frames[0].tissue["left"]()
    assert turned[:, :70].all()
    assert not turned[:, 120:].any()


def test_the_second_versions_folders_are_read_too(folder: Path) -> None:
    for index in range(4):
        (folder / "rgb").mkdir(exist_ok=True)
        (folder / "depth").mkdir(exist_ok=True)
        (folder / f"{index}_color.png").rename(folder / "rgb" / f"{index:04d}.png")
        (folder / f"{index:04d}_depth.tiff").rename(folder / "depth" / f"{index:04d}_depth.tiff")
    assert c3vd.looks_like(folder)
    assert misses(c3vd.read(folder, ReaderOptions()), 3, "left").colour <= 2.0


def test_the_coverage_mesh_is_handed_on_as_the_true_surface(folder: Path, tmp_path: Path) -> None:
    # As the renderer writes it: coverage as texture vertices, faces that name them.
    text = "v 0 0 58\nv 9 0 60\nv 0 9 57\nv 9 9 59\nvt 0.0 0.0\nvt 1.0 1.0\nf 1/1 2/1 3/1\nf 2/2 4/2 3/2\n"
    (folder / "coverage_mesh.obj").write_text(text)
    done = convert(Order(folder, tmp_path / "out", "auto", ReaderOptions(stop=3)))
    assert done.record["kind"] == "c3vd"
    mesh = read_mesh(tmp_path / "out" / "truth_mesh.ply")
    assert {tuple(vertex) for vertex in mesh.vertices} == {(0, 0, 58), (9, 0, 60), (0, 9, 57), (9, 9, 59)}
    assert len(mesh.faces) == 2
    assert c3vd.read(folder, ReaderOptions()).reads == (folder.parent / "camera_intrinsics.txt",)
    true = read_true_poses(tmp_path / "out" / "truth_poses.npz")
    np.testing.assert_allclose(true["0002"], PATH[2], atol=1e-6)
    (folder / "coverage_mesh.obj").write_text("v 0 0 0\n")
    with pytest.raises(InputError, match="cannot be read as a mesh"):
        convert(Order(folder, tmp_path / "other", "auto", ReaderOptions()))


def test_images_undistorted_elsewhere_take_a_pinhole(folder: Path) -> None:
    matrix = np.array([[140.0, 0, 110.0], [0, 141.0, 88.0], [0, 0, 1]])
    (folder / "camera_intrinsics.txt").write_text("fx = 140\nfy = 141\ncx = 110\ncy = 88\n")
    for index, place in enumerate(PATH):
        view = look(directions(matrix, pixel_grid(*SIZE)), place)
        write_rgb(folder / f"{index}_color.png", view.image)
        tifffile.imwrite(folder / f"{index:04d}_depth.tiff", stored_depth(view))
    source = c3vd.read(folder, ReaderOptions())
    assert source.frames[0].images["left"] == folder / "0_color.png"
    np.testing.assert_allclose(source.lenses["left"].matrix, matrix)
    assert misses(source, 2, "left").colour <= 1.0


def test_poses_written_row_by_row_are_told_apart(folder: Path) -> None:
    (folder / "pose.txt").write_text("".join(" ".join(map(str, place.ravel())) + "\n" for place in PATH))
    source = c3vd.read(folder, ReaderOptions())
    assert source.world_from_left is not None
    np.testing.assert_allclose(source.world_from_left, PATH, atol=1e-6)
    assert "row by row" in said(source, "warn")


def test_inverted_poses_are_refused(folder: Path) -> None:
    (folder / "pose.txt").write_text(pose_lines([invert_rigid(place) for place in PATH]))
    assert "poses inverted" in said(c3vd.read(folder, ReaderOptions()), "refuse")


def test_the_two_readings_of_the_stretch_are_named(folder: Path) -> None:
    assert "moves the corners by" in said(c3vd.read(folder, ReaderOptions()), "ok")


def test_the_transposed_stretch_would_have_been_noticed(folder: Path) -> None:
    text = (folder.parent / "camera_intrinsics.txt").read_text()
    turned = text.replace(f"d = {LENS['d']!r}", f"d = {LENS['e']!r}").replace(
        f"e = {LENS['e']!r} ", f"e = {LENS['d']!r} "
    )
    (folder.parent / "camera_intrinsics.txt").write_text(turned)
    assert misses(c3vd.read(folder, ReaderOptions()), 0, "left").colour_99 > 12


def test_a_folder_without_depth_still_has_poses(folder: Path) -> None:
    for path in folder.glob("*_depth.tiff"):
        path.unlink()
    source = c3vd.read(folder, ReaderOptions())
    assert not source.frames[0].depth_mm
    assert decode(source.frames[0].images["left"]).shape == (180, 225, 3)
    assert "nothing to compare" in said(source, "warn")


def lens_file(folder: Path, old: str, new: str) -> None:
    path = folder.parent / "camera_intrinsics.txt"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


SPOILED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no calibration": (lambda f: (f.parent / "camera_intrinsics.txt").unlink(), "has no calibration"),
    "half a calibration": (lambda f: lens_file(f, "a3 =", "b3 ="), "no a3"),
    "another calibration": (lambda f: lens_file(f, "width = 225", "width = 1350"), "not of these images"),
    "words": (lambda f: (f.parent / "camera_intrinsics.txt").write_text("hello"), "no calibration of C3VD"),
    "no images": (lambda f: [path.rename(f"{path}.bak") for path in f.glob("*_color.png")], "no sequence of C3VD"),
    "depth missing": (lambda f: (f / "0002_depth.tiff").unlink(), "has no depth map"),
    "no poses": (lambda f: (f / "pose.txt").unlink(), "FileNotFoundError"),
    "too few poses": (lambda f: (f / "pose.txt").write_text(pose_lines(PATH[:2])), "2 lines"),
    "the robot's log": (lambda f: (f / "pose.txt").write_text(",".join(["0.5"] * 17) + "\n"), "log of the robot"),
    "no motion": (lambda f: (f / "pose.txt").write_text(pose_lines([2 * np.eye(4)] * 4)), "0 0 0 1"),
    "scaled rotation": (
        lambda f: (f / "pose.txt").write_text(pose_lines([np.diag([2.0, 2, 2, 1])] * 4)),
        "no rigid motion",
    ),
    "depth cut": (lambda f: (f / "0001_depth.tiff").write_bytes(b"II*\0"), "cannot be read"),
    "8-bit depth": (
        lambda f: [cv2.imwrite(str(f / f"{i:04d}_depth.tiff"), np.ones((180, 225), np.uint8)) for i in range(4)],
        "no depth map of C3VD",
    ),
    "mask of another size": (
        lambda f: write_rgb(f / "mask.png", np.zeros((64, 64, 3), np.uint8)),
        "another size than",
    ),
    "images of two sizes": (
        lambda f: write_rgb(f / "3_color.png", np.zeros((64, 64, 3), np.uint8)),
        "another size than",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_missing_or_damaged_is_refused(folder: Path, name: str) -> None:
    spoil, words = SPOILED[name]
    spoil(folder)
    assert_refused(lambda: c3vd.read(folder, ReaderOptions()), words)


def test_the_plane_of_these_tests_is_in_front() -> None:
    assert look(rendered_rays(), np.eye(4)).depth_mm[90, 112] == pytest.approx(OFFSET_MM / NORMAL[2], rel=0.05)
