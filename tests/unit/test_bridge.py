"""Poses of other frames brought to a run's: laws of Sim(3), conventions found, wrong cameras named, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from novel_view.bridge import main
from novel_view.readings import AXES
from novel_view.similarity import Limits, fit_similarity, robust_fit
from tests.measured import make_run
from tests.synthetic import Plane, parallel_rig
from utils.artifacts import read_json
from utils.geometry import rigid
from utils.scene import load_poses
from utils.types import FloatArray

OPENGL = AXES["opengl"]


def cameras(count: int, seed: int = 0, spread_mm: float = 12.0) -> FloatArray:
    """Return poses (n, 4, 4) about a place, each turned by some degrees."""
    rng = np.random.default_rng(seed)
    turns = Rotation.from_rotvec(rng.normal(0, 0.15, (count, 3))).as_matrix()
    return np.stack([rigid(turn, rng.normal(0, spread_mm, 3)) for turn in turns])


def elsewhere(
    poses: FloatArray, seed: int, axes: FloatArray = AXES["opencv"]
) -> tuple[FloatArray, FloatArray, float]:
    """Return the poses in another world, unit and camera axes; ours_from_theirs (4, 4); its scale."""
    rng = np.random.default_rng(seed)
    turn, shift, scale = (
        Rotation.random(random_state=seed).as_matrix(),
        rng.normal(0, 50, 3),
        rng.uniform(0.01, 90),
    )
    theirs = poses.copy()
    theirs[:, :3, 3] = (poses[:, :3, 3] - shift) @ turn / scale
    theirs[:, :3, :3] = turn.T @ poses[:, :3, :3] @ axes.T
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = scale * turn, shift
    return theirs, matrix, scale


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", Plane((0.2, 0.0, 1.0), 80.0), parallel_rig(16, 12).left_only(), cameras(12))


def crossed(run: Path, theirs: FloatArray, names: list[str], *words: str, key: str = "world_from_camera") -> int:
    arrays: dict[str, Any] = {"names": np.array(names), key: theirs}
    np.savez(run / "theirs.npz", **arrays)
    return main([str(run), str(run / "theirs.npz"), "--to", str(run / "ours.npz"), *words])


def ours(run: Path) -> FloatArray:
    with np.load(run / "ours.npz") as file:
        return np.asarray(file["world_from_camera"])


NAMES = [str(number) for number in range(1, 13)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [2, 3, 7])
def test_a_random_similarity_is_found_again(seed: int, count: int) -> None:
    poses = cameras(count, seed)
    theirs, matrix, scale = elsewhere(poses, seed + 50)
    found = fit_similarity(theirs, poses)
    assert found is not None
    assert found.scale == pytest.approx(scale, rel=1e-9)
    np.testing.assert_allclose(found.matrix, matrix, atol=1e-7)
    np.testing.assert_allclose(found.apply(theirs), poses, atol=1e-8)


@pytest.mark.parametrize("axes", sorted(AXES))
@pytest.mark.parametrize("inverse", [False, True])
def test_axes_and_direction_are_found(run: Path, axes: str, inverse: bool) -> None:
    poses = cameras(12)
    theirs, _, scale = elsewhere(poses, 3, AXES[axes])
    assert crossed(run, np.linalg.inv(theirs) if inverse else theirs, NAMES) == 0
    report = read_json(run / "ours.json")
    assert report["reading"] == axes + (", world-to-camera" if inverse else "")
    assert report["scale"] == pytest.approx(scale, rel=1e-6)
    assert len(report["readings_tried"]) == 2 * len(AXES)
    np.testing.assert_allclose(ours(run), poses, atol=1e-6)


def test_a_world_with_z_up_and_cameras_without_a_twin_come_along(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blender writes such: z up, metres, OpenGL axes. Five of the eight cameras are the run's."""
    z_up = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])  # their (x, y, z) = our (x, z, -y)
    poses = np.concatenate([cameras(12)[:5], cameras(3, 9)])
    theirs = poses.copy()
    theirs[:, :3, 3] = 0.001 * poses[:, :3, 3] @ z_up.T
    theirs[:, :3, :3] = z_up @ poses[:, :3, :3] @ OPENGL
    names = ["1.jpg", "left_2", "images/3.png", "l/4", "5", "new", "newer", "newest"]
    assert crossed(run, theirs, names) == 0
    np.testing.assert_allclose(ours(run), poses, atol=1e-6)
    said = capsys.readouterr().out
    assert "read as opengl; 1 of theirs is 1000" in said
    assert "8 poses" in said
    assert "over 5 cameras" in said


def test_residuals_are_as_large_as_the_noise(run: Path) -> None:
    rng = np.random.default_rng(5)
    theirs, _, scale = elsewhere(cameras(12), 8, OPENGL)
    theirs[:, :3, 3] += rng.normal(0, 0.2 / scale, (12, 3))
    theirs[:, :3, :3] @= Rotation.from_rotvec(np.radians(rng.normal(0, 0.1, (12, 3)))).as_matrix()
    assert crossed(run, theirs, NAMES) == 0
    report = read_json(run / "ours.json")
    off = np.array([camera["off"] for camera in report["cameras"]])
    turned = np.array([camera["degrees"] for camera in report["cameras"]])
    assert 0.2 < np.sqrt((off**2).mean()) < 0.2 * np.sqrt(3) * 1.3
    assert 0.1 < np.sqrt((turned**2).mean()) < 0.1 * np.sqrt(3) * 1.3
    assert report["scale"] == pytest.approx(scale, rel=4 * report["scale_error"])
    assert 0.001 < report["scale_error"] < 0.02
    assert report["warnings"] == []


@pytest.mark.parametrize("off_mm", [1.0, 40.0])
def test_one_bad_camera_of_twelve_is_named_and_pulls_at_nothing(
    run: Path, capsys: pytest.CaptureFixture[str], off_mm: float
) -> None:
    theirs, _, scale = elsewhere(cameras(12), 2)
    theirs[7, :3, 3] += [off_mm / scale, 0, 0]
    assert crossed(run, theirs, NAMES) == 0
    assert "left out, for they stand out from the others: left_8" in capsys.readouterr().out
    good = np.arange(12) != 7
    np.testing.assert_allclose(ours(run)[good], cameras(12)[good], atol=1e-6)
    report = read_json(run / "ours.json")
    assert [camera["name"] for camera in report["cameras"] if not camera["used"]] == ["left_8"]
    assert report["cameras"][7]["off"] == pytest.approx(off_mm, rel=1e-3)


def straight(count: int = 5) -> FloatArray:
    poses = cameras(count, 4)
    poses[:, :3, 3] = np.outer(np.arange(count) * 3.0, [0.6, 0.0, 0.8])
    return poses


def test_centres_on_a_line_take_the_missing_turn_from_the_rotations(tmp_path: Path) -> None:
    poses = straight()
    theirs, matrix, _ = elsewhere(poses, 6, OPENGL)
    run = make_run(tmp_path / "run", Plane((0, 0, 1.0), 80.0), parallel_rig(16, 12).left_only(), poses)
    assert crossed(run, theirs, NAMES[:5]) == 0
    np.testing.assert_allclose(ours(run), poses, atol=1e-6)
    np.testing.assert_allclose(read_json(run / "ours.json")["ours_from_theirs"], matrix, atol=1e-6)


def test_a_straight_push_without_a_turn_does_not_tell_the_axes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poses = np.stack([rigid(np.eye(3), np.array([2.0 * k, 0, 0])) for k in range(4)])
    theirs, _, _ = elsewhere(poses, 6, OPENGL)
    run = make_run(tmp_path / "run", Plane((0, 0, 1.0), 80.0), parallel_rig(16, 12).left_only(), poses)
    assert crossed(run, theirs, NAMES[:4]) == 2
    assert "do not say which axes" in capsys.readouterr().err
    assert crossed(run, theirs, NAMES[:4], "--axes", "opengl", "--matrices", "camera_to_world") == 0
    np.testing.assert_allclose(ours(run), poses, atol=1e-6)


def test_a_shuffled_list_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs, _, _ = elsewhere(cameras(12), 2)
    assert crossed(run, theirs[::-1], NAMES) == 2
    said = capsys.readouterr().err
    assert "the cameras contradict each other" in said
    assert "within" in said
    assert not (run / "ours.npz").exists()


@pytest.mark.parametrize("flipped_camera", [False, True])
def test_a_mirrored_world_is_noticed(run: Path, capsys: pytest.CaptureFixture[str], flipped_camera: bool) -> None:
    """With the camera's axes flipped as well every determinant is +1: only the reflection explains the cameras."""
    theirs, _, _ = elsewhere(cameras(12), 2)
    theirs[:, 0, :] *= -1
    if flipped_camera:
        theirs[:, :3, 1] *= -1
    assert np.all(np.sign(np.linalg.det(theirs[:, :3, :3])) == (1 if flipped_camera else -1))
    assert crossed(run, theirs, NAMES) == 2
    said = capsys.readouterr().err
    assert "the other world is mirrored" in said
    assert "with z negated the cameras fit" in said


def test_two_cameras_give_a_result_with_a_warning(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs, _, _ = elsewhere(cameras(12), 7)
    assert crossed(run, theirs, ["3", "x", "9", *(f"y{k}" for k in range(9))]) == 2, (
        "3 and 9 are not their first ones"
    )
    capsys.readouterr()
    assert crossed(run, theirs, ["1", "2", *(f"y{k}" for k in range(10))]) == 0
    np.testing.assert_allclose(ours(run), cameras(12), atol=1e-6)
    assert "two cameras check each other's rotation and direction, not the scale" in capsys.readouterr().out
    assert read_json(run / "ours.json")["checked"] is False


def test_from_one_camera_nothing_is_checked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs, _, scale = elsewhere(cameras(12), 7)
    names = ["1", *(f"y{k}" for k in range(11))]
    assert crossed(run, theirs, names, "--scale", f"{scale:.12g}") == 0
    np.testing.assert_allclose(ours(run), cameras(12), atol=1e-5)
    said = capsys.readouterr().out
    assert "nothing is checked" in said
    assert "the scale cannot be known from one camera" in said
    assert crossed(run, theirs, names) == 0
    np.testing.assert_allclose(ours(run)[0], cameras(12)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a", "b", "c"], "have no camera in common"),
        (["1", "1.jpg", "2"], "two cameras of the file are left_1"),
    ],
)
def test_names_that_do_not_fit_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str], names: list[str], words: str
) -> None:
    theirs, _, _ = elsewhere(cameras(3), 7)
    assert crossed(run, theirs, names) == 2
    assert words in capsys.readouterr().err


def test_cameras_in_one_place_have_no_scale(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs, _, _ = elsewhere(cameras(12), 7)
    theirs[:, :3, 3] = theirs[0, :3, 3]
    assert crossed(run, theirs, NAMES) == 2
    assert "the scale cannot be told" in capsys.readouterr().err


def test_what_is_no_motion_is_refused_and_frames_without_a_pose_are_left_out(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, _, _ = elsewhere(cameras(12), 7)
    theirs[3] = np.nan
    assert crossed(run, theirs, NAMES, key="world_from_left") == 0
    assert len(ours(run)) == 11
    theirs[2, :3, :3] *= 2
    assert crossed(run, theirs, NAMES) == 2
    assert "is no rigid motion" in capsys.readouterr().err
    assert crossed(run, cameras(12), NAMES, "--most_turned", "-1") == 2
    assert "cannot be built as asked" in capsys.readouterr().err


def test_the_runs_own_poses_are_a_bridge_of_one(run: Path) -> None:
    placed = load_poses(run / "poses")
    assert crossed(run, placed.world_from_left, list(placed.names)) == 0
    report = read_json(run / "ours.json")
    assert (report["reading"], report["scale"]) == ("opencv", pytest.approx(1.0))
    np.testing.assert_allclose(report["ours_from_theirs"], np.eye(4), atol=1e-9)


def test_a_third_of_bad_cameras_does_not_move_the_robust_fit() -> None:
    poses = cameras(9, 1)
    theirs, matrix, _ = elsewhere(poses, 4)
    theirs[:3] = elsewhere(cameras(3, 33), 5)[0]
    fit = robust_fit(theirs, poses, Limits(1.0, 2.0))
    assert fit is not None
    assert fit.used.tolist() == [False] * 3 + [True] * 6
    np.testing.assert_allclose(fit.similarity.matrix, matrix, atol=1e-7)
