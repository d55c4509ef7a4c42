"""The judge between depths: other training images agree with the true depth and not with wrong ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nerf.agreement import Agreement
from nerf.rays import Cameras
from nerf.views import PixelPool
from tests.synthetic import BALL_ON_WALL, parallel_rig, path, render
from utils.types import FloatArray

VIEWS = 8
CAMERA = parallel_rig(112, 96).left
INNER = (slice(16, -16), slice(16, -16))


@pytest.fixture(scope="module")
def seen() -> tuple[PixelPool, FloatArray]:
    """Return a pool of a ball seen from eight places, and the true depth (v, h, w)."""
    poses = path(VIEWS)
    views = [render(BALL_ON_WALL, CAMERA, pose, wavelength_mm=8.0) for pose in poses]
    count = CAMERA.width * CAMERA.height
    world_from = torch.tensor(poses[:, :3], dtype=torch.float32)
    intrinsics = torch.tensor([[CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy]] * VIEWS)
    zeros = torch.zeros(VIEWS * count, dtype=torch.float16)
    pool = PixelPool(
        views=[("left", str(number)) for number in range(VIEWS)],
        cameras=Cameras(intrinsics, world_from, world_from, torch.arange(VIEWS)),
        starts=torch.arange(VIEWS + 1) * count,
        widths=torch.full((VIEWS,), CAMERA.width),
        rgb=torch.tensor(np.concatenate([view.rgb.reshape(-1, 3) for view in views])),
        depth=torch.tensor(np.concatenate([view.depth_mm.ravel() for view in views]), dtype=torch.float32),
        sigma=zeros,
        half_width=zeros,
        confidence=zeros,
        importance=zeros,
        normal=torch.zeros(VIEWS * count, 3, dtype=torch.int8),
        tissue=torch.ones(VIEWS * count, dtype=torch.bool),
        highlight=torch.zeros(VIEWS * count, dtype=torch.bool),
    )
    return pool, np.stack([view.depth_mm for view in views])


def test_images_agree_with_the_truth_and_not_with_other_depths(seen: tuple[PixelPool, FloatArray]) -> None:
    pool, truth = seen
    factors = (1.0, 0.93, 0.97, 1.03, 1.07)
    right, *others = Agreement(pool).cost(0, np.stack([factor * truth[0] for factor in factors]))
    for wrong in others:
        assert np.nanmean(wrong[INNER]) > 1.4 * np.nanmean(right[INNER])
        assert np.nanmean(wrong[INNER] > right[INNER]) > 0.85
    assert np.isfinite(right[INNER]).mean() > 0.95


def test_unknown_depth_highlights_and_background_cannot_be_judged(seen: tuple[PixelPool, FloatArray]) -> None:
    pool, truth = seen
    depth = truth[3].copy()
    depth[40:50, 40:50] = np.nan
    (found,) = Agreement(pool).cost(3, depth[None])
    assert np.isnan(found[42:48, 42:48]).all()
    assert np.isfinite(found[60:80, 60:80]).all()
    hidden = replace(pool, highlight=torch.ones_like(pool.highlight))
    assert np.isnan(Agreement(hidden).cost(3, truth[3][None])).all()


def test_brightness_and_contrast_do_not_count(seen: tuple[PixelPool, FloatArray]) -> None:
    pool, truth = seen
    plain = Agreement(pool).cost(0, truth[:1])[0][INNER]
    darker = pool.rgb.clone()
    darker[pool.view_slice(2)] = (0.7 * darker[pool.view_slice(2)].float() + 20).round().to(torch.uint8)
    changed = Agreement(replace(pool, rgb=darker)).cost(0, truth[:1])[0][INNER]
    assert abs(float(np.nanmean(changed) - np.nanmean(plain))) < 0.02


def test_a_step_moves_a_point_by_so_many_pixels(seen: tuple[PixelPool, FloatArray]) -> None:
    pool, _ = seen
    agreement = Agreement(pool)
    centres = agreement.world_from[agreement.judges(0), :3, 3]
    baseline_mm = np.median(np.linalg.norm(centres - agreement.world_from[0, :3, 3], axis=1))
    near, far = (CAMERA.fx * baseline_mm / (agreement.typical_mm * s) for s in (1.0, 1.0 + agreement.step(0, 0.5)))
    assert near - far == pytest.approx(0.5, rel=0.05)


def test_a_view_far_from_all_others_has_no_judges(seen: tuple[PixelPool, FloatArray]) -> None:
    pool, truth = seen
    away = pool.cameras.world_from_camera.clone()
    away[4, :, 3] += 1000.0
    cameras = replace(pool.cameras, world_from_camera=away)
    agreement = Agreement(replace(pool, cameras=cameras))
    assert agreement.judges(4) == []
    assert 4 not in agreement.judges(0)
    assert np.isnan(agreement.cost(4, truth[4:5])).all()


def test_the_compiled_cost_is_that_of_its_slow_twin(seen: tuple[PixelPool, FloatArray]) -> None:
    pool, truth = seen
    highlight = torch.rand(len(pool.highlight), generator=torch.Generator().manual_seed(0)) < 0.02
    pool = replace(pool, highlight=highlight)
    tried = np.stack([factor * truth[2] for factor in (0.95, 1.0, 1.04)])
    tried[1, 30:40, 50:60] = np.nan
    agreement = Agreement(pool)
    fast, slow = agreement.cost(2, tried), agreement.cost_plainly(2, tried)
    assert (np.isfinite(fast) == np.isfinite(slow)).mean() > 0.995, "OpenCV rounds places to a 32nd of a pixel"
    difference = np.abs(fast - slow)
    assert np.nanmedian(difference) < 1e-3
    assert np.nanpercentile(difference, 99) < 0.03
    assert np.isnan(fast[1, 33:37, 53:57]).all()


def test_eyes_of_two_sizes_are_judged_by_the_slow_twin(seen: tuple[PixelPool, FloatArray]) -> None:
    pool, truth = seen
    agreement = Agreement(pool)
    agreement.green[agreement.judges(0)[0]] = np.full((60, 70), np.nan, np.float32)
    assert np.isfinite(agreement.cost(0, truth[:1])).mean() > 0.8
