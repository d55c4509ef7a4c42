"""The flow on a finished run: pairs in shards, a short training, samples, poses of images, refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from localisation import invert, make_pairs, sample, train_flow
from localisation.learned import pairs
from localisation.learned.pairs import PairRenderer, read_pairs
from nerf.finished_field import FinishedField
from tests.tiny import Session
from utils.artifacts import load_maps, read_json, write_json
from utils.errors import InputError
from utils.images import read_rgb
from utils.pose_lists import read_named_poses
from utils.scene import Scene

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
SMALL = ("--size", "16", "--oversample", "1", "--device", "cpu")
SHORT = ("--steps", "3", "--batch", "4")


@pytest.fixture
def run(whole: Session, tmp_path: Path) -> Path:
    shutil.copytree(whole.logs, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def shards_of_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pairs, make_pairs):
        monkeypatch.setattr(module, "SHARD", 8)


def test_maps_thinned_around_the_field_give_the_same_view_but_for_its_edges(run: Path) -> None:
    field = FinishedField.load(run, "cpu")
    coarse = field.coarser(4)
    assert coarse.seen[0].depth_mm.shape == (24, 28)
    assert field.seen[0].depth_mm.shape == (96, 112)
    # a thinned pixel looks where the pixel that it is looked
    whole, thin = field.seen[0], coarse.seen[0]
    assert thin.depth_mm[3, 5] == pytest.approx(whole.depth_mm[14, 22], nan_ok=True)
    assert (5 - thin.camera.cx) / thin.camera.fx == pytest.approx((22 - whole.camera.cx) / whole.camera.fx)
    camera, pose = field.dataset.rig.left.resized(28, 24), field.placed.world_from("left", "2")
    fine, other = field.render(camera, pose), coarse.render(camera, pose)
    both = (fine.opacity > 0.5) & (other.opacity > 0.5)
    assert both.mean() > 0.9
    assert np.median(np.abs(fine.depth_mm / other.depth_mm - 1)[both]) < 0.002
    counts = [one.coverage(camera, pose, image)[1] for one, image in ((field, fine), (coarse, other))]
    assert np.mean((counts[0] > 0) == (counts[1] > 0)) > 0.9


@pytest.mark.usefixtures("shards_of_eight")
def test_pairs_go_on_after_a_crash_as_if_there_was_none(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(run), "--n", "20", *SMALL]
    render, calls = PairRenderer.render, [0]

    def dying(renderer: PairRenderer, pose: np.ndarray) -> object:
        calls[0] += 1
        if calls[0] > 18:
            raise KeyboardInterrupt
        return render(renderer, pose)

    with monkeypatch.context() as patch:
        patch.setattr(PairRenderer, "render", dying)
        assert make_pairs.main(given) == 130
    folder = run / "localisation" / "pairs"
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("0*.npz")}
    assert 1 <= len(kept) <= 2
    with pytest.raises(InputError, match="shards are not there"):
        read_pairs(folder)
    assert make_pairs.main(given) == 0
    assert f"{20 - 8 * len(kept)} rendered now" in capsys.readouterr().out
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept
    found, record, border = read_pairs(folder)
    assert (len(found), border.shape) == (20, (96, 112))
    assert record["field"] == read_json(run / "nerf" / "stamp.json")["hash"]
    assert (found.rgb[:, border.reshape(16, 6, 16, 7).all(axis=(1, 3))] == 0).all()
    assert make_pairs.main([*given, "--out", str(run / "again")]) == 0
    again, _, _ = read_pairs(run / "again")
    assert all(
        np.array_equal(getattr(found, name), getattr(again, name), equal_nan=True)
        for name in ("rgb", "depth_mm", "world_from_camera", "covered")
    )
    assert make_pairs.main([str(run), "--n", "24", *SMALL]) == 0  # more of the same are added
    assert np.array_equal(read_pairs(folder)[0].rgb[:20], found.rgb)
    capsys.readouterr()
    assert make_pairs.main([*given, "--seed", "1"]) == 2
    assert "seed 0 there, 1 now" in capsys.readouterr().err
    write_json(folder / "pairs.json", read_json(folder / "pairs.json") | {"field": "older"})
    assert make_pairs.main(given) == 2
    assert "another training of the field" in capsys.readouterr().err


def test_a_small_view_from_a_frame_looks_like_its_render(run: Path) -> None:
    field = FinishedField.load(run, "cpu")
    renderer = PairRenderer(field, 16, 2)
    rgb, depth, covered = renderer.render(field.placed.world_from("left", "2"))
    whole = renderer.shrinker.shrink(load_maps(run / "render", "left", "2")["rgb"])
    assert np.abs(rgb / 255.0 - whole).mean() < 0.05
    assert covered > 0.8
    assert 40 < np.nanmedian(depth) < 120


def test_from_pairs_to_samples_and_poses(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_pairs.main([str(run), "--n", "24", *SMALL]) == 0
    assert train_flow.main([str(run), *SHORT]) == 0
    dataset = Scene.load(run / "scene")
    images = [dataset.image_path("left", name) for name in ("1", "2")]
    capsys.readouterr()
    assert invert.main([str(run), *map(str, images), "--method", "midpoint", "--steps", "2"]) == 0
    said = capsys.readouterr().out
    assert "residual" in said
    assert images[0].name in said
    names, poses = read_named_poses(run / "localisation" / "inverted.npz")
    assert names == [path.stem for path in images]
    assert np.allclose(np.linalg.det(poses[:, :3, :3]), 1.0)
    assert invert.main([str(run), str(images[0]), "--side", "right"]) == 0
    assert sample.main([str(run), "--pose", "2", "--steps", "2"]) == 0
    assert "dB against the field" in capsys.readouterr().out
    assert read_rgb(run / "localisation" / "samples" / "2.png").shape == (256, 6 * 256, 3)
    assert sample.main([str(run), "--pose", "nowhere"]) == 2
    assert "neither a frame with a pose nor a file" in capsys.readouterr().err
    stamp = read_json(run / "nerf" / "stamp.json")
    write_json(run / "nerf" / "stamp.json", stamp | {"hash": "another"})
    assert invert.main([str(run), str(images[0])]) == 2
    assert "error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--size", "20"], "--size 20"),
        (["--n", "0"], "--n 0"),
        (["--spread_mm", "-1"], "--spread_mm -1.0"),
        (["--least_covered", "2"], "--least_covered 2.0"),
    ],
)
def test_numbers_that_make_no_pairs_are_refused(
    flags: list[str], found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_pairs.main([str(tmp_path), *flags]) == 2
    assert found in capsys.readouterr().err
