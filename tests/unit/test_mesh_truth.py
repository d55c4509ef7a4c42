"""The true surface of a scene: where it is found, how it is brought together with a run, what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from evaluation import mesh_truth, stage, surfaces, truth
from evaluation.mesh_scores import score_mesh
from evaluation.mesh_truth import align_cameras, evenly, read_true_poses
from evaluation.options import EvaluationOptions
from evaluation.surfaces import read_mesh
from stereo_prior import scene as scene_stage
from stereo_prior.scene import SceneOptions
from tests.synthetic import path
from utils import phantom_mesh
from utils.artifacts import read_json, write_json
from utils.errors import InputError
from utils.geometry import invert_rigid, rigid, transform
from utils.phantom import PhantomOptions, make_phantom
from utils.scene import Scene, save_poses
from utils.types import FloatArray, Poses, Side

MOTION = rigid(Rotation.from_rotvec([0.4, -1.1, 0.6]).as_matrix(), np.array([30.0, -12.0, 55.0]))


@dataclass
class Run:
    """A phantom, its scene, and a run whose world is another one: `MOTION` leads to it from the truth's."""

    data: Path
    scene: Scene
    poses: Poses
    mesh: trimesh.Trimesh

    @property
    def options(self) -> EvaluationOptions:
        return EvaluationOptions(datadir=str(self.data), depth_png_mm=0.01)

    def score(self, export: Path, **changed: Any) -> tuple[dict[str, dict[str, float]], str]:
        """Export `mesh` and return the block `mesh` and all notes."""
        options, lenses = changed.get("options", self.options), truth.load_lenses(self.scene.folder)

        def read_truth(side: Side, name: str) -> Any:
            return truth.read_truth(options, self.scene, lenses, side, name)

        export.mkdir(exist_ok=True)
        changed.get("mesh", self.mesh).export(export / "mesh.ply")
        notes: list[str] = []
        scene, poses = changed.get("scene", self.scene), changed.get("poses", self.poses)
        return score_mesh(options, scene, poses, export, read_truth, notes), " ".join(notes)

    def without_mesh(self, folder: Path) -> EvaluationOptions:
        shutil.copytree(self.data, folder, ignore=shutil.ignore_patterns("truth_mesh.ply"))
        return replace(self.options, datadir=str(folder))


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Make surfaces of fewer samples, and true meshes of fewer faces: within 0.15 mm of the true depth."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surfaces, "MOST_SAMPLES", 20_000)
        patch.setattr(phantom_mesh, "STEP", 6)
        yield


@pytest.fixture(scope="module")
def run(small: None, tmp_path_factory: pytest.TempPathFactory) -> Run:  # noqa: ARG001
    root = tmp_path_factory.mktemp("mesh")
    make_phantom(root / "data", PhantomOptions("parallel", 0, 5, 96, 80))
    scene_stage.run(SceneOptions(datadir=str(root / "data"), train_binocular=True), out=root / "scene")
    scene = Scene.load(root / "scene")
    true_poses = read_true_poses(root / "data" / "truth_poses.npz")
    world_from_left = MOTION @ np.stack([true_poses[name] for name in scene.names])
    poses = Poses(scene.names, world_from_left, world_from_left @ scene.rig.left_from("right"), True)
    mesh = read_mesh(root / "data" / "truth_mesh.ply")
    return Run(root / "data", scene, poses, as_trimesh(transform(MOTION, mesh.vertices), mesh.faces))


def as_trimesh(vertices: FloatArray, faces: Any) -> trimesh.Trimesh:
    return trimesh.Trimesh(vertices, faces, process=False)


def moved(mesh: trimesh.Trimesh, motion: FloatArray) -> trimesh.Trimesh:
    return as_trimesh(transform(motion, np.asarray(mesh.vertices)), mesh.faces)


def test_the_truth_itself_in_another_world_is_perfect(run: Run, tmp_path: Path) -> None:
    scores, notes = run.score(tmp_path)
    for row in scores.values():
        assert row["chamfer_mm"] < 1e-3
        assert row["f_score_0.25mm"] == 1
        assert row["normal_consistency"] > 0.999
    assert "icp_shift_mm" not in scores["raw"]
    assert scores["icp"]["icp_shift_mm"] < 1e-3
    assert scores["icp"]["icp_rotation_degrees"] < 1e-3
    assert "truth_mesh.ply" in notes
    assert "by the poses of 5 frames alone (rigid, without scale; they agree to 0.00 mm at 8" in notes


def test_only_the_row_icp_forgives_a_shift(run: Run, tmp_path: Path) -> None:
    away = run.poses.world_from_left[0, :3, 2] * 0.6  # along the line of sight
    scores, _ = run.score(tmp_path, mesh=moved(run.mesh, rigid(np.eye(3), away)))
    assert 0.4 < scores["raw"]["chamfer_mm"] <= 0.6
    assert scores["raw"]["f_score_0.25mm"] < 0.2
    assert scores["icp"]["chamfer_mm"] < 0.02
    assert scores["icp"]["icp_shift_mm"] == pytest.approx(0.6, abs=0.02)


def test_without_a_true_mesh_depth_maps_are_the_truth_whatever_the_poses(run: Run, tmp_path: Path) -> None:
    options = run.without_mesh(tmp_path / "data")
    scores, notes = run.score(tmp_path, options=options)
    assert scores["raw"]["accuracy_median_mm"] < 0.03
    assert scores["raw"]["completeness_median_mm"] < 0.03
    assert scores["raw"]["f_score_0.5mm"] > 0.98
    assert scores["raw"]["normal_consistency"] > 0.97
    assert "placed by the run's own poses: errors of the poses cancel" in notes
    assert "of 8 training images" in notes


def test_a_single_pair_stands_in_its_left_eye(run: Run, tmp_path: Path) -> None:
    scene = replace(run.scene, names=("1",), train=("1",), test=())
    to_pair = invert_rigid(run.poses.world_from("left", "1"))
    for options in (run.options, run.without_mesh(tmp_path / "data")):
        scores, notes = run.score(
            tmp_path, scene=scene, poses=None, options=options, mesh=moved(run.mesh, to_pair)
        )
        assert scores["raw"]["accuracy_median_mm"] < 0.03
        assert "of 2 training images" in notes


def test_truth_with_holes_in_one_image_alone(run: Run, tmp_path: Path) -> None:
    options = run.without_mesh(tmp_path / "data")
    paths = sorted((tmp_path / "data").glob("?/depth/*.png"))
    units = cv2.imread(str(paths[0]), cv2.IMREAD_UNCHANGED)
    assert units is not None
    units[::7, ::7] = 0  # unknown pixels between known ones
    cv2.imwrite(str(paths[0]), units)
    for other in paths[1:]:
        other.unlink()
    scores, notes = run.score(tmp_path, options=options)
    assert scores["raw"]["f_score_0.5mm"] > 0.95
    assert "1 or more of 1 training images" in notes


def test_arbitrary_units_are_not_scored(run: Run, tmp_path: Path) -> None:
    scores, notes = run.score(tmp_path, poses=replace(run.poses, metric=False))
    assert scores == {}
    assert "arbitrary units" in notes


def test_no_exported_mesh_is_nothing_to_score(run: Run, tmp_path: Path) -> None:
    notes: list[str] = []
    assert score_mesh(run.options, run.scene, run.poses, tmp_path, lambda *_: None, notes) == {}
    assert notes == []


def test_a_run_without_any_truth_says_so(run: Run, tmp_path: Path) -> None:
    scores, notes = run.score(tmp_path, options=EvaluationOptions(datadir=str(tmp_path)))
    assert scores == {}
    assert "neither a true mesh nor true depth" in notes


def test_a_true_mesh_in_metres_is_noticed(run: Run, tmp_path: Path) -> None:
    vertices = np.asarray(read_mesh(run.data / "truth_mesh.ply").vertices) / 1000 - [0, 0, 500]
    as_trimesh(vertices, run.mesh.faces).export(tmp_path / "metres.ply")
    options = replace(run.options, truth_mesh=str(tmp_path / "metres.ply"))
    scores, notes = run.score(tmp_path, options=options)
    assert scores == {}
    assert "in front of no training camera" in notes


def test_an_exported_mesh_without_faces_is_said(run: Run, tmp_path: Path) -> None:
    scores, notes = run.score(tmp_path, mesh=trimesh.PointCloud(np.zeros((3, 3))))
    assert scores == {}
    assert "no triangles" in notes


def test_frames_of_other_names_cannot_be_brought_together(run: Run, tmp_path: Path) -> None:
    others = replace(run.poses, names=tuple(f"other {name}" for name in run.poses.names))
    scores, notes = run.score(tmp_path, poses=others)
    assert scores == {}
    assert "none of the frames that were placed" in notes


def test_a_mesh_far_from_the_truth_recalls_nothing(run: Run, tmp_path: Path) -> None:
    scores, notes = run.score(tmp_path, mesh=moved(run.mesh, rigid(np.eye(3), np.array([0.0, 9000.0, 0.0]))))
    assert set(scores) == {"raw"}
    assert (scores["raw"]["n_mesh_points"], scores["raw"]["f_score_2mm"]) == (0, 0)
    assert "nothing of it lies where the truth can be seen" in notes


def test_the_stage_writes_the_block_and_the_rows(run: Run, tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("poses", "export")}
    folders["export"].mkdir()
    run.mesh.export(folders["export"] / "mesh.ply")
    save_poses(folders["poses"], run.poses)
    write_json(folders["poses"] / "report.json", {"metric": True, "n_registered": 5, "n_frames": 5})
    for folder in (*folders.values(), run.scene.folder):
        write_json(folder / "stamp.json", {"seconds": 1.0, "peak_memory_mb": 10.0, "skipped": None})
    summary = stage.run(run.options, out=tmp_path / "evaluation", scene=run.scene.folder, **folders)
    metrics = read_json(tmp_path / "evaluation" / "metrics.json")
    assert set(metrics["mesh"]) == {"raw", "icp"}
    assert metrics["mesh"]["raw"]["f_score_1mm"] == 1
    assert isinstance(metrics["mesh"]["raw"]["n_truth_points"], int)
    assert "mesh Chamfer 0.000 mm" in summary
    assert "Mesh against the true surface" in (tmp_path / "evaluation" / "table.md").read_text()


def test_files_and_checks(run: Run, tmp_path: Path) -> None:
    stage.check(run.options)
    assert {path.name for path in mesh_truth.files(run.options)} == {"truth_mesh.ply", "truth_poses.npz"}
    assert set(mesh_truth.files(run.options)) <= set(stage.files(run.options))
    assert mesh_truth.files(EvaluationOptions(datadir=str(tmp_path))) == []
    mesh_truth.check(EvaluationOptions(datadir=str(tmp_path)))
    with pytest.raises(InputError, match=r"--truth_mesh .*no mesh that can be read"):
        stage.check(replace(run.options, truth_mesh=str(tmp_path / "nowhere.ply")))
    (tmp_path / "broken.ply").write_text("ply\nnonsense\n")
    with pytest.raises(InputError, match="cannot be read as a mesh"):
        stage.check(replace(run.options, truth_mesh=str(tmp_path / "broken.ply")))
    (tmp_path / "mesh.txt").write_text("0 0 0")
    with pytest.raises(InputError, match=r"a file ending in \.ply"):
        stage.check(replace(run.options, truth_mesh=str(tmp_path / "mesh.txt")))


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        (None, "FileNotFoundError"),
        ({"names": np.array(["1"])}, "world_from_left"),
        ({"names": np.array("1"), "world_from_left": np.eye(4)[None]}, "TypeError"),
        ({"names": np.array(["1"]), "world_from_left": np.eye(4)}, "1 names, matrices of shape"),
        ({"names": np.array(["1"]), "world_from_left": np.diag([1.0, 1, -1, 1])[None]}, "frame 1: no rotation"),
        ({"names": np.array(["1"]), "world_from_left": 2 * np.eye(4)[None]}, "frame 1: no rotation"),
    ],
)
def test_true_poses_that_cannot_be(tmp_path: Path, arrays: dict[str, Any] | None, found: str) -> None:
    as_trimesh(np.eye(3), [[0, 1, 2]]).export(tmp_path / "truth_mesh.ply")
    if arrays is not None:
        np.savez(tmp_path / "truth_poses.npz", **arrays)
    with pytest.raises(InputError, match=found):
        mesh_truth.check(EvaluationOptions(datadir=str(tmp_path)))


def test_unknown_true_poses_are_left_out(tmp_path: Path) -> None:
    poses = np.stack([np.eye(4), np.full((4, 4), np.nan)])
    np.savez(tmp_path / "poses.npz", names=np.array(["a", "b"]), world_from_left=poses)
    assert set(read_true_poses(tmp_path / "poses.npz")) == {"a"}


def test_worlds_are_aligned_from_any_number_of_cameras() -> None:
    cameras = path(12)
    straight = np.stack([rigid(np.eye(3), np.array([0.1 * k, 0.0, 0.0])) for k in range(5)])
    for some in (cameras, cameras[:1], straight):
        motion, apart_mm = align_cameras(some, MOTION @ some, 80.0)
        np.testing.assert_allclose(motion, MOTION, atol=1e-9)
        assert apart_mm < 1e-9


def test_one_camera_that_went_astray_does_not_move_the_world() -> None:
    cameras = path(12)
    seen = cameras.copy()
    seen[4] = seen[4] @ rigid(Rotation.from_rotvec([0.1, 0.0, 0.3]).as_matrix(), np.array([5.0, 0.0, 2.0]))
    motion, apart_mm = align_cameras(seen, MOTION @ cameras, 80.0)
    np.testing.assert_allclose(motion, MOTION, atol=1e-9)
    assert apart_mm > 1, "it is counted where it is told how well cameras agree"


def test_long_sequences_are_cropped_by_evenly_chosen_frames(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [str(k) for k in range(1000)]
    chosen = evenly(names, run.scene)
    assert (len(chosen), chosen[0], chosen[-1]) == (40, "0", "999")
    assert evenly(names[:7], run.scene) == names[:7]
    assert evenly(names[:1], run.scene) == names[:1]
    assert evenly([], run.scene) == []
    monkeypatch.setattr(mesh_truth, "_MOST_VIEWED", 5 * 2 * 96 * 80)
    assert len(evenly(names, run.scene)) == 5
