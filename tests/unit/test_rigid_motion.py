"""Motion between two frames: what one rigid motion explains, worked out for points that move as is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tests.synthetic import turn
from utils.geometry import invert_rigid, project, rigid, transform, unproject
from utils.rigid_motion import (
    PairMotion,
    best_rigid,
    epipolar_distance,
    motion_of_pixels,
    motion_of_points,
    smallest_px,
)
from utils.types import Camera, FloatArray

CAMERA = Camera(270.0, 270.0, 159.5, 127.5, 320, 256)
BASELINE_MM = 4.5


@dataclass
class Points:
    """Points of a bent surface at 70 to 90 mm, seen from two places; `move` makes them other than rigid."""

    world_from_b: FloatArray
    count: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.pixels_a = self.rng.uniform([10, 10], [310, 246], (self.count, 2))
        across, down = (self.pixels_a / [320, 256]).T
        self.depth_a = 80 + 8 * np.sin(5 * across) + 6 * np.cos(4 * down)
        self.points_b = unproject(CAMERA.matrix, self.pixels_a, self.depth_a)

    def move(self, chosen: np.ndarray, way_mm: tuple[float, float, float]) -> Points:
        self.points_b[chosen] += way_mm
        return self

    def matches(self, noise_px: float = 0.3, wrong: float = 0.0) -> tuple[FloatArray, FloatArray, FloatArray]:
        pixels_b, depth_b = project(CAMERA.matrix, transform(invert_rigid(self.world_from_b), self.points_b))
        pixels_b = pixels_b + self.rng.normal(0, noise_px, pixels_b.shape)
        swapped = self.rng.uniform(size=self.count) < wrong
        pixels_b[swapped] = self.rng.uniform([0, 0], [320, 256], (int(swapped.sum()), 2))
        return self.pixels_a, pixels_b, depth_b

    def two_eyes(self, **how: float) -> PairMotion:
        pixels_a, pixels_b, depth_b = self.matches(**how)
        noisy_mm = (
            self.depth_a + self.rng.normal(0, 0.8, self.count),
            depth_b + self.rng.normal(0, 0.8, self.count),
        )
        return motion_of_points(CAMERA, BASELINE_MM, (pixels_a, pixels_b), noisy_mm)

    def one_eye(self, **how: float) -> PairMotion:
        return motion_of_pixels(CAMERA, *self.matches(**how)[:2])

    @property
    def middle(self) -> np.ndarray:
        """A rectangle in the middle of the image, a quarter of it."""
        return np.asarray((np.abs(self.pixels_a - [160, 128]) < [80, 64]).all(axis=1))

    @property
    def patch(self) -> np.ndarray:
        """The left third of the image."""
        return self.pixels_a[:, 0] < 110


STANDS = rigid(np.eye(3), np.zeros(3))
TRAVELS = rigid(turn((0, -6, 2)), np.array([9.0, 2.0, 3.0]))  # |.| = 9.695 mm, 12 % of 80 mm


def test_nothing_moves() -> None:
    found = Points(STANDS).two_eyes()
    assert found.points == 300
    assert found.still_share > 0.95
    assert found.travel < 0.005
    assert (found.off_share, found.moved_share) == (0.0, 0.0)
    assert found.parallax_px < 0.6
    assert found.rigid_share > 0.95
    assert found.still_beside_rigid == pytest.approx(1.0, abs=0.05)


def test_the_camera_travels_past_resting_tissue() -> None:
    found = Points(TRAVELS).two_eyes()
    assert found.travel == pytest.approx(np.sqrt(94) / 80, rel=0.15)
    assert found.turn_degrees == pytest.approx(np.sqrt(40), rel=0.1)
    assert found.off_share < 0.01
    assert found.still_share < 0.05
    assert found.still_beside_rigid < 0.05
    assert found.parallax_px > 1.0


def test_a_turn_has_neither_travel_nor_parallax() -> None:
    found = Points(rigid(turn((0, 3, 0)), np.zeros(3))).two_eyes()
    assert 270 * np.tan(np.radians(3)) < found.image_motion_px < 17  # 14.2 px in the middle, more at the sides
    assert found.turn_degrees == pytest.approx(3.0, abs=0.2)
    assert found.travel < 0.01
    assert found.parallax_px < 0.6
    assert found.off_share == 0.0


@pytest.mark.parametrize("world_from_b", [STANDS, TRAVELS], ids=["stands", "travels"])
def test_a_third_of_the_tissue_slides_by_3_mm(world_from_b: FloatArray) -> None:
    points = Points(world_from_b)
    found = points.move(points.patch, (0.0, 3.0, 0.0)).two_eyes()
    assert found.off_share == pytest.approx(points.patch.mean(), abs=0.07)
    assert found.off_mm == pytest.approx(3.0, rel=0.25)
    if world_from_b is STANDS:
        assert found.moved_share == pytest.approx(points.patch.mean(), abs=0.05)
        assert found.moved_mm == pytest.approx(3.0, rel=0.15)
        assert found.still_share == pytest.approx(1 - points.patch.mean(), abs=0.05)


def test_tissue_that_rises_towards_the_camera_is_off() -> None:
    points = Points(STANDS)
    found = points.move(points.patch, (0.0, 0.0, -4.0)).two_eyes()
    assert found.moved_share > 0.2
    assert found.moved_mm == pytest.approx(4.0, rel=0.4)


def test_motion_of_all_tissue_together_is_the_camera_s() -> None:
    points = Points(STANDS)
    found = points.move(np.ones(300, bool), (6.0, 0.0, 0.0)).two_eyes()
    assert found.travel == pytest.approx(6.0 / 80, rel=0.2)
    assert found.off_share < 0.01


def test_wrong_matches_are_not_taken_for_tissue() -> None:
    found = Points(TRAVELS).two_eyes(wrong=0.2)
    assert found.rigid_share == pytest.approx(0.8, abs=0.08)
    assert found.off_share < 0.02


def test_one_eye_sees_what_leaves_the_epipolar_lines_alone() -> None:
    sideways = rigid(np.eye(3), np.array([9.0, 0.0, 0.0]))  # the lines are rows
    along, across = Points(sideways), Points(sideways)
    assert Points(sideways).one_eye().off_share < 0.01
    assert across.move(across.middle, (0.0, 2.0, 0.0)).one_eye().off_share > 0.15
    assert along.move(along.middle, (2.0, 0.0, 0.0)).one_eye().off_share < 0.02
    assert np.isnan(Points(sideways).one_eye().travel)


def test_one_eye_that_stands_sees_what_moves() -> None:
    points = Points(STANDS)
    found = points.move(points.patch, (0.0, 2.0, 0.0)).one_eye()
    assert found.moved_share == pytest.approx(points.patch.mean(), abs=0.05)
    assert found.still_share > 0.6


def test_sampson_distance_of_rows() -> None:
    sideways = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # x_b F x_a = row_a - row_b
    a, b = np.array([[10.0, 20.0], [5.0, 5.0]]), np.array([[40.0, 22.0], [9.0, 5.0]])
    assert np.abs(epipolar_distance(sideways, a, b)) == pytest.approx([2 / np.sqrt(2), 0.0])


def test_no_rigid_motion_in_noise_still_gives_one() -> None:
    rng = np.random.default_rng(0)
    points = unproject(CAMERA.matrix, rng.uniform(0, 250, (40, 2)), np.full(40, 80.0))
    found = best_rigid(CAMERA.matrix, points, rng.uniform(0, 250, (40, 2)), 1.0)
    assert found.shape == (4, 4)
    assert np.linalg.det(found[:3, :3]) == pytest.approx(1.0)


def test_the_least_motion_grows_with_the_image() -> None:
    assert smallest_px(CAMERA.resized(160, 128)) == 1.0
    assert smallest_px(CAMERA.resized(640, 512)) == pytest.approx(640 / 300)
