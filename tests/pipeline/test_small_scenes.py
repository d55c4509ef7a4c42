"""Scenes that lack something: a left eye alone, a single pair, a single image."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import trimesh

from tests.tiny import STAGES, Session, phantom
from utils.artifacts import map_path
from utils.types import ARBITRARY_UNITS


@pytest.mark.slow
def test_a_left_eye_alone_runs_to_the_end(
    left_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--poses", "file", "--poses_path", str(left_data / "truth_poses.npz")]
    session = Session(tmp_path, left_data, *words)
    assert session.run() == 0
    assert set(session.skipped()) == {"matches", "stereo"}
    assert "left images only" in session.skipped()["stereo"]
    with open(session.logs / "prior" / "alignment.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "monocular"]
    assert [row["frame"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert sum(row["applied"] == "True" for row in rows) >= 5
    metrics = session.metrics()
    assert metrics["depth"]["prior"]["train"]["left"]["tissue"]["median_scaled"]["abs_rel"] < 0.05
    assert metrics["metric"] is False
    assert set(metrics["rgb"]["test"]) == {"left"}
    nerf = metrics["depth"]["nerf"]["test"]["left"]["tissue"]
    assert set(nerf) == {"median_scaled"}, "without a scale raw depth is not scored"
    assert nerf["median_scaled"]["abs_rel"] < 0.1
    assert ARBITRARY_UNITS in capsys.readouterr().out
    assert ARBITRARY_UNITS in (session.logs / "evaluation" / "table.md").read_text()
    header = (session.logs / "export" / "cloud.ply").read_bytes()[:2000]
    assert f"comment unit {ARBITRARY_UNITS}".encode() in header
    assert not map_path(session.logs / "render", "right", "1").exists()


def test_a_single_pair_runs_where_it_can_and_says_why_not_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Session(tmp_path, phantom(tmp_path / "pair", frames=1), "--train_binocular")
    assert session.run() == 0
    assert set(session.skipped()) == {"poses", "monocular", "nerf", "render", "filter"}
    for name in ("poses", "nerf", "render", "filter"):
        assert "no motion" in session.skipped()[name], name
    metrics = session.metrics()
    assert set(metrics["depth"]) == {"prior"}
    assert metrics["depth"]["prior"]["train"]["left"]["tissue"]["raw"]["abs_rel"] < 0.05
    assert "rgb" not in metrics
    assert "poses" not in metrics
    cloud: Any = trimesh.load(session.logs / "export" / "cloud.ply")
    assert len(cloud.vertices) > 1000
    assert "stage nerf was skipped" in capsys.readouterr().out
    assert session.run("--until", "nerf") == 2
    assert "needs camera motion" in capsys.readouterr().err


def test_a_single_left_image_says_that_nothing_can_be_done(left_data: Path, tmp_path: Path) -> None:
    alone = tmp_path / "one"
    shutil.copytree(left_data, alone)
    for path in (*alone.glob("l/*/*"), *alone.glob("*_l/*")):
        if path.stem != "1":
            path.unlink()
    for name in ("train.txt", "test.txt"):
        (alone / name).unlink()
    session = Session(tmp_path, alone)
    assert session.run() == 0
    assert set(session.skipped()) == set(STAGES) - {"scene", "evaluation"}
