"""The example at full size and with the defaults reaches what the README promises: two to four minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import run as program
from tests.tiny import SIDES
from utils.artifacts import read_json
from utils.geometry import invert_rigid
from utils.scene import load_poses


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the finished experiment of the embedded example, made from nothing."""
    folder = tmp_path_factory.mktemp("example")
    words = ["--expname", "phantom", "--basedir", str(folder), "--datadir", str(folder / "data")]
    words += ["--phantom", "parallel", "--depth_png_mm", "0.01", "--train_binocular"]
    assert program.main(words) == 0
    return folder / "phantom"


@pytest.fixture(scope="module")
def metrics(logs: Path) -> Any:
    return read_json(logs / "evaluation" / "metrics.json")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_frames_stand_where_they_stood(logs: Path) -> None:
    poses = load_poses(logs / "poses")
    with np.load(logs.parent / "data" / "truth_poses.npz") as file:
        truth = file["world_from_left"]
    assert poses.metric
    assert np.isfinite(poses.world_from_left).all()
    found = (invert_rigid(poses.world_from_left[0]) @ poses.world_from_left)[:, :3, 3]
    right = (invert_rigid(truth[0]) @ truth)[:, :3, 3]
    scale = float((found * right).sum() / (right * right).sum())
    assert scale == pytest.approx(1.0, abs=0.003)
    working_distance_mm = 80.0
    assert np.linalg.norm(found - right, axis=1).max() < 0.003 * working_distance_mm


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("side", SIDES)
def test_depth_is_as_good_as_promised(metrics: Any, side: str) -> None:
    depth = {method: metrics["depth"][method] for method in ("prior", "nerf", "filter")}
    for split in ("train", "test"):
        prior, field, filtered = (depth[method][split][side]["tissue"]["raw"] for method in depth)
        assert prior["abs_rel"] <= 0.015
        assert prior["coverage"] >= 0.80
        assert field["abs_rel"] <= 0.006  # 0.008 is asked for; 0.004 was reached
        assert field["abs_rel"] < prior["abs_rel"]
        assert field["coverage"] >= 0.98
        assert filtered["abs_rel"] <= field["abs_rel"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("side", SIDES)
def test_held_out_views_look_as_promised(metrics: Any, side: str) -> None:
    scores = metrics["rgb"]["test"][side]
    assert scores["tissue"]["psnr"] >= 31.0
    assert scores["tissue_no_highlight"]["psnr"] >= 34.0
