"""Dense matches: a fraction of a pixel on planes, laws of shifts and light, nothing where nothing is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from stereo_prior.correlation import REACH
from stereo_prior.densify import DENSIFIERS, around_matches, densify, draw_dense, in_regions, search
from stereo_prior.matcher import Matches
from stereo_prior.pair import Eye
from tests.synthetic import Plane, disparity, parallel_rig, render, world_from
from utils.types import FloatArray

RIG = parallel_rig(200, 160)
SLANTED = Plane((0.15, -0.1, 1.0), 80.0)


def eye(image: NDArray[np.float32]) -> Eye:
    usable = np.ones(image.shape[:2], bool)
    return Eye(image, usable, usable.copy())


@pytest.fixture(scope="module")
def plane() -> tuple[Eye, Eye, FloatArray]:
    """Return both eyes of a slanted plane, and the true disparity (h, w) px of the left one."""
    views = {side: render(SLANTED, RIG.camera(side), world_from(RIG, side, np.eye(4))) for side in RIG.sides}
    left, right = (eye(views[side].rgb.astype(np.float32)) for side in RIG.sides)
    return left, right, disparity(RIG, views["left"].depth_mm)


def seeds_of(truth_px: FloatArray, step: int = 16, wrong_px: float = 0.0) -> Matches:
    """Return matches on a grid, true but for `wrong_px`."""
    rows, columns = (
        part.ravel() for part in np.mgrid[step : truth_px.shape[0] : step, step : truth_px.shape[1] : step]
    )
    pixels = np.stack([columns, rows], axis=1).astype(float)
    shift = np.stack([truth_px[rows, columns] + wrong_px, np.zeros(len(rows))], axis=1)
    return Matches(pixels, pixels - shift, np.ones(len(rows)))


def off_px(found: Matches, truth_px: FloatArray) -> FloatArray:
    columns, rows = found.pixels_left.astype(int).T
    return np.abs(found.pixels_left[:, 0] - found.pixels_right[:, 0] - truth_px[rows, columns])


@pytest.mark.parametrize(("how", "least"), [("ncc", 0.35), ("watershed", 0.7)])
def test_a_slanted_plane_to_a_fraction_of_a_pixel(
    how: str, least: float, plane: tuple[Eye, Eye, FloatArray]
) -> None:
    left, right, truth_px = plane
    found = densify(how, left, right, seeds_of(truth_px))
    error_px = off_px(found, truth_px)
    assert len(error_px) > least * truth_px.size
    assert np.median(error_px) < 0.03
    assert np.percentile(error_px, 95) < 0.15
    assert found.pixels_left.dtype == found.pixels_right.dtype == found.score.dtype == np.float32
    assert ((found.score >= 0.8) & (found.score <= 1)).all()
    np.testing.assert_array_equal(found.pixels_left[:, 1], found.pixels_right[:, 1])
    assert len(np.unique(found.pixels_left, axis=0)) == len(found.pixels_left), "a pixel is matched once"


@pytest.mark.parametrize("how", DENSIFIERS)
def test_nothing_on_pixels_that_are_not_usable(how: str, plane: tuple[Eye, Eye, FloatArray]) -> None:
    left, right, truth_px = plane
    usable_left, usable_right = left.usable.copy(), right.usable.copy()
    usable_left[:, :70] = False
    usable_right[100:] = False
    found = densify(
        how, replace(left, usable=usable_left), replace(right, usable=usable_right), seeds_of(truth_px)
    )
    assert len(found.score) > 1000
    assert found.pixels_left[:, 0].min() >= 70
    assert found.pixels_right[:, 1].max() < 100


def test_shifting_both_images_shifts_the_result(plane: tuple[Eye, Eye, FloatArray]) -> None:
    left, right, truth_px = plane
    before, _ = search(left, right, truth_px)
    moved = [eye(np.roll(one.image, (7, 4), axis=(0, 1))) for one in (left, right)]
    after, _ = search(moved[0], moved[1], np.roll(truth_px, (7, 4), axis=(0, 1)))
    inside = np.s_[30:-30, 30:-30]
    np.testing.assert_allclose(after[inside], np.roll(before, (7, 4), axis=(0, 1))[inside], atol=1e-4)


def test_shifting_the_right_image_adds_to_the_disparity(plane: tuple[Eye, Eye, FloatArray]) -> None:
    left, right, truth_px = plane
    before, _ = search(left, right, truth_px)
    after, _ = search(left, eye(np.roll(right.image, -2, axis=1)), truth_px + 2)
    inside = np.s_[30:-30, 30:-30]
    np.testing.assert_allclose(after[inside], before[inside] + 2, atol=1e-4)


def test_light_does_not_matter(plane: tuple[Eye, Eye, FloatArray]) -> None:
    left, right, truth_px = plane
    before, score = search(left, right, truth_px)
    after, dim = search(left, eye((0.6 * right.image + 25).astype(np.float32)), truth_px)
    both = np.isfinite(before) & np.isfinite(after)
    assert both.mean() > 0.95 * np.isfinite(before).mean()
    np.testing.assert_allclose(after[both], before[both], atol=0.01)  # where the steps end
    np.testing.assert_allclose(dim[both], score[both], atol=1e-3)


def test_the_centre_hardly_matters_and_a_wrong_one_gives_nothing(plane: tuple[Eye, Eye, FloatArray]) -> None:
    left, right, truth_px = plane
    right_one, _ = search(left, right, truth_px)
    close, _ = search(left, right, truth_px + 1.4)
    both = np.isfinite(right_one) & np.isfinite(close)
    assert both.mean() > 0.8
    assert np.median(np.abs(close - right_one)[both]) < 1e-3
    far, _ = search(left, right, truth_px + 7)
    assert np.isfinite(far).mean() < 0.05


def test_a_repeated_pattern_is_not_unique() -> None:
    columns = np.arange(120, dtype=np.float32)
    stripes = np.broadcast_to((128 + 60 * np.sin(2 * np.pi * columns / 3.0))[None, :, None], (60, 120, 3))
    image = np.ascontiguousarray(stripes, np.float32)
    found, _ = search(eye(image), eye(image), np.full((60, 120), 0.0))
    assert not np.isfinite(found).any()


def test_a_flat_image_gives_nothing() -> None:
    flat = eye(np.full((60, 80, 3), 90, np.float32))
    for how in DENSIFIERS:
        found = densify(how, flat, flat, Matches(np.full((1, 2), 30.0), np.full((1, 2), 30.0), np.ones(1)))
        assert len(found.score) == 0


def test_no_seeds_give_nothing(plane: tuple[Eye, Eye, FloatArray]) -> None:
    left, right, _ = plane
    nothing = Matches(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0))
    unknown = Matches(np.full((1, 2), np.nan), np.full((1, 2), 5.0), np.ones(1))
    for how in DENSIFIERS:
        for seeds in (nothing, unknown):
            found = densify(how, left, right, seeds)
            assert found.pixels_left.shape == (0, 2)
            draw_dense(left.image.astype(np.uint8), found)


def test_against_a_slow_search(plane: tuple[Eye, Eye, FloatArray]) -> None:
    """Splines and steps of a hundredth of a pixel instead of cubic convolution and Gauss-Newton steps."""
    left, right, truth_px = plane
    found, score = search(left, right, truth_px)
    greys = [one.image @ np.array([0.299, 0.587, 0.114]) for one in (left, right)]
    window = np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1].astype(float)
    rng = np.random.default_rng(0)
    known = np.argwhere(np.isfinite(found))
    for row, column in known[rng.choice(len(known), 12, replace=False)]:
        mine = greys[0][row - REACH : row + REACH + 1, column - REACH : column + REACH + 1].ravel()
        tried_px = truth_px[row, column] + np.arange(-1, 1, 0.01)
        values = []
        for one_px in tried_px:
            there = map_coordinates(greys[1], [window[0] + row, window[1] + column - one_px], order=3).ravel()
            values.append(np.corrcoef(mine, there)[0, 1])
        assert abs(tried_px[np.argmax(values)] - found[row, column]) < 0.06
        assert abs(max(values) - score[row, column]) < 0.02


def test_around_matches_takes_the_nearest() -> None:
    left = eye(np.zeros((20, 30, 3), np.float32))
    centre_px = around_matches(left, np.array([[8.2, 10.0], [14.0, 10.0]]), np.array([1.0, 2.0]))
    assert np.isfinite(centre_px).sum() == 11 * (11 + 6)
    assert centre_px[10, 3] == centre_px[5, 10] == centre_px[10, 10] == 1.0
    assert centre_px[10, 12] == centre_px[15, 19] == 2.0
    assert np.isnan(centre_px[10, 2])
    assert np.isnan(centre_px[4, 8])


def test_regions_end_at_edges_of_the_image_and_leave_no_gaps() -> None:
    image = np.zeros((40, 60, 3), np.float32)
    image[:, 30:] = 200
    centre_px = in_regions(eye(image), np.array([[10.0, 20.0], [40.0, 20.0]]), np.array([1.0, 2.0]))
    assert (centre_px[:, :29] == 1.0).all()
    assert (centre_px[:, 32:] == 2.0).all()
    assert np.isfinite(centre_px).all()
