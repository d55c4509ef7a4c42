"""Training that was interrupted goes on to the same weights; checkpoints of other configurations are refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import Session, interrupted
from utils.artifacts import read_json
from utils.scene import load_poses

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(whole: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the run `whole`, as an interruption leaves it."""
    other = whole.until_prior(tmp_path_factory.mktemp("interrupted"))
    with interrupted("advance", before_call=25):
        assert other.run("--until", "nerf") == 130
    return other.logs / "nerf.partial" / "checkpoint.pt"


@pytest.mark.parametrize(
    ("method", "call", "error"),
    [
        ("advance", 36, KeyboardInterrupt),  # Ctrl-C between two steps
        ("_compiled_losses", 36, KeyboardInterrupt),  # within a step: the last checkpoint is of step 20
        ("advance", 56, RuntimeError),  # a crash after the second refinement; the last checkpoint is of step 40
    ],
)
def test_interrupted_training_ends_in_the_same_weights(
    whole: Session, tmp_path: Path, method: str, call: int, error: type[BaseException]
) -> None:
    other = whole.until_prior(tmp_path)
    with interrupted(method, call, error):
        if error is KeyboardInterrupt:
            assert other.run("--until", "nerf") == 130
        else:
            with pytest.raises(error):
                other.run("--until", "nerf")
    assert not (other.logs / "nerf").exists()
    assert (other.logs / "nerf.partial" / "checkpoint.pt").exists()
    assert other.run("--until", "nerf", "--i_print", "10") == 0
    assert "resumed at step" in (other.logs / "run.log").read_text()
    assert other.weights() == whole.weights()
    for folder in ("refinement1", "refinement2"):
        for name in ("left_1", "right_6"):
            path = f"nerf/{folder}/{name}.npz"
            assert (other.logs / path).read_bytes() == (whole.logs / path).read_bytes()
    with open(other.logs / "nerf" / "train.csv", newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [10, 20, 30, 40, 50, 60]


def test_corrections_of_poses_survive_an_interruption(whole: Session, tmp_path: Path) -> None:
    written = []
    for name in ("at once", "interrupted"):
        session = whole.until_prior(tmp_path / name)
        if name == "interrupted":
            with interrupted("advance", 36):
                assert session.run("--until", "nerf", "--refine_poses") == 130
        assert session.run("--until", "nerf", "--refine_poses") == 0
        written.append((session.weights(), (session.logs / "nerf" / "poses.npz").read_bytes()))
    assert written[0] == written[1]
    before, after = load_poses(session.logs / "poses"), load_poses(session.logs / "poses", session.logs / "nerf")
    moved = np.abs(after.world_from_left - before.world_from_left).max(axis=(1, 2))
    assert (moved > 1e-4).any()
    record = read_json(session.logs / "nerf" / "field.json")["pose_refinement"]
    assert 0.0 < record["shifted_rms"] < 2.0


def test_a_checkpoint_of_another_configuration_is_refused(
    whole: Session, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = whole.until_prior(tmp_path)
    assert other.run("--until", "nerf", "--ft_path", str(checkpoint), "--planes_width", "32") == 2
    error = capsys.readouterr().err
    assert "comes from another configuration" in error
    assert "planes_width 48" in error
    assert "planes_width 32" in error
    assert not (other.logs / "nerf").exists()


def test_weights_of_the_same_configuration_are_a_better_start(
    whole: Session, checkpoint: Path, tmp_path: Path
) -> None:
    psnr: list[float] = []
    for words in (["--ft_path", str(whole.logs / "nerf")], ["--ft_path", str(checkpoint)], []):
        other = whole.until_prior(tmp_path / str(len(psnr)))
        assert other.run("--until", "nerf", "--N_iters", "10", *words) == 0
        with open(other.logs / "nerf" / "train.csv", newline="") as file:
            psnr.append(float(next(csv.DictReader(file))["psnr_db"]))
    assert min(psnr[:2]) > psnr[2] + 0.5


def test_a_file_that_is_no_checkpoint_is_refused(
    whole: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "weights.pt").write_text("not a checkpoint")
    other = whole.until_prior(tmp_path)
    assert other.run("--until", "nerf", "--ft_path", str(tmp_path / "weights.pt")) == 2
    assert "--ft_path" in capsys.readouterr().err
