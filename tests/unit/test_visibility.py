"""Who has seen a surface: inside the image, and with nothing in front."""

from __future__ import annotations

import numpy as np

from tests.synthetic import Nearest, Plane, Sphere, parallel_rig, render
from utils.geometry import pixel_grid, project, rigid, unproject
from utils.types import FloatArray
from utils.visibility import DepthView, coverage, seen_by

CAMERA = parallel_rig(96, 80).left
WALL = Plane((0.0, 0.0, 1.0), 80.0)
BALL = Sphere((0.0, 0.0, 40.0), 5.0)


def sight(surface: Nearest | Plane, shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> DepthView:
    pose = rigid(np.eye(3), np.array(shift_mm))
    return DepthView(CAMERA, pose, render(surface, CAMERA, pose).depth_mm.astype(np.float32))


def hidden_exactly(target: DepthView, centre_world: FloatArray, eye: FloatArray, radius_mm: float) -> FloatArray:
    """Return (h, w): the segment from a point of the target to an eye passes through the ball."""
    points = unproject(CAMERA.matrix, pixel_grid(CAMERA.width, CAMERA.height), target.depth_mm)
    points = points + target.world_from_camera[:3, 3]
    way = eye - points
    share = ((centre_world - points) * way).sum(-1) / (way**2).sum(-1)
    nearest = points + share.clip(0, 1)[..., None] * way
    return np.asarray(np.linalg.norm(nearest - centre_world, axis=-1) - radius_mm)


def test_a_wall_is_seen_by_a_shifted_camera_where_it_lies_in_its_image() -> None:
    target, other = sight(WALL), sight(WALL, (20.0, 0.0, 0.0))
    points = unproject(CAMERA.matrix, pixel_grid(CAMERA.width, CAMERA.height), target.depth_mm)
    pixels, _ = project(CAMERA.matrix, points - [20.0, 0.0, 0.0])
    inside = (pixels[..., 0] > -0.5) & (pixels[..., 0] < CAMERA.width - 0.5)
    np.testing.assert_array_equal(seen_by(target, other), inside)
    assert 0.6 < inside.mean() < 0.9


def test_what_a_ball_hides_is_not_seen() -> None:
    both = Nearest((WALL, BALL))
    target, other = sight(both, (-15.0, 0.0, 0.0)), sight(both, (10.0, 0.0, 0.0))
    clearance = hidden_exactly(target, np.array(BALL.centre_world), other.world_from_camera[:3, 3], BALL.radius_mm)
    wall = target.depth_mm > 79.0
    seen = seen_by(target, other)
    hidden = wall & (clearance < -0.8)  # a pixel's width of doubt at the rim
    assert hidden.sum() > 50
    assert not seen[hidden].any()
    pixels, _ = project(
        CAMERA.matrix,
        unproject(CAMERA.matrix, pixel_grid(CAMERA.width, CAMERA.height), target.depth_mm) - [25.0, 0.0, 0.0],
    )
    inside = (pixels[..., 0] > -0.5) & (pixels[..., 0] < CAMERA.width - 0.5)
    assert seen[wall & inside & (clearance > 2.0)].all()


def test_a_camera_that_looks_away_sees_nothing() -> None:
    target = sight(WALL)
    away = DepthView(CAMERA, rigid(np.diag([-1.0, 1.0, -1.0]), np.zeros(3)), target.depth_mm)
    assert not seen_by(target, away).any()


def test_coverage_counts_views_and_not_what_has_no_surface() -> None:
    target = sight(WALL)
    target.depth_mm[:10] = np.nan
    blind = DepthView(CAMERA, np.eye(4), np.full_like(target.depth_mm, np.nan))
    count = coverage(target, [sight(WALL), blind, sight(WALL), sight(Plane((0.0, 0.0, 1.0), 85.0))])
    assert (count[:10] == 0).all()
    assert (count[10:] == 2).all()
