"""Runs by a protocol, from the lists that a command writes to the table that names what was scored."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from evaluation.protocols.command import main
from tests.tiny import Session


def by_protocol(data: Path, root: Path, name: str) -> Session:
    """Return a finished run on a dataset whose lists are those of a protocol."""
    shutil.copytree(data, root / "data")
    assert main(["--write_split", name, str(root / "data"), "--overwrite"]) == 0
    poses = str(root / "data" / "truth_poses.npz")
    session = Session(root, root / "data", "--train_binocular", "--poses", "file", "--poses_path", poses)
    assert session.run() == 0
    return session


@pytest.mark.slow
def test_a_run_on_all_frames_says_that_it_was_trained_on_what_it_is_scored_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = by_protocol(data, tmp_path, "endonerf")
    metrics = session.metrics()
    assert set(metrics["rgb"]) == set(metrics["depth"]["nerf"]) == {"train"}, "nothing passes for held out"
    assert {"endonerf", "endogs", "forplane"} < set(metrics["protocols"])
    assert {"endosurf", "endogaussian"} < set(metrics["protocols_refused"])
    scores = metrics["protocols"]["endonerf"]
    assert scores["split"].startswith("trained on what it is scored on")
    assert scores["n_frames"] == 5
    tissue = metrics["rgb"]["train"]["left"]["tissue"]["psnr"]
    assert metrics["protocols"]["forplane"]["psnr_tissue"] == pytest.approx(tissue, abs=1e-3)
    assert "trained on what it is scored on" in (session.logs / "evaluation" / "protocols.md").read_text()
    capsys.readouterr()
    assert main([str(session.logs), "--protocol", "endonerf", "endosurf"]) == 0
    shown = capsys.readouterr().out
    assert "endonerf  yes" in shown
    assert "this run trained on all frames" in shown


@pytest.mark.slow
def test_a_run_by_the_split_of_endosurf_is_scored_with_its_geometry(data: Path, tmp_path: Path) -> None:
    metrics = by_protocol(data, tmp_path, "endosurf").metrics()
    scores = metrics["protocols"]["endosurf"]
    assert scores["n_frames"] == 1
    tissue = metrics["rgb"]["test"]["left"]["tissue"]["psnr"]
    assert scores["psnr"] == pytest.approx(tissue, abs=1e-3), "of one frame pooled and mean are the same"
    assert metrics["protocols"]["endogaussian"]["psnr_tissue"] == pytest.approx(tissue, abs=1e-3)
    assert 0 < scores["geometry_mm"] < 10
    assert scores["depth"]["nerf"]["rmse_mm"] < 10
    assert {"endonerf", "endogs", "forplane"} < set(metrics["protocols_refused"])
