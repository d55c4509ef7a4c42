"""Distances between picked points: what a ray hits, what views say about a point's place, error bars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.measured_run import MeasuredRun
from export.viewer.measuring import ACROSS_PX, Witness, length_between, pick, point_covariance
from export.viewer.tape import Tape
from tests.measured import SPREAD_MM, make_run
from tests.synthetic import Plane, parallel_rig, path, render, turn
from utils.geometry import pixel_grid, rigid, unproject
from utils.types import FloatArray

RIG = parallel_rig(80, 64)
CAMERA = RIG.left
WALL = Plane((0.0, 0.0, 1.0), 80.0)


def witness(pose: FloatArray, sigma_mm: float, offset_mm: float = 0.0) -> Witness:
    depth = render(WALL, CAMERA, pose).depth_mm
    return Witness(CAMERA, pose, depth + offset_mm, np.full_like(depth, sigma_mm))


def test_the_nearest_surface_under_the_ray_is_picked() -> None:
    rows, columns = np.mgrid[-20:21, -20:21]
    near = np.stack([columns, rows, np.full(rows.shape, 50.0)], axis=-1).reshape(-1, 3) * [0.5, 0.5, 1.0]
    far = near * [1.0, 1.0, 2.0]
    points = np.concatenate([far, near])
    origin = np.array([0.0, 0.0, -10.0])
    found = pick(points, origin, np.array([3.1, -2.0, 50.0]) - origin)
    assert found is not None
    np.testing.assert_allclose(points[found], [3.0, -2.0, 50.0])
    through = pick(far, origin, np.array([3.1, -2.0, 50.0]) - origin)
    assert through is not None
    assert points[through][2] == 100.0, "nothing stands before it"
    assert pick(points, origin, np.array([0.0, 0.0, -1.0])) is None, "behind"
    assert pick(points, origin, np.array([1.0, 0.0, 0.1])) is None, "beside"


def test_the_covariance_lies_along_the_ray_of_the_view() -> None:
    point = np.array([0.0, 0.0, 80.0])
    pose = rigid(turn((0, 30, 0)), point - turn((0, 30, 0)) @ [0.0, 0.0, 60.0])
    found = point_covariance(point, [witness(pose, 0.5)])
    assert found is not None
    ahead = turn((0, 30, 0)) @ [0.0, 0.0, 1.0]
    off_axis = np.hypot(CAMERA.cx - (CAMERA.width - 1) / 2, CAMERA.cy - (CAMERA.height - 1) / 2)
    assert off_axis > 0, "rays and axis differ"
    assert ahead @ found @ ahead == pytest.approx(0.25, rel=1e-6)
    values = np.linalg.eigvalsh(found)
    np.testing.assert_allclose(np.sqrt(values), [ACROSS_PX * 60 / CAMERA.fx] * 2 + [0.5], rtol=1e-6)


def test_views_that_do_not_see_the_point_say_nothing_and_the_median_speaks() -> None:
    point = np.array([0.0, 0.0, 80.0])
    poses = [rigid(np.eye(3), np.array([x, 0.0, 0.0])) for x in (-2.0, 0.0, 2.0)]
    witnesses = [witness(pose, sigma) for pose, sigma in zip(poses, (0.1, 0.3, 5.0), strict=True)]
    hidden = witness(poses[1], 9.0, offset_mm=-20.0)
    away = witness(rigid(turn((0, 180, 0)), np.array([0.0, 0.0, 160.0])), 9.0)
    away = Witness(CAMERA, rigid(turn((0, 180, 0)), np.zeros(3)), away.depth_mm, away.sigma_mm)
    found = point_covariance(point, [*witnesses, hidden, away])
    assert found is not None
    assert found[2, 2] == pytest.approx(0.09)
    assert point_covariance(point, [hidden, away]) is None
    assert point_covariance(np.array([500.0, 0.0, 80.0]), witnesses) is None


def test_the_error_bar_of_a_line_across_and_of_one_along_the_rays() -> None:
    covariance = np.diag([0.01, 0.01, 0.25])
    across = length_between((np.zeros(3), np.array([30.0, 0.0, 0.0])), (covariance, covariance))
    assert across.distance_mm == 30.0
    assert across.sigma_mm == pytest.approx(np.sqrt(0.02))
    along = length_between((np.zeros(3), np.array([0.0, 0.0, 4.0])), (covariance, covariance))
    assert along.sigma_mm == pytest.approx(np.sqrt(0.5))
    nothing = length_between((np.ones(3), np.ones(3)), (covariance, covariance))
    assert nothing.distance_mm == 0.0
    assert nothing.sigma_mm == pytest.approx(np.sqrt(0.5))


def test_error_bars_agree_with_drawn_errors() -> None:
    rng = np.random.default_rng(3)
    one, other = np.array([-10.0, 5.0, 70.0]), np.array([15.0, -8.0, 90.0])
    half = rng.normal(size=(2, 3, 3))
    covariances = (0.01 * half[0] @ half[0].T, 0.01 * half[1] @ half[1].T)
    drawn = [
        rng.multivariate_normal(place, spread, 20_000)
        for place, spread in zip((one, other), covariances, strict=True)
    ]
    distances = np.linalg.norm(drawn[1] - drawn[0], axis=1)
    found = length_between((one, other), covariances)
    assert found.sigma_mm == pytest.approx(distances.std(), rel=0.03)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> MeasuredRun:
    return MeasuredRun.load(make_run(tmp_path_factory.mktemp("measured") / "run", WALL, RIG, path(4)))


def test_the_tape_measures_between_two_clicks_and_a_third_starts_anew(run: MeasuredRun) -> None:
    tape = Tape(run)
    pose = run.world_from(("left", "1"))
    depth = run.measured(("left", "1")).depth_mm
    points = unproject(CAMERA.matrix, pixel_grid(80, 64), depth).reshape(-1, 3)
    assert "Click two points" in tape.words
    assert not tape.click(points, pose[:3, 3], np.array([0.0, 0.0, -1.0]))
    for pixel in (20 * 80 + 20, 40 * 80 + 60):
        assert tape.click(points, pose[:3, 3], points[pixel] - pose[:3, 3])
    length = tape.length
    assert length is not None
    assert length.distance_mm == pytest.approx(np.linalg.norm(points[20 * 80 + 20] - points[40 * 80 + 60]))
    assert 0.2 < length.sigma_mm < 3 * SPREAD_MM, "the prior's sigma is 2 SPREAD_MM; the line lies across the rays"
    assert tape.words.startswith(f"**{length.distance_mm:.2f} ± {length.sigma_mm:.2f} mm**")
    assert tape.click(points, pose[:3, 3], points[0] - pose[:3, 3])
    assert len(tape.pins) == 1
    assert tape.length is None


def test_what_no_view_has_measured_has_no_error_bar(run: MeasuredRun) -> None:
    tape = Tape(run)
    points = np.array([[0.0, 0.0, 80.0], [0.0, 10.0, 40.0]])
    for point in points:
        assert tape.click(points, np.zeros(3), point)
    assert tape.length is None
    assert "without an error bar" in tape.words
    assert f"{np.hypot(10, 40):.2f} mm" in tape.words


def test_lengths_of_a_run_without_scale_are_no_millimetres(tmp_path: Path) -> None:
    left = RIG.left_only()
    run = MeasuredRun.load(make_run(tmp_path / "run", WALL, left, path(2), metric=False))
    tape = Tape(run)
    points = np.array([[0.0, 0.0, 80.0], [5.0, 0.0, 80.0]])
    for point in points:
        tape.click(points, np.zeros(3), point)
    assert tape.words.startswith("**5.00 ± ")
    assert "arbitrary units, not mm" in tape.words
