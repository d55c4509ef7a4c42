"""Poses as images of rays: there and back, the noise floor, orthogonal moments, outliers, mirrored rays."""

from __future__ import annotations

import json

import numpy as np
import pytest

from localisation.learned.pairs import PoseRange
from localisation.learned.pose_codes import POSE_CODES, PoseCode, RayCode, fit_code, read_code
from localisation.learned.pose_from_rays import fit_pose
from localisation.learned.training import pose_errors
from utils.geometry import rigid
from utils.types import Camera, FloatArray

CAMERA = Camera(266.0, 266.0, 155.0, 130.0, 320, 256).resized(32, 32)


def poses(count: int, seed: int = 0, spread_degrees: float = 15.0, spread_mm: float = 12.0) -> FloatArray:
    tilt = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    base = rigid(tilt, np.array([30.0, -20.0, 50.0]))[None]
    return PoseRange(base, spread_degrees, spread_mm).draw(np.random.default_rng(seed), count)


@pytest.fixture(scope="module")
def code() -> RayCode:
    return RayCode.fit(CAMERA, poses(400), 75.0)


@pytest.mark.parametrize("kind", POSE_CODES)
def test_a_pose_survives_its_code_to_a_millionth(kind: str) -> None:
    fitted = fit_code(kind, CAMERA, poses(400), 75.0)
    codes = fitted.encode(poses(5, seed=1))
    assert codes.shape == (5, 6, 32, 32)
    assert codes.dtype == np.float32
    exact = fitted.encode(poses(5, seed=1)).astype(np.float64)
    found = fitted.decode(exact)
    degrees, mm = pose_errors(found.world_from_camera, poses(5, seed=1))
    assert degrees.max() < 1e-5
    assert mm.max() < 1e-5
    assert found.residual.max() < 1e-5


def test_rays_in_double_precision_give_the_pose_back_exactly(code: RayCode) -> None:
    truth = poses(4, seed=2)
    lines = np.moveaxis(code.lines(truth), 1, -1).reshape(4, -1, 6)
    unposed = np.moveaxis(RayCode(CAMERA, np.zeros(3), 1.0, code.mean, code.std).lines(np.eye(4)[None]), 1, -1)
    fit = fit_pose(lines[..., :3], lines[..., 3:], unposed.reshape(-1, 6)[:, :3])
    found = fit.world_from_camera.copy()
    found[:, :3, 3] = code.origin + code.scene_mm * found[:, :3, 3]
    assert np.abs(found - truth).max() < 1e-9
    # one direction is seen from the side least: the optical axis
    weakest = np.linalg.eigh(np.eye(3) - np.einsum("pi,pj->ij", *[lines[0, :, :3]] * 2) / 1024)[1][:, 0]
    assert abs(weakest @ truth[0, :3, 2]) > 0.99
    assert (np.diff(fit.eigenvalues, axis=1) >= 0).all()


def test_moments_are_orthogonal_to_directions_and_vanish_for_rays_through_the_origin(code: RayCode) -> None:
    lines = code.lines(poses(6, seed=3))
    assert np.abs((lines[:, :3] * lines[:, 3:]).sum(1)).max() < 1e-12
    assert np.allclose(np.linalg.norm(lines[:, :3], axis=1), 1.0)
    centred = rigid(np.eye(3), code.origin)[None]
    assert np.abs(code.lines(centred)[:, 3:]).max() < 1e-12


@pytest.mark.parametrize("kind", POSE_CODES)
def test_codes_are_standardised_over_the_training_poses(kind: str) -> None:
    fitted = fit_code(kind, CAMERA, poses(400), 75.0)
    codes = fitted.encode(poses(400)).astype(np.float64)
    assert np.abs(codes.mean(0)).max() < 1e-4
    assert np.allclose(codes.std(axis=0).mean(), 1.0, atol=0.1)


def test_noise_of_a_tenth_moves_the_pose_as_little_as_least_squares_says(code: RayCode) -> None:
    truth = poses(100, seed=4)
    for sigma, degrees_floor, mm_floor in ((0.1, 0.06, 0.05), (1.0, 0.57, 0.97)):
        noise = sigma * np.random.default_rng(0).normal(size=(100, 6, 32, 32))
        found = code.decode(code.encode(truth) + noise)
        degrees, mm = pose_errors(found.world_from_camera, truth)
        assert degrees_floor / 3 < np.median(degrees) < 1.5 * degrees_floor
        assert mm_floor / 3 < np.median(mm) < 1.5 * mm_floor
        assert np.median(found.residual) == pytest.approx(sigma, rel=0.1)


def test_a_tenth_of_wrong_rays_hardly_counts(code: RayCode) -> None:
    truth = poses(20, seed=5)
    codes = code.encode(truth)
    codes[:, :, :10, :10] += 1.0
    degrees, mm = pose_errors(code.decode(codes).world_from_camera, truth)
    assert np.median(degrees) < 0.2
    assert np.median(mm) < 0.2


def test_mirrored_rays_still_give_a_rotation() -> None:
    rays = np.random.default_rng(0).normal(size=(200, 3))
    found = fit_pose((rays * [1.0, 1.0, -1.0])[None], np.zeros((1, 200, 3)), rays)
    assert np.linalg.det(found.world_from_camera[0, :3, :3]) == pytest.approx(1.0)
    assert found.turned_degrees[0] > 10.0


@pytest.mark.parametrize("kind", POSE_CODES)
def test_a_code_is_the_same_after_it_was_written_and_read(kind: str) -> None:
    fitted: PoseCode = fit_code(kind, CAMERA, poses(50), 75.0)
    read = read_code(json.loads(json.dumps(fitted.record())), fitted.mean, fitted.std)
    assert np.array_equal(read.encode(poses(3, seed=6)), fitted.encode(poses(3, seed=6)))


def test_drawn_poses_stay_in_their_range_and_reach_says_how_far_they_are() -> None:
    base = np.stack([rigid(np.eye(3), np.array([x, 0.0, 0.0])) for x in (0.0, 100.0)])
    there = PoseRange(base, 10.0, 5.0)
    rng = np.random.default_rng(0)
    inside = there.reach(there.draw(rng, 300))
    assert inside.max() <= 1.0 + 1e-6
    assert inside.max() > 0.95
    beyond = there.reach(there.draw(rng, 300, 1.2, 1.5))
    assert beyond.min() > 1.2 - 1e-6
    assert beyond.max() <= 1.5 + 1e-6
    turned = rigid(np.diag([1.0, -1.0, -1.0]), np.zeros(3))[None]
    assert there.reach(turned)[0] == pytest.approx(18.0)
    assert PoseRange.from_json(json.loads(json.dumps(there.to_json()))).spread_mm == 5.0
