"""Depth carried from view to view: planes stay planes, the nearest wins, nothing is invented across edges."""

from __future__ import annotations

import numpy as np
import pytest

from tests.synthetic import Plane, render, turn
from utils.geometry import invert_rigid, rigid
from utils.types import Camera, FloatArray
from utils.warping import nearest_views, sample_depth, warp_depth, warp_disparity

CAMERA = Camera(100.0, 120.0, 31.5, 23.5, 64, 48)


def moved(
    x: float = 0.0, y: float = 0.0, z: float = 0.0, degrees: tuple[float, float, float] = (0, 0, 0)
) -> FloatArray:
    """Return world_from_camera of a camera that stands at (x, y, z) mm."""
    return rigid(turn(degrees), np.array([x, y, z]))


def plane_seen(plane: Plane, world_from_camera: FloatArray) -> FloatArray:
    return render(plane, CAMERA, world_from_camera).depth_mm


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


def test_disparity_lands_where_it_says_and_the_nearest_wins() -> None:
    row = np.array([[2.0, 2, 2, 2, 5, 5, 2, 2, np.nan, 2]])
    # 2 px: columns 0 1 4 5 7 (two fall off on the left), 5 px: -1 and 0, before what lies behind
    found = warp_disparity(row)
    unknown = np.nan
    np.testing.assert_array_equal(found, [[5, 2, unknown, unknown, 2, 2, unknown, 2, unknown, unknown]])
    assert found.dtype == np.float32


def test_a_magnified_surface_lets_nothing_behind_shine_through() -> None:
    near = 20 - 0.5 * np.arange(12)  # every column lands one and a half to the right of the one before
    disparity_px = np.full((1, 60), 2.0)
    disparity_px[0, 30:42] = near
    found = warp_disparity(disparity_px)[0]
    np.testing.assert_allclose(found[10:27], near[0] - (np.arange(10, 27) - 10) / 3, rtol=1e-6)
    assert (found[:10] == 2).all()


def test_the_far_side_of_infinity_counts() -> None:
    """Behind a rig whose eyes are exchanged, the smaller disparity is nearer."""
    row = np.array([[np.nan, -3.0, np.nan, np.nan, 0.0]])
    assert warp_disparity(row, 1.0)[0, 4] == -3
    assert warp_disparity(row, -9.0)[0, 4] == 0
