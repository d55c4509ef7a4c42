"""The stage `stereo`: its sources, refusals before anything runs, a training that is taken up again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stereo_prior import pam_training
from stereo_prior import stereo as stage
from stereo_prior.judgement import measuring
from stereo_prior.networks.matching import matcher
from stereo_prior.networks.pasmnet import PASMnet
from stereo_prior.pair import Pair
from stereo_prior.rectification import Rectification
from stereo_prior.source import StereoOptions, Task
from stereo_prior.training_pairs import TrainingPairs
from tests.synthetic import Plane, parallel_rig
from tests.unit.test_sgbm import make_scene
from utils.artifacts import load_maps, write_npz
from utils.errors import InputError
from utils.scene import Scene
from utils.stages import stage_record
from utils.types import FloatArray

QUICK: dict[str, Any] = {"depth_N_iters": 2, "depth_i_weights": 1}
RIG = parallel_rig(160, 128)


def folders(root: Path) -> dict[str, Path]:
    for name in ("matches", "stereo"):
        (root / name).mkdir()
    return {"out": root / "stereo", "scene": root / "scene", "matches": root / "matches"}


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"stereo": "pam", "depth_N_iters": 0}, "--pam_weights"),
        ({"stereo": "sttr", "depth_N_iters": 0}, "--sttr_weights"),
        ({"stereo": "pam", "depth_lrate": 0.0}, "learning rate"),
        ({"stereo": "sttr", "sttr_stride": 0}, "--sttr_stride 0"),
        ({"stereo": "anynet"}, "--anynet_weights"),
        ({"stereo": "pam", "pam_weights": "nowhere.pth"}, "no such file"),
        ({"stereo": "sgbm,sgm"}, "sgm"),
        ({"stereo": " , "}, "no source"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(options: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError) as caught:
        stage.check(StereoOptions(**options))
    assert word in str(caught.value)


def test_a_wrong_checkpoint_is_refused_before_anything_runs(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pth")
    for name in ("pam", "sttr", "anynet"):
        weights: dict[str, Any] = {f"{name}_weights": str(tmp_path / "weights.pth")}
        options = StereoOptions(stereo=name, **weights)
        with pytest.raises(InputError, match="is not a checkpoint of"):
            stage.check(options)


def test_other_weights_are_another_result(tmp_path: Path) -> None:
    hashes = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(PASMnet().state_dict(), tmp_path / "weights.pth")
        options = StereoOptions(stereo="pam", pam_weights=str(tmp_path / "weights.pth"))
        hashes.append(stage_record(stage.STAGE, options, {"scene": "", "matches": ""})["hash"])
    assert hashes[0] != hashes[1]


def test_pam_trains_on_the_scene_and_measures_it(tmp_path: Path) -> None:
    make_scene(tmp_path / "scene", RIG)
    given = folders(tmp_path)
    stage.run(StereoOptions(stereo="pam", **QUICK), **given)
    for side in ("left", "right"):
        maps = load_maps(given["out"] / "pam", side, "1")
        assert set(maps) == {"depth_mm", "sigma_mm", "confidence"}
        assert ((maps["confidence"] > 0) <= np.isfinite(maps["depth_mm"])).all()
    columns = (given["out"] / "pam" / "train.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in columns] == ["step", "0", "1"]


def test_an_interrupted_stereo_training_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_scene(tmp_path / "scene", RIG)
    given = folders(tmp_path)
    steps = []
    loss_of = pam_training.losses

    def counting(network: PASMnet, example: pam_training.Example) -> torch.Tensor:
        steps.append(1)
        if len(steps) == 2:
            raise KeyboardInterrupt
        return loss_of(network, example)

    monkeypatch.setattr(pam_training, "losses", counting)
    with pytest.raises(KeyboardInterrupt):
        stage.run(StereoOptions(stereo="pam", **QUICK), **given)
    stage.run(StereoOptions(stereo="pam", **QUICK), **given)
    assert len(steps) == 3  # one done, one broken off, one more
    assert stage.STAGE.resumable


def constant(disparity_px: float) -> Callable[[Pair], NDArray[np.float32]]:
    return lambda pair: np.full(pair.reference.tissue.shape, disparity_px, np.float32)


def test_a_networks_disparity_becomes_the_depth_of_both_eyes(tmp_path: Path) -> None:
    truth = make_scene(tmp_path / "scene", RIG, Plane(offset_mm=80.0))
    scene = Scene.load(tmp_path / "scene")
    rectification = Rectification.of(scene.rig)
    disparity = float(rectification.disparity_from_depth(np.array(80.0)))
    task = Task(StereoOptions(), scene, rectification, tmp_path, {"1": np.full(40, disparity)}, tmp_path)
    found = measuring(task, matcher(constant(disparity)))("1")
    for side, maps in found.items():
        known = np.isfinite(maps.depth_mm)
        assert known.mean() > 0.8
        assert np.percentile(np.abs(maps.depth_mm / truth[side] - 1)[known], 99) < 0.02


def test_networks_learn_from_training_frames_alone(tmp_path: Path) -> None:
    make_scene(tmp_path / "scene", RIG)
    scene = Scene.load(tmp_path / "scene")
    images = {f"{side}_{name}": scene.images[f"{side}_1"] for side in ("left", "right") for name in ("1", "2")}
    both = replace(scene, names=("1", "2"), train=("1",), test=("2",), images=images)
    found: dict[str, FloatArray] = {"1": np.linspace(2.0, 9.0, 40), "2": np.linspace(-50.0, 50.0, 40)}
    task = Task(StereoOptions(), both, Rectification.of(scene.rig), tmp_path, found, tmp_path)
    pairs = TrainingPairs(task)
    assert pairs.names == ["1"]
    assert len(pairs) == len(pairs[:]) == 1
    assert -5.0 < pairs.search_px[0] < 2.0 < 9.0 < pairs.search_px[1] < 15.0


def test_sttr_says_how_many_matches_it_learns_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_scene(tmp_path / "scene", RIG)
    given = folders(tmp_path)
    scene = Scene.load(tmp_path / "scene")
    rectification = Rectification.of(scene.rig)
    left = np.random.default_rng(0).uniform([30.0, 10.0], [150.0, 120.0], (40, 2))
    disparity = float(rectification.disparity_from_depth(np.array(80.0)))
    right = left - [disparity, 0.0]
    write_npz(given["matches"] / "1.npz", pixels_left=left, pixels_right=right, score=np.ones(40))
    with caplog.at_level("INFO", logger="specula"):
        stage.run(StereoOptions(stereo="sttr", sttr_stride=8, **QUICK), **given)
    assert "40 of 40 points kept" in caplog.text
    assert (given["out"] / "sttr" / "left_1.npz").exists()


def test_sttr_without_matches_has_nothing_to_learn_from(tmp_path: Path) -> None:
    make_scene(tmp_path / "scene", RIG)
    with pytest.raises(InputError, match="no points to learn from"):
        stage.run(StereoOptions(stereo="sttr", **QUICK), **folders(tmp_path))


def test_missing_weights_are_said_whatever_stages_run() -> None:
    for name in ("pam", "sttr", "anynet"):
        weights: dict[str, Any] = {f"{name}_weights": "nowhere.pth"}
        options = StereoOptions(stereo=name, **weights)
        with pytest.raises(InputError, match="no such file"):
            stage.files(options)
    assert stage.files(StereoOptions(stereo="anynet")) == []


def test_a_path_whose_source_was_forgotten_is_said(caplog: pytest.LogCaptureFixture) -> None:
    stage.check(StereoOptions(stereo_path="maps"))
    assert "--stereo_path is not used: --stereo sgbm has no files" in caplog.text
    caplog.clear()
    stage.check(StereoOptions())
    assert caplog.text == ""
