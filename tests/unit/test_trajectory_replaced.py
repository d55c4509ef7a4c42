"""A trajectory that was made before stays until the new one stands in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nerf import trajectory
from nerf.finished_field import FinishedField
from nerf.trajectory_request import Request
from tests.measured import make_run
from tests.synthetic import Plane, parallel_rig, path

RECORD: dict[str, Any] = {"views": [{"view": "0001", "extrapolated": 0.0}], "extrapolated": 0.0}
RECORD |= {"scales": {"depth_mm": [1.0, 2.0], "spread_mm": [0.0, 1.0]}, "unit": "mm", "training_views": 1}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run with an old trajectory, and let views be rendered at no cost."""
    folder = make_run(tmp_path / "run", Plane((0.2, 0.0, 1.0), 80.0), parallel_rig(80, 64), path(2))
    monkeypatch.setattr(FinishedField, "load", lambda *_: None)
    monkeypatch.setattr(trajectory, "_render", lambda *_: RECORD)
    old = folder / "trajectories" / "between"
    old.mkdir(parents=True)
    (old / "views.json").write_text("{}")
    (old / "old.txt").write_text("an hour of rendering")
    return folder


def test_a_new_trajectory_replaces_the_old_one(run: Path) -> None:
    said = trajectory.render_trajectory(run, Request("between"))
    assert said.startswith("1 views in")
    assert not (run / "trajectories" / "between" / "old.txt").exists()
    assert [entry.name for entry in (run / "trajectories").iterdir()] == ["between"]


def test_the_old_trajectory_stays_where_the_new_one_cannot_be_published(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = Path.rename

    def fails(source: Path, target: Path) -> Path:
        if source.name == "between.partial":
            raise OSError("the disk is gone")
        return move(source, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="the disk is gone"):
        trajectory.render_trajectory(run, Request("between"))
    assert (run / "trajectories" / "between" / "old.txt").read_text() == "an hour of rendering"
    assert [entry.name for entry in (run / "trajectories").iterdir()] == ["between"]
