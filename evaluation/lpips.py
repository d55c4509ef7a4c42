"""LPIPS (Zhang et al. 2018, v0.1) as a map or a number, from the published weights read as plain files."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from evaluation.lpips_backbones import ALEX, Backbone
from utils.errors import InputError
from utils.types import FloatArray

_SHIFT = (-0.030, -0.088, -0.188)  # of images in [-1, 1]; v0.1 of the published metric
_SCALE = (0.458, 0.448, 0.450)


@dataclass(frozen=True)
class LpipsFiles:
    """The two files of weights: linear heads, and torchvision's checkpoint of the backbone."""

    heads: Path
    backbone: Path
    net: Backbone = ALEX


def find_weights(heads: str | None, backbone: str | None, net: Backbone = ALEX) -> tuple[LpipsFiles | None, str]:
    """Return the files of LPIPS and an empty string, or None and why there are none and what to do.

    Nothing is downloaded and the package `lpips` is not imported (it needs torchvision).

    Args:
        heads: a path that was given, or None to look into an installed package `lpips`.
        backbone: a path that was given, or None to look into the torch hub cache.
        net: whose features are compared.

    Raises:
        InputError: a path was given and is no file.
    """
    heads_path = _given(net.heads_flag, heads) or _heads_of_package(net)
    backbone_path = _given(net.backbone_flag, backbone) or _cached_backbone(net)
    missing = []
    if heads_path is None:
        missing.append(
            "the linear heads were not found: `pip install --no-deps lpips`, or give its file "
            f"{net.heads.as_posix()} to {net.heads_flag}"
        )
    if backbone_path is None:
        missing.append(
            f"the {net.name} backbone was not found: save {net.address} to "
            f"{_shown(_cache() / net.file)}, or give it to {net.backbone_flag}"
        )
    if heads_path is None or backbone_path is None:
        return None, "no LPIPS, since " + "; and ".join(missing)
    return LpipsFiles(heads_path, backbone_path, net), ""


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


def _heads_of_package(net: Backbone) -> Path | None:
    spec = importlib.util.find_spec("lpips")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / net.heads).is_file():
            return Path(folder) / net.heads
    return None


def _cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _shown(path: Path) -> str:
    """Return a path as text, `~` for the home folder: the note goes into tables that are shared."""
    home = Path.home()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else str(path)


def _cached_backbone(net: Backbone) -> Path | None:
    path = _cache() / net.file
    return path if path.is_file() else None


class Lpips(nn.Module):
    """Five feature maps of a backbone and one linear head each; no gradients."""

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, net: Backbone = ALEX) -> None:
        super().__init__()
        self.net = net
        self.features = net.build()
        self.heads = nn.ModuleList(nn.Conv2d(channels, 1, 1, bias=False) for channels in net.widths)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def distance_map(self, image: FloatArray, reference: FloatArray) -> FloatArray:
        """Return the perceptual distance (h, w) of two images (h, w, 3) RGB in [0, 1]; 0 for equal ones.

        Per layer: features normalised over their channels, squared difference, linear head, stretched
        bilinearly to the image; the five layers summed (the published metric with `spatial=True`). Both images
        enter whole: a pixel's value tells about some 200 px around it, over the border of any region.

        Raises:
            ValueError: images smaller than 31 px (AlexNet) or 16 px (VGG16).
        """
        size = image.shape[:2]
        with torch.no_grad():
            total = torch.zeros(1, 1, *size).to(self.shift)
            for layer in self._differences(image, reference, rescaled=True):
                total += functional.interpolate(layer, size=size, mode="bilinear", align_corners=False)
        return total[0, 0].cpu().numpy()

    def distance(self, image: FloatArray, reference: FloatArray, *, rescaled: bool = True) -> float:
        """Return the perceptual distance of two whole images (h, w, 3) RGB in [0, 1]: the published number.

        Each layer's mean over its own, coarser pixels, summed: not quite the mean of `distance_map`.

        Args:
            image: one image.
            reference: the other.
            rescaled: whether [0, 1] is brought to the [-1, 1] that the network was made for; some published
                evaluations forget it, which halves the contrast that it sees.

        Raises:
            ValueError: images too small for the network.
        """
        with torch.no_grad():
            return sum(float(layer.mean()) for layer in self._differences(image, reference, rescaled=rescaled))

    def _differences(self, image: FloatArray, reference: FloatArray, *, rescaled: bool) -> Iterator[torch.Tensor]:
        """Yield each layer's weighted squared difference (1, 1, h, w), in the layer's own size."""
        height, width = image.shape[:2]
        smallest = self.net.smallest_px
        if min(height, width) < smallest:
            raise ValueError(f"LPIPS needs {smallest} px or more each way, the images have {width} x {height}")
        pair = torch.from_numpy(np.stack([image, reference])).to(self.shift).permute(0, 3, 1, 2)
        values = ((2 * pair - 1 if rescaled else pair) - self.shift) / self.scale
        for features, head in zip(self._layers(values), self.heads, strict=True):
            length = features.square().sum(1, keepdim=True).sqrt()
            unit = features / (length + 1e-10)
            yield head((unit[:1] - unit[1:]).square())

    def _layers(self, values: torch.Tensor) -> Iterator[torch.Tensor]:
        for place, layer in enumerate(self.features):
            values = layer(values)
            if place in self.net.counted:
                yield values


def load_lpips(files: LpipsFiles) -> Lpips:
    """Return LPIPS with the published weights. Raises InputError for files that hold something else."""
    net = files.net
    model = Lpips(net)
    backbone = _read_weights(net.backbone_flag, files.backbone)
    heads = _read_weights(net.heads_flag, files.heads)
    for place, layer in enumerate(model.features):
        for kind in ("weight", "bias") if isinstance(layer, nn.Conv2d) else ():
            _fill(layer.get_parameter(kind), backbone, f"features.{place}.{kind}", files.backbone, net)
    for index, head in enumerate(model.heads):
        _fill(head.get_parameter("weight"), heads, f"lin{index}.model.1.weight", files.heads, net)
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


def _fill(target: torch.Tensor, weights: dict[str, torch.Tensor], key: str, path: Path, net: Backbone) -> None:
    source = weights.get(key)
    if source is None or source.shape != target.shape:
        raise InputError(
            f"{path} holds no weights of LPIPS with {net.name}",
            found=f"`{key}` " + ("missing" if source is None else f"of shape {tuple(source.shape)}"),
            expected=f"`{key}` of shape {tuple(target.shape)}",
            do=f"use {net.file} of torchvision and {net.heads.as_posix()} of the package lpips",
        )
    target.copy_(source)
