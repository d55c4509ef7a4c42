"""Weights of condition views: published numbers, real before generated whatever the sequence, choice of views."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from novel_view.weights import (
    REAL_OVER_GENERATED,
    Temperatures,
    best_conditions,
    fusion_weights,
    view_degrees,
    weights_by_pixel,
)
from utils.errors import InputError
from utils.geometry import rigid
from utils.types import FloatArray

ANGLES = st.floats(0, 180, allow_nan=False)
QUICK = settings(max_examples=150, deadline=None)


def angles(least: int, most: int) -> st.SearchStrategy[FloatArray]:
    return st.lists(ANGLES, min_size=least, max_size=most).map(lambda values: np.array(values, float))


class TestFusionWeights:
    def test_the_first_view_has_real_conditions_alone(self) -> None:
        np.testing.assert_allclose(fusion_weights(np.array([30.0]), np.zeros(0), 1, 36), [1.0])

    def test_early_in_a_sequence_weights_are_the_published_ones(self) -> None:
        """Second of 36: exp(-(2 / 36) / 0.5) = 0.8948 for the input; softmax of (-0.5, -1) for the two others."""
        found = fusion_weights(np.array([20.0]), np.array([10.0, 20.0]), 2, 36)
        near = 1 / (1 + np.exp(-0.5))
        np.testing.assert_allclose(found, [0.8948, 0.1052 * near, 0.1052 * (1 - near)], atol=1e-4)

    def test_late_in_a_sequence_the_input_keeps_more_than_was_published(self) -> None:
        """Last of 36: exp(-2) would leave 0.135 to the input beside 0.865 for one generated view."""
        real, generated = fusion_weights(np.array([90.0]), np.array([10.0]), 36, 36)
        assert real == pytest.approx(REAL_OVER_GENERATED / (1 + REAL_OVER_GENERATED))
        assert real > generated

    def test_generated_views_too_far_away_do_not_count(self) -> None:
        found = fusion_weights(np.array([170.0]), np.array([10.0, 125.1, 180.0]), 10, 36)
        assert found[1] > 0
        assert found[2:].tolist() == [0.0, 0.0]
        np.testing.assert_allclose(fusion_weights(np.array([170.0]), np.array([130.0]), 10, 36), [1.0, 0.0])

    @QUICK
    @given(
        angles(1, 5),
        angles(0, 8),
        st.integers(1, 60),
        st.integers(0, 60),
        st.floats(0.05, 5),
        st.floats(0.05, 5),
    )
    def test_weights_sum_to_one_and_real_views_outweigh_generated_ones(
        self, real: FloatArray, generated: FloatArray, rank: int, more: int, of_real: float, of_generated: float
    ) -> None:
        temperatures = Temperatures(of_real, of_generated)
        found = fusion_weights(real, generated, rank, rank + more, temperatures)
        assert found.sum() == pytest.approx(1)
        assert (found >= 0).all()
        ours, theirs = found[: len(real)], found[len(real) :]
        if len(theirs):
            assert ours.min() > theirs.max()
            assert ours.sum() > theirs.sum()

    @QUICK
    @given(angles(1, 4), angles(1, 4), st.integers(0, 2**32 - 1))
    def test_by_pixel_they_do_so_wherever_a_real_view_sees_the_pixel(
        self, real: FloatArray, generated: FloatArray, seed: int
    ) -> None:
        weights = fusion_weights(real, generated, 5, 6)
        looked = np.random.default_rng(seed).random((len(weights), 6, 7)) < 0.4
        by_pixel = weights_by_pixel(weights, looked)
        seen = looked & (weights > 0)[:, None, None]  # generated views out of reach see nothing that counts
        np.testing.assert_allclose(by_pixel.sum(axis=0), 1.0)
        assert (by_pixel[~seen & seen.any(axis=0)] == 0).all()
        ours, theirs = by_pixel[: len(real)], by_pixel[len(real) :].max(axis=0)
        shown = np.where(seen[: len(real)], ours, np.inf).min(axis=0)
        assert (shown > theirs)[seen[: len(real)].any(axis=0)].all()
        nowhere = ~seen.any(axis=0)
        np.testing.assert_allclose(by_pixel[:, nowhere], np.repeat(weights[:, None], nowhere.sum(), axis=1))

    @pytest.mark.parametrize(
        ("real", "rank", "count"), [([], 1, 3), ([10.0], 0, 3), ([10.0], 4, 3), ([190.0], 1, 3), ([np.nan], 1, 3)]
    )
    def test_what_cannot_be_weighed_is_refused(self, real: list[float], rank: int, count: int) -> None:
        with pytest.raises(InputError, match="cannot be weighed"):
            fusion_weights(np.array(real), np.zeros(0), rank, count)


class TestChoice:
    def test_what_sees_most_comes_first(self) -> None:
        scores = np.array([0.1, 0.9, np.nan, 0.5, 0.01])
        assert best_conditions(scores, 5) == [1, 3, 0]
        assert best_conditions(scores, 1) == [1]

    def test_among_views_that_see_as_much_the_nearer_comes_first(self) -> None:
        scores, degrees = np.array([0.97, 0.95, 0.5, 0.89, 0.86]), np.array([30.0, 10.0, 1.0, 5.0, 2.0])
        assert best_conditions(scores, 5, degrees) == [3, 1, 0, 4, 2]
        assert best_conditions(scores, 5) == [0, 1, 3, 4, 2]

    def test_the_best_counts_however_little_it_sees(self) -> None:
        assert best_conditions(np.array([0.0, 0.01]), 3) == [1]

    @pytest.mark.parametrize("scores", [[], [0.0, np.nan]])
    def test_a_target_that_nothing_sees_is_refused(self, scores: list[float]) -> None:
        with pytest.raises(InputError, match="no input view sees anything"):
            best_conditions(np.array(scores), 2)


class TestDegrees:
    def test_angles_worked_out_by_hand(self) -> None:
        """80 mm away: 80 mm sideways are 45 degrees, a turn on the spot is its own angle, a step back none."""
        turn = np.asarray(cv2.Rodrigues(np.array([0, np.radians(30), 0]))[0], float)
        views = np.stack(
            [
                rigid(np.eye(3), np.array([80.0, 0, 0])),
                rigid(turn, np.zeros(3)),
                rigid(np.eye(3), np.array([0, 0, -40.0])),
                rigid(np.diag([-1.0, 1, -1]), np.array([0, 0, 160.0])),
            ]
        )
        np.testing.assert_allclose(view_degrees(views, 80.0), [45, 30, 0, 180], atol=1e-6)
