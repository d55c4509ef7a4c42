"""Views along a path of a finished run: what they show, where they say that they are extrapolation, refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from nerf.trajectory import main
from tests.tiny import SIDES, Session
from utils.artifacts import load_maps, read_json
from utils.images import read_rgb

pytestmark = pytest.mark.slow


@pytest.fixture
def run(whole: Session, tmp_path: Path) -> Path:
    shutil.copytree(whole.logs, tmp_path / "run")
    return tmp_path / "run"


def test_between_the_eyes_the_ends_are_the_eyes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), "--path", "between", "--frame", "2", "--frames", "3", "--device", "cpu"]) == 0
    assert "seen by none of 10 training views" in capsys.readouterr().out
    out = run / "trajectories" / "between"
    record = read_json(out / "views.json")
    assert record["unit"] == "mm"
    for number, side in zip(("0001", "0002"), SIDES, strict=True):
        with np.load(out / "maps" / f"{number}.npz") as maps:
            rendered = load_maps(run / "render", side, "2")
            both = (maps["opacity"] > 0.5) & (rendered["opacity"] > 0.5)
            assert np.median(np.abs(maps["depth_mm"] / rendered["depth_mm"] - 1)[both]) < 0.005
            difference = np.abs(maps["rgb"].astype(int) - rendered["rgb"]).max(-1)[both]
            assert np.median(difference) <= 3
            tissue = load_maps(run / "scene" / "masks", side, "2")["tissue"]
            assert (maps["coverage"][tissue & both] > 0).mean() > 0.97
            assert (maps["extrapolated"] == (maps["coverage"] == 0)).all()
            share = float(maps["extrapolated"].mean())
        view = record["views"][int(number) - 1]
        assert view["extrapolated"] == pytest.approx(share, abs=1e-4)
    assert all((out / f"{kind}.mp4").stat().st_size > 0 for kind in ("rgb", "depth", "spread", "coverage"))
    assert read_rgb(out / "coverage" / "0003.png").shape == (96, 112, 3)


def test_a_camera_that_leaves_the_scene_says_so_and_its_poses_can_be_given_again(run: Path) -> None:
    with np.load(run / "poses" / "poses.npz") as poses:
        start = poses["world_from_left"][0]
    moved = np.stack([start, start])
    moved[1, :3, 3] += 60.0 * start[:3, 0]
    np.savez(run / "away.npz", world_from_camera=moved)
    assert main([str(run), "--path", str(run / "away.npz"), "--device", "cpu"]) == 0
    record = read_json(run / "trajectories" / "away" / "views.json")
    near, far = (view["extrapolated"] for view in record["views"])
    assert near < 0.15
    assert far > near + 0.3
    cameras = run / "trajectories" / "away" / "cameras.npz"
    assert main([str(run), "--path", str(cameras), "--out", str(run / "again"), "--device", "cpu"]) == 0
    assert read_json(run / "again" / "views.json")["views"] == record["views"]


def test_mistakes_are_named_before_any_work(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> str:
        assert main([str(run), *words]) == 2
        return capsys.readouterr().err

    assert "no frame with a pose" in said("--path", "between", "--frame", "99")
    assert "--frame belongs to" in said("--path", "along", "--frame", "1")
    assert "2 frames or more" in said("--path", "along", "--frames", "1")
    assert "no such file" in said("--path", str(run / "missing.npz"))
    assert "is no trajectory" in said("--path", "along", "--out", str(run / "render"))
    (run / "render" / "stamp.json").unlink()
    assert "stage `render` is needed" in said("--path", "spiral")
    assert not (run / "trajectories").exists()
    assert (run / "render" / "pictures").is_dir()
