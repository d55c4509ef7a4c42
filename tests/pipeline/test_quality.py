"""The example at full size and with the defaults reaches what the README promises: two to four minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import run as program
from localisation.locate import main as locate
from tests.synthetic import turn
from tests.tiny import SIDES
from utils.artifacts import read_json
from utils.geometry import invert_rigid, rigid, rotation_angle_degrees
from utils.images import write_rgb
from utils.phantom import PhantomOptions, make_phantom
from utils.scene import Scene, load_poses


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


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("sides", ["l", "lr"])
def test_held_out_images_are_located_and_foreign_ones_refused(
    logs: Path, sides: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localisation.locator.CALIBRATION_VIEWS", 2)  # six take a quarter of a minute
    scene = Scene.load(logs / "scene")
    data, foreign = logs.parent / "data", tmp_path / "foreign"
    make_phantom(foreign, PhantomOptions("parallel", 9, 1, 320, 256))
    left, right = ([*(data / side / "images" / f"{name}.jpg" for name in scene.test[:2])] for side in "lr")
    words: list[Path | str] = [*left, foreign / "l/images/1.jpg"]
    words += ["--right", *right, foreign / "r/images/1.jpg"] if sides == "lr" else []
    assert locate([str(logs), *map(str, words), "--out", str(tmp_path / "out")]) == 0
    *own, other = read_json(tmp_path / "out" / "poses.json")["images"]
    assert not other["located"]
    assert "world_from_left" not in other
    assert len(own) == 2
    for image in own:
        _is_in_place(logs, image)
        assert image["explained"] > 0.95
        assert np.array(image["covariance"]).shape == (6, 6)
        assert image["std_mm"] == pytest.approx(np.sqrt(np.trace(np.array(image["covariance"])[3:, 3:])), abs=1e-4)
    with np.load(tmp_path / "out" / "poses.npz") as poses:
        assert list(poses["names"]) == [image["name"] for image in own]
        np.testing.assert_allclose(poses["world_from_left"][0], own[0]["world_from_left"])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_image_is_located_from_a_start_and_within_its_mask(logs: Path, tmp_path: Path) -> None:
    scene, placed = Scene.load(logs / "scene"), load_poses(logs / "poses", logs / "nerf")
    name = scene.test[0]
    image = scene.image("left", name).copy()
    image[:, :120] = image[:, 200:320]  # what is not where it belongs, and masked out
    write_rgb(tmp_path / "images" / f"{name}.png", image)
    mask = np.full(image.shape[:2], 255, np.uint8)
    mask[:, :120] = 0
    write_rgb(tmp_path / "masks" / f"{name}.png", mask)
    start = placed.world_from("left", name) @ rigid(turn((6.0, -6.0, 5.0)), np.array([5.0, 4.0, -4.0]))
    words = [str(logs), str(tmp_path / "images" / f"{name}.png"), "--masks", str(tmp_path / "masks")]
    words += ["--start", *(f"{value:.6f}" for value in start.ravel()), "--out", str(tmp_path / "out")]
    assert locate(words) == 0
    (found,) = read_json(tmp_path / "out" / "poses.json")["images"]
    assert found["start"].startswith("given")
    _is_in_place(logs, found)
    assert found["explained"] > 0.95


def _is_in_place(logs: Path, image: Any) -> None:
    """Check a record against the run's own pose of the frame, which its own image helped to estimate."""
    placed = load_poses(logs / "poses", logs / "nerf")
    assert image["located"]
    off = invert_rigid(placed.world_from("left", image["name"])) @ np.array(image["world_from_left"])
    assert float(rotation_angle_degrees(off[:3, :3])) < 0.4
    assert float(np.linalg.norm(off[:3, 3])) < 0.5
