"""Pretrained networks that see depth in any image: Depth Anything and DPT, through `transformers`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from monocular.depth_source import Map, MonocularOptions, Predict, Source, Task
from utils.devices import choose_device
from utils.errors import InputError
from utils.weights import Weights, ensure_weights, find_weights, library, require_library

PREPARATION = "preprocessor_config.json"
_FILES = ("config.json", PREPARATION, "model.safetensors")


def _published(name: str, repository: str, licence: str) -> Weights:
    address = f"https://huggingface.co/{repository}/resolve/main"
    return Weights(name, {file: f"{address}/{file}" for file in _FILES}, licence, free=True)


WEIGHTS: Mapping[str, Weights] = {
    "depth_anything": _published(
        "depth_anything", "depth-anything/Depth-Anything-V2-Small-hf", "Apache-2.0, any use (100 MB)"
    ),
    "dpt": _published("dpt", "Intel/dpt-large", "Apache-2.0, any use (1.4 GB)"),
}


@dataclass(frozen=True)
class Framing:
    """How a network wants its images: shorter side and multiple of the sides, px; colours' mean and deviation."""

    shorter_px: int
    multiple_px: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @staticmethod
    def read(path: Path) -> Framing:
        """Read `preprocessor_config.json`. Raises InputError where it says nothing of the kind."""
        try:
            record = json.loads(path.read_text())
            size = record["size"]
            shorter = size if isinstance(size, int) else min(size.values())
            mean, deviation = (tuple(map(float, record[key])) for key in ("image_mean", "image_std"))
            framing = Framing(int(shorter), int(record.get("ensure_multiple_of", 32)), mean, deviation)
            positive = min(framing.shorter_px, framing.multiple_px, *deviation) > 0
            if not positive or len(mean) != 3 or len(deviation) != 3:
                raise ValueError(f"{framing}")
            return framing
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} does not say how images are prepared",
                found=f"{type(error).__name__}: {error}",
                expected="size, image_mean and image_std, of three colours",
                do="download the file again",
            ) from error

    def tensor(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """Return an image (h, w, 3) as (1, 3, rows, columns), its shape kept as far as the multiple allows."""
        scale = self.shorter_px / min(image.shape[:2])
        rows, columns = (
            max(1, round(side * scale / self.multiple_px)) * self.multiple_px for side in image.shape[:2]
        )
        resized = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_CUBIC).astype(np.float32) / 255
        values = (resized - np.array(self.mean, np.float32)) / np.array(self.deviation, np.float32)
        return torch.from_numpy(values).permute(2, 0, 1)[None].contiguous()


def pretrained(name: str) -> Source:
    """Return the row of a pretrained network in the table of sources."""
    weights = WEIGHTS[name]

    def folder_of(options: MonocularOptions) -> Path:
        return ensure_weights(options.weights_dir, weights, accept_license=options.accept_license)[0].parent

    def check(options: MonocularOptions) -> None:
        require_library("transformers")
        folder = folder_of(options)
        Framing.read(folder / PREPARATION)
        load_network(folder)  # seconds, beside the minutes of the stages that come first

    def files(options: MonocularOptions) -> list[Path]:
        return find_weights(options.weights_dir, weights)

    def prepare(task: Task) -> Predict:
        folder = folder_of(task.options)
        framing, device = Framing.read(folder / PREPARATION), choose_device(task.options.device)
        network = load_network(folder).to(device)

        def predict(view: Any) -> Map:
            image = task.views.scene.image(view.side, view.name)
            with torch.inference_mode():
                found = network(pixel_values=framing.tensor(image).to(device)).predicted_depth[0]
            return relative_inverse_depth(found.float().cpu().numpy(), image.shape[1::-1], _is_metric(network))

        return predict

    return Source(prepare, ("device",), check, files)


def load_network(folder: Path) -> Any:
    """Load a depth network from its folder, whatever it is. Raises InputError for files that hold none."""
    transformers = library("transformers")
    try:
        return transformers.AutoModelForDepthEstimation.from_pretrained(folder, local_files_only=True).eval()
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise InputError(
            f"{folder} holds no depth network that `transformers` can load",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            expected=", ".join(_FILES),
            do="download the files again",
        ) from error


def _is_metric(network: Any) -> bool:
    """Whether a network gives depth; the usual ones give inverse depth."""
    return getattr(network.config, "depth_estimation_type", "relative") == "metric"


def relative_inverse_depth(found: NDArray[np.float32], size: tuple[int, int], metric: bool) -> Map:
    """Return a network's output as relative inverse depth (height, width), NaN where it says infinitely far."""
    values = cv2.resize(found, size, interpolation=cv2.INTER_LINEAR)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / values if metric else values
    return np.where(np.isfinite(inverse) & (inverse > 0), inverse, np.nan).astype(np.float32)
