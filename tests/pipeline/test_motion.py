"""A camera that stands before breathing tissue: the warning, what still can be had, and no alarm without need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from tests.tiny import Session
from utils.artifacts import read_json
from utils.phantom import PhantomOptions, make_phantom
from utils.scene import load_poses
from utils.scene_motion import read_motion

SIZE = (6, 160, 128)
WORDS = ("--train_binocular", "--resize", "640", "480", "--viz", "false")


@pytest.fixture(scope="module")
def breathing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a phantom whose camera stands, and half of whose tissue rises by up to 6 mm."""
    folder = tmp_path_factory.mktemp("breathing") / "data"
    make_phantom(folder, PhantomOptions("parallel", 0, *SIZE, True, 6.0))
    return folder


def test_frames_by_themselves_have_depth_and_scores_and_no_field(
    breathing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Session(tmp_path, breathing, *WORDS, "--poses", "none")
    assert session.run() == 0
    assert set(session.skipped()) == {"poses", "monocular", "nerf", "render", "filter"}
    assert session.skipped()["poses"] == "every frame stands for itself (--poses none)"
    metrics = session.metrics()
    assert metrics["motion"] == {"camera": "stands", "tissue": "moves", "eyes": 2}
    assert metrics["metric"] is True
    assert set(metrics["depth"]) == {"prior"}
    for split, frames in (("train", 5), ("test", 1)):
        raw = metrics["depth"]["prior"][split]["left"]["tissue"]["raw"]
        assert raw["n_frames"] == frames
        assert raw["abs_rel"] < 0.03
    first = session.metrics()["notes"][0]
    assert first.startswith("motion: the camera stands (")
    assert "the tissue moves (" in first
    printed = " ".join(capsys.readouterr().out.split())
    assert "the tissue moves (" in printed
    cloud: Any = trimesh.load(session.logs / "export" / "cloud.ply")
    assert len(cloud.vertices) > 1000
    assert b"comment from prior of frame 1 alone, left eye" in (session.logs / "export" / "cloud.ply").read_bytes()
    assert "Static field" in (session.logs / "evaluation" / "report.html").read_text()


def test_identical_poses_of_a_file_are_used_and_the_run_is_warned(breathing: Path, tmp_path: Path) -> None:
    identity = tmp_path / "identity.npz"
    names = np.array([str(number + 1) for number in range(SIZE[0])])
    np.savez(identity, names=names, world_from_left=np.tile(np.eye(4), (len(names), 1, 1)))
    session = Session(tmp_path, breathing, *WORDS, "--poses", "file", "--poses_path", str(identity))
    assert session.run("--until", "poses") == 0
    poses = load_poses(session.logs / "poses")
    assert poses.metric
    np.testing.assert_allclose(poses.world_from_left, np.tile(np.eye(4), (6, 1, 1)), atol=1e-9)
    warning = read_motion(session.logs / "poses")["warning"]
    log = (session.logs / "run.log").read_text()
    assert f"WARNING poses: {warning}" in log
    for words in ("the camera stands", "the tissue moves", "a static field", "is not valid", "--poses none"):
        assert words in warning
    assert read_json(session.logs / "poses" / "report.json")["scale"].startswith("from the calibrated stereo rig")


def test_the_ordinary_example_raises_no_alarm(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_phantom(data, PhantomOptions("parallel", 0, *SIZE))
    session = Session(tmp_path, data, *WORDS, "--poses", "file", "--poses_path", str(data / "truth_poses.npz"))
    assert session.run("--until", "poses") == 0
    motion = read_motion(session.logs / "poses")
    assert (motion["camera"], motion["tissue"], motion["warning"]) == ("moves", "stands", "")
    assert "WARNING poses" not in (session.logs / "run.log").read_text()


def test_one_eye_cannot_do_without_motion(
    left_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Session(tmp_path, left_data, "--poses", "none").run("--until", "poses") == 2
    assert "--poses none needs both eyes" in capsys.readouterr().err
