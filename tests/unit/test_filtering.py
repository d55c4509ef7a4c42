"""The filter of rendered depth: planes stay, edges stay, noise goes, what has no weight is unknown."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from nerf.filtering import FilterOptions, filter_depth, weight_of
from tests.synthetic import Plane, render
from utils.types import Camera, FloatArray

CAMERA = Camera(90.0, 90.0, 39.5, 31.5, 80, 64)
INNER = (slice(6, -6), slice(6, -6))


def plane(*normal: float, offset_mm: float = 80.0) -> FloatArray:
    slope = (normal[0], normal[1], 1.0)
    return render(Plane(slope, offset_mm), CAMERA, np.eye(4)).depth_mm.astype(np.float32)


def tissue() -> NDArray[np.uint8]:
    """Return a picture with colours that have nothing to do with depth."""
    return render(Plane(), CAMERA, np.eye(4)).rgb


def ones() -> FloatArray:
    return np.ones((CAMERA.height, CAMERA.width), np.float32)


def relative(found: FloatArray, truth: FloatArray) -> FloatArray:
    return np.abs(found - truth) / truth


@pytest.mark.parametrize("slope", [(0.0, 0.0), (0.5, 0.0), (-0.4, 0.6)])
def test_planes_stay_planes_whatever_the_colours(slope: tuple[float, float]) -> None:
    depth = plane(*slope)
    error = relative(filter_depth(FilterOptions(), depth, tissue(), ones()), depth)
    assert error[INNER].max() < 1e-3
    assert error.max() < 0.02  # at the corner of the image, where the median has no other side


def test_a_plane_of_uneven_weight_stays_a_plane() -> None:
    depth = plane(0.3, 0.1)
    weight = np.random.default_rng(0).uniform(0.3, 1.0, depth.shape).astype(np.float32)
    assert relative(filter_depth(FilterOptions(), depth, tissue(), weight), depth)[INNER].max() < 2e-3


@pytest.mark.parametrize(
    "options", [FilterOptions(), FilterOptions(filter_radius=0), FilterOptions(filter_median=0)]
)
def test_noise_on_a_plane_gets_less(options: FilterOptions) -> None:
    depth = plane(0.2, -0.1)
    rng = np.random.default_rng(1)
    noisy = (depth * (1 + 0.003 * rng.normal(size=depth.shape))).astype(np.float32)
    before = relative(noisy, depth)[INNER]
    after = relative(filter_depth(options, noisy, np.full_like(tissue(), 120), ones()), depth)[INNER]
    assert np.sqrt((after**2).mean()) < 0.6 * np.sqrt((before**2).mean())


def two_sides(left: float, right: float) -> FloatArray:
    return (np.where(np.arange(80) < 40, left, right) * ones()).astype(np.float32)


def two_colours(left: int, right: int) -> NDArray[np.uint8]:
    return np.repeat(two_sides(left, right).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("colours", [(60, 190), (120, 120)])
def test_an_edge_stays_where_it_is(colours: tuple[int, int]) -> None:
    depth = two_sides(60.0, 85.0)
    found = filter_depth(FilterOptions(), depth, two_colours(*colours), ones())
    assert relative(found, depth).max() < 1e-3


def test_a_low_step_is_kept_where_the_colour_changes_too() -> None:
    depth = two_sides(80.0, 80.8)
    guided = relative(filter_depth(FilterOptions(), depth, two_colours(60, 190), ones()), depth)
    plain = relative(filter_depth(FilterOptions(), depth, two_colours(120, 120), ones()), depth)
    assert guided[:, 38:42].mean() < 0.5 * plain[:, 38:42].mean()


def test_a_lone_spike_goes() -> None:
    depth = plane(0.1, 0.1)
    spiky = depth.copy()
    spiky[30, 40] = 140.0
    assert relative(filter_depth(FilterOptions(), spiky, tissue(), ones()), depth)[30, 40] < 0.011


def test_without_weight_depth_is_unknown_and_touches_nothing() -> None:
    depth, weight = plane(0.2, 0.0), ones()
    broken = depth.copy()
    broken[20:30, 30:44], weight[20:30, 30:44] = 500.0, 0.0
    found = filter_depth(FilterOptions(), broken, tissue(), weight)
    assert np.isnan(found[20:30, 30:44]).all()
    known = np.isfinite(found)
    assert known.sum() == known.size - 140
    assert relative(found, depth)[known].max() < 0.0101
    other = broken.copy()
    other[20:30, 30:44] = np.nan
    again = filter_depth(FilterOptions(), other, tissue(), weight)
    np.testing.assert_array_equal(again, found)  # what has no weight does not matter


def test_nothing_with_weight_gives_nothing_known() -> None:
    assert np.isnan(filter_depth(FilterOptions(), plane(0.1, 0.1), tissue(), 0 * ones())).all()


def test_filters_can_be_switched_off() -> None:
    depth = plane(0.3, 0.2)
    off = FilterOptions(filter_radius=0, filter_median=0)
    np.testing.assert_array_equal(filter_depth(off, depth, tissue(), ones()), depth)


def test_weights_by_hand() -> None:
    depth = np.full(5, 100.0, np.float32)
    spread = np.array([0.0, 2.0, 4.0, 0.0, 0.0], np.float32)
    opacity = np.array([1.0, 1.0, 1.0, 0.5, 0.49], np.float32)
    # 2 % of the depth halves the weight, 4 % leaves a fifth
    np.testing.assert_allclose(weight_of(depth, spread, opacity), [1, 0.5, 0.2, 0.5, 0])


def test_clear_rays_have_no_weight_and_no_warning() -> None:
    depth, spread, opacity = np.array([[0.0, 0.0, 1e-30], [0.0, 5.0, 9.0], [0.0, 0.0, 0.1]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = weight_of(depth, spread, opacity)
    np.testing.assert_array_equal(found, 0)
