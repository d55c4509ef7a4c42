"""Geometry by hand: projection, transforms, triangulation, alignment, cameras, rigs and poses."""

from __future__ import annotations

import numpy as np
import pytest

from tests.synthetic import turn
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
from utils.types import Camera, Poses, Rig

CAMERA = Camera(100.0, 120.0, 31.5, 23.5, 64, 48)


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
