"""Stereo odometry: pose from points, triangulated matches, and a chain of frames against the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monocular.odometry import Odometry, solve_pose
from stereo_prior import matches as matches_stage
from stereo_prior.matches import MatchOptions
from tests.synthetic import parallel_rig, path, turn, verged_rig
from tests.unit.test_matches import make_scene
from utils.artifacts import write_npz
from utils.geometry import project, rigid, rotation_angle_degrees, transform
from utils.images import write_rgb
from utils.scene import Scene
from utils.stereo_points import stereo_landmarks
from utils.types import Rig


def test_pose_from_points_ignores_wrong_ones() -> None:
    rng = np.random.default_rng(2)
    matrix = parallel_rig(320, 256).left.matrix
    left_from_world = rigid(turn((4, -7, 2)), np.array([3.0, -2.0, 5.0]))
    points_world = rng.uniform(-25, 25, (120, 3)) + np.array([0, 0, 80])
    pixels, _ = project(matrix, transform(left_from_world, points_world))
    pixels[:40] += rng.uniform(10, 60, (40, 2))
    found, inliers = solve_pose(matrix, points_world, pixels)
    assert found is not None
    assert inliers == 80
    np.testing.assert_allclose(found, left_from_world, atol=1e-5)


def test_pose_from_nonsense_has_few_inliers() -> None:
    rng = np.random.default_rng(2)
    points_world = rng.uniform(-25, 25, (60, 3)) + np.array([0, 0, 80])
    _, inliers = solve_pose(parallel_rig(320, 256).left.matrix, points_world, rng.uniform(0, 250, (60, 2)))
    assert inliers < 15


@pytest.mark.parametrize("rig", [parallel_rig(320, 256), verged_rig(320, 256)])
def test_landmarks_are_the_points(rig: Rig, tmp_path: Path) -> None:
    assert rig.right is not None
    assert rig.right_from_left is not None
    rng = np.random.default_rng(1)
    points = np.stack([rng.uniform(-15, 15, 50), rng.uniform(-12, 12, 50), rng.uniform(60, 100, 50)], -1)
    left, _ = project(rig.left.matrix, points)
    right, _ = project(rig.right.matrix, transform(rig.right_from_left, points))
    right[:5, 1] += 12.0  # these rays miss each other
    write_npz(tmp_path / "1.npz", pixels_left=left, pixels_right=right, score=np.ones(50))
    scene = Scene(tmp_path, rig, ("1",), ("1",), (), rig.sides, {})
    found = stereo_landmarks(scene, tmp_path, "1")
    np.testing.assert_allclose(found.points_left, points[5:], atol=1e-6)
    np.testing.assert_array_equal(found.pixels, left[5:])
    assert len(stereo_landmarks(scene, tmp_path, "no such frame").pixels) == 0


def test_a_chain_of_frames_follows_the_path(tmp_path: Path) -> None:
    """Six frames of a circle of 8 mm radius, 80 mm away; frame 4 is blank and stays unplaced."""
    rig = parallel_rig(320, 256)
    scene_folder, _ = make_scene(tmp_path / "scene", rig, frames=6)
    scene = Scene.load(scene_folder)
    blank = scene.image_path("left", "4")
    write_rgb(blank, np.full((256, 320, 3), 90, np.uint8))
    (tmp_path / "matches").mkdir()
    matches_stage.run(MatchOptions(viz=False), out=tmp_path / "matches", scene=scene_folder)
    odometry = Odometry(scene, tmp_path / "matches")
    truth = path(6)
    odometry.poses["1"] = truth[0]
    how = odometry.place_all(scene.names[1:])
    assert set(how) == {"2", "3", "5", "6"}
    for name in how:
        expected = truth[int(name) - 1]
        assert np.linalg.norm(odometry.poses[name][:3, 3] - expected[:3, 3]) < 0.8  # 1 % of the distance
        assert rotation_angle_degrees(odometry.poses[name][:3, :3].T @ expected[:3, :3]) < 0.8
