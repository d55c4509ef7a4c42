"""From a first field to the prior of a second: middle views are rendered, the network learns from them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import SIDES, TEST_FRAME, Session
from utils.artifacts import load_maps
from utils.relative_maps import load_relative
from utils.stages import read_stamp

pytestmark = pytest.mark.slow


def test_a_network_learns_from_the_views_between_the_eyes(
    whole: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Session(tmp_path, whole.datadir, *whole.words[-1:])
    shutil.copytree(whole.logs, first.logs)
    assert first.run("--render_middle", "--until", "render") == 0
    between = {path.stem: path for path in (first.logs / "render" / "middle").glob("*.npz")}
    names = {str(number) for number in range(1, 7)}
    assert set(between) == names - {TEST_FRAME}, "the middle of training frames"
    for name, file in between.items():
        with np.load(file) as middle:
            depth_mm = float(np.median(middle["depth_mm"]))
            assert middle["rgb"].shape == (96, 112, 3)
            assert (middle["opacity"] > 0.5).mean() > 0.9
        eyes = [float(np.median(load_maps(first.logs / "render", side, name)["depth_mm"])) for side in SIDES]
        assert depth_mm == pytest.approx(np.mean(eyes), rel=0.05)
    second = Session(tmp_path / "second", whole.datadir, *whole.words[-1:])
    learning = ("--ns_path", str(first.logs), "--ns_loss_weight", "1", "--monocular_iters", "20")
    assert second.run(*learning, "--until", "prior") == 0
    assert "10 images and 5 views between the eyes" in (second.logs / "run.log").read_text()
    assert not read_stamp(second.logs / "monocular")["skipped"], "two eyes, and yet the small network"
    for name in names:
        assert load_relative(second.logs / "monocular", "right", name) is not None
    assert first.run("--render_middle", "--ns_path", str(first.logs), "--ns_loss_weight", "1") == 2
    assert "own folder" in capsys.readouterr().err
