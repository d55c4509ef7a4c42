"""Corrections of camera poses: their gradient, what they leave alone, and what they tell about other frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from nerf.pose_refinement import PoseCorrections, carry_over, corrected_poses, turn
from nerf.rays import Cameras
from tests.unit.test_compiled_step import composites_in_double_precision as composites_in_double_precision
from tests.unit.test_compiled_step import pool, trainer
from utils.types import Poses

RANDOM = np.random.default_rng(4)


def moved(corrections: PoseCorrections, size: float = 0.004) -> PoseCorrections:
    """Return corrections that are not nought."""
    with torch.no_grad():
        for parameter in corrections.parameters():
            parameter.copy_(torch.from_numpy(size * RANDOM.standard_normal(parameter.shape)))
    return corrections


def corrections() -> PoseCorrections:
    some = pool()
    return moved(PoseCorrections(some.cameras, some.views, 80.0))


@pytest.mark.parametrize("variant", [{}, {"field": "hash", "hash_log2_rows": 9}, {"N_samples": 5, "N_rand": 75}])
def test_the_compiled_gradient_is_that_of_autograd(variant: dict[str, Any]) -> None:
    one = trainer(refine_poses=True, **variant)
    assert one.poses is not None
    assert one.compiled is not None
    one.compiled.asleep, one.step = 0.0, 1500
    moved(one.poses)
    one.model.sharpen(0.75)
    pixels, state = one._draw(), one.device_generator.get_state()
    gradients = []
    for losses in (one.losses, lambda pixels: one._compiled_losses(one.compiled, pixels)):
        one.device_generator.set_state(state)
        one.pool.cameras = one.poses()
        found = losses(pixels)
        if found.total.requires_grad:
            found.total.backward()
        gradients.append([torch.clone(p.grad) for p in one.poses.parameters() if p.grad is not None])
        one.optimiser.zero_grad(set_to_none=False)
    for expected, given in zip(*gradients, strict=True):
        assert float(expected.norm()) > 0
        assert float((given - expected).norm()) <= 1e-3 * float(expected.norm())


def test_rotation_vectors_turn_as_they_do_elsewhere() -> None:
    vectors = RANDOM.standard_normal((20, 3)) * np.logspace(-8, 0, 20)[:, None]
    found = turn(torch.from_numpy(vectors)).numpy()
    np.testing.assert_allclose(found, Rotation.from_rotvec(vectors).as_matrix(), atol=1e-12)
    nought = torch.zeros(3, requires_grad=True)
    turn(nought)[0, 1].backward()
    torch.testing.assert_close(nought.grad, torch.tensor([0.0, 0.0, -1.0]))


def test_nothing_learned_changes_nothing() -> None:
    some = pool()
    found = PoseCorrections(some.cameras, some.views, 80.0)()
    torch.testing.assert_close(found.world_from_camera, some.cameras.world_from_camera, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.world_from_left, some.cameras.world_from_left, atol=0, rtol=0)


def test_the_baseline_keeps_its_length_and_the_cameras_their_mean() -> None:
    one, frames = corrections(), 3
    with torch.no_grad():
        found = one()
    before = one.cameras.world_from_camera[:, :, 3]
    after = found.world_from_camera[:, :, 3]
    lengths = [(centres[frames:] - centres[:frames]).norm(dim=1) for centres in (before, after)]
    torch.testing.assert_close(lengths[0], lengths[1], atol=1e-4, rtol=0)
    assert float((after[:frames] - before[:frames]).abs().max()) > 0.01
    torch.testing.assert_close(after[:frames].mean(0), before[:frames].mean(0), atol=1e-4, rtol=0)
    rotations = found.world_from_camera[:, :, :3]
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).expand(6, 3, 3), atol=1e-5, rtol=0)


def test_what_images_cannot_tell_is_left_alone() -> None:
    some = trainer().pool.cameras
    angle = torch.linspace(0, 4, 14)
    left = some.world_from_left[:1].repeat(14, 1, 1)
    left[:, :, 3] = torch.stack([angle, torch.sin(angle), torch.cos(angle)], dim=1)
    cameras = Cameras(some.intrinsics[:1].repeat(14, 1), left, left, torch.arange(14))
    one = moved(PoseCorrections(cameras, [("left", str(number)) for number in range(14)], 80.0))
    places = left[:, :, 3] - left[:, :, 3].mean(0)
    with torch.no_grad():
        own = one.told.clone()
        one.of_frames.add_(0.3 + places @ torch.randn(3, 6, generator=torch.Generator().manual_seed(0)))
        torch.testing.assert_close(one.told, own, atol=1e-5, rtol=0)
    assert float(own.norm()) > 0.5 * 0.004 * (6 * 14) ** 0.5


def test_written_poses_are_those_of_the_training() -> None:
    one = corrections()
    found = one()
    left, right = (np.tile(np.eye(4), (4, 1, 1)) for _ in range(2))
    left[:3, :3] = one.cameras.world_from_camera[:3].numpy()
    right[:3, :3] = one.cameras.world_from_camera[3:].numpy()
    left[3], right[3] = np.nan, np.nan
    poses, report = corrected_poses(one, Poses(("0", "1", "2", "lost"), left, right, True), ["0", "1", "2"])
    assert poses.world_from_right is not None
    np.testing.assert_allclose(poses.world_from_left[:3, :3], found.world_from_left[:3].numpy(), atol=1e-5)
    np.testing.assert_allclose(poses.world_from_right[:3, :3], found.world_from_camera[3:].detach(), atol=1e-5)
    assert not poses.placed("lost")
    assert poses.placed("2")
    assert report["shifted_rms"] > 0.01
    assert report["unit"] == "mm"


def test_a_drift_is_carried_to_frames_between_and_errors_of_their_own_are_not() -> None:
    positions = np.delete(np.arange(40.0), np.arange(0, 40, 8))
    wanted = np.arange(8.0, 40.0, 8.0)
    drift = np.sin(np.arange(6) + positions[:, None] / 10)
    carried = carry_over(positions, drift, wanted)
    assert carried.share == pytest.approx(1.0, abs=0.02)
    np.testing.assert_allclose(carried.corrections, np.sin(np.arange(6) + wanted[:, None] / 10), atol=0.02)
    alone = carry_over(positions, RANDOM.standard_normal((len(positions), 6)), wanted)
    assert alone.share < 0.3
    assert carry_over(positions[:2], drift[:2], wanted).share == 0.0


def test_a_field_of_densities_learns_poses_too() -> None:
    one = trainer(refine_poses=True, field="mlp", netdepth=2, netwidth=8, lamp=False)
    one.advance()
    assert one.poses is not None
    assert float(one.poses.told.detach().abs().max()) > 1e-6
    one.take_over_poses()
    assert not one.pool.cameras.world_from_camera.requires_grad


def test_one_eye_has_no_rig_to_correct() -> None:
    some = pool()
    left = [0, 1, 2]
    all_of = some.cameras
    cameras = Cameras(
        all_of.intrinsics[left], all_of.world_from_camera[left], all_of.world_from_left[left], all_of.frame[left]
    )
    one = moved(PoseCorrections(cameras, some.views[:3], 80.0))
    found = one().world_from_camera
    found.sum().backward()
    assert one.of_rig.grad is not None
    assert not one.of_rig.grad.any()
