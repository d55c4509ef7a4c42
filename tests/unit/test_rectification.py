"""Rectification: rows correspond, disparity follows its formula, depth comes back to the original eyes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stereo_prior.rectification import Rectification
from utils.errors import InputError
from utils.geometry import FloatArray, directions, nearest_rotation, pixel_grid, project, rigid, transform
from utils.types import Camera, Rig, Side

SIDES: tuple[Side, Side] = ("left", "right")


def turn(x_deg: float, y_deg: float, z_deg: float) -> FloatArray:
    x, y, z = np.radians([x_deg, y_deg, z_deg])
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def parallel_rig() -> Rig:
    left = Camera(266.0, 266.5, 155.1, 129.9, 320, 256)
    right = Camera(268.0, 268.1, 162.3, 126.1, 320, 256)
    return Rig(left, right, rigid(turn(0.35, 0.6, -0.45), np.array([-4.5, 0.06, -0.08])))


def reference_rig() -> Rig:
    """The reference system's rig: MATLAB's row vectors, so R is transposed."""
    matlab = np.array([[0.76, 0, -0.65], [0, 1, 0], [0.65, 0, 0.76]])
    left = Camera(942.05, 942.05, 181.44, 156.68, 384, 288)
    right = Camera(950.56, 950.56, 215.83, 154.01, 384, 288)
    return Rig(left, right, rigid(nearest_rotation(matlab.T), np.array([-406.05, 1.26, 152.08])))


def motorcycle_rig() -> Rig:
    left = Camera(999.421, 999.421, 294.182, 252.932, 741, 497)
    right = Camera(999.421, 999.421, 326.96, 252.932, 741, 497)
    return Rig(left, right, rigid(np.eye(3), np.array([-193.001, 0.0, 0.0])))


RIGS = {"parallel": (parallel_rig(), 77.0), "reference": (reference_rig(), 624.8)}


def random_points(distance_mm: float, n: int = 200) -> FloatArray:
    rng = np.random.default_rng(5)
    return rng.uniform(-0.05, 0.05, (n, 3)) * distance_mm + [0, 0, distance_mm]


@pytest.mark.parametrize("kind", RIGS)
def test_rows_are_equal_and_disparity_is_its_formula(kind: str) -> None:
    rig, distance_mm = RIGS[kind]
    assert rig.right is not None
    assert rig.right_from_left is not None
    rectification = Rectification.of(rig)
    points_left = random_points(distance_mm)
    pixels_left, _ = project(rig.left.matrix, points_left)
    pixels_right, _ = project(rig.right.matrix, transform(rig.right_from_left, points_left))
    rectified_left = rectification.rectify_pixels(pixels_left, "left")
    rectified_right = rectification.rectify_pixels(pixels_right, "right")
    np.testing.assert_allclose(rectified_left[:, 1], rectified_right[:, 1], atol=1e-9)
    depth_rectified_mm = points_left @ rectification.rotation_left[2]
    disparity_px = rectified_left[:, 0] - rectified_right[:, 0]
    np.testing.assert_allclose(disparity_px, rectification.disparity_from_depth(depth_rectified_mm), atol=1e-8)
    np.testing.assert_allclose(rectification.depth_from_disparity(disparity_px), depth_rectified_mm, rtol=1e-9)
    np.testing.assert_allclose(rectification.unrectify_pixels(rectified_left, "left"), pixels_left, atol=1e-8)
    np.testing.assert_allclose(rectification.unrectify_pixels(rectified_right, "right"), pixels_right, atol=1e-8)


@pytest.mark.parametrize("kind", RIGS)
def test_rectification_keeps_orientation_resolution_and_content(kind: str) -> None:
    rig, distance_mm = RIGS[kind]
    rectification = Rectification.of(rig)
    for side in SIDES:
        assert np.linalg.det(rectification.rotation(side)) == pytest.approx(1.0)
        assert rectification.rotation(side)[0, 0] > 0.5  # columns still run to the right
        assert rectification.rotation(side)[1, 1] > 0.9  # and rows downwards
        assert rectification.camera(side).fx > 0
        original, camera = rig.camera(side), rectification.camera(side)
        assert camera.width <= 1.6 * original.width
        assert camera.height <= 1.6 * original.height
        assert rectification.valid(side).mean() > 0.75
        seen = rectification.rectify_pixels(pixel_grid(original.width, original.height), side)
        inside = (seen >= -0.5).all(-1) & (seen <= [camera.width - 0.5, camera.height - 0.5]).all(-1)
        assert inside.mean() > 0.85
    assert (rectification.left.cy, rectification.left.fx) == (rectification.right.cy, rectification.right.fx)
    depth_rectified_mm = distance_mm * rectification.rotation_left[2, 2]
    middle_px = rectification.disparity_from_depth(np.array(depth_rectified_mm))
    assert abs(middle_px) < 0.2 * rectification.left.width  # not the 630 px of the bare formula


def test_reference_rig_meets_in_front_of_the_left_eye() -> None:
    rectification = Rectification.of(reference_rig())
    assert rectification.baseline_mm == pytest.approx(433.6, abs=0.05)  # |t| by hand
    points_left = np.array([[0.0, 0.0, 624.8]])
    pixels, _ = project(reference_rig().left.matrix, points_left)
    rectified = rectification.rectify_pixels(pixels, "left")
    assert 0.3 < rectified[0, 0] / rectification.left.width < 0.7


def test_rectified_rig_is_left_alone() -> None:
    rectification = Rectification.of(motorcycle_rig())
    image = np.random.default_rng(0).integers(0, 255, (497, 741, 3), np.uint8)
    np.testing.assert_array_equal(rectification.rectify(image, "right"), image)
    assert rectification.left.cx == 294.182
    assert rectification.right.cx == 326.96
    assert rectification.valid("left").all()
    # 999.421 * 193.001 / 4000 - 32.778 = 48.222 - 32.778
    assert rectification.disparity_from_depth(np.array(4000.0)) == pytest.approx(15.444, abs=1e-3)
    depth_mm = np.full((497, 741), 4000.0)
    np.testing.assert_array_equal(rectification.unrectify_depth(depth_mm, "left"), depth_mm)


def smooth_depth(rectification: Rectification, side: Side, distance_mm: float) -> tuple[FloatArray, FloatArray]:
    """A tilted, slightly curved surface: rectified depth, and its closed form in the original eye.

    In the rectified eye z = distance / (1 + a x + b y + c x^2) with (x, y) normalised coordinates.
    """

    def depth(rays: FloatArray) -> FloatArray:
        x, y = rays[..., 0] / rays[..., 2], rays[..., 1] / rays[..., 2]
        return np.asarray(distance_mm / (1 + 0.4 * x - 0.3 * y + 0.5 * x**2))

    camera, original = rectification.camera(side), rectification.original.camera(side)
    rectified = depth(directions(camera.matrix, pixel_grid(camera.width, camera.height)))
    rays = directions(original.matrix, pixel_grid(original.width, original.height))
    rays_rectified = rays @ rectification.rotation(side).T
    return rectified, depth(rays_rectified) / rays_rectified[..., 2]


@pytest.mark.parametrize("kind", RIGS)
@pytest.mark.parametrize("side", SIDES)
def test_unrectified_depth_is_the_surface(kind: str, side: Side) -> None:
    rig, distance_mm = RIGS[kind]
    rectification = Rectification.of(rig)
    rectified_mm, expected_mm = smooth_depth(rectification, side, distance_mm)
    found_mm = rectification.unrectify_depth(rectified_mm, side)
    known = np.isfinite(found_mm)
    assert known.mean() > 0.85
    assert np.abs(found_mm / expected_mm - 1)[known].max() < 1e-3
    assert np.median(np.abs(found_mm / expected_mm - 1)[known]) < 2e-5  # interpolated, not the nearest pixel


def test_depth_steps_are_not_blended() -> None:
    rectification = Rectification.of(parallel_rig())
    depth_mm = np.full((rectification.left.height, rectification.left.width), 60.0)
    depth_mm[:, depth_mm.shape[1] // 2 :] = 100.0
    depth_mm[:20] = np.nan
    found_mm = rectification.unrectify_depth(depth_mm, "left") / rectification.depth_scale("left")
    known = np.isfinite(found_mm)
    assert set(np.round(found_mm[known], 6)) == {60.0, 100.0}
    assert not known[:10].any()


def test_rectified_images_show_the_same_rows() -> None:
    """A plane's texture, given in closed form, is the same picture in both rectified eyes, shifted."""
    rig, distance_mm = RIGS["parallel"]
    rectification = Rectification.of(rig)
    images = {}
    for side in SIDES:
        camera = rig.camera(side)
        rays = directions(camera.matrix, pixel_grid(camera.width, camera.height))
        rays = rays @ rectification.rotation(side).T
        x_mm = rays[..., 0] / rays[..., 2] * distance_mm + (side == "right") * rectification.baseline_mm
        y_mm = rays[..., 1] / rays[..., 2] * distance_mm
        image = 128 + 60 * np.sin(x_mm / 1.5) + 50 * np.sin(y_mm / 1.2 + x_mm / 4)
        images[side] = rectification.rectify(image.astype(np.float32), side, outside=-1.0)
    assert (images["left"][~rectification.valid("left")] == -1).all()
    disparity_px = float(rectification.disparity_from_depth(np.array(distance_mm)))
    columns = np.arange(60, 260)
    for row in (60, 128, 180):
        right = np.interp(columns - disparity_px, np.arange(rectification.left.width), images["right"][row])
        np.testing.assert_allclose(
            images["left"][row, columns], right, atol=2.5
        )  # of an amplitude of 110; linear sampling


def test_masks_stay_masks() -> None:
    rectification = Rectification.of(parallel_rig())
    mask = np.ones((256, 320), bool)
    rectified = rectification.rectify(mask, "left")
    assert rectified.dtype == bool
    np.testing.assert_array_equal(rectified, rectification.valid("left"))


def test_a_right_eye_on_the_left_is_not_turned_upside_down() -> None:
    rig = parallel_rig()
    assert rig.right_from_left is not None
    swapped = Rig(rig.left, rig.right, rigid(rig.right_from_left[:3, :3], -rig.right_from_left[:3, 3]))
    rectification = Rectification.of(swapped)
    assert rectification.baseline_mm < 0
    assert rectification.rotation_left[0, 0] > 0.9
    depth_mm = np.array([50.0, 90.0])
    disparity_px = rectification.disparity_from_depth(depth_mm)
    np.testing.assert_allclose(rectification.depth_from_disparity(disparity_px), depth_mm)


@pytest.mark.parametrize("translation", [(0.0, 0.0, 0.0), (0.0, 0.0, -4.0)])
def test_impossible_baselines_are_refused(translation: tuple[float, float, float]) -> None:
    rig = parallel_rig()
    with pytest.raises(InputError, match="rectified"):
        Rectification.of(Rig(rig.left, rig.right, rigid(np.eye(3), np.array(translation))))


@settings(max_examples=40, deadline=None)
@given(
    angles=st.tuples(st.floats(-3, 3), st.floats(-2, 38), st.floats(-3, 3)),
    focal=st.floats(250, 900),
    offset=st.floats(-20, 20),
)
def test_rows_are_equal_for_any_rig(angles: tuple[float, float, float], focal: float, offset: float) -> None:
    distance_mm = 500.0
    rotation = turn(*angles)
    vergence = np.radians(angles[1])
    centre = np.array([20 + distance_mm * np.sin(vergence), 2.0, distance_mm * (1 - np.cos(vergence))])
    left = Camera(focal, 1.01 * focal, 160 + offset, 128, 320, 256)
    right = Camera(1.03 * focal, focal, 160 - offset, 120, 320, 256)
    rectification = Rectification.of(Rig(left, right, rigid(rotation, -rotation @ centre)))
    points = random_points(distance_mm, 20)
    rectified_left = rectification.rectify_pixels(project(left.matrix, points)[0], "left")
    points_right = (points - centre) @ rotation.T
    rectified_right = rectification.rectify_pixels(project(right.matrix, points_right)[0], "right")
    np.testing.assert_allclose(rectified_left[:, 1], rectified_right[:, 1], atol=1e-8)
