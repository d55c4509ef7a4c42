"""Public datasets written into our layout: every file, settings that run, nothing twice, nothing overwritten."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import run as program
from monocular.pose_files import read_poses
from stereo_prior import scene as scene_stage
from stereo_prior.scene import SceneOptions
from sweeps.options import SweepOptions
from sweeps.scenes import read_scenes
from tests.layouts import CENTRED, CLIP_RIG, TOOL, write_clip, write_llff
from tests.synthetic import write_dataset
from utils.artifacts import read_json
from utils.datasets import conversion, endonerf
from utils.datasets.command import main
from utils.datasets.conversion import RECORD, Order, convert
from utils.datasets.options import ReaderOptions
from utils.datasets.registry import read_source
from utils.datasets.write import SETTINGS, list_written
from utils.errors import InputError
from utils.images import read_map, read_mask
from utils.options import parse_options
from utils.scene import Scene
from utils.types import Rig

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip")


def stamps(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_mtime_ns for name in list_written(folder)}


def test_a_clip_becomes_our_layout(clip: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert convert(Order(clip, made)).fresh
    assert list_written(made) == sorted(
        [
            *(f"{eye}/images/frame-00000{n}.png" for eye in "lr" for n in range(4)),
            *(f"mask_l/frame-00000{n}.png" for n in range(4)),
            *(f"l/depth/frame-00000{n}.npy" for n in range(4)),
            *("calib.yaml", RECORD, SETTINGS),
        ]
    )
    image = made / "l" / "images" / "frame-000001.png"
    assert image.samefile(clip / "images" / "frame-000001.color.png")  # a link: no byte is written twice
    assert not read_mask(made / "mask_l" / "frame-000001.png")[TOOL].any()
    depth = read_map(made / "l" / "depth" / "frame-000001.npy")
    assert depth.dtype == np.float32
    assert 60 < np.nanmedian(depth) < 100
    record = read_json(made / RECORD)
    assert (record["kind"], record["frames"], record["eyes"]) == ("endonerf", 4, ["left", "right"])
    assert record["moving_camera"] is False
    assert any("no independent truth" in finding["words"] for finding in record["findings"])
    assert "poses" not in "".join(record["settings"])  # a standing camera has none that could place it
    assert read_source(made, "auto", ReaderOptions()).moving_camera is False


def test_the_scene_stage_reads_it(clip: Path, tmp_path: Path) -> None:
    convert(Order(clip, tmp_path / "made"))
    (tmp_path / "scene").mkdir()
    scene_stage.run(SceneOptions(datadir=str(tmp_path / "made")), out=tmp_path / "scene")
    scene = Scene.load(tmp_path / "scene")
    assert scene.sides == ("left", "right")
    assert scene.rig.right_from_left is not None
    assert CLIP_RIG.right_from_left is not None
    assert np.allclose(scene.rig.right_from_left, CLIP_RIG.right_from_left)
    assert scene.rig.left == CENTRED


def test_poses_and_splits_are_those_that_the_pipeline_reads(tmp_path: Path) -> None:
    poses = write_llff(tmp_path / "llff", ["a.png", "b.png", "c.png", "d.png"])
    (tmp_path / "llff" / "test.txt").write_text("b.png\n")
    outcome = convert(Order(tmp_path / "llff", tmp_path / "made", options=ReaderOptions(stop=3)))
    place = tmp_path / "made"
    assert outcome.record["settings"] == [
        "expname = made",
        f"datadir = {place}",
        "poses = file",
        f"poses_path = {place}/poses.npz",
    ]
    given = read_poses(place / "poses.npz", ["a", "b", "c"], Rig(CENTRED), tmp_path)
    assert np.allclose(given.sfm_from_left, poses[:3])
    assert not given.metric
    assert (place / "test.txt").read_text() == "b.png\n"
    assert not (place / "train.txt").exists()
    sections, _ = parse_options(program.SECTIONS, {}, ["--config", str(place / SETTINGS)])
    assert sections["poses"].poses == "file"
    assert sections["scene"].datadir == str(place)


def test_the_same_again_does_nothing_and_a_change_is_seen(clip: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    convert(Order(clip, made))
    before = stamps(made)
    assert not convert(Order(clip, made)).fresh
    assert stamps(made) == before
    assert convert(Order(clip, made, options=ReaderOptions(every=2))).fresh
    assert len(list((made / "l" / "images").iterdir())) == 2
    os.utime(clip / "poses_bounds.npy", ns=(1, 1))
    assert convert(Order(clip, made, options=ReaderOptions(every=2))).fresh
    (made / "calib.yaml").unlink()
    assert convert(Order(clip, made, options=ReaderOptions(every=2))).fresh  # a file is missing
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "made"]


def test_a_file_outside_the_source_counts_where_the_reader_says_so(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = tmp_path / "calibration.txt"
    beside.write_text("1")
    read = endonerf.read
    monkeypatch.setattr(endonerf, "read", lambda *given: replace(read(*given), reads=(beside,)))
    assert convert(Order(clip, tmp_path / "made")).fresh
    assert not convert(Order(clip, tmp_path / "made")).fresh
    beside.write_text("12")
    assert convert(Order(clip, tmp_path / "made")).fresh
    beside.unlink()
    assert convert(Order(clip, tmp_path / "made")).fresh


def test_nothing_of_others_is_replaced(clip: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert convert(Order(clip, other)).fresh  # an empty folder may be used
    (other / "mask_r").mkdir()
    (other / "mask_r" / "frame-000000.png").write_bytes(b"drawn by hand")
    assert not convert(Order(clip, other)).fresh
    with pytest.raises(InputError, match="did not write"):
        convert(Order(clip, other, options=ReaderOptions(every=2)))
    (other / RECORD).unlink()
    with pytest.raises(InputError, match="something else"):
        convert(Order(clip, other))
    with pytest.raises(InputError, match="one of them lies in the other"):
        convert(Order(clip, clip / "made"))


def test_an_interrupted_conversion_goes_again(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "made"

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "write_settings", stop)
        with pytest.raises(KeyboardInterrupt):
            convert(Order(clip, made))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip"]
    made.with_name(".made.partial").mkdir()  # what a dead process leaves
    (made.with_name(".made.partial") / "rest").write_text("")
    assert convert(Order(clip, made)).fresh
    assert not made.with_name(".made.partial").exists()


def test_neighbours_of_the_target_stay(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("made.old", "made.partial"):  # a user's own copies
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("")
    convert(Order(clip, tmp_path / "made"))
    convert(Order(clip, tmp_path / "made", options=ReaderOptions(every=2)))
    assert (tmp_path / "made.old" / "mine").exists()
    assert (tmp_path / "made.partial" / "mine").exists()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert convert(Order(clip, Path())).fresh  # DST is "."
    assert (tmp_path / "here" / RECORD).exists()


def test_what_was_edited_is_not_overwritten(clip: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    convert(Order(clip, made))
    mask = made / "mask_l" / "frame-000001.png"
    mask.write_bytes(mask.read_bytes() + b"drawn anew")
    assert not convert(Order(clip, made)).fresh  # used as it is
    with pytest.raises(InputError, match=r"1 edited: mask_l/frame-000001\.png"):
        convert(Order(clip, made, options=ReaderOptions(every=2)))
    assert mask.read_bytes().endswith(b"drawn anew")
    mask.unlink()
    image = clip / "images" / "frame-000001.color.png"
    image.write_bytes(image.read_bytes() + b" ")  # the source's: its link in the target changes with it
    assert convert(Order(clip, made)).fresh


def test_a_change_behind_a_link_is_seen(clip: Path, tmp_path: Path) -> None:
    masks = (clip / "masks").rename(tmp_path / "masks_elsewhere")
    (clip / "masks").symlink_to(masks)
    (masks / "ring").symlink_to(clip)
    convert(Order(clip, tmp_path / "made"))
    assert not convert(Order(clip, tmp_path / "made")).fresh
    os.utime(next(masks.glob("*.png")), ns=(1, 1))
    assert convert(Order(clip, tmp_path / "made")).fresh


@pytest.mark.parametrize("words", [("--baseline_mm", "0"), ("--baseline_mm", "-4"), ("--depth_scale", "nan")])
def test_numbers_without_sense_are_refused(
    clip: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, str]
) -> None:
    assert main([str(clip), "--check", *words]) == 2
    assert f"{words[0]} makes no sense" in capsys.readouterr().err


def test_a_refused_dataset_writes_nothing(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(clip), str(tmp_path / "made"), "--depth_scale", "0.001"]
    assert main(words) == 2
    assert "unit of depth" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()
    assert main([str(clip), "--check", "--depth_scale", "0.001"]) == 2
    said = capsys.readouterr()
    assert "[refuse] unit of depth" in said.out
    assert main([str(clip)]) == 2
    assert main([str(clip), "--check"]) == 0
    assert "[refuse]" not in capsys.readouterr().out


def test_the_command_says_how_to_go_on(clip: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "utils.datasets", str(clip), str(tmp_path / "made")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"datadir = {tmp_path / 'made'}" in done.stdout
    assert f"python run.py --config {tmp_path / 'made' / SETTINGS}" in done.stdout
    assert "[warn] motion" in done.stdout
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "nothing to do" in again.stdout


def go(tmp_path: Path, *words: str) -> int:
    return program.main(["--expname", "run", "--basedir", str(tmp_path / "logs"), "--until", "scene", *words])


def test_run_uses_a_dataset_on_the_fly(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--dataset", "endonerf", "--datadir", str(clip), "--dataset_every", "2"]
    assert go(tmp_path, *words) == 0
    scene = Scene.load(tmp_path / "logs" / "run" / "scene")
    assert scene.names == ("frame-000000", "frame-000002")
    dataset = tmp_path / "logs" / "run" / "dataset"
    assert read_json(scene.folder / "frames.json")["datadir"] == str(dataset)
    assert "stands still" in capsys.readouterr().err
    before = stamps(dataset) | stamps(scene.folder)
    assert go(tmp_path, *words) == 0
    assert stamps(dataset) | stamps(scene.folder) == before
    assert go(tmp_path, *words[:4]) == 0
    assert len(Scene.load(scene.folder).names) == 4
    assert go(tmp_path, "--dataset", "llff", "--datadir", str(tmp_path / "nowhere")) == 2
    assert go(tmp_path, "--dataset", "llff") == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "file"),
        (("--poses", "file"), "file"),
        (("--poses", "odometry"), "odometry"),
        (("--dataset_poses", "False"), "colmap"),
    ],
)
def test_poses_of_the_dataset_are_used_unless_others_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], expected: str
) -> None:
    write_llff(tmp_path / "llff", ["a.png", "b.png", "c.png"])
    seen: dict[str, Any] = {}
    monkeypatch.setattr(program, "run_stages", lambda _, options, *__, **___: seen.update(options))
    assert go(tmp_path, "--dataset", "auto", "--datadir", str(tmp_path / "llff"), *words) == 0
    assert seen["poses"].poses == expected
    poses = tmp_path / "logs" / "run" / "dataset" / "poses.npz"
    assert seen["poses"].poses_path == (str(poses) if expected == "file" else None)
    assert poses.exists() == ("--dataset_poses" not in words)
    assert {seen[name].datadir for name in ("scene", "poses", "evaluation", "stereo")} == {
        str(tmp_path / "logs" / "run" / "dataset")
    }


def test_the_runs_of_a_sweep_share_one_conversion(tmp_path: Path) -> None:
    write_llff(tmp_path / "llff", ["a.png", "b.png", "c.png"])
    words = ["--expname", "run", "--basedir", str(tmp_path / "logs"), "--datadir", str(tmp_path / "llff")]
    (scene,) = read_scenes(
        [*words, "--dataset", "llff", "--dataset_stop", "2"], SweepOptions(), program.pipeline()
    )
    run = program.pipeline().parse([*scene.words, f"--basedir={tmp_path / 'elsewhere'}", "--expname=other"])
    made = tmp_path / "logs" / "run" / "dataset"
    assert len(list((made / "l" / "images").iterdir())) == 2
    assert (run["dataset"].dataset, run["evaluation"].datadir) == ("none", str(made))
    assert (run["poses"].poses, run["poses"].poses_path) == ("file", str(made / "poses.npz"))
    assert "dataset_every" in program.pipeline().fixed


def test_a_dataset_of_our_own_is_left_where_it_is(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    assert go(tmp_path, "--datadir", str(tmp_path / "data")) == 0
    assert not (tmp_path / "logs" / "run" / "dataset").exists()
