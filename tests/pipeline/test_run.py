"""The whole program: what it writes, which numbers it gives, what it redoes."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from tests.tiny import SIDES, STAGES, TEST_FRAME, Session, depth_tables
from utils.artifacts import load_maps, read_json
from utils.images import read_map
from utils.stages import read_stamp

pytestmark = pytest.mark.slow


def test_every_stage_leaves_a_finished_folder(whole: Session) -> None:
    assert set(whole.skipped()) == {"monocular"}, "two eyes measure depth better"
    assert {path.name for path in whole.logs.iterdir()} == {*STAGES, "run.log", ".lock"}
    for name in STAGES:
        stamp = read_stamp(whole.logs / name)
        assert stamp["seconds"] > 0 or stamp["skipped"]
        assert stamp["peak_memory_mb"] < 4096
        assert stamp["summary"]


def test_the_files_of_the_layout_are_there(whole: Session) -> None:
    logs = whole.logs
    names = [str(number) for number in range(1, 7)]
    for path in (
        "scene/frames.json",
        "scene/rig.json",
        "poses/poses.npz",
        "poses/points.npz",
        "poses/report.json",
        "prior/alignment.csv",
        "nerf/field.safetensors",
        "nerf/field.json",
        "nerf/train.csv",
        "nerf/refinement2/left_1.npz",
        "render/left.mp4",
        "export/cloud.ply",
        "export/mesh.ply",
        "export/mesh.obj",
        "export/mesh.mtl",
        "export/texture_kd.png",
        "export/texture_coverage.png",
        "export/mesh.glb",
        "export/mesh.json",
        "evaluation/per_frame.csv",
        "evaluation/table.md",
        "evaluation/table.tex",
    ):
        assert (logs / path).exists(), path
    shape = (96, 112)
    keys = {
        "stereo/sgbm": {"depth_mm", "sigma_mm", "confidence"},
        "prior": {"depth_mm", "sigma_mm", "error", "confidence", "tissue", "highlight", "importance"},
        "render": {"rgb", "depth_mm", "depth_median_mm", "depth_std_mm", "opacity"},
        "filter": {"depth_mm"},
    }
    for folder, expected in keys.items():
        assert {path.stem for path in (logs / folder).glob("*.npz")} == {f"{s}_{n}" for s in SIDES for n in names}
        maps = load_maps(logs / folder, "right", TEST_FRAME)
        assert expected <= set(maps)
        assert all(value.shape[:2] == shape for value in maps.values())
        assert maps["depth_mm"].dtype == np.float32
    assert not (logs / "nerf" / "checkpoint.pt").exists()


def test_a_mesh_cut_out_of_the_field_lies_where_the_fused_one_does(whole: Session, tmp_path: Path) -> None:
    other = whole.until_prior(tmp_path)
    shutil.copytree(whole.logs / "nerf", other.logs / "nerf")
    assert other.run("--until", "export", "--mesh_method", "density") == 0
    record = read_json(other.logs / "export" / "mesh.json")
    assert "biased" in record["warning"]
    meshes: Any = [trimesh.load(session.logs / "export" / "mesh.ply") for session in (whole, other)]
    assert meshes[1].area == pytest.approx(meshes[0].area, rel=0.3)
    distance, _ = cKDTree(meshes[0].vertices).query(meshes[1].vertices)
    assert np.median(distance) < 1.5 * record["voxel_mm"]


def test_the_metrics_have_the_keys_of_the_design(whole: Session) -> None:
    metrics = whole.metrics()
    assert metrics["metric"] is True
    assert metrics["protocol"] == "default"
    tables = dict(depth_tables(metrics))
    assert set(tables) == {
        f"{method} {split} {side} {region} {alignment}"
        for method in ("prior", "nerf", "filter")
        for split in ("train", "test")
        for side in SIDES
        for region in ("tissue", "full")
        for alignment in ("raw", "median_scaled")
    }
    counts = {"n_valid_px", "n_frames"}
    expected = {"abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3", "coverage"} | counts
    for name, values in tables.items():
        ends = values.pop("ci95", {})
        assert set(values) == expected, name
        assert all(math.isfinite(value) for value in values.values())
        assert set(ends) == (expected - counts if "train" in name else set())  # one frame has no spread
        assert all(low - 1e-8 <= values[key] <= high + 1e-8 for key, (low, high) in ends.items())
        assert values["n_frames"] == (5 if "train" in name else 1)
    for split in ("train", "test"):
        for side in SIDES:
            assert set(metrics["rgb"][split][side]) == {"full", "tissue", "tissue_no_highlight"}
            assert {"psnr", "ssim", "n_frames"} <= set(metrics["rgb"][split][side]["tissue"])
    assert metrics["poses"]["n_registered"] == metrics["poses"]["n_frames"] == 6
    assert metrics["poses"]["metric"] is True
    assert set(metrics["runtime_s"]) == set(STAGES) - {"monocular"}
    assert metrics["peak_memory_mb"] > 0
    assert "null" not in (whole.logs / "evaluation" / "metrics.json").read_text()


def test_the_numbers_are_those_of_a_reconstruction(whole: Session) -> None:
    tables = dict(depth_tables(whole.metrics()))
    for side in SIDES:
        for split in ("train", "test"):
            for method in ("prior", "nerf", "filter"):
                values = tables[f"{method} {split} {side} tissue raw"]
                assert values["abs_rel"] < 0.04
                assert values["coverage"] > 0.95
    log = (whole.logs / "run.log").read_text()
    assert all(f"{name}: started" in log for name in STAGES)


def test_refinement_brings_the_prior_nearer_to_the_truth(whole: Session) -> None:
    errors = []
    for side in SIDES:
        for name in ("2", "4", "6"):
            before = load_maps(whole.logs / "prior", side, name)
            after = load_maps(whole.logs / "nerf" / "refinement2", side, name)["depth_mm"]
            tissue = before["tissue"]
            np.testing.assert_array_equal(after[~tissue], before["depth_mm"][~tissue])
            truth = 0.01 * read_map(whole.datadir / side[0] / "depth" / f"{name}.png")
            errors.append(
                [np.nanmean(np.abs(depth / truth - 1.0)[tissue]) for depth in (before["depth_mm"], after)]
            )
    before_mean, after_mean = np.mean(errors, axis=0)
    assert after_mean < 0.97 * before_mean


def test_the_cloud_is_metric_and_says_so(whole: Session) -> None:
    path = whole.logs / "export" / "cloud.ply"
    assert b"comment unit mm\n" in path.read_bytes()[:2000]
    cloud: Any = trimesh.load(path)
    points = np.asarray(cloud.vertices, np.float64)
    assert 40 < np.median(np.linalg.norm(points, axis=1)) < 130  # the working distance of the endoscope


def test_a_second_run_does_nothing_and_an_evaluation_flag_little(whole: Session) -> None:
    before = whole.stamps()
    assert whole.run("--i_print", "7", "--chunk", "5000") == 0
    assert whole.stamps() == before
    assert "nerf: finished before, nothing to do" in (whole.logs / "run.log").read_text()
    assert whole.run("--only", "evaluation", "--disparity_png_px", "0.1") == 0
    assert {name for name, stamp in whole.stamps().items() if stamp != before[name]} == {"evaluation"}


def test_a_changed_training_flag_redoes_what_depends_on_it(whole: Session, tmp_path: Path) -> None:
    other = whole.until_prior(tmp_path)
    for name in STAGES[STAGES.index("nerf") :]:
        shutil.copytree(whole.logs / name, other.logs / name)
    before = other.stamps()
    assert other.run("--depth_loss_weight", "0.3", "--N_iters", "20") == 0
    changed = {name for name, stamp in other.stamps().items() if stamp != before[name]}
    assert changed == {"nerf", "render", "filter", "export", "evaluation"}
    assert (other.logs / "nerf/field.safetensors").read_bytes() != whole.weights()
