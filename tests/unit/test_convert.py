"""The command `export.convert`: images and cut-outs, units, what is lost, what is refused, a real LLFF file."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from export.camera_set import CameraSet
from export.conversion import Order, convert
from export.convert import main
from export.formats import read_cameras
from export.image_files import write_rgba
from tests.camera_runs import CENTRED, make_run, stamp
from utils.artifacts import save_maps
from utils.errors import InputError
from utils.geometry import FloatArray, invert_rigid, project, transform, triangulate
from utils.images import read_rgb
from utils.sift import detect, mutual_matches

FERN = Path(__file__).parents[2].parent / "shared" / "data" / "fern"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "logs" / "tiny")


def refused(order: Order, *words: str) -> None:
    """Ask that a conversion is refused with these words, and leaves nothing behind."""
    before = sorted(order.target.parent.iterdir()) if order.target.parent.exists() else []
    with pytest.raises(InputError) as refusal:
        convert(order)
    for word in words:
        assert word in str(refusal.value)
    assert (sorted(order.target.parent.iterdir()) if order.target.parent.exists() else []) == before


def rgba(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA), np.uint8)


# Images.


def test_tissue_becomes_alpha_and_the_background_is_removed(run: Path, tmp_path: Path) -> None:
    convert(Order(run, tmp_path / "out", write_as="nerf-synthetic", images="rgba"))
    found = rgba(tmp_path / "out" / "images" / "right_10.png")
    image = read_rgb(run / "data" / "r" / "images" / "10.png")
    np.testing.assert_array_equal(found[:, 5:, :3], image[:, 5:])
    assert (found[:, 5:, 3] == 255).all()
    assert not found[:, :5].any()


def test_unknown_depth_grows_by_nearest_neighbour(tmp_path: Path) -> None:
    inside = np.ones((16, 20), bool)
    inside[4, 7] = inside[15, 0] = False
    image = np.full((32, 40, 3), 200, np.uint8)
    write_rgba(tmp_path / "a.png", image, inside)
    alpha = rgba(tmp_path / "a.png")[..., 3]
    np.testing.assert_array_equal(alpha, np.where(inside, 255, 0).repeat(2, axis=0).repeat(2, axis=1))
    assert (alpha == 0).sum() == 8


def test_alpha_of_depth_is_where_a_smaller_map_knows_it(run: Path, tmp_path: Path) -> None:
    depth_mm = np.full((16, 20), 60.0, np.float32)
    depth_mm[3:6, 8] = np.nan
    save_maps(run / "filter", "left", "2", depth_mm=depth_mm)
    convert(Order(run, tmp_path / "out", write_as="neus", images="rgba", alpha="depth"))
    alpha = rgba(tmp_path / "out" / "image" / "000001.png")[..., 3]
    np.testing.assert_array_equal(np.argwhere(alpha == 0), [[row, k] for row in range(6, 12) for k in (16, 17)])
    mask = cv2.imread(str(tmp_path / "out" / "mask" / "000001.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask, alpha)


def test_images_are_named_where_they_are_and_found_again(run: Path, tmp_path: Path) -> None:
    convert(Order(run, tmp_path / "a" / "nerfstudio"))
    assert not (tmp_path / "a" / "nerfstudio" / "images").exists()
    frame = json.loads((tmp_path / "a" / "nerfstudio" / "transforms.json").read_text())["frames"][0]
    assert frame["file_path"] == "../../logs/tiny/data/l/images/1.png"
    images = read_cameras(tmp_path / "a" / "nerfstudio").images
    assert [image.resolve() for image in images if image] == [i.resolve() for i in read_cameras(run).images if i]


def test_links_are_relative_and_lead_to_the_images(run: Path, tmp_path: Path) -> None:
    convert(Order(run, tmp_path / "a" / "colmap", images="link"))
    link = tmp_path / "a" / "colmap" / "images" / "right" / "2.png"
    assert not os.readlink(link).startswith("/")
    assert link.resolve() == (run / "data" / "r" / "images" / "2.png").resolve()


def test_numbered_images_sort_as_the_rows_of_llff_in_every_order(run: Path, tmp_path: Path) -> None:
    convert(Order(run, tmp_path / "llff"))
    files = sorted(path.name for path in (tmp_path / "llff" / "images").iterdir())
    assert files[:3] == ["0000_left_1.png", "0001_left_2.png", "0002_left_10.png"]
    image = read_rgb(tmp_path / "llff" / "images" / files[2])
    np.testing.assert_array_equal(image, read_rgb(run / "data" / "l" / "images" / "10.png"))


def test_images_of_another_file_go_on(run: Path, tmp_path: Path) -> None:
    convert(Order(run, tmp_path / "nerfstudio"))
    convert(Order(tmp_path / "nerfstudio", tmp_path / "colmap"))
    cameras = read_cameras(tmp_path / "colmap")
    assert cameras.names == read_cameras(run).names
    assert all(image and image.is_file() for image in cameras.images)


def test_a_file_that_names_images_above_it_writes_none_above_the_target(run: Path, tmp_path: Path) -> None:
    convert(Order(run, tmp_path / "a" / "nerfstudio"))
    record = json.loads((tmp_path / "a" / "nerfstudio" / "transforms.json").read_text())
    del record["specula"]
    (tmp_path / "a" / "nerfstudio" / "transforms.json").write_text(json.dumps(record))
    convert(Order(tmp_path / "a" / "nerfstudio", tmp_path / "b" / "colmap"))
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["colmap"]
    assert (tmp_path / "b" / "colmap" / "images" / "logs" / "tiny" / "data" / "l" / "images" / "1.png").is_file()


# What is chosen, lengths, and what is lost.


def test_one_eye_alone(run: Path, tmp_path: Path) -> None:
    convert(Order(run, tmp_path / "colmap", sides="right"))
    assert read_cameras(tmp_path / "colmap").names == ("right/1.png", "right/2.png", "right/10.png")


def test_a_frame_without_a_pose_is_left_out_by_name_and_the_others_keep_theirs(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", lost="2")
    said = convert(Order(run, tmp_path / "out.tum", sides="left"))
    assert "note: left out, for they have no pose: left/2.png" in said
    stamps = [line.split()[0] for line in (tmp_path / "out.tum").read_text().splitlines()[1:]]
    assert stamps == ["1", "10"]
    assert read_cameras(tmp_path / "out.tum").names == ("left/1.png", "left/10.png")


@pytest.mark.parametrize(
    ("frames", "stamps"),
    [(("1", "2", "3"), ["1", "2", "3"]), (("007", "010"), ["007", "010"]), (("a", "b", "c"), ["0", "1", "2"])],
)
def test_a_trajectory_without_its_record_never_shifts_frames(
    tmp_path: Path, frames: tuple[str, ...], stamps: list[str]
) -> None:
    run = make_run(tmp_path / "run", frames=frames)
    convert(Order(run, tmp_path / "out.tum", sides="left"))
    (tmp_path / "out.tum.specula.json").unlink()
    back = read_cameras(tmp_path / "out.tum")
    assert list(back.names) == stamps
    assert back.notes[0].startswith("out.tum names no images: its timestamps are the names")
    true = read_cameras(run)
    for name, pose in zip(back.names, back.world_from_camera, strict=True):
        place = frames.index(name) if name in frames else int(name)
        np.testing.assert_allclose(pose, true.world_from_camera[place], atol=1e-12)


def test_names_that_do_not_grow_are_no_timestamps(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", frames=("2", "1"))
    convert(Order(run, tmp_path / "out.tum", sides="left"))
    lines = (tmp_path / "out.tum").read_text().splitlines()
    assert "places of frames, counted from 0" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["0", "1"]


def test_refined_poses_are_taken_where_training_wrote_some(run: Path) -> None:
    before = read_cameras(run).world_from_camera
    with np.load(run / "poses" / "poses.npz") as file:
        arrays = {key: file[key] for key in file.files}
    arrays["world_from_left"][0, 0, 3] += 0.5
    stamp(run, "nerf")
    np.savez(run / "nerf" / "poses.npz", **arrays)
    moved = read_cameras(run).world_from_camera - before
    assert np.abs(moved).sum() == moved[0, 0, 3] == pytest.approx(0.5)
    stamp(run, "poses", hash="made again")
    cameras = read_cameras(run)
    np.testing.assert_array_equal(cameras.world_from_camera, before)
    assert "`nerf` refined others" in cameras.notes[0]


def test_poses_of_an_older_scene_are_refused(run: Path, tmp_path: Path) -> None:
    stamp(run, "scene", hash="made again")
    refused(Order(run, tmp_path / "colmap"), "made from an older `scene`", "--from poses")


def test_a_stereo_pair_without_poses_is_its_rig(run: Path, tmp_path: Path) -> None:
    pair = make_run(tmp_path / "pair", frames=("1",))
    (pair / "poses" / "stamp.json").write_text(json.dumps({"skipped": "one pair", "hash": "poses", "inputs": {}}))
    (pair / "poses" / "poses.npz").unlink()
    cameras, rig = read_cameras(pair), read_cameras(run)
    left_from_right = invert_rigid(rig.world_from_camera[0]) @ rig.world_from_camera[3]
    np.testing.assert_allclose(cameras.world_from_camera, [np.eye(4), left_from_right], atol=1e-12)
    assert cameras.unit == "mm"


@pytest.mark.parametrize(("given", "factor"), [({"unit": "m"}, 1e-3), ({"scale": 0.25}, 0.25), ({}, 1.0)])
def test_lengths_are_scaled_and_restored(
    run: Path, tmp_path: Path, given: dict[str, float], factor: float
) -> None:
    convert(Order(run, tmp_path / "llff", **given))  # type: ignore[arg-type]
    rows = np.load(tmp_path / "llff" / "poses_bounds.npy")
    assert rows[1, 3] == pytest.approx(1.5 * factor, rel=1e-12)
    assert 49 * factor < rows[1, 15] < rows[1, 16] < 71 * factor
    assert read_cameras(tmp_path / "llff").world_from_camera[1, 0, 3] == pytest.approx(1.5, rel=1e-12)


def test_metres_of_a_file_that_does_not_say_so_become_mm(tmp_path: Path) -> None:
    (tmp_path / "path.txt").write_text("7.5 0.25 0 0 0 0 0 1\n8.5 0.5 0 0 0 0 0 1\n")
    convert(Order(tmp_path / "path.txt", tmp_path / "poses.npz", from_unit="m"))
    cameras = read_cameras(tmp_path / "poses.npz")
    assert (cameras.unit, cameras.names) == ("mm", ("7.5", "8.5"))
    np.testing.assert_array_equal(cameras.world_from_camera[:, 0, 3], [250, 500])


def test_bounds_go_with_poses_that_have_no_calibration(tmp_path: Path) -> None:
    (tmp_path / "path.txt").write_text("7 0.25 0 0 0 0 0 1\n")
    convert(Order(tmp_path / "path.txt", tmp_path / "poses.npz", bounds=(1.0, 2.0)))
    np.testing.assert_array_equal(read_cameras(tmp_path / "poses.npz").bounds, [[1.0, 2.0]])


def test_the_way_to_an_image_holds_through_a_linked_folder(run: Path, tmp_path: Path) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "near").symlink_to(tmp_path / "far" / "away")
    convert(Order(run, tmp_path / "near" / "nerfstudio"))
    frame = json.loads((tmp_path / "near" / "nerfstudio" / "transforms.json").read_text())["frames"][0]
    assert os.path.exists(os.path.join(tmp_path / "near" / "nerfstudio", frame["file_path"]))


def test_what_is_lost_is_said_with_its_size_and_refused_when_strict(run: Path, tmp_path: Path) -> None:
    said = convert(Order(run, tmp_path / "llff"))
    assert "lost: one focal length: others take fx for fy, which differs by up to 5.6 %" in said
    assert "lost: no principal point: others take the image's centre, up to 2.38 px away" in said
    refused(Order(run, tmp_path / "b" / "llff", strict=True), "--strict", "principal point")
    refused(Order(run, tmp_path / "b" / "path.tum", strict=True), "--strict", "the right eye is left out")


def test_what_fits_is_lost_by_no_format(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", left=CENTRED, right=None)
    for name in ("llff", "nerf-synthetic", "nerfstudio", "colmap", "neus"):
        said = convert(Order(run, tmp_path / name, strict=True))
        assert not [line for line in said if line.startswith("lost")]


def test_a_sphere_or_cube_that_no_depth_gives_is_asked_for(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", depth=False)
    shutil.rmtree(run / "export")
    for name, word in (("neus", "scale_mat"), ("instant-ngp", "`scale`")):
        said = convert(Order(run, tmp_path / name))
        assert [line for line in said if line.startswith("note: no depth") and word in line]
    assert "scale" not in json.loads((tmp_path / "instant-ngp" / "transforms.json").read_text())


def test_points_are_counted(run: Path, tmp_path: Path) -> None:
    assert "6 cameras (3 left, 3 right), 30 points" in convert(Order(run, tmp_path / "colmap"))[0]


# Refusals: one message, nothing written.


def test_a_run_without_poses_is_refused(run: Path, tmp_path: Path) -> None:
    (run / "poses").rename(run / "poses.partial")
    refused(Order(run, tmp_path / "llff"), str(run), "not finished", "poses.partial")


def test_arbitrary_units_are_never_metres(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", metric=False)
    refused(Order(run, tmp_path / "nerfstudio", unit="m"), "--unit m", "arbitrary units, not mm")
    refused(Order(run, tmp_path / "nerfstudio", from_unit="m"), "--from_unit m", "arbitrary units, not mm")
    convert(Order(run, tmp_path / "poses.npz"))
    with np.load(tmp_path / "poses.npz") as file:
        assert not bool(file["metric"])


def test_llff_without_depth_asks_for_bounds(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", depth=False)
    refused(Order(run, tmp_path / "llff"), "--bounds")
    refused(Order(run, tmp_path / "llff", bounds=(60.0, 50.0)), "--bounds", "0 < NEAR < FAR")
    convert(Order(run, tmp_path / "llff", bounds=(50.0, 60.0), unit="m"))
    np.testing.assert_allclose(np.load(tmp_path / "llff" / "poses_bounds.npy")[:, 15:], [[0.05, 0.06]] * 6)


def test_poses_without_calibration_are_refused_where_it_is_needed(run: Path, tmp_path: Path) -> None:
    refused(Order(run / "poses" / "poses.npz", tmp_path / "colmap"), "calibration", "poses.npz", "left/1")


def test_impossible_orders_are_refused(run: Path, tmp_path: Path) -> None:
    refused(Order(run, tmp_path / "x" / "transforms.json"), "which format", "--to")
    refused(Order(run, tmp_path / "x"), "which format", "--to")
    refused(Order(run, tmp_path / "x" / "other.json", write_as="llff"), "other.json", "folder")
    refused(Order(run, tmp_path / "colmap", images="reference"), "--images reference")
    refused(Order(run, tmp_path / "x.npz", images="copy"), "--images copy", "none")
    refused(Order(run, tmp_path / "x.npz", unit="m"), "in mm")
    refused(Order(run, tmp_path / "colmap", unit="m", scale=2.0), "one of them")
    refused(Order(run, tmp_path / "colmap", scale=0.0), "--scale")
    refused(Order(run, run, write_as="colmap"), "what is to be converted")
    refused(Order(run, run.parent, write_as="colmap"), "what is to be converted")


def test_cut_outs_need_a_run(run: Path, tmp_path: Path) -> None:
    convert(Order(run, tmp_path / "nerfstudio"))
    refused(Order(tmp_path / "nerfstudio", tmp_path / "colmap", images="rgba"), "--images rgba", "run")


def test_a_missing_image_is_refused_and_leaves_nothing(run: Path, tmp_path: Path) -> None:
    (run / "data" / "r" / "images" / "2.png").unlink()
    (tmp_path / "x").mkdir()
    refused(Order(run, tmp_path / "x" / "nerf-synthetic", images="rgba"), "2.png")


def test_a_cloud_that_ends_too_early_is_refused(run: Path, tmp_path: Path) -> None:
    cloud = run / "export" / "cloud.ply"
    cloud.write_bytes(cloud.read_bytes()[:-5])
    refused(Order(run, tmp_path / "colmap"), "cloud.ply", "cannot be read")


def test_only_what_a_conversion_wrote_is_replaced(run: Path, tmp_path: Path) -> None:
    (tmp_path / "nerfstudio").mkdir()
    (tmp_path / "nerfstudio" / "thesis.tex").write_text("years of work")
    refused(Order(run, tmp_path / "nerfstudio", overwrite=True), "exists", "choose another place")
    shutil.rmtree(tmp_path / "nerfstudio")
    convert(Order(run, tmp_path / "nerfstudio", images="copy"))
    refused(Order(run, tmp_path / "nerfstudio"), "exists", "--overwrite")
    convert(Order(run, tmp_path / "nerfstudio", overwrite=True))
    assert [path.name for path in (tmp_path / "nerfstudio").iterdir()] == ["transforms.json"]
    (tmp_path / "nerfstudio" / "outputs").mkdir()
    refused(Order(run, tmp_path / "nerfstudio", overwrite=True), "exists", "choose another place")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "nerfstudio"]


def test_an_npz_of_two_images_at_one_frame_is_refused(tmp_path: Path) -> None:
    frames = [{"file_path": f"cam{k}/1.png", "transform_matrix": np.eye(4).tolist()} for k in (1, 2)]
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": frames}))
    refused(
        Order(tmp_path / "transforms.json", tmp_path / "poses.npz"), "several images of the left eye at frame 1"
    )


def test_the_command_says_what_it_wrote(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), str(tmp_path / "out"), "--to", "llff", "--unit", "m", "--sides", "left"]) == 0
    said = capsys.readouterr().out
    assert "LLFF, poses_bounds.npy, 3 cameras (3 left)" in said
    assert "lengths: m; images: copied" in said
    assert "lost: no principal point" in said
    assert main([str(tmp_path / "nothing"), str(tmp_path / "out2"), "--to", "llff"]) == 2
    assert "nothing does not exist" in capsys.readouterr().err
    assert main([str(run), str(run / "scene" / "rig.json" / "out"), "--to", "llff"]) == 2
    assert "a file is in the place of a folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(run), str(tmp_path / "out3"), "--to", "polaroid"])


# The real case.


needs_fern = pytest.mark.skipif(not FERN.exists(), reason="../shared/data/fern is not here")


@needs_fern
def test_a_real_llff_file_fits_its_smaller_images(tmp_path: Path) -> None:
    cameras = read_cameras(FERN)
    rows = np.load(FERN / "poses_bounds.npy")
    camera = cameras.cameras[0]
    assert camera is not None
    assert (camera.width, camera.height, camera.cx, camera.cy) == (504, 378, 251.5, 188.5)
    assert camera.fx == pytest.approx(rows[0, 14] / 8)
    assert cameras.names[:3] == ("1.jpg", "2.jpg", "3.jpg")
    assert "4032x3024" in cameras.notes[0]
    convert(Order(FERN, tmp_path / "llff", strict=True))
    again = np.load(tmp_path / "llff" / "poses_bounds.npy")
    kept = [k for k in range(17) if k not in (4, 9, 14)]  # all but height, width, focal length
    np.testing.assert_allclose(again[:, kept], rows[:, kept], atol=1e-9)
    np.testing.assert_allclose(again[:, [4, 9, 14]] * 8, rows[:, [4, 9, 14]])


@needs_fern
@pytest.mark.parametrize("pair", [(0, 10), (2, 12), (6, 13)])
def test_matches_of_a_real_llff_file_meet_within_its_depth_bounds(pair: tuple[int, int]) -> None:
    cameras = read_cameras(FERN)
    errors_px, depths = meeting(cameras, *pair)
    assert cameras.bounds is not None
    near, far = cameras.bounds[pair[0]]
    assert len(depths) > 50
    assert np.nanmedian(errors_px) < 0.5
    assert ((depths > near) & (depths < far)).mean() > 0.9


def meeting(cameras: CameraSet, first: int, second: int) -> tuple[FloatArray, FloatArray]:
    """Return how far from their match triangulated SIFT matches reappear, px, and their depth in the first."""
    found, matrices = [], []
    for index in (first, second):
        image, camera = cameras.images[index], cameras.cameras[index]
        assert image is not None
        assert camera is not None
        pixels = read_rgb(image)
        found.append(detect(pixels, np.ones(pixels.shape[:2], bool)))
        matrices.append(camera.matrix)
    in_first, in_second, _ = mutual_matches(found[0][1], found[1][1])
    pixels_first, pixels_second = found[0][0][in_first], found[1][0][in_second]
    second_from_first = invert_rigid(cameras.world_from_camera[second]) @ cameras.world_from_camera[first]
    points = triangulate(matrices[0], matrices[1], second_from_first, pixels_first, pixels_second)
    again, _ = project(matrices[1], transform(second_from_first, points))
    return np.linalg.norm(again - pixels_second, axis=1), points[:, 2]
