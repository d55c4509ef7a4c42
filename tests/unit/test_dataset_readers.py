"""Readers of public layouts: names, polarity, units, poses and calibration of tiny folders written exactly so."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from export.conversion import Order as Export
from export.conversion import convert as export_run
from tests.camera_runs import make_run
from tests.layouts import (
    BASELINE_MM,
    CENTRED,
    FOCAL,
    HEIGHT,
    TOOL,
    WIDTH,
    photographs,
    write_clip,
    write_llff,
    write_model,
)
from tests.synthetic import BALL_ON_WALL, parallel_rig, path, render, write_dataset
from utils.datasets.doctor import refusals
from utils.datasets.options import ReaderOptions
from utils.datasets.registry import KINDS, kind_of, read_source
from utils.datasets.samples import decode
from utils.datasets.source import Finding, Source
from utils.errors import InputError
from utils.geometry import transform
from utils.images import write_rgb
from utils.scene import Scene, load_poses
from utils.types import FloatArray

FERN = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "fern"
PLAIN = ReaderOptions()


def names(source: Source) -> list[str]:
    return [frame.name for frame in source.frames]


def found(source: Source, subject: str) -> Finding:
    return next(finding for finding in source.findings if finding.subject == subject)


def test_endonerf_clip(tmp_path: Path) -> None:
    source = read_source(write_clip(tmp_path), "auto", PLAIN)
    assert (source.kind, source.image_size, source.metric) == ("endonerf", (WIDTH, HEIGHT), True)
    assert names(source) == [f"frame-{number:06d}" for number in range(4)]
    frame = source.frames[2]
    assert {side: Path(str(image)).parent.name for side, image in frame.images.items()} == {
        "left": "images",
        "right": "images_right",
    }
    assert not frame.tissue["left"]()[TOOL].any()  # nonzero is tool
    assert frame.tissue["left"]()[:60].all()
    depth = frame.depth_mm["left"]()
    assert depth.dtype == np.float32
    assert 60 < np.nanmedian(depth) < 100
    assert np.nanmax(np.abs(depth - depth.round())) == 0  # whole mm
    assert np.allclose(source.lenses["left"].matrix, np.array([[FOCAL, 0, 79.5], [0, FOCAL, 63.5], [0, 0, 1]]))
    assert source.right_from_left is not None
    assert np.allclose(source.right_from_left[:3, 3], [-BASELINE_MM, 0, 0])
    assert source.moving_camera is False
    assert source.world_from_left is not None
    assert np.array_equal(source.world_from_left, np.tile(np.eye(4), (4, 1, 1)))
    assert found(source, "depth").verdict == "warn"
    assert "no independent truth" in found(source, "depth").words
    assert "EndoSurf" in found(source, "principal point").words
    assert (source.train, source.test) == (None, None)


def test_endonerf_options(tmp_path: Path) -> None:
    options = ReaderOptions(every=2, start=1, mask_polarity="tissue", depth_scale=0.5, baseline_mm=8.0)
    source = read_source(write_clip(tmp_path, masks="gt_masks"), "endonerf", options)
    assert names(source) == ["frame-000001", "frame-000003"]
    assert source.frames[0].tissue["left"]()[TOOL].all()
    assert np.nanmedian(source.frames[0].depth_mm["left"]()) < 50
    assert source.right_from_left is not None
    assert source.right_from_left[0, 3] == -8.0
    assert "gt_masks" in found(source, "masks").words


def test_endonerf_zero_depth_is_unknown_and_files_go_by_number(tmp_path: Path) -> None:
    folder = write_clip(tmp_path, right=False)
    depth = folder / "depth" / "frame-000002.depth.png"
    units = np.array(cv2.imread(str(depth), cv2.IMREAD_UNCHANGED))
    units[:10] = 0
    cv2.imwrite(str(depth), units)
    (folder / "depth" / "frame-000001.depth.png").unlink()
    (folder / "masks" / "frame-000003.mask.png").rename(folder / "masks" / "3.png")  # a number all the same
    for number in range(3):
        (folder / "masks" / f"frame-{number:06d}.mask.png").rename(folder / "masks" / f"{number}.png")
    source = read_source(folder, "endonerf", PLAIN)
    assert [bool(frame.depth_mm) for frame in source.frames] == [True, False, True, True]
    assert np.isnan(source.frames[2].depth_mm["left"]()[:10]).all()
    assert all(frame.tissue for frame in source.frames)
    assert "right" not in source.lenses
    assert source.right_from_left is None


def test_endonerf_poses_that_differ_are_left_out(tmp_path: Path) -> None:
    rows = np.load(write_clip(tmp_path) / "poses_bounds.npy")
    rows[2, 3] = 5.0
    np.save(tmp_path / "poses_bounds.npy", rows)
    source = read_source(tmp_path, "endonerf", PLAIN)
    assert source.world_from_left is None
    assert source.moving_camera is None
    assert found(source, "poses").verdict == "warn"


@pytest.mark.parametrize("what", ["a row too many", "masks that are missing", "no images"])
def test_endonerf_files_that_do_not_fit(tmp_path: Path, what: str) -> None:
    folder = write_clip(tmp_path)
    if what == "a row too many":
        rows = np.load(folder / "poses_bounds.npy")
        np.save(folder / "poses_bounds.npy", np.concatenate([rows, rows[:1]]))
    elif what == "no images":
        for image in (folder / "images").iterdir():
            image.unlink()
    else:
        for index, mask in enumerate(sorted((folder / "masks").iterdir())):
            mask.rename(mask.with_name(f"tool{'abcd'[index]}.png"))
        (folder / "masks" / "toola.png").unlink()
    with pytest.raises(InputError):
        read_source(folder, "endonerf", PLAIN)


@pytest.mark.parametrize("by", ["letter", "number"])
def test_llff_rows_find_their_images(tmp_path: Path, by: str) -> None:
    files = [f"{number}.png" for number in range(1, 12)]  # letters: 1, 10, 11, 2, ...
    poses = write_llff(tmp_path, files, scale=4)
    if by == "number":
        rows = np.load(tmp_path / "poses_bounds.npy")
        letters = sorted(range(11), key=lambda index: files[index])
        np.save(tmp_path / "poses_bounds.npy", rows[np.argsort(letters)])
    source = read_source(tmp_path, "auto", PLAIN)
    assert source.kind == "llff"
    assert f"by {by}" in found(source, "order of rows").words
    assert source.world_from_left is not None
    assert np.allclose(source.world_from_left, poses, atol=1e-12)
    assert np.allclose(source.lenses["left"].matrix, CENTRED.matrix)  # written for images four times as large
    assert not source.metric
    assert source.moving_camera is True


def test_llff_of_another_shape_is_refused(tmp_path: Path) -> None:
    write_llff(tmp_path, ["a.png", "b.png", "c.png"])
    rows = np.load(tmp_path / "poses_bounds.npy")
    rows[:, 9] *= 2
    np.save(tmp_path / "poses_bounds.npy", rows)
    assert refusals(read_source(tmp_path, "llff", PLAIN).findings)[0].subject == "image size"
    np.save(tmp_path / "poses_bounds.npy", rows[:2])
    with pytest.raises(InputError, match="does not belong"):
        read_source(tmp_path, "llff", PLAIN)


@pytest.mark.skipif(not FERN.is_dir(), reason="the photographs of the fern are not here")
def test_fern_looks_at_what_its_bounds_say() -> None:
    source = read_source(FERN, "llff", PLAIN)
    poses, rows = source.world_from_left, np.load(FERN / "poses_bounds.npy")
    assert poses is not None
    assert len(poses) == 20
    assert np.allclose(np.linalg.det(poses[:, :3, :3]), 1)
    assert source.test == ("1", "9", "17")
    # What one camera sees in the middle, at its own bounds, lies in front of every other and near its image.
    for depth in rows[0, 15:]:
        point = transform(poses[0], np.array([0.0, 0.0, depth]))
        for pose in poses:
            seen = np.linalg.inv(pose)[:3] @ [*point, 1]
            assert seen[2] > 0
            pixel = source.lenses["left"].matrix @ (seen / seen[2])
            assert -250 < pixel[0] < 750
            assert -190 < pixel[1] < 570


def sequence(folder: Path, count: int = 4, ending: str = ".png") -> FloatArray:
    """Write images/0.png ... of a still scene; return the poses."""
    for number, view in enumerate(photographs(count)):
        write_rgb(folder / "images" / f"{number}{ending}", view.rgb)
    return path(count)


@pytest.mark.parametrize(
    ("model", "parameters", "expected"),
    [
        ("SIMPLE_PINHOLE", "150 80 64", ()),
        ("PINHOLE", "150 150 80 64", ()),
        ("SIMPLE_RADIAL", "150 80 64 0.02", (0.02, 0, 0, 0)),
        ("RADIAL", "150 80 64 0.02 -0.01", (0.02, -0.01, 0, 0)),
        ("OPENCV", "150 150 80 64 0.02 -0.01 0.001 0.002", (0.02, -0.01, 0.001, 0.002)),
        ("FULL_OPENCV", "150 150 80 64 1 2 3 4 5 6 7 8", (1, 2, 3, 4, 5, 6, 7, 8)),
    ],
)
def test_colmap_cameras(tmp_path: Path, model: str, parameters: str, expected: tuple[float, ...]) -> None:
    poses = sequence(tmp_path)
    images = [(f"{number}.png", 1, pose) for number, pose in enumerate(poses) if number != 2]
    write_model(tmp_path / "sparse" / "0", [f"1 {model} {WIDTH} {HEIGHT} {parameters}"], images)
    source = read_source(tmp_path, "auto", PLAIN)
    assert source.kind == "colmap"
    assert np.allclose(source.lenses["left"].matrix, CENTRED.matrix)  # cx of COLMAP is ours + 1/2
    assert source.lenses["left"].distortion == expected
    assert source.world_from_left is not None
    assert np.isnan(source.world_from_left[2]).all()  # not in the model
    assert np.allclose(source.world_from_left[[0, 1, 3]], poses[[0, 1, 3]])
    assert not source.metric
    assert found(source, "poses").verdict == "warn"
    assert not refusals(source.findings)


def test_colmap_lenses_that_are_none_of_ours(tmp_path: Path) -> None:
    poses = sequence(tmp_path)
    images = [(f"{number}.png", 1 + number % 2, pose) for number, pose in enumerate(poses)]
    fisheye = f"OPENCV_FISHEYE {WIDTH} {HEIGHT} 150 150 80 64 0.1 0 0 0"
    write_model(tmp_path / "sparse", [f"1 {fisheye}", f"2 {fisheye}"], images)
    assert "OPENCV_FISHEYE" in refusals(read_source(tmp_path, "colmap", PLAIN).findings)[0].words
    cameras = [f"{number} PINHOLE {WIDTH} {HEIGHT} {f} {f} 80 64" for number, f in ((1, 150), (2, 170))]
    write_model(tmp_path / "sparse", cameras, images)
    assert "2 cameras" in refusals(read_source(tmp_path, "colmap", PLAIN).findings)[0].words


def rig_folder(folder: Path, drift_mm: float = 0.0) -> FloatArray:
    """Write two eyes in left and right with a model; the right one may move against the left."""
    rig = parallel_rig(WIDTH, HEIGHT)
    write_dataset(folder / "made", rig, frames=3)
    for eye, side in (("l", "left"), ("r", "right")):
        (folder / "images").mkdir(exist_ok=True)
        (folder / "made" / eye / "images").rename(folder / "images" / side)
    poses, images = path(3), []
    for number, pose in enumerate(poses, 1):
        moved = pose @ rig.left_from("right")
        moved[:3, 3] += drift_mm * number
        images += [(f"left/{number}.png", 1, pose), (f"right/{number}.png", 2, moved)]
    cameras = [
        f"{number} PINHOLE {WIDTH} {HEIGHT} {c.fx} {c.fy} {c.cx + 0.5} {c.cy + 0.5}"
        for number, c in ((1, rig.camera("left")), (2, rig.camera("right")))
    ]
    write_model(folder / "sparse" / "0", cameras, images)
    return poses


def test_colmap_of_two_eyes(tmp_path: Path) -> None:
    poses = rig_folder(tmp_path)
    source = read_source(tmp_path, "auto", PLAIN)
    assert refusals(source.findings)[0].subject == "scale"  # a baseline in an unknown unit is no calibration
    source = read_source(tmp_path, "colmap", ReaderOptions(baseline_mm=10.0))  # of 5 in the model
    assert not refusals(source.findings)
    assert source.metric
    assert source.right_from_left is not None
    assert np.allclose(source.right_from_left[:3, 3], [-10, 0, 0])
    assert source.world_from_left is not None
    assert np.allclose(source.world_from_left[:, :3, 3], 2 * poses[:, :3, 3])


def test_colmap_eyes_that_move_against_each_other(tmp_path: Path) -> None:
    rig_folder(tmp_path, drift_mm=0.5)
    source = read_source(tmp_path, "colmap", ReaderOptions(baseline_mm=5.0))
    assert [finding.subject for finding in refusals(source.findings)] == ["rig"]


def test_colmap_folders_of_several_cameras(tmp_path: Path) -> None:
    poses = sequence(tmp_path)
    for name in ("a", "b"):
        write_rgb(tmp_path / "images" / name / "1.png", np.zeros((4, 4, 3), np.uint8))
    write_model(tmp_path / "sparse", [f"1 PINHOLE {WIDTH} {HEIGHT} 150 150 80 64"], [("0.png", 1, poses[0])])
    with pytest.raises(InputError, match="several cameras"):
        read_source(tmp_path, "colmap", PLAIN)


@pytest.mark.parametrize("to", ["colmap", "colmap-text"])
def test_our_own_export_comes_back(tmp_path: Path, to: str) -> None:
    run = make_run(tmp_path / "logs" / "tiny")
    export_run(Export(run, tmp_path / "out", write_as=to))
    source = read_source(tmp_path / "out", "auto", PLAIN)
    poses = load_poses(run / "poses")
    assert names(source) == list(poses.names)
    assert source.world_from_left is not None
    assert np.abs(source.world_from_left - poses.world_from_left).max() < 1e-6
    assert source.metric
    assert source.right_from_left is not None
    rig = Scene.load(run / "scene").rig
    assert rig.right_from_left is not None
    assert np.abs(source.right_from_left - rig.right_from_left).max() < 1e-6
    assert source.test == Scene.load(run / "scene").test
    (tmp_path / "out" / "specula.json").write_text(json.dumps({"unit": "mm"}))
    assert not read_source(tmp_path / "out", "colmap", PLAIN).metric


def test_our_own_layout(tmp_path: Path) -> None:
    rig = write_dataset(tmp_path, masks=True, depth=True)
    (tmp_path / "test.txt").write_text("2.png\n")
    source = read_source(tmp_path, "auto", ReaderOptions(depth_scale=0.01))
    assert source.kind == "specula"
    assert source.test == ("2",)
    assert source.train is None
    assert rig.right is not None
    assert np.allclose(source.lenses["right"].matrix, rig.right.matrix)
    view = render(BALL_ON_WALL, rig.left, path(3)[0])
    assert np.nanmax(np.abs(source.frames[0].depth_mm["left"]() - view.depth_mm)) < 0.01
    assert np.array_equal(decode(source.frames[0].images["left"]), view.rgb)
    assert source.frames[0].tissue["right"]().mean() < 1
    assert not read_source(tmp_path, "specula", PLAIN).frames[0].depth_mm  # a PNG without a unit
    np.savez(tmp_path / "truth_poses.npz", names=np.array(["0", "1", "2"]), world_from_left=np.array(path(3)))
    assert read_source(tmp_path, "specula", PLAIN).world_from_left is None  # truth is no input


def test_kinds_that_cannot_be_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no known dataset") as caught:
        kind_of(tmp_path)
    assert all(name in caught.value.expected for name in KINDS)
    with pytest.raises(InputError, match="no kind is called"):
        kind_of(tmp_path, "scred")
    with pytest.raises(InputError, match="no folder"):
        kind_of(tmp_path / "nowhere")
    write_clip(tmp_path)
    (tmp_path / "l" / "images").mkdir(parents=True)
    with pytest.raises(InputError, match="endonerf and specula"):
        kind_of(tmp_path)


@pytest.mark.parametrize("options", [{"every": 0}, {"start": 9}, {"start": -1}, {"stop": 0}])
def test_choices_that_leave_no_frame(options: dict[str, int]) -> None:
    with pytest.raises(InputError):
        ReaderOptions(**options).chosen(5)  # type: ignore[arg-type]
