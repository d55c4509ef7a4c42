"""Geometry by hand: projection, triangulation, warping between views, reading maps and images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.synthetic import Plane, parallel_rig, render, turn
from utils.errors import InputError
from utils.geometry import (
    invert_rigid,
    nearest_rotation,
    pixel_grid,
    project,
    rigid,
    rotation_angle_degrees,
    triangulate,
    umeyama,
    unproject,
)
from utils.images import (
    colour_depth,
    find_map,
    list_images,
    natural_key,
    read_map,
    read_mask,
    read_pfm,
    read_rgb,
    resize_mask,
    write_rgb,
)
from utils.types import Camera, FloatArray, Poses, Rig
from utils.warping import nearest_views, sample_depth, warp_depth

CAMERA = Camera(100.0, 120.0, 31.5, 23.5, 64, 48)


def moved(
    x: float = 0.0, y: float = 0.0, z: float = 0.0, degrees: tuple[float, float, float] = (0, 0, 0)
) -> FloatArray:
    """Return world_from_camera of a camera that stands at (x, y, z) mm."""
    return rigid(turn(degrees), np.array([x, y, z]))


def plane_seen(plane: Plane, world_from_camera: FloatArray) -> FloatArray:
    return render(plane, CAMERA, world_from_camera).depth_mm


def test_projection_by_hand() -> None:
    # 31.5 + 100 * 10 / 50 = 51.5, 23.5 - 120 * 5 / 50 = 11.5
    pixels, z = project(CAMERA.matrix, np.array([10.0, -5.0, 50.0]))
    np.testing.assert_allclose(pixels, [51.5, 11.5])
    assert z == 50.0
    np.testing.assert_allclose(unproject(CAMERA.matrix, np.array([51.5, 11.5]), np.array(50.0)), [10, -5, 50])


def test_points_at_and_behind_the_camera_have_no_pixel() -> None:
    pixels, z = project(CAMERA.matrix, np.array([[1.0, 1.0, 0.0], [1.0, 1.0, -5.0], [0.0, 0.0, 5.0]]))
    assert np.isnan(pixels[:2]).all()
    np.testing.assert_allclose(pixels[2], [31.5, 23.5])
    np.testing.assert_array_equal(z, [0, -5, 5])


def test_the_pixel_grid_counts_columns_first() -> None:
    grid = pixel_grid(4, 3)
    assert grid.shape == (3, 4, 2)
    np.testing.assert_array_equal(grid[2, 3], [3, 2])


def test_an_inverse_by_hand() -> None:
    # a quarter turn about z: x -> y; the inverse of X -> R X + (1, 2, 3) is X -> R^T X - R^T (1, 2, 3)
    inverse = invert_rigid(rigid(turn((0, 0, 90)), np.array([1.0, 2.0, 3.0])))
    np.testing.assert_allclose(inverse[:3, 3], [-2, 1, -3], atol=1e-12)
    np.testing.assert_array_equal(inverse[3], [0, 0, 0, 1])


def test_triangulation_takes_the_middle_of_rays_that_miss() -> None:
    matrix = np.diag([100.0, 100.0, 1.0])
    right_from_left = rigid(np.eye(3), np.array([-10.0, 0.0, 0.0]))
    # s (0, 0, 1) and (10, 0, 0) + t (-0.1, 0.02, 1) come closest at s = t = 1 / 0.0104 = 96.154, where they are
    # at (0, 0, s) and (10 - 9.6154, 1.9231, s)
    found = triangulate(matrix, matrix, right_from_left, np.array([[0.0, 0.0]]), np.array([[-10.0, 2.0]]))
    np.testing.assert_allclose(found[0], [0.1923, 0.9615, 96.1538], atol=1e-4)


def test_angles_near_zero_are_not_lost_in_rounding() -> None:
    assert abs(float(rotation_angle_degrees(turn((1e-6, 0, 0)))) - 1e-6) < 1e-11
    assert abs(float(rotation_angle_degrees(turn((0, 180, 0)))) - 180) < 1e-6


def test_a_printed_rotation_is_made_orthonormal() -> None:
    printed = np.array([[0.76, 0, -0.65], [0, 1, 0], [0.65, 0, 0.76]])
    rotation = nearest_rotation(printed)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert abs(np.degrees(np.arccos(rotation[2, 2])) - 40.54) < 0.01
    assert np.linalg.det(nearest_rotation(np.diag([1.0, 1.0, -1.0]))) < 0, "a mirror is left to be seen"


def test_umeyama_without_scale_keeps_lengths() -> None:
    source = np.random.default_rng(0).normal(size=(20, 3))
    scale, rotation, shift = umeyama(source, 3 * source + 1, with_scale=False)
    assert scale == 1.0
    np.testing.assert_allclose(rotation, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(shift, 3 * source.mean(0) + 1 - source.mean(0))


def test_a_camera_at_half_size_by_hand() -> None:
    half = CAMERA.resized(32, 24)
    assert (half.fx, half.fy) == (50.0, 60.0)
    assert (half.cx, half.cy) == (15.5, 11.5)  # the middle stays the middle: (32 - 1) / 2
    # an odd principal point: 0.5 (10 + 0.5) - 0.5 = 4.75, not 5
    assert Camera(1, 1, 10, 10, 64, 48).resized(32, 24).cx == 4.75


def test_a_rig_by_hand() -> None:
    rig = Rig(CAMERA, CAMERA, rigid(turn((0, 30, 0)), np.array([-3.0, 0.0, 4.0])))
    assert rig.baseline_mm == 5.0
    assert abs(rig.vergence_degrees - 30) < 1e-9
    assert rig.sides == ("left", "right")
    alone = rig.left_only()
    assert alone.sides == ("left",)
    assert np.isnan(alone.baseline_mm)
    with pytest.raises(ValueError, match="no right eye"):
        alone.camera("right")


def test_poses_tell_placed_frames_and_their_unit() -> None:
    lost = np.full((4, 4), np.nan)
    poses = Poses(("a", "b"), np.stack([np.eye(4), lost]), None, False)
    assert poses.placed("a")
    assert not poses.placed("b")
    assert poses.unit == "arbitrary units, not mm"
    with pytest.raises(ValueError, match="no right eye"):
        poses.world_from("right", "a")


@pytest.mark.parametrize("slope", [0.0, 0.4])
def test_a_plane_stays_a_plane_in_another_view(slope: float) -> None:
    plane, there = Plane((slope, -0.1, 1.0), 80.0), moved(3.0, -2.0, 5.0, (2, -3, 4))
    truth = plane_seen(plane, there)
    steepest = np.add(*(np.abs(part) for part in np.gradient(truth)))  # change over one column and one row
    for fill, reach_px in ((False, 0.5), (True, 1.5)):
        found = warp_depth(plane_seen(plane, np.eye(4)), CAMERA, CAMERA, invert_rigid(there), fill=fill)
        known = np.isfinite(found)
        assert known.mean() > 0.6
        # a point lands up to half a pixel beside the centre of its pixel
        assert (np.abs(found - truth) <= 1.1 * reach_px * steepest)[known].all()


def test_a_view_warped_into_itself_does_not_change() -> None:
    depth = plane_seen(Plane((0.3, 0.1, 1.0)), np.eye(4)).astype(np.float32)
    depth[10:20, 5:9] = np.nan
    found = warp_depth(depth, CAMERA, CAMERA, np.eye(4), fill=False)
    np.testing.assert_allclose(found, depth, rtol=1e-6)


def test_the_nearest_of_two_surfaces_wins() -> None:
    depth = np.full((48, 64), 90.0)
    depth[:, 20:24] = 45.0
    # 9 mm to the right: shifts of 100 * 9 / 90 = 10 px and 100 * 9 / 45 = 20 px to the left
    found = warp_depth(depth, CAMERA, CAMERA, invert_rigid(moved(9.0)), fill=False)
    np.testing.assert_allclose(found[:, 0:4], 45.0)
    np.testing.assert_allclose(found[:, 4:10], 90.0)
    assert np.isnan(found[:, 10:14]).all(), "what was behind the near strip is not known"
    np.testing.assert_allclose(found[:, 14:54], 90.0)
    assert np.isnan(found[:, 54:]).all()


def test_small_gaps_are_closed_and_large_ones_are_not() -> None:
    # 40 mm towards a plane at 80 mm: everything is twice as large, three of four pixels get nothing
    plane = Plane((0.0, 0.0, 1.0), 80.0)
    there = moved(0, 0, 20)
    plain = warp_depth(plane_seen(plane, np.eye(4)), CAMERA, CAMERA, invert_rigid(there), fill=False)
    filled = warp_depth(plane_seen(plane, np.eye(4)), CAMERA, CAMERA, invert_rigid(there))
    assert np.isfinite(plain).mean() < 0.7
    assert np.isfinite(filled).mean() > np.isfinite(plain).mean() + 0.1
    np.testing.assert_allclose(filled[np.isfinite(filled)], 60.0, rtol=1e-6)


def test_points_behind_the_other_view_land_nowhere() -> None:
    found = warp_depth(np.full((48, 64), 50.0), CAMERA, CAMERA, invert_rigid(moved(0, 0, 60)))
    assert np.isnan(found).all()


def test_depth_between_pixels_of_a_plane() -> None:
    columns = np.arange(64)[None] * np.ones((48, 1))
    depth = 80 + 0.1 * columns
    found = sample_depth(depth, np.array([[10.25, 7.5], [0.0, 0.0], [63.0, 47.0]]))
    np.testing.assert_allclose(found, [81.025, 80.0, 86.3], atol=2e-3)  # remap counts in 1/32 px


def test_depth_outside_beside_holes_and_across_jumps_is_unknown() -> None:
    depth = np.full((48, 64), 80.0)
    depth[:, 32:] = 60.0
    depth[30, 10] = np.nan
    asked = np.array([[-0.6, 5], [63.6, 5], [5, 47.7], [31.5, 10], [10.4, 30.3], [np.nan, 3], [20, 10], [50, 10]])
    found = sample_depth(depth, asked)
    assert np.isnan(found[:6]).all()
    np.testing.assert_allclose(found[6:], [80, 60])
    assert sample_depth(depth, np.zeros((2, 3, 2))).shape == (2, 3)


def test_long_lists_of_pixels_are_folded() -> None:
    depth = np.tile(np.linspace(80, 90, 64), (48, 1))
    pixels = np.random.default_rng(0).uniform(2, 45, (40_000, 2))
    found = sample_depth(depth, pixels)
    np.testing.assert_allclose(found, 80 + pixels[:, 0] * 10 / 63, atol=0.01)


def test_nearest_views_by_distance_and_angle() -> None:
    others = np.stack([moved(30), moved(2), moved(0, 0, 0, (0, 60, 0)), np.full((4, 4), np.nan), moved(5)])
    assert nearest_views(np.eye(4), others, 80.0, 3) == [1, 4, 0]
    assert nearest_views(np.eye(4), others, 80.0, 9) == [1, 4, 0, 2], "a view without a pose is never chosen"


def test_a_pfm_is_stored_bottom_row_first(tmp_path: Path) -> None:
    rows = np.arange(6, dtype="<f4").reshape(2, 3)  # what the file holds, from the bottom
    (tmp_path / "a.pfm").write_bytes(b"Pf\n3 2\n-1.0\n" + rows.tobytes())
    (tmp_path / "b.pfm").write_bytes(b"Pf\n3 2\n0.5\n" + rows.astype(">f4").tobytes())
    for name in ("a", "b"):
        np.testing.assert_array_equal(read_pfm(tmp_path / f"{name}.pfm"), [[3, 4, 5], [0, 1, 2]])
        assert read_pfm(tmp_path / f"{name}.pfm").dtype == np.float32
    (tmp_path / "c.pfm").write_bytes(b"PF\n1 1\n-1.0\n" + np.zeros(3, "<f4").tobytes())
    with pytest.raises(InputError, match="one-channel"):
        read_pfm(tmp_path / "c.pfm")


def test_our_pfm_is_what_opencv_writes(tmp_path: Path) -> None:
    depth = np.random.default_rng(0).uniform(50, 90, (5, 7)).astype(np.float32)
    cv2.imwrite(str(tmp_path / "a.pfm"), depth)
    np.testing.assert_array_equal(read_map(tmp_path / "a.pfm"), depth)


def test_maps_of_every_ending_come_back(tmp_path: Path) -> None:
    depth = np.random.default_rng(0).uniform(50, 90, (5, 7)).astype(np.float32)
    np.save(tmp_path / "a.npy", depth)
    cv2.imwrite(str(tmp_path / "b.tiff"), depth)
    cv2.imwrite(str(tmp_path / "c.png"), np.arange(35, dtype=np.uint16).reshape(5, 7) * 1000)
    np.testing.assert_array_equal(read_map(tmp_path / "a.npy"), depth)
    np.testing.assert_array_equal(read_map(tmp_path / "b.tiff"), depth)
    assert read_map(tmp_path / "c.png").dtype == np.uint16
    assert find_map(tmp_path, "b") == tmp_path / "b.tiff"
    assert find_map(tmp_path, "d") is None
    (tmp_path / "d.png").write_bytes(b"not a png")
    with pytest.raises(InputError, match="cannot be read as a map"):
        read_map(tmp_path / "d.png")


def noisy(size: int = 96) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.98])
def test_a_truncated_jpeg_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "1.jpg"
    write_rgb(path, noisy())
    whole = path.read_bytes()
    read_rgb(path)
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError) as caught:
        read_rgb(path)
    assert "1.jpg cannot be read" in caught.value.what
    assert "truncated" in caught.value.found
    assert "train.txt" in caught.value.do


def test_a_missing_image_is_called_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_rgb(tmp_path / "7.png")
    assert caught.value.found == "no such file"


def test_colours_are_red_green_blue(tmp_path: Path) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[..., 0] = 200
    write_rgb(tmp_path / "a" / "1.png", image)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a" / "1.png"), image)
    stored = cv2.imread(str(tmp_path / "a" / "1.png"))
    assert stored is not None
    assert tuple(stored[0, 0]) == (0, 0, 200)


def test_a_mask_is_whatever_is_not_zero(tmp_path: Path) -> None:
    grey = np.array([[0, 1], [128, 255]], np.uint8)
    write_rgb(tmp_path / "1.png", grey)
    np.testing.assert_array_equal(read_mask(tmp_path / "1.png"), [[False, True], [True, True]])
    colour = np.zeros((2, 2, 3), np.uint8)
    colour[0, 1, 2] = 9
    write_rgb(tmp_path / "2.png", colour)
    np.testing.assert_array_equal(read_mask(tmp_path / "2.png"), [[False, True], [False, False]])
    with pytest.raises(InputError, match="mask"):
        read_mask(tmp_path / "3.png")


def test_a_resized_mask_keeps_its_area() -> None:
    mask = np.zeros((40, 60), bool)
    mask[:20] = True
    small = resize_mask(mask, 30, 20)
    assert small.dtype == bool
    assert small[:10].all()
    assert not small[10:].any()


def test_natural_order_of_file_names(tmp_path: Path) -> None:
    for name in ("10.jpg", "2.JPG", "1.png", "b2.tif", "b10.tif", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["1.png", "2.JPG", "10.jpg", "b2.tif", "b10.tif"]
    assert list_images(tmp_path / "absent") == []
    assert natural_key("f2a10") < natural_key("f2a11") < natural_key("f10")


def test_a_picture_of_depth_is_black_where_unknown() -> None:
    depth = np.full((4, 4), np.nan)
    assert not colour_depth(depth).any()
    depth[:2] = [[50, 60, 70, 80]] * 2
    picture = colour_depth(depth)
    assert picture[:2].any(axis=-1).all()
    assert not picture[2:].any()
