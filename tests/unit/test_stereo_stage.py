"""The stage `stereo`: its sources, refusals before anything runs, a training that is taken up again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stereo_prior import pam_training
from stereo_prior import stereo as stage
from stereo_prior.networks.pasmnet import PASMnet
from stereo_prior.source import StereoOptions
from tests.synthetic import parallel_rig
from tests.unit.test_sgbm import make_scene
from utils.artifacts import load_maps
from utils.errors import InputError
from utils.stages import stage_record

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
    assert len((given["out"] / "pam" / "train.csv").read_text().splitlines()) == 1 + QUICK["depth_N_iters"]


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
