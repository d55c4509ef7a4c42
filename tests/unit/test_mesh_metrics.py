"""Mesh metrics on planes and balls, whose distances are known: what is charged, and what is excused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from evaluation import mesh_metrics as module
from evaluation.icp import icp
from evaluation.surfaces import MOST_SAMPLES, SPACING_MM, Mesh, Surface, facets, sampled
from evaluation.visibility import View, mesh_that_counts, truth_that_counts
from tests.synthetic import BALL_ON_WALL, Plane, Sphere, parallel_rig, path, render
from utils.geometry import invert_rigid, project, rigid, rotation_angle_degrees, transform
from utils.triangle_kernels import draw_depth, nearest_of
from utils.types import FloatArray

RIG = parallel_rig(80, 64)
POSES = path(4)
WALL = Plane((0.0, 0.0, 1.0), 80.0)
BALL = Sphere((0.0, 0.0, 80.0), 15.0)


def views(surface: object) -> list[View]:
    """Return the left eye's views of a surface of tests/synthetic.py from four places."""
    return [View(RIG.left, pose, render(surface, RIG.left, pose).depth_mm.astype(np.float32)) for pose in POSES]  # type: ignore[arg-type]


def grid(z_mm: float, x: tuple[float, float] = (-90, 90), y: tuple[float, float] = (-90, 90), n: int = 60) -> Mesh:
    """Return a plane of n x n squares across the line of sight."""
    columns, rows = np.meshgrid(np.linspace(*x, n + 1), np.linspace(*y, n + 1))
    vertices = np.stack([columns, rows, np.full_like(rows, z_mm)], -1).reshape(-1, 3)
    index = np.arange(len(vertices)).reshape(n + 1, n + 1)
    a, b, c, d = (index[i : n + i, j : n + j].ravel() for i, j in ((0, 0), (0, 1), (1, 1), (1, 0)))
    return Mesh(vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]))


def ball(radius_mm: float, n: int = 120) -> Mesh:
    """Return a ball of n rings around the centre of `BALL`."""
    turn, rise = np.meshgrid(np.linspace(0, 2 * np.pi, 2 * n + 1), np.linspace(0, np.pi, n + 1))
    ways = np.stack([np.sin(rise) * np.cos(turn), np.sin(rise) * np.sin(turn), np.cos(rise)], -1).reshape(-1, 3)
    index = np.arange(len(ways)).reshape(n + 1, 2 * n + 1)
    a, b, c, d = (index[i : n + i, j : 2 * n + j].ravel() for i, j in ((0, 0), (0, 1), (1, 1), (1, 0)))
    return Mesh(
        radius_mm * ways + np.array(BALL.centre_world),
        np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]),
    )


def joined(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))


def mesh_metrics(mesh: Surface, truth: Surface, seen_from: list[View]) -> dict[str, float]:
    return module.mesh_metrics(mesh, truth, seen_from, truth_that_counts(seen_from, truth))


def surface(mesh: Mesh, seed: int = 0) -> Surface:
    return sampled(mesh, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def wall_views() -> list[View]:
    return views(WALL)


@pytest.fixture(scope="module")
def wall() -> Surface:
    return surface(grid(80.0))


@pytest.mark.parametrize("offset_mm", [-0.7, 0.7])
def test_a_plane_that_is_off_by_a_distance(wall_views: list[View], wall: Surface, offset_mm: float) -> None:
    """Before the truth or behind it: a sheet behind is not hidden by the surface that is seen."""
    scores = mesh_metrics(surface(grid(80.0 + offset_mm), 1), wall, wall_views)
    for name in ("accuracy", "completeness"):
        for kind in ("mean", "median", "p95"):
            assert scores[f"{name}_{kind}_mm"] == pytest.approx(0.7, abs=1e-4)
    assert scores["chamfer_mm"] == pytest.approx(0.7, abs=1e-4)
    for limit, share in (("0.25", 0), ("0.5", 0), ("1", 1), ("2", 1)):
        assert [scores[f"{name}_{limit}mm"] for name in ("precision", "recall", "f_score")] == [share] * 3
    assert scores["normal_consistency"] == pytest.approx(1)
    assert scores["n_mesh_points"] > 1000


def test_equal_surfaces_are_at_no_distance_however_they_are_cut_and_sampled(
    wall_views: list[View], wall: Surface
) -> None:
    scores = mesh_metrics(surface(grid(80.0, n=1), 7), wall, wall_views)
    assert scores["accuracy_p95_mm"] < 1e-9
    assert scores["completeness_p95_mm"] < 1e-9
    assert scores["f_score_0.25mm"] == 1


def test_a_missing_half_costs_completeness_alone(wall_views: list[View], wall: Surface) -> None:
    counted = wall.samples[truth_that_counts(wall_views, wall)]
    middle = float(np.median(counted[:, 0]))
    scores = mesh_metrics(surface(grid(80.0, x=(-90, middle)), 1), wall, wall_views)
    assert scores["accuracy_p95_mm"] < 1e-9
    assert scores["precision_0.25mm"] == 1
    assert scores["recall_0.25mm"] == pytest.approx(0.5, abs=0.02)
    beyond = np.maximum(counted[:, 0] - middle, 0)
    assert scores["completeness_mean_mm"] == pytest.approx(beyond.mean(), rel=1e-3)


@pytest.mark.parametrize("z_mm", [40.0, 77.0, 83.0, 140.0])
def test_a_second_sheet_costs_accuracy_alone(wall_views: list[View], wall: Surface, z_mm: float) -> None:
    """Before the surface or behind it, near or far."""
    scores = mesh_metrics(surface(joined(grid(80.0), grid(z_mm, (-5, 5), (-5, 5))), 1), wall, wall_views)
    alone = mesh_metrics(surface(grid(80.0), 1), wall, wall_views)
    assert scores["completeness_p95_mm"] < 1e-9
    share = 1 - scores["precision_2mm"]
    density = scores["n_mesh_points"] - alone["n_mesh_points"]
    assert share == pytest.approx(density / scores["n_mesh_points"], abs=5e-3)
    assert share > 0.01
    assert scores["accuracy_mean_mm"] == pytest.approx(share * abs(z_mm - 80), rel=1e-3)


def test_what_lies_outside_the_images_or_the_tissue_counts_for_nothing(
    wall_views: list[View], wall: Surface
) -> None:
    wrong = grid(70.0, (60, 90), (-90, 90))
    scores = mesh_metrics(surface(joined(grid(80.0), wrong), 1), wall, wall_views)
    assert scores["accuracy_p95_mm"] < 1e-9
    left = np.arange(RIG.left.width) < RIG.left.width // 2
    masked = [replace(view, depth_mm=np.where(left, view.depth_mm, np.nan)) for view in wall_views]
    all_of_it, half = (int(truth_that_counts(some, wall).sum()) for some in (wall_views, masked))
    assert half / all_of_it == pytest.approx(0.5, abs=0.1)
    wrong = grid(70.0, (20, 40), (-90, 90))
    assert mesh_metrics(surface(wrong, 1), wall, wall_views)["n_mesh_points"] > 0
    scores = mesh_metrics(surface(wrong, 1), wall, masked)
    assert (scores["n_mesh_points"], scores["f_score_2mm"], scores["recall_2mm"]) == (0, 0, 0)
    assert "accuracy_mean_mm" not in scores


def test_two_images_have_to_see_it_where_there_are_two(wall_views: list[View], wall: Surface) -> None:
    left = np.arange(RIG.left.width) < RIG.left.width // 2
    halves = [
        replace(wall_views[0], depth_mm=np.where(side, wall_views[0].depth_mm, np.nan)) for side in (left, ~left)
    ]
    assert mesh_metrics(wall, wall, halves) == {}
    alone = mesh_metrics(wall, wall, wall_views[:1])
    assert alone["n_truth_points"] > mesh_metrics(wall, wall, wall_views[:2])["n_truth_points"]
    assert alone["f_score_0.25mm"] == 1


def test_balls_of_two_sizes() -> None:
    scores = mesh_metrics(surface(ball(15.5), 1), surface(ball(15.0)), views(BALL))
    assert scores["accuracy_mean_mm"] == pytest.approx(0.5, abs=0.01)
    assert scores["completeness_mean_mm"] == pytest.approx(0.5, abs=0.01)
    assert scores["normal_consistency"] > 0.999


def test_the_back_that_no_camera_saw_is_excused() -> None:
    """The hidden half of the ball dented by a fifth; were it the visible one, it would be charged."""
    truth, seen_from = surface(ball(15.0)), views(BALL)
    mesh, centre = ball(15.0), np.array(BALL.centre_world)
    for sign, charged in ((1, False), (-1, True)):
        dented = sign * (mesh.vertices - centre)[:, 2] > 5.0
        vertices = np.where(dented[:, None], centre + 0.8 * (mesh.vertices - centre), mesh.vertices)
        scores = mesh_metrics(surface(Mesh(vertices, mesh.faces), 1), truth, seen_from)
        assert (scores["accuracy_mean_mm"] > 0.5) == charged
        assert (scores["precision_0.25mm"] < 0.9) == charged


def test_a_hidden_wall_is_truth_for_nobody_but_still_excuses_what_is_near_it() -> None:
    """A ball before a wall: the wall in its shadow neither lowers completeness nor accuracy, whatever is there."""
    seen_from = views(BALL_ON_WALL)
    shadow = np.array([[4.0, -3.0, 84.0]])
    nearest = shadow + 1.0
    assert not mesh_that_counts(seen_from, shadow, nearest).any()
    front = np.array([[4.0, -3.0, 66.0]])
    assert mesh_that_counts(seen_from, shadow, front).all(), "nearest to what is seen: a ghost of it"
    assert mesh_that_counts(seen_from, np.array([[4.0, -3.0, 40.0]]), nearest).all(), "in free space"


def test_distances_are_those_to_all_triangles() -> None:
    rng = np.random.default_rng(3)
    bumpy = grid(0.0, (-6, 6), (-6, 6), n=40)
    bumpy = Mesh(bumpy.vertices + rng.normal(0, 0.25, bumpy.vertices.shape), bumpy.faces)
    found = surface(bumpy)
    points = rng.uniform(-7, 7, (500, 3)) * (1, 1, 0.3)
    distance, closest, triangle = found.nearest(points)
    every = np.broadcast_to(np.arange(len(bumpy.faces)), (len(points), len(bumpy.faces)))
    exact = np.empty_like(points)
    nearest_of(points, found.triangles, np.ascontiguousarray(every), exact)
    difference = distance - np.linalg.norm(points - exact, axis=1)
    assert difference.min() > -1e-9
    assert np.mean(difference < 1e-9) > 0.98
    assert difference.max() < SPACING_MM
    inside = ((closest - found.triangles[triangle, 0]) * found.normals[triangle]).sum(1)
    np.testing.assert_allclose(inside, 0, atol=1e-9)


def test_the_nearest_point_in_all_seven_regions_of_a_triangle() -> None:
    triangle = np.array([[[0.0, 0, 0], [4, 0, 0], [0, 4, 0]]])
    points = np.array(
        [[1, 1, 2], [-1, -1, 1], [6, -1, 0], [-1, 6, 0], [2, -3, 0], [-3, 2, 0], [4, 4, 1]], dtype=float
    )
    expected = [[1, 1, 0], [0, 0, 0], [4, 0, 0], [0, 4, 0], [2, 0, 0], [0, 2, 0], [2, 2, 0]]
    closest = np.empty_like(points)
    nearest_of(points, triangle, np.zeros((len(points), 1), np.int64), closest)
    np.testing.assert_allclose(closest, expected, atol=1e-12)


def test_samples_are_even_by_area_and_bounded() -> None:
    small, large = grid(0.0, (0, 10), (0, 10), n=50), grid(0.0, (10, 30), (0, 10), n=2)
    found = surface(joined(small, large))
    assert len(found.samples) == 300 / SPACING_MM**2
    assert np.mean(found.samples[:, 0] < 10) == pytest.approx(1 / 3, abs=1e-3)
    on_x = np.histogram(found.samples[:, 0], bins=30, range=(0, 30))[0]
    assert on_x.min() > 0.6 * on_x.mean()
    assert len(surface(grid(0.0, (0, 1000), (0, 1000))).samples) == MOST_SAMPLES
    flat = Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    assert len(surface(flat).samples) == 0


def test_facets_lie_in_the_tangent_plane_of_their_points() -> None:
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(50, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    points = rng.normal(size=(50, 3))
    found = facets(points, normals, 0.3)
    np.testing.assert_allclose(np.abs((found.normals * normals).sum(1)), 1)
    np.testing.assert_allclose(np.linalg.norm(found.triangles - points[:, None], axis=-1), 0.3)
    np.testing.assert_allclose(found.triangles.mean(1), points, atol=1e-12)


def test_drawn_depth_is_that_of_rays() -> None:
    """A steep plane of two triangles, and a ball before it: perspective and hiding are right."""
    steep = Plane((0.5, -0.3, 1.0), 85.0)
    plane = grid(0.0, n=1)
    vertices = plane.vertices.copy()
    vertices[:, 2] = 85.0 - 0.5 * vertices[:, 0] + 0.3 * vertices[:, 1]
    both = joined(Mesh(vertices, plane.faces), ball(15.0))
    for pose in POSES[:2]:
        pixels, z = project(RIG.left.matrix, transform(invert_rigid(pose), both.vertices))
        seen = np.full((RIG.left.height, RIG.left.width), np.inf, np.float32)
        touched = draw_depth(pixels[:, 0].copy(), pixels[:, 1].copy(), z, both.faces, seen)
        wall_mm, ball_mm = (render(one, RIG.left, pose).depth_mm for one in (steep, BALL))
        inside = np.isfinite(ball_mm) & (ball_mm < wall_mm)
        beside = ~np.isfinite(ball_mm)
        np.testing.assert_allclose(seen[beside], wall_mm[beside], rtol=1e-6)
        assert np.median(np.abs(seen - ball_mm)[inside]) < 0.005
        assert np.percentile(np.abs(seen - ball_mm)[inside], 90) < 0.05
        assert touched.all(), "hidden triangles lie in the picture too"


def test_triangles_behind_or_beside_the_camera_are_not_drawn() -> None:
    seen = np.full((4, 5), np.inf, np.float32)
    columns, rows = np.array([0.0, 4, 0, 50, 54, 50]), np.array([0.0, 0, 3, 0, 0, 3])
    depth_mm = np.array([5.0, 5, -1, 5, 5, 5])
    touched = draw_depth(columns, rows, depth_mm, np.array([[0, 1, 2], [3, 4, 5]]), seen)
    assert not touched.any()
    assert np.isinf(seen).all()


def test_icp_finds_the_motion_that_a_bumpy_surface_is_off_by() -> None:
    truth = surface(joined(grid(80.0, (-40, 40), (-40, 40)), ball(15.0)))
    middle = np.array([0.0, 0.0, 80.0])
    rotation = Rotation.from_rotvec(np.radians([1.0, -0.7, 1.5])).as_matrix()
    # Off by a turn around the middle and a shift.
    motion = rigid(rotation, middle - rotation @ middle + np.array([0.6, -0.4, 0.8]))
    points: FloatArray = transform(motion, truth.samples[::40])
    points = np.concatenate([points, points[:100] + np.array([0.0, 0.0, 9.0])])  # a ghost must not pull
    found = icp(points, truth) @ motion
    # The wall slides along itself and the ball turns in itself: only the turn around the line of sight is open.
    away = np.linalg.norm(transform(found, middle[None]) - middle)
    assert away < 0.02
    axis = found[:3, :3] @ np.array([0.0, 0.0, 1.0])
    assert np.degrees(np.arccos(np.clip(axis[2], -1, 1))) < 0.02


def test_icp_leaves_a_surface_alone_that_slides_in_itself() -> None:
    truth = surface(grid(80.0, (-40, 40), (-40, 40)))
    motion = icp(truth.samples[::50] + np.array([0.0, 0.0, 0.3]), truth)
    np.testing.assert_allclose(motion[:3, 3], [0, 0, -0.3], atol=1e-6)
    assert rotation_angle_degrees(motion[:3, :3]) < 1e-6
