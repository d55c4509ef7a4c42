"""Train the flow on toy pairs: it learns, goes on after a crash as if there was none, refuses nonsense."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from localisation.flow import PoseFlow
from localisation.learned.camera_likeness import camera_like
from localisation.learned.network import NetworkShape, VelocityNetwork
from localisation.learned.pairs import BORDER, RECORD, PoseRange, shard_name
from localisation.learned.training import FlowTraining, TrainingOptions
from localisation.train_flow import Request, main, split, train_flow, untrained
from utils.artifacts import read_json, write_json, write_npz
from utils.errors import InputError
from utils.types import Camera

SIZE = 16
CAMERA = Camera(66.0, 66.0, 31.5, 23.5, 64, 48)
FEW = TrainingOptions(steps=12, batch=8, minutes=60.0)

pytestmark = pytest.mark.usefixtures("one_thread")


def toy_pairs(folder: Path, count: int = 40) -> Path:
    """Write pairs whose colours tell where the camera is, and their slopes from left to right how it is turned."""
    there = PoseRange(np.eye(4)[None], 10.0, 8.0)
    poses = there.draw(np.random.default_rng(0), count)
    turns = np.stack([poses[:, 2, 1], poses[:, 0, 2], poses[:, 1, 0]], axis=1) / np.radians(10.0)
    slope = turns[:, None, None] * np.linspace(-1.0, 1.0, SIZE)[None, None, :, None]
    colours = 127.5 + 60.0 * poses[:, None, None, :3, 3] / 8.0 + 60.0 * slope
    rgb = np.rint(np.broadcast_to(colours, (count, SIZE, SIZE, 3)).clip(0, 255)).astype(np.uint8)
    depth = np.full((count, SIZE, SIZE), 70.0, np.float32)
    depth[:, :, :2] = np.nan
    arrays = {"rgb": rgb, "depth_mm": depth, "world_from_camera": poses, "covered": np.ones(count)}
    write_npz(folder / shard_name(0), **arrays)
    border = np.zeros((48, 64), bool)
    border[:3] = True
    write_npz(folder / BORDER, never_tissue=border)
    options = {"size": SIZE, "seed": 0}
    record = {"field": "abc", "run": "toy", "unit": "mm", "n": count, "options": options, "working_mm": 70.0}
    write_json(folder / RECORD, record | {"camera": asdict(CAMERA), "range": there.to_json()})
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return toy_pairs(tmp_path / "pairs")


def asked(pairs: Path, out: Path, **changes: Any) -> Request:
    return Request(replace(FEW, **changes), "rays", pairs, out)


def test_a_training_that_was_interrupted_ends_as_one_that_was_not(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localisation.learned.training._SAVE_EVERY", 5)
    train_flow(tmp_path, asked(pairs, tmp_path / "whole"))
    step = FlowTraining._step

    def stopped(training: FlowTraining) -> tuple[float, float]:
        if training.step == 8:
            raise KeyboardInterrupt
        return step(training)

    monkeypatch.setattr(FlowTraining, "_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_flow(tmp_path, asked(pairs, tmp_path / "parts"))
    monkeypatch.setattr(FlowTraining, "_step", step)
    assert (tmp_path / "parts" / "training" / "checkpoint.pt").exists()
    with pytest.raises(InputError, match="has no trained flow"):
        PoseFlow.load(tmp_path / "parts")
    with pytest.raises(InputError, match=r"sigma 0\.1 there, 0\.2 now"):
        train_flow(tmp_path, asked(pairs, tmp_path / "parts", sigma=0.2))
    train_flow(tmp_path, asked(pairs, tmp_path / "parts", minutes=30.0))
    weights = [(tmp_path / name / "flow.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "parts" / "training").exists()


def test_a_flow_is_the_same_after_it_was_written_and_read(pairs: Path, tmp_path: Path) -> None:
    said = train_flow(tmp_path, asked(pairs, tmp_path / "flow"))
    assert "12 steps on 35 pairs" in said
    flow = PoseFlow.load(tmp_path / "flow", "abc")
    assert flow.record["steps"] == 12
    assert flow.record["options"]["sigma"] == 0.1
    images = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), dtype=np.uint8)
    found = flow.invert(images)
    assert found.world_from_camera.shape == (3, 4, 4)
    assert np.allclose(np.linalg.det(found.world_from_camera[:, :3, :3]), 1.0)
    assert found.extra["eigenvalues"].shape == (3, 3)
    again = flow.invert(images.astype(np.float32) / 255.0)
    assert np.allclose(again.world_from_camera, found.world_from_camera, atol=1e-4)
    changed = images.copy()
    changed[:, :3] = 255 - changed[:, :3]  # what no training frame ever called tissue does not count
    assert np.array_equal(flow.invert(changed).world_from_camera, found.world_from_camera)
    drawn = flow.sample(found.world_from_camera, steps=2)
    assert drawn.shape == (3, SIZE, SIZE, 3)
    assert np.array_equal(drawn, flow.sample(found.world_from_camera, steps=2))
    assert not np.array_equal(drawn, flow.sample(found.world_from_camera, steps=2, seed=1))


@pytest.mark.slow
def test_the_flow_learns_where_toy_images_were_taken(tmp_path: Path) -> None:
    pairs = toy_pairs(tmp_path / "pairs", 240)
    options = TrainingOptions(steps=90, batch=32, augment=False, minutes=60.0)
    train_flow(tmp_path, Request(options, "rays", pairs, tmp_path / "flow"))
    held = read_json(tmp_path / "flow" / "flow.json")["held_out"]
    assert held["mm"] < 5.0  # a guess in the middle is 8 mm and 10 degrees off
    assert held["degrees"] < 5.0


def test_what_a_camera_sees_beyond_the_field_is_made_up_and_the_border_stays() -> None:
    images = torch.full((64, 3, 16, 16), 0.5)
    images[:32] = 0.25
    unknown = torch.zeros(64, 16, 16, dtype=torch.bool)
    unknown[:, :, :4] = True
    border = torch.zeros(16, 16)
    border[:2] = 1.0
    seen = camera_like(images, unknown, border, torch.Generator().manual_seed(0))
    assert torch.equal(seen[:, :, :2], images[:, :, :2])
    assert float(seen.min()) >= 0.0
    assert float(seen.max()) <= 1.0
    inside = seen[:32, :, 4:, 6:].mean((1, 2, 3)) / 0.25
    assert 0.7 < float(inside.median()) < 1.3
    assert float(inside.std()) > 0.05  # exposures differ
    ratio = seen[:32, :, 4:, :4].mean((1, 2, 3)) / seen[:32, :, 4:, 6:].mean((1, 2, 3))
    assert float((ratio > 1.4).float().mean()) > 0.15  # a brighter view fills what is unknown, in some of them
    again = camera_like(images, unknown, border, torch.Generator().manual_seed(0))
    assert torch.equal(seen, again)


def test_at_both_ends_the_network_passes_on_what_is_known() -> None:
    """With a transformer that says nothing, v is the best linear guess: x at the image, -x at the pose."""
    network = VelocityNetwork(NetworkShape(size=SIZE))
    x = torch.randn(2, 6, SIZE, SIZE)
    with torch.no_grad():
        for t, factor in ((0.0, -1.0), (1.0, 1.0), (0.5, (0.5 - 0.5 * 1.01) / (0.25 + 0.25 * 1.01))):
            velocity = network(x, torch.full((2,), t), torch.zeros(2, dtype=torch.bool))
            assert torch.allclose(velocity, factor * x, atol=1e-5)


def test_the_patches_of_an_image_are_joined_where_they_were_cut() -> None:
    from localisation.learned.network import _cut, _joined

    x = torch.arange(2 * 6 * 16 * 16, dtype=torch.float32).view(2, 6, 16, 16)
    patches = _cut(x, 8)
    assert torch.equal(patches[0, 1, :8], x[0, 0, 0, 8:16])
    assert torch.equal(_joined(patches, 8), x)


def test_the_held_out_pairs_are_never_learned_from(pairs: Path) -> None:
    from localisation.learned.pairs import read_pairs

    all_pairs, record, border = read_pairs(pairs)
    train, held_out = split(all_pairs)
    assert (len(train), len(held_out)) == (35, 5)
    assert np.array_equal(np.concatenate([train.rgb, held_out.rgb]), all_pairs.rgb)
    flow = untrained(asked(pairs, pairs), train, record, border)
    codes = flow.code.encode(train.world_from_camera)
    assert np.abs(codes.mean(0)).max() < 1e-4


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--minutes", "0"], "--minutes 0.0"),
        (["--sigma", "-1"], "--sigma -1.0"),
        (["--average", "1"], "--average 1.0"),
        (["--pairs", "nowhere"], "no record of pairs"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    flags: list[str], found: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(tmp_path), "--pairs", str(pairs), "--out", str(tmp_path / "flow"), *flags]
    assert main(given) == 2
    assert found in capsys.readouterr().err
    assert not (tmp_path / "flow").exists()


def test_files_that_do_not_fit_are_refused(pairs: Path, tmp_path: Path) -> None:
    train_flow(tmp_path, asked(pairs, tmp_path / "flow", steps=1))
    with pytest.raises(InputError, match="holds a trained flow"):
        train_flow(tmp_path, asked(pairs, tmp_path / "flow"))
    with pytest.raises(InputError, match="another training of the field"):
        PoseFlow.load(tmp_path / "flow", "another")
    flow = PoseFlow.load(tmp_path / "flow")
    with pytest.raises(InputError, match="does not fit the run's left camera"):
        flow.invert(np.zeros((1, 64, 64, 3), np.uint8))
    with pytest.raises(InputError, match="no three colours"):
        flow.invert(np.zeros((1, 48, 64), np.uint8))
    with pytest.raises(InputError, match="cannot be followed"):
        flow.invert(np.zeros((1, 48, 64, 3), np.uint8), method="shooting")
    weights = tmp_path / "flow" / "flow.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read"):
        PoseFlow.load(tmp_path / "flow")
    record = json.loads((pairs / RECORD).read_text())
    write_json(pairs / RECORD, record | {"n": 251})
    with pytest.raises(InputError, match="1 of 2 shards are not there"):
        train_flow(tmp_path, asked(pairs, tmp_path / "other"))
