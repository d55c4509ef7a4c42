"""Refinement of the prior on hand-made maps: what is looked at, what is replaced, what is smoothed."""

from __future__ import annotations

import numpy as np
import pytest

from nerf.options import NerfOptions
from nerf.refinement import Evidence, refined, refinement_area
from utils.types import BoolArray, FloatArray

SHAPE = (24, 32)


def flat(value: float = 80.0) -> FloatArray:
    return np.full(SHAPE, value, np.float32)


def everywhere() -> BoolArray:
    return np.ones(SHAPE, bool)


def nowhere() -> BoolArray:
    return np.zeros(SHAPE, bool)


def evidence(rendered_mm: FloatArray, residual: FloatArray | None = None, gain: float = 1.0) -> Evidence:
    """Return rendered depth for which the other images speak (gain 1), against which (-1), or neither (NaN)."""
    return Evidence(rendered_mm, flat(0.0) if residual is None else residual, flat(gain))


def test_steep_places_highlights_and_holes_are_looked_at_within_tissue() -> None:
    depth, tissue, highlight = flat(), everywhere(), nowhere()
    depth[:, 24:] = 90.0  # a step between columns 23 and 24
    depth[5, 4] = np.nan
    highlight[15, 8] = True
    tissue[20:] = False
    area = refinement_area(depth, tissue, highlight)
    assert area[2, 21:27].all(), "the step, and 2 px around it"
    assert area[3:8, 2:7].all(), "the hole"
    assert area[13:18, 6:11].all(), "the highlight"
    assert not area[10, 12:18].any(), "a flat place"
    assert not area[20:].any()


def test_a_flat_prior_without_highlights_is_left_alone() -> None:
    assert not refinement_area(flat(), everywhere(), nowhere()).any()
    assert not refinement_area(flat(), nowhere(), everywhere()).any()


def test_an_unknown_prior_is_looked_at_everywhere() -> None:
    assert refinement_area(flat(np.nan), everywhere(), nowhere()).all()


def test_rendered_depth_is_taken_where_the_colours_fit_and_the_depth_differs() -> None:
    # ten columns in the area: residual 0.01 .. 0.10, rendered 1 .. 10 mm farther in another order
    depth, area = flat(), nowhere()
    area[:, :10] = True
    residual = np.tile(np.linspace(0.01, 0.32, 32), (24, 1))
    offset = np.tile(np.concatenate([[3, 1, 5, 2, 9, 4, 6, 7, 8, 10], np.full(22, 20.0)]), (24, 1))
    found = refined(depth, evidence(depth + offset, residual), area, 0.0)
    # residual up to its median in the area: columns 0 to 4; difference from its 20th percentile, 2.8, upwards
    taken = found != depth
    assert set(np.flatnonzero(taken.any(0))) == {0, 2, 4}
    np.testing.assert_allclose(found[:, 4], 89.0)


@pytest.mark.parametrize("gain", [-1.0, np.nan])
def test_what_the_other_images_do_not_speak_for_is_not_taken(gain: float) -> None:
    np.testing.assert_array_equal(refined(flat(), evidence(flat(85.0), gain=gain), everywhere(), 0.0), 80.0)


def test_nothing_changes_outside_the_area() -> None:
    depth, area = flat(), nowhere()
    area[:, :10] = True
    found = refined(depth, evidence(flat(85.0)), area, 0.5)
    np.testing.assert_array_equal(found[:, 10:], 80)
    np.testing.assert_array_equal(found[:, :10], 85)
    np.testing.assert_array_equal(depth, 80)  # the old prior is not written into


def test_an_unknown_prior_takes_any_rendered_depth() -> None:
    depth = flat()
    depth[:, :4] = np.nan
    rendered = flat(83.0)
    rendered[:, 0] = np.nan
    area = nowhere()
    area[:, :4] = True
    found = refined(depth, evidence(rendered, flat(0.9), gain=np.nan), area, 0.0)
    assert np.isnan(found[:, 0]).all()
    np.testing.assert_array_equal(found[:, 1:4], 83)
    np.testing.assert_array_equal(found[:, 4:], 80)


def test_without_renders_the_prior_stays() -> None:
    depth = flat()
    np.testing.assert_array_equal(refined(depth, evidence(flat(np.nan), flat(np.nan)), everywhere(), 0.5), depth)
    np.testing.assert_array_equal(refined(depth, evidence(flat(90.0)), nowhere(), 0.5), depth)


def spiky() -> tuple[FloatArray, BoolArray]:
    """Return a prior with two spikes, and the area around them."""
    depth, area = flat(), nowhere()
    depth[12, 10], depth[12, 20] = 120.0, 100.0
    area[8:16, 6:26] = True
    return depth, area


def test_where_images_cannot_tell_the_worst_takes_the_median_of_its_surroundings() -> None:
    depth, area = spiky()
    silent = evidence(flat(), gain=np.nan)
    found = refined(depth, silent, area, 0.5)
    assert found[12, 10] == 80.0  # 40 mm off is the worse half
    assert found[12, 20] == 100.0
    assert refined(depth, silent, area, 1.0)[12, 20] == 80.0
    np.testing.assert_array_equal(refined(depth, silent, area, 0.0), depth)


def test_where_images_speak_for_the_prior_nothing_is_smoothed() -> None:
    depth, area = spiky()
    np.testing.assert_array_equal(refined(depth, evidence(flat(), gain=-1.0), area, 1.0), depth)


def test_a_lone_spike_is_smoothed() -> None:
    depth, area = spiky()
    depth[12, 20] = 80.0
    assert refined(depth, evidence(flat(), gain=np.nan), area, 0.5)[12, 10] == 80.0


@pytest.mark.parametrize(
    ("step", "number"), [(999, None), (1000, 1), (1001, None), (1500, 2), (2000, 3), (2500, None)]
)
def test_when_refinements_come(step: int, number: int | None) -> None:
    options = NerfOptions(depth_refine_start=1000, depth_refine_period=500, depth_refine_rounds=3)
    assert options.refine_round_after(step) == number


def test_refinement_can_be_switched_off() -> None:
    for options in (NerfOptions(no_depth_refine=True), NerfOptions(depth_refine_rounds=0)):
        assert not any(options.refine_round_after(step) for step in range(5000))
