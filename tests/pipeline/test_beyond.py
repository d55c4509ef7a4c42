"""Views beyond what a finished run has seen: what is generated has no depth, and nothing of the run changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from novel_view.views import main
from tests.tiny import Session
from utils.artifacts import file_hash, read_json, read_npz
from utils.images import read_rgb

pytestmark = pytest.mark.slow


@pytest.fixture
def run(whole: Session, tmp_path: Path) -> Path:
    shutil.copytree(whole.logs, tmp_path / "run")
    return tmp_path / "run"


def files_of(run: Path) -> dict[str, str]:
    """Return the hash of every file of a run but for those of novel views."""
    return {
        str(path.relative_to(run)): file_hash(path)
        for path in sorted(run.rglob("*"))
        if path.is_file() and "novel_view" not in path.parts
    }


def test_generated_pixels_are_marked_have_no_depth_and_change_nothing(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_of(run)
    assert main([str(run), "--sds", "12", "--steps", "6", "--device", "cpu"]) == 0
    assert "generated pixels have no depth" in capsys.readouterr().out
    assert files_of(run) == before
    out = run / "novel_view" / "beyond"
    record = read_json(out / "novel_views.json")
    assert [view["pose"] for view in record["views"]][:2] == ["right", "left"]
    assert record["sds"]["steps"] == 12
    generated = []
    for number in range(1, 7):
        maps = read_npz(out / "maps" / f"{number:04d}.npz")
        made, seen = maps["provenance"] == 3, maps["provenance"] == 2
        generated.append(made.mean())
        assert (made | seen).all()
        assert (seen == (maps["coverage"] > 0)).all()
        assert np.isnan(maps["depth_mm"][made]).all()
        assert np.isfinite(maps["depth_mm"][seen]).all()
        np.testing.assert_array_equal(maps["rgb"][seen], maps["render_rgb"][seen])
        assert set(np.unique(maps["sds_provenance"])) <= {0, 2, 3}
        assert not ((maps["sds_provenance"] == 2) & ~seen).any()
        for kind in ("render", "sample", "sds", "nearest", "difference", "provenance"):
            assert read_rgb(out / "pictures" / f"{number:04d}_{kind}.png").shape == maps["rgb"].shape
    assert max(generated) > 0.1
    page = (out / "index.html").read_text()
    assert page.count("data:image/webp") == 36
    assert read_json(out / "colours" / "colours.json")["prior"] == "warp"


def test_poses_of_a_file_are_shown_and_those_that_see_nothing_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = read_npz(run / "poses" / "poses.npz")["world_from_left"][1]
    away = start.copy()
    away[:3, 3] += 500.0 * start[:3, 0]
    np.savez(run / "list.npz", world_from_camera=np.stack([start, away]))
    assert main([str(run), "--poses", str(run / "list.npz"), "--device", "cpu"]) == 2
    assert "pose 2 sees nothing of the reconstruction" in capsys.readouterr().err
    assert not (run / "novel_view").exists()
    np.savez(run / "one.npz", world_from_camera=start)
    words = [str(run), "--poses", str(run / "one.npz"), "--keep", "real", "--steps", "4", "--device", "cpu"]
    assert main([*words, "--out", str(run / "elsewhere")]) == 0
    maps = read_npz(run / "elsewhere" / "maps" / "0001.npz")
    assert (maps["provenance"] == 1).mean() > 0.5
    assert main([*words, "--out", str(run / "elsewhere")]) == 0, "what this command made is made again"
    assert main([*words, "--prior", str(run / "no_weights")]) == 2
    assert "weights" in capsys.readouterr().err


def test_a_model_with_weights_is_asked_in_its_own_size(run: Path) -> None:
    """Weights are random: what they imagine means nothing, that it stays outside what was seen does."""
    pytest.importorskip("diffusers")
    from tests.unit.test_diffusers_prior import make_model

    weights = make_model(run / "weights")
    near = read_npz(run / "poses" / "poses.npz")["world_from_left"][1]
    near[:3, 3] += 8.0 * near[:3, 0]
    np.savez(run / "near.npz", world_from_camera=near)
    words = [str(run), "--poses", str(run / "near.npz"), "--prior", str(weights), "--device", "cpu"]
    assert main([*words, "--sds", "2", "--steps", "2", "--conditions", "1", "--out", str(run / "out")]) == 0
    maps = read_npz(run / "out" / "maps" / "0001.npz")
    height, width = maps["provenance"].shape
    assert height == width, "such models are square"
    seen = maps["provenance"] == 2
    np.testing.assert_array_equal(maps["rgb"][seen], maps["render_rgb"][seen])
    assert np.isnan(maps["depth_mm"][~seen]).all()
    assert read_json(run / "out" / "novel_views.json")["prior"] == "weights"
