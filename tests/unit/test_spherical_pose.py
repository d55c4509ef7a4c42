"""Steps on a sphere: signs by hand, agreement with the published formula, and what three numbers cannot say."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from novel_view.spherical_pose import SphericalSteps, spherical_steps
from utils.geometry import invert_rigid, rigid
from utils.types import FloatArray

DISTANCE = 80.0


def turned(axis: str, degrees: float) -> FloatArray:
    vector = np.radians(degrees) * np.array([axis == "x", axis == "y", axis == "z"], float)
    return rigid(np.asarray(cv2.Rodrigues(vector)[0], float), np.zeros(3))


def about_point(rotation: FloatArray) -> FloatArray:
    """Return condition_from_target of a camera carried round the fixation point by a rotation."""
    point = rigid(np.eye(3), np.array([0, 0, DISTANCE]))
    return point @ rotation @ invert_rigid(point)


def steps(*condition_from_target: FloatArray) -> SphericalSteps:
    return spherical_steps(invert_rigid(np.stack(condition_from_target)), DISTANCE)


def test_signs_by_hand() -> None:
    """To the right by 30 degrees: azimuth +30. Down by 20: polar +20. Back by 10 mm: radius +10. Nothing else."""
    found = steps(
        about_point(turned("y", -30)), about_point(turned("x", 20)), rigid(np.eye(3), np.array([0, 0, -10.0]))
    )
    assert about_point(turned("y", -30))[0, 3] > 0, "the camera is to the right of where it was"
    assert about_point(turned("x", 20))[1, 3] > 0, "the camera is below where it was: y points down"
    np.testing.assert_allclose(np.degrees(found.azimuth), [30, 0, 0], atol=1e-9)
    np.testing.assert_allclose(np.degrees(found.polar), [0, 20, 0], atol=1e-9)
    np.testing.assert_allclose(found.radius_mm, [0, 0, 10], atol=1e-9)
    np.testing.assert_allclose(found.off_axis_degrees, 0, atol=1e-6)
    np.testing.assert_allclose(found.roll_degrees, 0, atol=1e-6)
    np.testing.assert_allclose(found.embedding(40.0)[2], [0, 0, 1, 0.25], atol=1e-9)
    np.testing.assert_allclose(found.embedding(40.0)[0], [0, 0.5, np.sqrt(0.75), 0], atol=1e-9)


def published(target: FloatArray, condition: FloatArray) -> FloatArray:
    """Return the published pose vector of two camera centres about the origin of a z-up world."""

    def sphere(centre: FloatArray) -> FloatArray:
        x, y, z = centre
        return np.array([np.arctan2(np.hypot(x, y), z), np.arctan2(y, x), np.linalg.norm(centre)])

    polar, azimuth, radius = sphere(target) - sphere(condition)
    return np.array([polar, np.sin(azimuth), np.cos(azimuth), radius])


def looking_at_origin(centre: FloatArray) -> FloatArray:
    """Return world_from_camera of an upright camera in a z-up world."""
    forward = -centre / np.linalg.norm(centre)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    return rigid(np.stack([right, np.cross(forward, right), forward], axis=1), centre)


@settings(max_examples=60, deadline=None)
@given(st.floats(-3.1, 3.1), st.floats(0.4, 2.7), st.floats(20, 300), st.floats(-3.1, 3.1))
def test_cameras_that_look_at_the_point_get_the_published_vector(
    azimuth: float, polar: float, radius: float, start: float
) -> None:
    condition = DISTANCE * np.array([np.cos(start), np.sin(start), 0.0])
    around = np.array([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)])
    target_from_condition = invert_rigid(looking_at_origin(radius * around)) @ looking_at_origin(condition)
    found = spherical_steps(target_from_condition[None], DISTANCE)
    np.testing.assert_allclose(found.embedding(1.0)[0], published(radius * around, condition), atol=1e-6)
    assert found.off_axis_degrees[0] < 1e-4
    assert found.roll_degrees[0] < 1e-4


@pytest.mark.parametrize("degrees", [5.0, -40.0])
def test_what_the_vector_leaves_out_is_measured(degrees: float) -> None:
    place = about_point(turned("y", -25))
    rolled, aside = steps(place @ turned("z", degrees), place @ turned("x", degrees)), steps(place)
    np.testing.assert_allclose(rolled.embedding(1.0), np.repeat(aside.embedding(1.0), 2, axis=0), atol=1e-9)
    np.testing.assert_allclose(rolled.roll_degrees, [abs(degrees), 0], atol=1e-6)
    np.testing.assert_allclose(rolled.off_axis_degrees, [0, abs(degrees)], atol=1e-6)


def test_a_sideways_step_without_turning_looks_past_the_point() -> None:
    """10 mm aside at 80 mm: atan(10 / 80) = 7.125 degrees of azimuth, and as many off the point."""
    found = steps(rigid(np.eye(3), np.array([10.0, 0, 0])))
    assert np.degrees(found.azimuth[0]) == pytest.approx(7.125, abs=1e-3)
    assert found.off_axis_degrees[0] == pytest.approx(7.125, abs=1e-3)
