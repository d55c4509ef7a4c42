"""Fusion: exact maps stay exact, outliers lose, holes are filled; the multi-view error by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stereo_prior.fusion import (
    DepthMap,
    Neighbour,
    fill_holes,
    fuse,
    merge,
    rounded_off,
    without_jumps,
)
from tests.synthetic import BALL_ON_WALL, Plane, parallel_rig, path, render
from utils.geometry import invert_rigid, rigid
from utils.multi_view import multi_view_error
from utils.types import Camera, FloatArray

CAMERA = Camera(100.0, 100.0, 31.5, 23.5, 64, 48)
FLAT = np.full((48, 64), 80.0, np.float32)


def exact(depth_mm: FloatArray, sigma_mm: float = 0.5) -> DepthMap:
    sigma = np.where(np.isfinite(depth_mm), sigma_mm, np.nan)
    return DepthMap(depth_mm.astype(np.float32), sigma.astype(np.float32))


def moved(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> FloatArray:
    """Return other_from_view of a view whose camera stands at (x, y, z) in this view's frame."""
    return rigid(np.eye(3), -np.array([x, y, z]))


def test_exact_maps_fuse_to_themselves() -> None:
    rig = parallel_rig(160, 128)
    poses = path(5, travel_mm=6.0)
    depths = [render(BALL_ON_WALL, rig.left, pose).depth_mm for pose in poses]
    neighbours = [
        Neighbour(rig.left, invert_rigid(pose) @ poses[0], without_jumps(exact(depth)))
        for pose, depth in zip(poses[1:], depths[1:], strict=True)
    ]
    found = fuse(rig.left, exact(depths[0]), neighbours)
    known = np.isfinite(found.depth_mm)
    assert known.all()
    # interpolating between pixels of a sphere costs a little
    assert np.percentile(np.abs(found.depth_mm - depths[0]) / depths[0], 99) < 5e-4
    assert np.median(found.sigma_mm) < 0.5


@settings(max_examples=15, deadline=None)
@given(st.floats(-8, 8), st.floats(-5, 5), st.floats(-10, 10), st.floats(-0.3, 0.3))
def test_a_plane_seen_by_others_comes_back_exactly(x: float, y: float, z: float, slope: float) -> None:
    plane = Plane((slope, 0.1, 1.0), 90.0)
    here = render(plane, CAMERA, np.eye(4)).depth_mm
    there = render(plane, CAMERA, rigid(np.eye(3), np.array([x, y, z]))).depth_mm
    found = fuse(CAMERA, None, [Neighbour(CAMERA, moved(x, y, z), without_jumps(exact(there)))])
    known = np.isfinite(found.depth_mm)
    assert known.mean() > 0.4
    assert np.abs(found.depth_mm / here - 1)[known].max() < 0.01
    # bilinear interpolation of z-depth on a slanted plane is not exact; its centre is
    assert np.median(np.abs(found.depth_mm / here - 1)[known]) < 2e-3


def test_one_wrong_view_among_four_is_outvoted() -> None:
    own = FLAT.copy()
    own[20:30, 20:40] = 88.0  # a patch that is 10 % too far
    others = [Neighbour(CAMERA, moved(x=shift), exact(FLAT)) for shift in (-4.0, 4.0, 8.0)]
    found = fuse(CAMERA, exact(own, sigma_mm=0.1), others)
    assert np.allclose(found.depth_mm[22:28, 25:35], 80.0, atol=1e-3)
    assert np.allclose(found.agreement[22:28, 25:35], 0.75)
    assert (found.agreement[2:18, 16:50] == 1).all()


def test_two_views_that_contradict_each_other_both_keep_their_own() -> None:
    left, right = exact(FLAT), exact(FLAT + 5.0)
    seen_by_left = fuse(CAMERA, left, [Neighbour(CAMERA, moved(x=2.0), right)])
    seen_by_right = fuse(CAMERA, right, [Neighbour(CAMERA, moved(x=-2.0), left)])
    assert np.allclose(seen_by_left.depth_mm, 80.0)
    assert np.allclose(seen_by_right.depth_mm, 85.0)
    assert seen_by_left.agreement[20, 30] == 0.5


def test_inverse_variance_weights_by_hand() -> None:
    first, second = exact(FLAT, 0.1), exact(FLAT + 0.2, 0.2)
    # weights 100 and 25: 80 + 0.2 * 25 / 125 = 80.04
    assert merge([first, second]).depth_mm[0, 0] == pytest.approx(80.04, abs=1e-4)
    assert merge([first, second]).agreement[0, 0] == 1.0
    assert merge([first]).depth_mm is first.depth_mm


def test_of_two_sources_that_contradict_each_other_the_surer_one_counts_and_its_sigma_grows() -> None:
    far, near = exact(FLAT + 8.0, 0.1), exact(FLAT, 0.5)
    for maps in ([far, near], [near, far]):
        merged = merge(maps)
        np.testing.assert_array_equal(merged.depth_mm, far.depth_mm)
        np.testing.assert_allclose(merged.sigma_mm, np.hypot(0.1, 4.0), rtol=1e-5)
        np.testing.assert_array_equal(merged.agreement, 0.5)


def test_what_a_window_rounds_off_by_hand() -> None:
    columns = np.arange(64.0) - 31.5
    bowl = 1.0 / (1 / 80.0 + 2e-6 * columns**2)
    # second derivative of inverse depth 4e-6 per px^2; a window of 2.5 px misses by 2.5^2 / 2 of it
    missed = rounded_off(np.broadcast_to(bowl, (48, 64)).astype(np.float32))
    assert missed[20, 31] == pytest.approx(4e-6 * 2.5**2 / 2 * bowl[31] ** 2, rel=0.02)
    slanted = (1.0 / (1 / 80.0 + 1e-5 * columns) * np.ones((48, 1))).astype(np.float32)
    assert rounded_off(slanted).max() < 1e-3, "planes do not bend"


def test_sigma_grows_at_steps_however_many_views_agree() -> None:
    depth = FLAT.copy()
    depth[:, 32:] = 100.0
    fused = fuse(CAMERA, exact(depth, 0.1), [Neighbour(CAMERA, moved(), exact(depth, 0.1)) for _ in range(6)])
    assert fused.sigma_mm[20, 10] < 0.1
    assert (fused.sigma_mm[20, 30:34] > 3.0).all()
    assert np.isnan(rounded_off(np.full((48, 64), np.nan, np.float32))).sum() == 0


def test_holes_come_from_other_views() -> None:
    own = FLAT.copy()
    own[10:20, 10:30] = np.nan
    found = fuse(CAMERA, exact(own), [Neighbour(CAMERA, moved(x=2.0), exact(FLAT))])
    assert np.allclose(found.depth_mm[12:18, 12:28], 80.0, atol=1e-3)


def test_filled_holes_are_marked_doubtful_and_small() -> None:
    depth = FLAT.copy()
    depth[20:24, 10:14] = np.nan
    depth[:, 40:] = np.nan
    tissue = np.ones(FLAT.shape, bool)
    found, filled = fill_holes(fuse(CAMERA, exact(depth), []), tissue)
    assert filled[20:24, 10:14].all()
    assert np.allclose(found.depth_mm[20:24, 10:14], 80.0, atol=0.1)
    assert (found.sigma_mm[filled] > 0.8).all()
    assert np.isnan(found.depth_mm[:, 50:]).all(), "a large hole stays a hole"


def test_multi_view_error_by_hand() -> None:
    # the other camera stands 8 mm nearer; the wall at 80 mm lies 72 mm before it, its map says 74.16: 3 %
    wrong = np.full((48, 64), 74.16, np.float32)
    error = multi_view_error(CAMERA, FLAT, [(CAMERA, moved(z=8.0), wrong)], topk=4)
    # moving nearer magnifies by 80 / 72: column 60 lands at 31.5 + 28.5 * 80 / 72 = 63.2, outside
    assert error[24, 32] == pytest.approx(0.03, abs=1e-5)
    assert np.isnan(error[24, 60])
    assert np.isfinite(error[24, 59])


def test_multi_view_error_takes_the_best_views_and_leaves_out_the_blind() -> None:
    def other(depth_mm: float) -> tuple[Camera, FloatArray, FloatArray]:
        return CAMERA, moved(), np.full((48, 64), depth_mm, np.float32)

    blind = (CAMERA, moved(), np.full((48, 64), np.nan, np.float32))
    behind = (CAMERA, moved(z=200.0), FLAT)
    views = [other(80.8), blind, other(81.6), behind, other(88.0)]
    # |80.8 - 80| / 80 = 0.01 and 0.02: the mean of the best two is 0.015
    assert multi_view_error(CAMERA, FLAT, views, topk=2)[5, 5] == pytest.approx(0.015, abs=1e-5)
    # of all three that see it: (0.01 + 0.02 + 0.1) / 3
    assert multi_view_error(CAMERA, FLAT, views, topk=4)[5, 5] == pytest.approx(0.13 / 3, abs=1e-5)
    assert np.isnan(multi_view_error(CAMERA, FLAT, [blind, behind], topk=4)).all()
    assert np.isnan(multi_view_error(CAMERA, FLAT, [], topk=4)).all()


def test_steps_are_not_handed_to_other_views() -> None:
    depth = FLAT.copy()
    depth[:, 32:] = 100.0
    steady = without_jumps(exact(depth))
    assert np.isnan(steady.depth_mm[:, 31:33]).all()
    assert np.isfinite(steady.depth_mm[:, :31]).all()
    assert np.isfinite(steady.depth_mm[:, 33:]).all()
