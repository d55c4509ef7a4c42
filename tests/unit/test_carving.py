"""Carving: depth that stands where other views look through goes back to the surface, all else stays."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stereo_prior.carving import Watcher, carve, seen_through
from stereo_prior.fusion import Fused
from tests.synthetic import BALL_ON_WALL, Plane, Surface, parallel_rig, path, render
from utils.geometry import invert_rigid
from utils.types import BoolArray, FloatArray

CAMERA = parallel_rig(96, 80).left
POSES = path(6, travel_mm=14.0)
WALL = Plane((0.0, 0.0, 1.0), 90.0)


def depth_of(surface: Surface, pose: FloatArray) -> FloatArray:
    return render(surface, CAMERA, pose).depth_mm.astype(np.float32)


def watchers(surface: Surface, count: int = 5) -> list[Watcher]:
    """Return views that measured the truth."""
    return [
        Watcher(CAMERA, invert_rigid(pose) @ POSES[0], depth_of(surface, pose)) for pose in POSES[1 : 1 + count]
    ]


def fused(depth_mm: FloatArray, sigma: float = 0.002) -> Fused:
    depth = depth_mm.astype(np.float32)
    return Fused(depth, sigma * depth, np.ones_like(depth))


def fattened(depth_mm: FloatArray, px: int = 3) -> tuple[FloatArray, BoolArray]:
    """Return depth whose near surfaces reach `px` too far over what is behind them, and where that is."""
    near = cv2.erode(depth_mm, np.ones((2 * px + 1, 2 * px + 1), np.uint8))
    wrong = depth_mm > 1.04 * near
    return np.where(wrong, near, depth_mm), np.asarray(wrong)


def test_a_point_before_the_wall_is_seen_through_and_one_on_it_is_not() -> None:
    wall = depth_of(WALL, POSES[0])
    ghost = wall.copy()
    ghost[30:40, 40:50] = 70.0
    share = seen_through(CAMERA, fused(ghost), watchers(WALL))
    assert share[30:40, 40:50] == pytest.approx(1.0)
    share[30:40, 40:50] = 0
    assert (share == 0).all()


def test_what_another_surface_hides_is_not_seen_through() -> None:
    behind = fused(depth_of(WALL, POSES[0]) + 20.0)
    assert (seen_through(CAMERA, behind, watchers(WALL)) == 0).all()


def test_two_views_are_too_few_to_say_so() -> None:
    near = fused(depth_of(WALL, POSES[0]) - 20.0)
    assert (seen_through(CAMERA, near, watchers(WALL, 2)) == 0).all()
    assert seen_through(CAMERA, near, watchers(WALL, 3)).max() == 1.0


@pytest.mark.parametrize("count", [3, 5])
def test_one_view_that_is_wrong_moves_nothing(count: int) -> None:
    given, others = fused(depth_of(WALL, POSES[0])), watchers(WALL, count)
    others[1].depth_mm[20:50, 30:60] += 15.0
    found = carve(CAMERA, given, others)
    np.testing.assert_array_equal(found.depth_mm, given.depth_mm)
    np.testing.assert_array_equal(found.agreement, given.agreement)


def test_doubt_about_the_depth_is_no_contradiction() -> None:
    near = 0.97 * depth_of(WALL, POSES[0])
    assert seen_through(CAMERA, fused(near, 0.002), watchers(WALL)).max() == 1.0
    assert seen_through(CAMERA, fused(near, 0.05), watchers(WALL)).max() == 0.0


def test_exact_depth_stays_but_for_pixels_on_an_edge() -> None:
    given = fused(depth_of(BALL_ON_WALL, POSES[0]))
    found = carve(CAMERA, given, watchers(BALL_ON_WALL))
    moved = found.depth_mm != given.depth_mm
    edge = cv2.morphologyEx(given.depth_mm, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 2.0
    assert moved.mean() < 0.025
    assert not (moved & ~edge).any()


def test_a_surface_drawn_too_wide_goes_back_to_what_is_behind() -> None:
    truth = depth_of(BALL_ON_WALL, POSES[0])
    wide, wrong = fattened(truth)
    assert wrong.sum() > 100
    found = carve(CAMERA, fused(wide), watchers(BALL_ON_WALL))
    before, after = (np.abs(depth / truth - 1)[wrong] for depth in (wide, found.depth_mm))
    assert np.median(before) > 0.05
    assert np.median(after) < 0.003
    assert np.mean(after) < 0.1 * np.mean(before)
    assert (found.agreement[wrong] > 0).mean() > 0.8, "the views that show the wall say so"
    assert (found.depth_mm == truth)[~wrong].mean() > 0.998


@pytest.mark.parametrize("sigma", [0.002, 0.1])
def test_what_is_seen_through_all_the_way_stays_and_is_doubted(sigma: float) -> None:
    ghost = depth_of(WALL, POSES[0])
    ghost[30:40, 40:50] = 60.0
    others = watchers(WALL)
    for one in others:
        one.depth_mm[25:45, 30:60] = 300.0
    found = carve(CAMERA, fused(ghost, sigma), others)
    np.testing.assert_array_equal(found.depth_mm[30:40, 40:50], 60.0)
    assert (found.agreement[30:40, 40:50] == 0).all()
    assert (found.sigma_mm[30:40, 40:50] >= max(0.03, sigma) * 60.0 * 0.999).all(), "and no surer than before"


def test_a_view_that_contradicts_all_others_is_left_as_it_is() -> None:
    given = fused(0.9 * depth_of(BALL_ON_WALL, POSES[0]))
    assert carve(CAMERA, given, watchers(BALL_ON_WALL)) is given


def test_unknown_depth_stays_unknown() -> None:
    given = fused(depth_of(BALL_ON_WALL, POSES[0]))
    given.depth_mm[:20] = np.nan
    found = carve(CAMERA, given, watchers(BALL_ON_WALL))
    assert np.isnan(found.depth_mm[:20]).all()
    assert np.isfinite(found.depth_mm[20:]).all()
