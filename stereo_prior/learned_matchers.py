"""Learned matchers behind one face: SuperPoint with SuperGlue or LightGlue, ALIKED with LightGlue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from stereo_prior.matcher import Image, Match, Matcher, Matches, MatchOptions
from utils.devices import choose_device
from utils.errors import InputError
from utils.types import BoolArray
from utils.weights import Weights, ensure_weights, find_weights, library, require_library

_HUB = "https://huggingface.co"
_MAGIC_LEAP = "SuperPoint and SuperGlue (Magic Leap): non-commercial research of academic or non-profit bodies"


def _on_hub(name: str, repository: str, licence: str) -> Weights:
    addresses = {file: f"{_HUB}/{repository}/resolve/main/{file}" for file in ("config.json", "model.safetensors")}
    return Weights(name, addresses, licence, free=False)


SUPERGLUE = _on_hub("superglue_indoor", "magic-leap-community/superglue_indoor", _MAGIC_LEAP)
LIGHTGLUE = _on_hub(
    "lightglue_superpoint", "ETH-CVG/lightglue_superpoint", f"{_MAGIC_LEAP}; LightGlue: Apache-2.0"
)
ALIKED = Weights(
    "aliked_lightglue",
    {
        "aliked-n16.pth": f"{_HUB}/kornia/aliked/resolve/main/aliked-n16.pth",
        "aliked_lightglue.pth": f"{_HUB}/kornia/lightglue/resolve/main/aliked_lightglue.pth",
    },
    "ALIKED: BSD-3-Clause, LightGlue: Apache-2.0",
    free=True,
)
ALIKED_KEYPOINTS = 1024
_ALIKED_DESCRIPTOR = 128
# Made by the architecture, not learned: published checkpoints may lack them.
_DERIVED = ("hw_grid", "confidence_thresholds", "num_batches_tracked")

Input = tuple[Image, BoolArray]


def match_by_transformers(model: Any) -> Match:
    """Return the matcher of `SuperGlueForKeypointMatching` or `LightGlueForKeypointMatching`.

    Both detect SuperPoint's keypoints themselves, in grey images in [0, 1]; what lies outside the usable
    pixels is left out afterwards. The model may have random weights.
    """
    device = next(model.parameters()).device

    def match(left: Input, right: Input) -> Matches:
        grey = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image, _ in (left, right)])
        pair = torch.from_numpy(grey).to(device)[None, :, None].expand(-1, -1, 3, -1, -1) / 255
        with torch.inference_mode():
            found = model(pair)
        partner, known = found.matches[0, 0].long(), found.mask[0] > 0
        seen = known[0] & (partner >= 0) & known[1][partner.clamp(min=0)]
        size = torch.tensor([grey.shape[2], grey.shape[1]], device=device)  # keypoints are shares of it
        return usable_matches(
            _arrays(
                found.keypoints[0, 0, seen] * size,
                found.keypoints[0, 1, partner[seen]] * size,
                found.matching_scores[0, 0, seen],
            ),
            left[1],
            right[1],
        )

    return match


def match_by_aliked(detector: Any, matcher: Any) -> Match:
    """Return the matcher of kornia's `ALIKED` and `LightGlue`; unusable keypoints are not matched."""
    device = next(matcher.parameters()).device

    def features(image: Image, usable: BoolArray) -> dict[str, Tensor]:
        found = detector(torch.from_numpy(image).to(device).permute(2, 0, 1)[None] / 255)[0]
        columns, rows = found.keypoints.round().long().cpu().T.numpy()
        kept = torch.from_numpy(usable[rows, columns]).to(device)
        size = torch.tensor([[image.shape[1], image.shape[0]]], device=device)
        return {
            "keypoints": found.keypoints[kept][None],
            "descriptors": found.descriptors[kept][None],
            "image_size": size,
        }

    def match(left: Input, right: Input) -> Matches:
        with torch.inference_mode():
            one, other = features(*left), features(*right)
            found = matcher({"image0": one, "image1": other})
        pairs = found["matches"][0]
        return _arrays(one["keypoints"][0, pairs[:, 0]], other["keypoints"][0, pairs[:, 1]], found["scores"][0])

    return match


def usable_matches(matches: Matches, left: BoolArray, right: BoolArray) -> Matches:
    """Leave out matches whose nearest pixel is not usable (h, w) in one of the eyes."""
    chosen = np.ones(len(matches.score), bool)
    for pixels, usable in ((matches.pixels_left, left), (matches.pixels_right, right)):
        columns, rows = np.rint(pixels).astype(int).T
        chosen &= usable[rows.clip(0, usable.shape[0] - 1), columns.clip(0, usable.shape[1] - 1)]
    return matches.select(chosen)


def _arrays(pixels_left: Tensor, pixels_right: Tensor, score: Tensor) -> Matches:
    left, right, scores = (values.double().cpu().numpy() for values in (pixels_left, pixels_right, score))
    return Matches(left, right, scores.clip(0, 1))


def load_transformers(name: str, folder: Path, device: str = "auto") -> Any:
    """Return a model of `transformers` with published weights. Raises InputError for files that do not fit."""
    kind = getattr(library("transformers"), name)
    try:
        model, report = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except Exception as error:  # transformers and safetensors raise nearly everything for a broken file
        raise _unreadable(folder, name, error) from error
    lacking = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if lacking:
        raise _incomplete(folder, name, lacking)
    return model.eval().to(choose_device(device))


def load_aliked(detector_path: Path, matcher_path: Path, device: str = "auto") -> tuple[Any, Any]:
    """Return kornia's ALIKED and LightGlue with published weights. Raises InputError for files that do not fit."""
    detector, matcher = make_aliked()
    fill(detector, detector_path, _read(detector_path))
    renamed = {}
    for key, values in _read(matcher_path).items():
        words = key.split(".")
        old = words[0] in ("self_attn", "cross_attn")
        renamed[".".join(["transformers", words[1], words[0], *words[2:]]) if old else key] = values
    fill(matcher, matcher_path, renamed)
    place = choose_device(device)
    return detector.eval().to(place), matcher.eval().to(place)


def make_aliked() -> tuple[Any, Any]:
    """Return kornia's ALIKED and LightGlue with random weights."""
    feature = library("kornia.feature")
    # no threshold: tissue has little contrast, and LightGlue says itself how sure it is
    detector = feature.ALIKED("aliked-n16", max_num_keypoints=ALIKED_KEYPOINTS, detection_threshold=-1.0)
    return detector, feature.LightGlue(None, input_dim=_ALIKED_DESCRIPTOR)


def fill(model: nn.Module, path: Path, weights: dict[str, Tensor]) -> None:
    """Load weights by name. Raises InputError where learned ones are missing or have another shape."""
    shapes = {key: values.shape for key, values in model.state_dict().items() if not key.endswith(_DERIVED)}
    lacking = [key for key, shape in shapes.items() if key not in weights or weights[key].shape != shape]
    if lacking:
        raise _incomplete(path, type(model).__name__, lacking)
    model.load_state_dict({key: weights[key] for key in shapes}, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises nearly everything for a broken file
        raise _unreadable(path, "a checkpoint", error) from error


def _unreadable(path: Path, what: str, error: Exception) -> InputError:
    return InputError(
        f"{path} cannot be read as weights",
        found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        expected=f"the published files of {what}",
        do="remove them, and run again to download them; or save them again",
    )


def _incomplete(path: Path, what: str, lacking: Sequence[str]) -> InputError:
    return InputError(
        f"{path} holds no weights of {what}",
        found=f"{len(lacking)} missing or of another shape, such as `{lacking[0]}`",
        expected="the published weights",
        do="remove them, and run again to download them; or save them again",
    )


def _row(weights: Weights, needs: str, load: Callable[[list[Path], str], Match]) -> Matcher:
    """Return the row of a matcher with published weights."""

    def check(options: MatchOptions) -> None:
        require_library(needs)
        choose_device(options.device)
        ensure_weights(options.weights_dir, weights, accept_license=options.accept_license)

    def files(options: MatchOptions) -> list[Path]:
        return find_weights(options.weights_dir, weights)

    def prepare(options: MatchOptions) -> Match:
        check(options)
        return load(files(options), options.device)

    return Matcher(prepare, check, files, has_confidence=True)


def _transformers_row(weights: Weights, name: str) -> Matcher:
    return _row(
        weights,
        "transformers",
        lambda files, device: match_by_transformers(load_transformers(name, files[0].parent, device)),
    )


def _load_and_match_aliked(files: list[Path], device: str) -> Match:
    detector, matcher = files
    return match_by_aliked(*load_aliked(detector, matcher, device))


LEARNED: dict[str, Matcher] = {
    "superpoint_superglue": _transformers_row(SUPERGLUE, "SuperGlueForKeypointMatching"),
    "superpoint_lightglue": _transformers_row(LIGHTGLUE, "LightGlueForKeypointMatching"),
    "aliked_lightglue": _row(ALIKED, "kornia", _load_and_match_aliked),
}
