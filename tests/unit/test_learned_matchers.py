"""Learned matchers from configuration, with random weights: pixels, masks, files, and what is missing."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stereo_prior import learned_matchers as module
from stereo_prior.learned_matchers import (
    ALIKED,
    LEARNED,
    LIGHTGLUE,
    SUPERGLUE,
    load_aliked,
    load_transformers,
    make_aliked,
    match_by_aliked,
    match_by_transformers,
    usable_matches,
)
from stereo_prior.matcher import Match, Matches, MatchOptions
from stereo_prior.matches import STAGE
from tests.synthetic import BALL_ON_WALL, parallel_rig, render, world_from
from utils import weights as weights_module
from utils.errors import InputError
from utils.stages import stage_record
from utils.types import BoolArray

RIG = parallel_rig(160, 128)
MISSING = "{} is not installed (extra `learned`)"


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=MISSING.format(name))


needs_transformers, needs_kornia = needs("transformers"), needs("kornia")


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    left, right = (
        render(BALL_ON_WALL, RIG.camera(side), world_from(RIG, side, np.eye(4))).rgb for side in RIG.sides
    )
    return left, right


def everything(image: np.ndarray) -> BoolArray:
    return np.ones(image.shape[:2], bool)


def small_model(name: str) -> Any:
    """Return a matcher of transformers with few layers and random weights."""
    transformers = pytest.importorskip("transformers", reason=MISSING.format("transformers"))
    torch.manual_seed(0)
    # with random weights hardly any score is above the usual threshold
    detector = {"model_type": "superpoint", "keypoint_threshold": 0.0, "max_keypoints": 128}
    if name == "LightGlueForKeypointMatching":
        config = transformers.LightGlueConfig(
            keypoint_detector_config=detector, num_hidden_layers=2, filter_threshold=0.0
        )
    else:
        config = transformers.SuperGlueConfig(
            keypoint_detector_config=detector,
            gnn_layers_types=["self", "cross"],
            sinkhorn_iterations=20,
            matching_threshold=0.0,
        )
    return getattr(transformers, name)(config).eval()


NAMES = ("SuperGlueForKeypointMatching", "LightGlueForKeypointMatching")


class _Known(nn.Module):
    """Gives the same answer in the format of transformers, whatever the images."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))
        self.seen: Tensor = torch.zeros(0)

    def forward(self, pixel_values: Tensor) -> Any:
        self.seen = pixel_values
        height, width = pixel_values.shape[-2:]
        pixels = torch.tensor([[[10.0, 20.0], [30.0, 40.0], [50.0, 60.0]], [[7.0, 20.0], [0, 0], [44.0, 61.0]]])
        return SimpleNamespace(
            keypoints=(pixels / torch.tensor([width, height]))[None],
            matches=torch.tensor([[[2, -1, 0], [2, -1, 0]]], dtype=torch.int32),
            matching_scores=torch.tensor([[[0.9, 0.0, 0.5], [0.5, 0.0, 0.9]]]),
            mask=torch.ones(1, 2, 3, dtype=torch.int32),
        )


def test_pixels_and_partners_by_hand() -> None:
    image = np.zeros((96, 128, 3), np.uint8)
    image[..., 0] = 200
    model = _Known()
    found = match_by_transformers(model)((image, everything(image)), (image, everything(image)))
    np.testing.assert_allclose(found.pixels_left, [[10, 20], [50, 60]], atol=1e-4)
    np.testing.assert_allclose(found.pixels_right, [[44, 61], [7, 20]], atol=1e-4)
    np.testing.assert_allclose(found.score, [0.9, 0.5], atol=1e-6)
    assert model.seen.shape == (1, 2, 3, 96, 128)
    assert float(model.seen[0, 0, 0, 0, 0]) == pytest.approx(60 / 255)  # 0.299 of 200, in [0, 1]


def test_matches_on_what_is_not_usable_are_left_out() -> None:
    usable = np.ones((20, 30), bool)
    usable[:, :10] = False
    pixels = np.array([[9.4, 5.0], [9.6, 5.0], [29.4, 19.4]])
    kept = usable_matches(Matches(pixels, pixels, np.ones(3)), usable, usable)
    np.testing.assert_array_equal(kept.pixels_left, pixels[1:])
    assert len(usable_matches(Matches(pixels, pixels, np.ones(3)), ~usable, usable).score) == 0


def check_matcher(match: Match, images: tuple[np.ndarray, np.ndarray]) -> None:
    """Check what any matcher must hold to, with random weights too."""
    left, right = images
    usable = everything(left)
    usable[:, :60] = False
    found = match((left, usable), (right, everything(right)))
    assert len(found.score) > 0
    assert found.pixels_left.shape == found.pixels_right.shape == (len(found.score), 2)
    assert found.pixels_left[:, 0].min() >= 59.5
    for pixels in (found.pixels_left, found.pixels_right):
        assert (pixels >= 0).all()
        assert (pixels <= np.array([left.shape[1] - 1, left.shape[0] - 1])).all()
    assert ((found.score >= 0) & (found.score <= 1)).all()
    again = match((left, usable), (right, everything(right)))
    np.testing.assert_array_equal(found.pixels_left, again.pixels_left)


@needs_transformers
@pytest.mark.parametrize("name", NAMES)
def test_transformers_with_random_weights(name: str, images: tuple[np.ndarray, np.ndarray]) -> None:
    match = match_by_transformers(small_model(name))
    check_matcher(match, images)
    found = match(*((image, everything(image)) for image in images))
    for pixels in (found.pixels_left, found.pixels_right):  # SuperPoint finds whole ones
        np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-3)


@needs_kornia
def test_aliked_with_random_weights(images: tuple[np.ndarray, np.ndarray]) -> None:
    torch.manual_seed(0)
    detector, matcher = (model.eval() for model in make_aliked())
    matcher.conf.filter_threshold = 0.0
    check_matcher(match_by_aliked(detector, matcher), images)


@needs_transformers
@pytest.mark.parametrize("name", NAMES)
def test_an_image_without_features_gives_no_matches(name: str) -> None:
    model = small_model(name)
    model.keypoint_detector.config.keypoint_threshold = 2.0  # no score is above 1
    model.keypoint_detector.keypoint_decoder.keypoint_threshold = 2.0
    image = np.full((96, 128, 3), 90, np.uint8)
    found = match_by_transformers(model)((image, everything(image)), (image, everything(image)))
    assert found.pixels_left.shape == (0, 2)


@needs_kornia
def test_aliked_without_usable_pixels_gives_no_matches(images: tuple[np.ndarray, np.ndarray]) -> None:
    match = match_by_aliked(*(model.eval() for model in make_aliked()))
    found = match((images[0], ~everything(images[0])), (images[1], everything(images[1])))
    assert found.pixels_left.shape == found.pixels_right.shape == (0, 2)


@needs_transformers
@pytest.mark.parametrize("name", NAMES)
def test_transformers_weights_come_back_from_files(
    name: str, images: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    model = small_model(name)
    model.save_pretrained(tmp_path)
    both = [(image, everything(image)) for image in images]
    expected = match_by_transformers(model)(*both)
    found = match_by_transformers(load_transformers(name, tmp_path))(*both)
    np.testing.assert_allclose(found.pixels_left, expected.pixels_left)
    np.testing.assert_allclose(found.score, expected.score, atol=1e-5)


@needs_transformers
def test_transformers_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    name = NAMES[0]
    small_model(name).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop(next(key for key in tensors if "keypoint_encoder" in key))
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="keypoint_encoder"):
        load_transformers(name, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_transformers(name, tmp_path)


@needs_kornia
def test_aliked_weights_come_back_from_files_under_their_old_names(tmp_path: Path) -> None:
    detector, matcher = make_aliked()
    torch.save(detector.state_dict(), tmp_path / "aliked-n16.pth")
    # the published file says self_attn.0.x where kornia says transformers.0.self_attn.x
    old = {}
    for key, values in matcher.state_dict().items():
        words = key.split(".")
        old[".".join([words[2], words[1], *words[3:]]) if words[0] == "transformers" else key] = values
    old.pop("confidence_thresholds")
    torch.save(old, tmp_path / "aliked_lightglue.pth")
    loaded = load_aliked(tmp_path / "aliked-n16.pth", tmp_path / "aliked_lightglue.pth")
    for before, after in zip((detector, matcher), loaded, strict=True):
        assert not after.training
        for key, values in before.state_dict().items():
            torch.testing.assert_close(after.state_dict()[key].cpu(), values)
    old.pop("input_proj.weight")
    torch.save(old, tmp_path / "aliked_lightglue.pth")
    with pytest.raises(InputError, match=r"input_proj\.weight"):
        load_aliked(tmp_path / "aliked-n16.pth", tmp_path / "aliked_lightglue.pth")
    (tmp_path / "aliked-n16.pth").write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_aliked(tmp_path / "aliked-n16.pth", tmp_path / "aliked_lightglue.pth")


def no_network(*_: Any, **__: Any) -> Any:
    raise TimeoutError("no network")


@pytest.mark.parametrize("name", LEARNED)
def test_missing_weights_are_an_error_before_any_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "require_library", lambda _: None)
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    options = MatchOptions(matcher=name, weights_dir=str(tmp_path), accept_license=True)
    weights = {"superpoint_superglue": SUPERGLUE, "superpoint_lightglue": LIGHTGLUE, "aliked_lightglue": ALIKED}
    with pytest.raises(InputError) as caught:
        STAGE.check(options)
    for file, address in weights[name].addresses.items():
        assert f"{address} as {tmp_path / weights[name].name / file}" in caught.value.do
    assert STAGE.files(options) == []


@pytest.mark.parametrize("name", ["superpoint_superglue", "superpoint_lightglue"])
def test_the_licence_must_be_accepted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "require_library", lambda _: None)
    monkeypatch.setattr(weights_module, "_consents", lambda _: False)
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(InputError, match="--accept_license") as caught:
        STAGE.check(MatchOptions(matcher=name, weights_dir=str(tmp_path)))
    assert "non-commercial" in caught.value.expected


def test_a_missing_library_is_an_error_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for name in LEARNED:
        with pytest.raises(InputError, match="pip install"):
            STAGE.check(MatchOptions(matcher=name, weights_dir=str(tmp_path)))
    STAGE.check(MatchOptions())


def test_other_weights_are_another_stamp(tmp_path: Path) -> None:
    options = MatchOptions(matcher="aliked_lightglue", weights_dir=str(tmp_path))

    def stamp() -> str:
        return str(stage_record(STAGE, options, {"scene": "x"})["hash"])

    (tmp_path / ALIKED.name).mkdir()
    for file in ALIKED.addresses:
        (tmp_path / ALIKED.name / file).write_bytes(b"old")
    before = stamp()
    assert stamp() == before
    (tmp_path / ALIKED.name / "aliked_lightglue.pth").write_bytes(b"new")
    assert stamp() != before
    sift = MatchOptions()
    same = replace(sift, weights_dir=str(tmp_path), accept_license=True)
    assert stage_record(STAGE, same, {}) == stage_record(STAGE, sift, {})
