"""Stage `poses` on the phantom: accuracy and scale for both rigs, every source of poses, every refusal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monocular import poses as stage
from monocular.colmap_sfm import ColmapWorkspace, SparseModel
from monocular.poses import PosesOptions
from stereo_prior import matches as matches_stage
from stereo_prior import scene as scene_stage
from stereo_prior.matches import MatchOptions
from stereo_prior.scene import SceneOptions
from utils.artifacts import read_json
from utils.errors import InputError, NotApplicable
from utils.geometry import FloatArray, invert_rigid, project, rotation_angle_degrees, transform, umeyama
from utils.images import read_rgb, write_rgb
from utils.phantom import PhantomOptions, make_phantom
from utils.scene import Scene, load_poses
from utils.types import Poses

pytestmark = pytest.mark.slow

FRAMES = 12
DISTANCE_MM = {"parallel": 77.0, "verged": 550.0}


class Prepared:
    """A phantom with its finished `scene` and `matches` folders, and its true poses."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.distance_mm = folder, DISTANCE_MM[kind]
        make_phantom(folder / "data", PhantomOptions(kind, phantom_seed=1, phantom_frames=FRAMES))
        self.scene, self.matches = folder / "scene", folder / "matches"
        self.scene.mkdir()
        self.matches.mkdir()
        scene_stage.run(SceneOptions(datadir=str(folder / "data")), out=self.scene)
        matches_stage.run(MatchOptions(viz=False), out=self.matches, scene=self.scene)
        with np.load(folder / "data" / "truth_poses.npz") as file:
            truth = file["world_from_left"]
        self.truth = invert_rigid(truth[0]) @ truth

    def run(self, out: Path, **options: Any) -> Poses:
        out.mkdir(parents=True, exist_ok=True)
        stage.run(PosesOptions(**options), out=out, scene=self.scene, matches=self.matches)
        return load_poses(out)

    def left_only(self, folder: Path) -> Path:
        """Write the scene without its right eye."""
        scene = Scene.load(self.scene)
        folder.mkdir()
        (folder / "masks").symlink_to(self.scene / "masks")
        rig = scene.rig.left_only()
        replace(scene, folder=folder, rig=rig, sides=rig.sides).save({"datadir": str(self.folder / "data")})
        return folder


@pytest.fixture(scope="module")
def parallel(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(tmp_path_factory.mktemp("parallel"), "parallel")


@pytest.fixture(scope="module")
def verged(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(tmp_path_factory.mktemp("verged"), "verged")


def compare(found: FloatArray, truth: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """Return the scale that found poses (n, 4, 4) lack, and per camera distance and angle to the truth.

    Distances are after a rigid alignment without scale; per camera, for one bad camera hides in a median.
    """
    centres, true_centres = found[:, :3, 3], truth[:, :3, 3]
    scale, _, _ = umeyama(centres, true_centres)
    _, rotation, shift = umeyama(centres, true_centres, with_scale=False)
    distance = np.linalg.norm(centres @ rotation.T + shift - true_centres, axis=1)
    relative = np.swapaxes(found[:, None, :3, :3], -1, -2) @ found[None, :, :3, :3]
    expected = np.swapaxes(truth[:, None, :3, :3], -1, -2) @ truth[None, :, :3, :3]
    return scale, distance, rotation_angle_degrees(np.swapaxes(relative, -1, -2) @ expected).max(axis=1)


@pytest.fixture(scope="module")
def parallel_out(parallel: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out_parallel")
    parallel.run(out)
    return out


@pytest.fixture(scope="module")
def verged_out(verged: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out_verged")
    verged.run(out)
    return out


@pytest.mark.parametrize("kind", DISTANCE_MM)
def test_stereo_rig_gives_metric_poses(kind: str, request: pytest.FixtureRequest) -> None:
    prepared, out = request.getfixturevalue(kind), request.getfixturevalue(f"{kind}_out")
    poses, report = load_poses(out), read_json(out / "report.json")
    assert poses.metric
    assert poses.names == Scene.load(prepared.scene).names
    assert (report["n_registered"], report["n_frames"]) == (FRAMES, FRAMES)
    assert 0 < report["reprojection_px"] < 0.8
    np.testing.assert_allclose(poses.world_from_left[0], np.eye(4), atol=1e-9)
    scale, distance_mm, degrees = compare(poses.world_from_left, prepared.truth)
    assert abs(scale - 1) < 0.01  # of a third of the path
    assert distance_mm.max() < 0.003 * prepared.distance_mm
    assert degrees.max() < 0.4
    rig = Scene.load(prepared.scene).rig
    assert poses.world_from_right is not None
    assert rig.right_from_left is not None
    np.testing.assert_allclose(
        invert_rigid(poses.world_from_right) @ poses.world_from_left,
        np.broadcast_to(rig.right_from_left, (FRAMES, 4, 4)),
        atol=1e-9,
    )


@pytest.mark.parametrize("kind", DISTANCE_MM)
def test_points_project_to_their_observations(kind: str, request: pytest.FixtureRequest) -> None:
    """The half pixel of COLMAP must be gone: residuals are centred."""
    prepared, out = request.getfixturevalue(kind), request.getfixturevalue(f"{kind}_out")
    poses, rig = load_poses(out), Scene.load(prepared.scene).rig
    with np.load(out / "points.npz") as file:
        points = {key: file[key] for key in file.files}
    assert set(points["side"].tolist()) == {0, 1}
    for side in rig.sides:
        residuals = []
        for frame, name in enumerate(poses.names):
            seen = (points["frame"] == frame) & (points["side"] == (side == "right"))
            world = points["points_world"][points["point"][seen]]
            pixels, depth_mm = project(
                rig.camera(side).matrix, transform(invert_rigid(poses.world_from(side, name)), world)
            )
            assert (depth_mm > 0).all()
            residuals.append(pixels - points["pixels"][seen])
        residual_px = np.concatenate(residuals)
        assert len(residual_px) > 50 * FRAMES
        assert np.linalg.norm(residual_px, axis=1).max() < 4.0
        np.testing.assert_allclose(np.median(residual_px, axis=0), 0, atol=0.05)


def test_a_second_run_is_the_same(verged: Prepared, verged_out: Path, tmp_path: Path) -> None:
    again = verged.run(tmp_path)
    np.testing.assert_array_equal(again.world_from_left, load_poses(verged_out).world_from_left)


def test_odometry_alone(verged: Prepared, tmp_path: Path) -> None:
    poses = verged.run(tmp_path, poses="odometry")
    scale, distance_mm, degrees = compare(poses.world_from_left, verged.truth)
    assert abs(scale - 1) < 0.01
    assert distance_mm.max() < 0.004 * verged.distance_mm
    assert degrees.max() < 0.5


def test_left_images_alone(parallel: Prepared, tmp_path: Path) -> None:
    """Not metric: median depth 100; the known travel makes the same poses metric."""
    scene = parallel.left_only(tmp_path / "scene")
    out = tmp_path / "free"
    out.mkdir()
    summary = stage.run(PosesOptions(), out=out, scene=scene, matches=tmp_path)
    poses = load_poses(out)
    assert not poses.metric
    assert poses.world_from_right is None
    assert "arbitrary units" in summary
    with np.load(out / "points.npz") as file:
        depths = [
            (transform(invert_rigid(poses.world_from_left[frame]), file["points_world"][[point]]))[0, 2]
            for frame, point in zip(file["frame"], file["point"], strict=True)
        ]
    assert np.median(depths) == pytest.approx(100, rel=0.02)  # of the points that training images alone show
    travel_mm = float(np.linalg.norm(parallel.truth[-1, :3, 3] - parallel.truth[0, :3, 3]))
    out = tmp_path / "known"
    out.mkdir()
    stage.run(PosesOptions(cam_dist=travel_mm), out=out, scene=scene, matches=tmp_path)
    poses = load_poses(out)
    assert poses.metric
    found_mm = np.linalg.norm(poses.world_from_left[-1, :3, 3] - poses.world_from_left[0, :3, 3])
    assert found_mm == pytest.approx(travel_mm)
    assert compare(poses.world_from_left, parallel.truth)[1].max() < 0.004 * parallel.distance_mm


def test_stereo_matches_give_file_poses_their_scale(verged: Prepared, tmp_path: Path) -> None:
    """Poses a seventh of the true size; the two eyes know better."""
    small = verged.truth.copy()
    small[:, :3, 3] /= 7
    names = np.array(Scene.load(verged.scene).names)
    np.savez(tmp_path / "sfm.npz", names=names, world_from_left=small, metric=False)
    poses = verged.run(tmp_path / "out", poses="file", poses_path=str(tmp_path / "sfm.npz"))
    assert poses.metric
    scale, _, degrees = compare(poses.world_from_left, verged.truth)
    assert scale == pytest.approx(1, abs=0.003)
    assert degrees.max() < 1e-4
    assert "stereo matches" in read_json(tmp_path / "out" / "report.json")["scale"]


def test_inverted_poses_from_a_file_are_noticed(verged: Prepared, tmp_path: Path) -> None:
    """World-to-camera instead of camera-to-world: hardly a point agrees in two views."""
    names = np.array(Scene.load(verged.scene).names)
    np.savez(tmp_path / "p.npz", names=names, world_from_left=invert_rigid(verged.truth), metric=False)
    with pytest.raises(InputError, match="do not fit the images") as caught:
        verged.run(tmp_path / "out", poses="file", poses_path=str(tmp_path / "p.npz"))
    assert "camera-to-world" in caught.value.do


def test_frames_that_colmap_leaves_out_are_placed_by_odometry(
    parallel: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = ColmapWorkspace.map

    def without_two(self: ColmapWorkspace, scale: dict[str, float]) -> tuple[SparseModel | None, dict[str, Any]]:
        model, counts = mapped(self, scale)
        assert model is not None
        poses = model.world_from_left.copy()
        poses[[0, 6]] = np.nan
        kept = ~np.isin(model.frame, [0, 6])
        rows = {key: getattr(model, key)[kept] for key in ("point", "frame", "side", "pixels", "error_px")}
        return replace(model, world_from_left=poses, **rows), counts

    monkeypatch.setattr(ColmapWorkspace, "map", without_two)
    poses = parallel.run(tmp_path)
    report = read_json(tmp_path / "report.json")
    assert report["n_registered"] == FRAMES
    assert report["placed_by"]["1"].startswith("odometry")
    assert report["placed_by"]["2"] == "colmap"
    _, distance_mm, degrees = compare(poses.world_from_left, parallel.truth)
    assert distance_mm.max() < 0.004 * parallel.distance_mm
    assert degrees.max() < 0.5


def test_a_blank_frame_is_left_out_by_name(verged: Prepared, tmp_path: Path) -> None:
    scene = Scene.load(verged.scene)
    images = {key: str(scene.folder / file) for key, file in scene.images.items()}
    matches = tmp_path / "matches"
    matches.mkdir()
    for name in scene.names[1:]:
        (matches / f"{name}.npz").symlink_to(verged.matches / f"{name}.npz")
    for side in scene.sides:
        blank = np.full_like(read_rgb(Path(images[f"{side}_1"])), 90)
        images[f"{side}_1"] = str(tmp_path / f"{side}.png")
        write_rgb(Path(images[f"{side}_1"]), blank)
    folder = tmp_path / "scene"
    folder.mkdir()
    (folder / "masks").symlink_to(verged.scene / "masks")
    replace(scene, folder=folder, images=images).save({"datadir": ""})
    (tmp_path / "out").mkdir()
    stage.run(PosesOptions(), out=tmp_path / "out", scene=folder, matches=matches)
    poses, report = load_poses(tmp_path / "out"), read_json(tmp_path / "out" / "report.json")
    assert report["not_placed"] == ["1"]
    assert not poses.placed("1")
    np.testing.assert_allclose(poses.world_from_left[1], np.eye(4), atol=1e-9)  # the first placed one
    assert compare(poses.world_from_left[1:], verged.truth[1:])[1].max() < 0.004 * verged.distance_mm


def test_too_few_frames_stop_the_run(verged: Prepared, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few frames") as caught:
        verged.run(tmp_path, min_registered=FRAMES + 1)
    assert f"{FRAMES} of {FRAMES} frames" in caught.value.found
    assert "features an image" in caught.value.found
    assert "--poses odometry" in caught.value.do


def test_a_single_frame_has_no_poses(verged: Prepared, tmp_path: Path) -> None:
    scene = Scene.load(verged.scene)
    (tmp_path / "scene").mkdir()
    replace(scene, folder=tmp_path / "scene", names=("1",), train=("1",), test=()).save({})
    with pytest.raises(NotApplicable, match="no motion"):
        stage.run(PosesOptions(), out=tmp_path, scene=tmp_path / "scene", matches=verged.matches)


def test_odometry_needs_two_eyes(parallel: Prepared, tmp_path: Path) -> None:
    scene = parallel.left_only(tmp_path / "scene")
    with pytest.raises(InputError, match="both eyes"):
        stage.run(PosesOptions(poses="odometry"), out=tmp_path, scene=scene, matches=tmp_path)


@pytest.mark.parametrize(
    "options",
    [{"cam_dist": -1.0}, {"cam_dist": 0.0}, {"min_registered": 1}, {"poses": "file", "poses_path": "none"}],
)
def test_impossible_options_are_refused_early(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        stage.check(PosesOptions(**options))
