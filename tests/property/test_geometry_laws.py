"""Laws of the geometry, for all cameras, poses and points that an endoscope can meet."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from utils.geometry import (
    directions,
    invert_rigid,
    nearest_rotation,
    project,
    rigid,
    rotation_angle_degrees,
    transform,
    triangulate,
    umeyama,
    unproject,
)
from utils.images import natural_key
from utils.types import Camera, FloatArray, Rig

QUICK = settings(max_examples=60, deadline=None)


def number(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


cameras = st.builds(
    Camera, number(50, 2000), number(50, 2000), number(-50, 800), number(-50, 800), st.just(640), st.just(512)
)
vectors = st.tuples(number(-400, 400), number(-400, 400), number(-400, 400)).map(np.array)
rotations = st.tuples(number(-3, 3), number(-3, 3), number(-3, 3)).map(
    lambda turn: np.asarray(cv2.Rodrigues(np.array(turn))[0], float)
)
transforms = st.builds(rigid, rotations, vectors)
seeds = st.integers(0, 2**32 - 1)


def cloud(seed: int, count: int = 12, size_mm: float = 60.0) -> FloatArray:
    return np.random.default_rng(seed).uniform(-size_mm, size_mm, (count, 3))


@QUICK
@given(cameras, number(-200, 900), number(-200, 900), number(0.1, 5000))
def test_projection_undoes_unprojection(camera: Camera, column: float, row: float, depth_mm: float) -> None:
    pixel, z = project(camera.matrix, unproject(camera.matrix, np.array([column, row]), np.array(depth_mm)))
    np.testing.assert_allclose(pixel, [column, row], atol=1e-8)
    np.testing.assert_allclose(z, depth_mm, rtol=1e-12)


@QUICK
@given(cameras, number(-200, 900), number(-200, 900))
def test_directions_have_unit_z(camera: Camera, column: float, row: float) -> None:
    assert directions(camera.matrix, np.array([column, row]))[2] == 1.0


@QUICK
@given(transforms, seeds)
def test_inverse_transforms_undo_each_other(b_from_a: FloatArray, seed: int) -> None:
    points = cloud(seed)
    np.testing.assert_allclose(transform(invert_rigid(b_from_a), transform(b_from_a, points)), points, atol=1e-9)
    np.testing.assert_allclose(invert_rigid(b_from_a), np.linalg.inv(b_from_a), atol=1e-9)
    np.testing.assert_allclose(invert_rigid(invert_rigid(b_from_a)), b_from_a, atol=1e-9)


@QUICK
@given(transforms, transforms, seeds)
def test_the_inner_frames_cancel(c_from_b: FloatArray, b_from_a: FloatArray, seed: int) -> None:
    points = cloud(seed)
    np.testing.assert_allclose(
        transform(c_from_b @ b_from_a, points), transform(c_from_b, transform(b_from_a, points)), atol=1e-8
    )
    both = np.stack([c_from_b, b_from_a])
    np.testing.assert_allclose(invert_rigid(both)[1], invert_rigid(b_from_a), atol=1e-12)


@QUICK
@given(transforms, seeds, number(0.01, 100))
def test_umeyama_finds_the_similarity_that_was_applied(b_from_a: FloatArray, seed: int, scale: float) -> None:
    source = cloud(seed)
    found = umeyama(source, scale * transform(b_from_a, source))
    assert abs(found[0] / scale - 1) < 1e-9
    np.testing.assert_allclose(found[1], b_from_a[:3, :3], atol=1e-8)
    np.testing.assert_allclose(found[2], scale * b_from_a[:3, 3], atol=1e-6 * max(scale, 1))


@QUICK
@given(seeds, number(0.5, 2.0))
def test_umeyama_never_mirrors(seed: int, scale: float) -> None:
    source = cloud(seed)
    _, rotation, _ = umeyama(source, scale * source * np.array([1.0, 1.0, -1.0]))
    assert np.linalg.det(rotation) > 0.999


@QUICK
@given(cameras, cameras, rotations, seeds)
def test_triangulation_finds_points_that_both_eyes_see(
    left: Camera, right: Camera, rotation: FloatArray, seed: int
) -> None:
    points = cloud(seed) + np.array([0.0, 0.0, 200.0])
    right_from_left = rigid(rotation, np.array([-30.0, 2.0, 40.0]))
    seen = transform(right_from_left, points)
    points, seen = points[seen[:, 2] > 1], seen[seen[:, 2] > 1]
    assume(len(points) > 0)
    pixels_left, _ = project(left.matrix, points)
    pixels_right, _ = project(right.matrix, seen)
    found = triangulate(left.matrix, right.matrix, right_from_left, pixels_left, pixels_right)
    centre = invert_rigid(right_from_left)[:3, 3]
    angle = np.linalg.norm(np.cross(points, points - centre), axis=1)
    angle /= np.linalg.norm(points, axis=1) * np.linalg.norm(points - centre, axis=1)
    wide = angle > 0.01  # rays that hardly cross say nothing of the distance
    np.testing.assert_allclose(found[wide], points[wide], atol=1e-4)


@QUICK
@given(number(0.0, 3.14), vectors)
def test_the_angle_of_a_rotation_vector_is_its_length(angle: float, axis: FloatArray) -> None:
    assume(float(np.linalg.norm(axis)) > 1)
    rotation = np.asarray(cv2.Rodrigues(angle * axis / np.linalg.norm(axis))[0], float)
    assert abs(float(rotation_angle_degrees(rotation)) - np.degrees(angle)) < 1e-4
    np.testing.assert_allclose(nearest_rotation(1.3 * rotation), rotation, atol=1e-9)


@QUICK
@given(cameras, st.integers(20, 2000), st.integers(20, 2000), number(0, 1), number(0, 1))
def test_a_resized_camera_sees_the_same_share_of_the_image(
    camera: Camera, width: int, height: int, across: float, down: float
) -> None:
    # the share counts from the outer edge of the first pixel, half a pixel before its centre
    def pixel(one: Camera) -> FloatArray:
        return np.array([across * one.width - 0.5, down * one.height - 0.5])

    smaller = camera.resized(width, height)
    np.testing.assert_allclose(
        directions(smaller.matrix, pixel(smaller)), directions(camera.matrix, pixel(camera)), atol=1e-9
    )
    back = smaller.resized(camera.width, camera.height)
    np.testing.assert_allclose(back.matrix, camera.matrix, rtol=1e-9, atol=1e-9)


@QUICK
@given(cameras, transforms)
def test_a_rig_survives_json(camera: Camera, right_from_left: FloatArray) -> None:
    rig = Rig(camera, camera.resized(320, 256), right_from_left)
    again = Rig.from_json(rig.to_json())
    assert (again.left, again.right) == (rig.left, rig.right)
    np.testing.assert_array_equal(again.left_from("right"), rig.left_from("right"))
    np.testing.assert_allclose(rig.left_from("right") @ right_from_left, np.eye(4), atol=1e-9)


@QUICK
@given(st.lists(st.integers(0, 10**6), min_size=2, unique=True), st.sampled_from(["", "frame_", "a1b"]))
def test_natural_order_is_the_order_of_the_numbers(numbers: list[int], stem: str) -> None:
    names = [f"{stem}{one}.jpg" for one in numbers]
    assert sorted(names, key=natural_key) == [f"{stem}{one}.jpg" for one in sorted(numbers)]


@settings(max_examples=20, deadline=None)
@example(["1\u00b2", "1a"])
@given(st.lists(st.text(max_size=6), min_size=2, max_size=5))
def test_any_names_can_be_put_in_order(names: list[str]) -> None:
    ordered = sorted(names, key=natural_key)
    assert all(natural_key(a) <= natural_key(b) for a, b in itertools.pairwise(ordered))
