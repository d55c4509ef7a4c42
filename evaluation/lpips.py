"""LPIPS (Zhang et al. 2018, AlexNet, v0.1) as a map, from the published weights read as plain files."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from utils.errors import InputError
from utils.types import FloatArray

BACKBONE_FILE = "alexnet-owt-7be5be79.pth"
BACKBONE_ADDRESS = f"https://download.pytorch.org/models/{BACKBONE_FILE}"
HEADS_IN_PACKAGE = Path("weights") / "v0.1" / "alex.pth"
SMALLEST_PX = 31  # a smaller image leaves nothing after AlexNet's strides

_SHIFT = (-0.030, -0.088, -0.188)  # of images in [-1, 1]; v0.1 of the published metric
_SCALE = (0.458, 0.448, 0.450)
_CONVOLUTIONS = {0: 64, 3: 192, 6: 384, 8: 256, 10: 256}  # place in torchvision's AlexNet -> channels


@dataclass(frozen=True)
class LpipsFiles:
    """The two files of weights: linear heads, and torchvision's AlexNet."""

    heads: Path
    backbone: Path


def find_weights(heads: str | None, backbone: str | None) -> tuple[LpipsFiles | None, str]:
    """Return the files of LPIPS and an empty string, or None and why there are none and what to do.

    Nothing is downloaded and the package `lpips` is not imported (it needs torchvision).

    Args:
        heads: a path that was given, or None to look into an installed package `lpips`.
        backbone: a path that was given, or None to look into the torch hub cache.

    Raises:
        InputError: a path was given and is no file.
    """
    heads_path = _given("--lpips_heads", heads) or _heads_of_package()
    backbone_path = _given("--lpips_backbone", backbone) or _cached_backbone()
    missing = []
    if heads_path is None:
        missing.append(
            "the linear heads were not found: `pip install --no-deps lpips`, or give its file "
            f"{HEADS_IN_PACKAGE.as_posix()} to --lpips_heads"
        )
    if backbone_path is None:
        missing.append(
            f"the AlexNet backbone was not found: save {BACKBONE_ADDRESS} to "
            f"{_shown(_cache() / BACKBONE_FILE)}, or give it to --lpips_backbone"
        )
    if heads_path is None or backbone_path is None:
        return None, "no LPIPS, since " + "; and ".join(missing)
    return LpipsFiles(heads_path, backbone_path), ""


def _given(flag: str, text: str | None) -> Path | None:
    if not text:
        return None
    path = Path(text).expanduser()
    if not path.is_file():
        raise InputError(
            f"{flag} names a file that cannot be read",
            found=f"{path}, {'a folder' if path.is_dir() else 'no such file'}",
            expected="a file of weights",
            do=f"correct the path, or leave {flag} out: LPIPS is then looked for, and left out where absent",
        )
    return path


def _heads_of_package() -> Path | None:
    spec = importlib.util.find_spec("lpips")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / HEADS_IN_PACKAGE).is_file():
            return Path(folder) / HEADS_IN_PACKAGE
    return None


def _cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _shown(path: Path) -> str:
    """Return a path as text, `~` for the home folder: the note goes into tables that are shared."""
    home = Path.home()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else str(path)


def _cached_backbone() -> Path | None:
    path = _cache() / BACKBONE_FILE
    return path if path.is_file() else None


class Lpips(nn.Module):
    """AlexNet's five feature maps and one linear head each; no gradients."""

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        relu, pool = nn.ReLU(), nn.MaxPool2d(3, 2)
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, 11, 4, 2), relu, pool),
            *(nn.Conv2d(64, 192, 5, 1, 2), relu, pool),
            *(nn.Conv2d(192, 384, 3, 1, 1), relu),
            *(nn.Conv2d(384, 256, 3, 1, 1), relu),
            *(nn.Conv2d(256, 256, 3, 1, 1), relu),
        )
        self.heads = nn.ModuleList(nn.Conv2d(channels, 1, 1, bias=False) for channels in _CONVOLUTIONS.values())
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def distance_map(self, image: FloatArray, reference: FloatArray) -> FloatArray:
        """Return the perceptual distance (h, w) of two images (h, w, 3) RGB in [0, 1]; 0 for equal ones.

        Per layer: features normalised over their channels, squared difference, linear head, stretched
        bilinearly to the image; the five layers summed (the published metric with `spatial=True`). Both images
        enter whole: a pixel's value tells about some 200 px around it, over the border of any region.

        Raises:
            ValueError: images smaller than 31 px.
        """
        height, width = image.shape[:2]
        if min(height, width) < SMALLEST_PX:
            raise ValueError(f"LPIPS needs {SMALLEST_PX} px or more each way, the images have {width} x {height}")
        with torch.no_grad():
            pair = torch.from_numpy(np.stack([image, reference])).to(self.shift).permute(0, 3, 1, 2)
            values = (2 * pair - 1 - self.shift) / self.scale
            total = torch.zeros(1, 1, height, width).to(self.shift)
            for features, head in zip(self._layers(values), self.heads, strict=True):
                length = features.square().sum(1, keepdim=True).sqrt()
                unit = features / (length + 1e-10)
                difference = (unit[:1] - unit[1:]).square()
                total += functional.interpolate(
                    head(difference), size=(height, width), mode="bilinear", align_corners=False
                )
        return total[0, 0].cpu().numpy()

    def _layers(self, values: torch.Tensor) -> list[torch.Tensor]:
        layers = []
        for layer in self.features:
            values = layer(values)
            if isinstance(layer, nn.ReLU):
                layers.append(values)
        return layers


def load_lpips(files: LpipsFiles) -> Lpips:
    """Return LPIPS with the published weights. Raises InputError for files that hold something else."""
    model = Lpips()
    backbone = _read_weights("--lpips_backbone", files.backbone)
    heads = _read_weights("--lpips_heads", files.heads)
    for place in _CONVOLUTIONS:
        layer = model.features[place]
        for kind in ("weight", "bias"):
            _fill(layer.get_parameter(kind), backbone, f"features.{place}.{kind}", files.backbone)
    for index, head in enumerate(model.heads):
        _fill(head.get_parameter("weight"), heads, f"lin{index}.model.1.weight", files.heads)
    return model


def _read_weights(flag: str, path: Path) -> dict[str, torch.Tensor]:
    try:
        # the published heads were saved from a GPU: without map_location they load nowhere else
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly everything for a broken file
        raise InputError(
            f"{path} cannot be read as weights of LPIPS",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            expected="a checkpoint of plain tensors",
            do=f"download it again, or name another file with {flag}",
        ) from error
    return dict(weights) if isinstance(weights, dict) else {}


def _fill(target: torch.Tensor, weights: dict[str, torch.Tensor], key: str, path: Path) -> None:
    source = weights.get(key)
    if source is None or source.shape != target.shape:
        raise InputError(
            f"{path} holds no weights of LPIPS with AlexNet",
            found=f"`{key}` " + ("missing" if source is None else f"of shape {tuple(source.shape)}"),
            expected=f"`{key}` of shape {tuple(target.shape)}",
            do=f"use {BACKBONE_FILE} of torchvision and {HEADS_IN_PACKAGE.as_posix()} of the package lpips",
        )
    target.copy_(source)
