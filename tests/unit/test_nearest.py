"""The view that sees most of what a pose sees: an occluder decides where angle alone picks the wrong one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from export.measured_run import MeasuredRun
from export.nearest import main, nearest_views
from tests.measured import make_run
from tests.synthetic import Nearest, Plane, Sphere, parallel_rig, render, turn
from utils.artifacts import load_maps, save_maps
from utils.covisibility import nearest_confirmed, visible_surface
from utils.errors import InputError
from utils.geometry import invert_rigid, rigid
from utils.pose_lists import join_numbers
from utils.types import FloatArray
from utils.visibility import DepthView
from utils.warping import nearest_views as by_angle

RIG = parallel_rig(80, 64).left_only()
WALL = Plane((0.0, 0.0, 1.0), 80.0)
# The first view stands beside the target and has a ball before its eye; the second is farther off, and turned.
NEAR, FAR = np.array([12.0, 0.0, 0.0]), np.array([-16.0, 4.0, 2.0])
BALL = Sphere((16.0, 0.0, 16.0), 5.0)
POSES = np.stack([rigid(np.eye(3), NEAR), rigid(turn((2, 9, 1)), FAR), rigid(turn((0, 160, 0)), FAR)])
TARGET = np.eye(4)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", Nearest((WALL, BALL)), RIG, POSES)


def as_words(pose: FloatArray) -> list[str]:
    return [f"{number:g}" for number in pose.ravel()]


def test_the_view_behind_an_occluder_is_not_the_best_although_its_angle_is(run: Path) -> None:
    assert by_angle(TARGET, POSES, 80.0, 1) == [0]
    record = nearest_views(run, " ".join(as_words(TARGET)))
    best, second, last = record["targets"][0]["views"]
    assert [best["view"], second["view"], last["view"]] == ["left_2", "left_1", "left_3"]
    assert best["score"] > second["score"] + 0.1
    assert last["score"] == 0.0, "it looks away"
    assert second["angle_degrees"] == 0.0
    assert second["distance_mm"] == pytest.approx(12.0)


def test_an_input_view_given_in_numbers_comes_first(tmp_path: Path) -> None:
    """The identical view does not always have the very best score: depth is rounded on its way."""
    aside = [rigid(turn((0, 1, 0)), np.array([0.3 * k, 0.1 * k, 1.5 * k])) for k in range(4)]
    close = make_run(tmp_path / "close", Nearest((WALL, BALL)), RIG, np.stack(aside))
    for index, pose in enumerate(aside, 1):
        words = " ".join(f"{number:.17g}" for number in pose.ravel())
        best, *others = nearest_views(close, words)["targets"][0]["views"]
        assert best["view"] == f"left_{index}"
        assert best["distance_mm"] == 0.0
        assert best["score"] >= 0.99 * max(view["score"] for view in others)


def spoil(run: Path, name: str, rows: slice, *, hidden: bool) -> None:
    """Take the depth of some rows of a view, because an instrument hides them or for no reason at all."""
    depth = load_maps(run / "filter", "left", name)["depth_mm"]
    depth[rows] = np.nan
    save_maps(run / "filter", "left", name, depth_mm=depth)
    tissue = np.ones(depth.shape, bool)
    tissue[rows] = not hidden
    save_maps(run / "scene" / "masks", "left", name, tissue=tissue, highlight=np.zeros_like(tissue))


def test_holes_in_depth_are_not_held_against_a_view_and_instruments_are(tmp_path: Path) -> None:
    poses = np.stack([rigid(np.eye(3), np.array([x, 0.0, 0.0])) for x in (0.0, 2.0, 4.0)])
    close = make_run(tmp_path / "close", WALL, RIG, poses)
    spoil(close, "1", slice(10, 30), hidden=False)
    best = nearest_views(close, " ".join(as_words(TARGET)))["targets"][0]["views"][0]
    assert (best["view"], best["score"]) == ("left_1", pytest.approx(1.0, abs=0.01))
    spoil(close, "1", slice(10, 30), hidden=True)
    views = nearest_views(close, " ".join(as_words(TARGET)))["targets"][0]["views"]
    assert {view["view"]: view["score"] for view in views}["left_1"] == pytest.approx(1 - 20 / 64, abs=0.04)
    assert views[0]["view"] == "left_1", "it stands in the very place"
    beside = rigid(np.eye(3), np.array([0.5, 0.0, 0.0]))
    views = nearest_views(close, " ".join(as_words(beside)))["targets"][0]["views"]
    assert [view["view"] for view in views] == ["left_2", "left_3", "left_1"]


def test_scores_are_what_ray_casting_says(run: Path) -> None:
    """Cast a ray from each visible point to each eye, in the exact geometry."""
    surface = Nearest((WALL, BALL))
    exact = render(surface, RIG.left, TARGET).depth_mm
    rows, columns = np.indices(exact.shape)
    rays = np.stack([(columns - RIG.left.cx) / RIG.left.fx, (rows - RIG.left.cy) / RIG.left.fy], axis=-1)
    points = np.concatenate([rays * exact[..., None], exact[..., None]], axis=-1)
    record = nearest_views(run, " ".join(as_words(TARGET)))
    scores = {view["view"]: view["score"] for view in record["targets"][0]["views"]}
    for index, pose in enumerate(POSES, 1):
        inside = points @ invert_rigid(pose)[:3, :3].T + invert_rigid(pose)[:3, 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            u = RIG.left.fx * inside[..., 0] / inside[..., 2] + RIG.left.cx
            v = RIG.left.fy * inside[..., 1] / inside[..., 2] + RIG.left.cy
        in_image = (inside[..., 2] > 0) & (u > -0.5) & (u < 79.5) & (v > -0.5) & (v < 63.5)
        way = points - pose[:3, 3]
        free = surface.hit(pose[:3, 3], way) > 0.999
        assert scores[f"left_{index}"] == pytest.approx(float((in_image & free).mean()), abs=0.03)


def test_the_visible_surface_is_the_nearest_that_two_views_agree_on() -> None:
    nan = np.nan
    #             a floater in front, an occluder of two views, one view alone, nothing
    depths = np.array([[[30.0, 50.0, nan, nan]], [[80.0, 50.4, 60.0, nan]], [[80.4, 80.0, nan, nan]]])
    np.testing.assert_allclose(nearest_confirmed(depths), [[80.0, 50.0, 60.0, nan]])
    np.testing.assert_allclose(nearest_confirmed(depths[:1]), depths[0])


def test_the_surface_between_views_is_exact_and_behind_occluders_is_hidden() -> None:
    both = Nearest((WALL, Sphere((0.0, 0.0, 40.0), 6.0)))
    poses = [rigid(np.eye(3), np.array([x, 0.0, 0.0])) for x in (-6.0, -3.0, 3.0, 6.0)]
    views = [DepthView(RIG.left, pose, render(both, RIG.left, pose).depth_mm) for pose in poses]
    found = visible_surface(RIG.left, TARGET, views).depth_mm
    exact = render(both, RIG.left, TARGET).depth_mm
    inner = (slice(8, -8), slice(8, -8))
    error = np.abs(found - exact)[inner] / exact[inner]
    assert np.nanmedian(error) < 1e-3
    assert np.nanmean(error < 0.02) > 0.96, "but for the rim of the ball"


def test_an_input_view_is_compared_with_the_others(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), "--pose", "1", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert {view["view"] for view in record["targets"][0]["views"]} == {"left_2", "left_3"}
    assert main([str(run), "--pose", "left_1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("left_2 sees ")
    assert "distances in mm" in said


def test_poses_of_a_file_get_a_line_each(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    away = rigid(turn((0, 180, 0)), np.zeros(3))
    np.savez(tmp_path / "poses.npz", world_from_camera=np.stack([TARGET, away]))
    assert main([str(run), "--pose", str(tmp_path / "poses.npz")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("pose 1: left_2 sees")
    assert lines[1] == "pose 2: sees nothing of the reconstruction"
    (tmp_path / "poses.tum").write_text("7 0 0 0 0 0 0 1\n12 0 0 0 0 0 0 1\n")
    assert main([str(run), "--pose", str(tmp_path / "poses.tum")]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[:2]] == ["pose 7", "pose 12"]


def test_mistakes_are_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(folder: Path, *words: str) -> str:
        assert main([str(folder), "--pose", *words]) == 2
        return capsys.readouterr().err

    for nothing in ("left_9", "99", "nofile.npz"):
        words = said(run, nothing)
        assert f"--pose {nothing} is neither a frame with depth nor a file" in words
        assert f"no file {nothing}; the frames of the left eye are 1, 2, 3" in words
    assert "sees nothing of the reconstruction" in said(run, *as_words(rigid(turn((0, 180, 0)), np.zeros(3))))
    assert "12 numbers" in said(run, *["1"] * 12)
    assert "no right eye" in said(run, "1", "--side", "right")
    assert "is no run" in said(tmp_path / "nothing", "1")
    unplaced = make_run(tmp_path / "unplaced", WALL, RIG, POSES[:2], placed=False)
    assert "one pair" in said(unplaced, "1")


def test_a_single_pair_has_the_rig_for_poses_and_the_prior_for_depth(tmp_path: Path) -> None:
    rig = parallel_rig(80, 64)
    pair = make_run(tmp_path / "pair", WALL, rig, POSES[:1], rendered=False, placed=False)
    measured = MeasuredRun.load(pair)
    assert measured.source == "prior"
    assert measured.unit == "mm"
    record = nearest_views(pair, "left_1")
    assert record["targets"][0]["views"][0]["view"] == "right_1"
    assert record["targets"][0]["views"][0]["distance_mm"] == pytest.approx(rig.baseline_mm)


def test_lengths_without_a_scale_say_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", WALL, RIG, POSES[:2], metric=False)
    assert nearest_views(run, "1")["unit"] == "arbitrary units, not mm"


def test_numbers_behind_pose_become_one_word() -> None:
    words = ["run", "--pose", "1", "-0.5", "-1e-3,", "4", "--json"]
    assert join_numbers(words, "--pose") == ["run", "--pose", "1 -0.5 -1e-3, 4", "--json"]
    assert join_numbers(["run", "--pose", "left_1"], "--pose") == ["run", "--pose", "left_1"]
    assert join_numbers(["run"], "--pose") == ["run"]


def test_a_run_without_depth_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", WALL, RIG, POSES[:2], rendered=False)
    (run / "prior" / "stamp.json").unlink()
    with pytest.raises(InputError, match="stage `prior` is needed"):
        MeasuredRun.load(run)
