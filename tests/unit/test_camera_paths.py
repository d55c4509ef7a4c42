"""Paths of a virtual camera: where they pass, that they are smooth, where they look."""

from __future__ import annotations

import numpy as np
import pytest

from nerf.camera_paths import along, between, look_at, spiral
from tests.synthetic import parallel_rig, path, turn, verged_rig, world_from
from utils.errors import InputError
from utils.geometry import project, rigid, rotation_angle_degrees, transform

RIG = verged_rig()
POSE = rigid(turn((10, -20, 30)), np.array([3.0, -4.0, 5.0]))


@pytest.mark.parametrize("count", [2, 7, 8])
def test_between_the_eyes_the_path_runs_from_the_left_one_to_the_right_one_and_back(count: int) -> None:
    stops = between(RIG, POSE, 4, count)
    assert len(stops) == count
    right = world_from(RIG, "right", POSE)
    shares = [np.linalg.norm(stop.world_from_camera[:3, 3] - POSE[:3, 3]) / RIG.baseline_mm for stop in stops]
    if count > 2:
        np.testing.assert_allclose(stops[0].world_from_camera, POSE, atol=1e-12)
        np.testing.assert_allclose(stops[-1].world_from_camera, POSE, atol=1e-12)
        turning = stops[(count - 1) // 2]
        np.testing.assert_allclose(turning.world_from_camera, right, atol=1e-9)
        assert turning.camera == RIG.camera("right")
    np.testing.assert_allclose(shares, shares[::-1], atol=1e-12)
    assert all(stop.position == 4 for stop in stops)
    assert all((stop.world_from_left == POSE).all() for stop in stops), "the lamp stays"


def test_half_way_between_the_eyes_is_the_middle_camera() -> None:
    camera, left_from_middle = RIG.middle
    stop = between(RIG, POSE, 0, 5)[1]
    np.testing.assert_allclose(stop.world_from_camera, POSE @ left_from_middle, atol=1e-12)
    assert stop.camera == camera


def test_along_the_sequence_every_pose_is_passed_and_no_step_jumps() -> None:
    poses, positions = path(8), np.array([0.0, 1, 2, 4, 5, 6, 7, 9])  # frames 3 and 8 were held out
    stops = along(RIG.left, poses, positions, 91)
    at = {round(float(stop.position or 0.0), 6): stop.world_from_camera for stop in stops}
    for pose, position in zip(poses, positions, strict=True):
        np.testing.assert_allclose(at[float(position)], pose, atol=1e-9)
    found = np.array([stop.world_from_camera for stop in stops])
    np.testing.assert_allclose(np.linalg.det(found[:, :3, :3]), 1.0)
    steps = np.diff(found[:, :3, 3], axis=0)
    speed = np.linalg.norm(steps, axis=1)
    assert np.abs(np.diff(steps, axis=0)).max() < 0.1 * speed.max(), "a polygon would turn at once"
    turns = rotation_angle_degrees(np.swapaxes(found[1:, :3, :3], 1, 2) @ found[:-1, :3, :3])
    assert np.abs(np.diff(turns)).max() < 0.15 * turns.max()


def test_a_single_pose_is_no_path() -> None:
    with pytest.raises(InputError, match="no path to follow"):
        along(RIG.left, path(1), np.zeros(1), 5)


def test_a_spiral_goes_around_the_mean_view_and_looks_at_one_point() -> None:
    moved = POSE @ path(8)
    stops = spiral(RIG.left, moved, 80.0, 5.0, 48)
    centres = np.array([stop.world_from_camera[:3, 3] for stop in stops])
    middle = moved[:, :3, 3].mean(axis=0)
    np.testing.assert_allclose(centres.mean(axis=0), middle, atol=1e-9)
    reach = np.linalg.norm(centres - middle, axis=1)
    furthest = np.linalg.norm(moved[:, :3, 3] - middle, axis=1).max()
    assert 0.5 * furthest < reach.max() < 1.5 * furthest
    focus = middle + 80.0 * np.mean(moved[:, :3, 2], axis=0) / np.linalg.norm(np.mean(moved[:, :3, 2], axis=0))
    for stop in stops:
        seen, depth = project(stop.camera.matrix, transform(np.linalg.inv(stop.world_from_camera), focus))
        np.testing.assert_allclose(seen, [stop.camera.cx, stop.camera.cy], atol=0.5)
        assert depth > 0
    step = np.linalg.norm(np.diff(np.concatenate([centres, centres[:1]]), axis=0), axis=1)
    assert step[-1] < 1.5 * np.median(step), "it closes"


def test_a_still_camera_gets_a_spiral_as_wide_as_the_eyes() -> None:
    still = np.tile(np.eye(4), (5, 1, 1))
    stops = spiral(RIG.left, still, 80.0, parallel_rig().baseline_mm, 16)
    reach = [np.linalg.norm(stop.world_from_camera[:3, 3]) for stop in stops]
    np.testing.assert_allclose(reach, 2.5, atol=1e-9)


def test_look_at_keeps_down_downwards() -> None:
    pose = look_at(np.array([0.0, 0.0, 0.0]), np.array([0.0, 0.0, 10.0]), np.array([0.0, 1.0, 0.2]))
    np.testing.assert_allclose(pose, np.eye(4), atol=1e-12)
