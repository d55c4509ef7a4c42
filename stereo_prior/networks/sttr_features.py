"""The convolutional half of the Stereo Transformer: a feature vector for every pixel.

Li et al., Revisiting Stereo Depth Estimation From a Sequence-to-Sequence Perspective with Transformers, ICCV 2021,
section 3.1. Modules are named so that the published checkpoints load. Batch normalisation has no running
statistics: each pair is normalised by its own two images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_SPATIAL_POOLS = (16, 8, 4, 2)
_GROWTH, _LAYERS, _BOTTLENECK = 4, 4, 4
_NEW = _GROWTH * _LAYERS  # features that a dense block adds
SMALLEST_SIDE_PX = 8 * max(_SPATIAL_POOLS)  # the coarsest pool needs one cell at 1/8


def _normalise(channels: int) -> nn.BatchNorm2d:
    """Return a batch norm that keeps no statistics but the counter that published checkpoints carry."""
    layer = nn.BatchNorm2d(channels)
    layer.track_running_stats = False
    layer.running_mean = layer.running_var = None
    return layer


def _convolve(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolve(inputs, outputs, 3, stride), _normalise(outputs)
        self.conv2, self.bn2 = _convolve(outputs, outputs, 3), _normalise(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(_convolve(inputs, outputs, 1, stride), _normalise(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        inner = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(inner)) + shortcut)


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        _Residual(inputs, outputs, 2), _Residual(outputs, outputs, 1), _Residual(outputs, outputs, 1)
    )


class Backbone(nn.Module):
    """The contracting half: features at 1/4, 1/8 and, pooled over four windows, 1/16."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((3, 16, 2), (16, 16, 1), (16, 32, 1)):
            layers += [_convolve(inputs, outputs, 3, stride), _normalise(outputs), nn.ReLU()]
        self.in_conv = nn.Sequential(*layers)
        self.resblock_1 = _stage(32, 64)
        self.resblock_2 = _stage(64, 128)
        for number, pool in enumerate(_SPATIAL_POOLS, start=1):
            branch = nn.Sequential(nn.AvgPool2d(pool), _convolve(128, 32, 1), _normalise(32), nn.ReLU())
            self.add_module(f"branch{number}", branch)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features at 1/4, 1/8 and 1/16 of images (b, 3, h, w)."""
        height, width = images.shape[-2:]
        quarter = self.resblock_1(self.in_conv(images))
        eighth = self.resblock_2(quarter)
        size = (-(-height // 16), -(-width // 16))
        pooled = [
            functional.interpolate(self.get_submodule(f"branch{number}")(eighth), size, mode="bilinear")
            for number in range(1, len(_SPATIAL_POOLS) + 1)
        ]
        return quarter, eighth, torch.cat(pooled, dim=1)


class _DenseLayer(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        inner = _BOTTLENECK * _GROWTH
        self.norm1, self.conv1 = _normalise(inputs), _convolve(inputs, inner, 1)
        self.norm2, self.conv2 = _normalise(inner), _convolve(inner, _GROWTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(torch.relu(self.norm1(x)))
        return self.conv2(torch.relu(self.norm2(inner)))


class _DenseBlock(nn.Module):
    """Layers that each see all features before them; returns the new ones alone."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        for number in range(_LAYERS):
            self.add_module(f"denselayer{number + 1}", _DenseLayer(inputs + number * _GROWTH))

    def forward(self, x: Tensor) -> Tensor:
        inputs = x.shape[1]
        for layer in self.children():
            x = torch.cat([x, layer(x)], dim=1)
        return x[:, inputs:]


class _Up(nn.Module):
    """A transposed convolution, its middle as large as the finer features, and these behind it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.convTrans = layer

    def forward(self, x: Tensor, finer: Tensor) -> Tensor:
        larger = self.convTrans(x)
        height, width = finer.shape[-2:]
        top, left = (larger.shape[-2] - height) // 2, (larger.shape[-1] - width) // 2
        return torch.cat([larger[..., top : top + height, left : left + width], finer], dim=1)


class _Last(nn.Module):
    """Two convolutions at full resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in (inputs, outputs):
            layers += [_convolve(number, outputs, 3), _normalise(outputs), nn.ReLU()]
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class Tokenizer(nn.Module):
    """The expanding half: from 1/16 back to a vector of `channels` numbers for every pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bottle_neck = _DenseBlock(128)
        doubling = [nn.ConvTranspose2d(_NEW, _NEW, 3, stride=2) for _ in range(2)]
        quadrupling = nn.Sequential(
            nn.ConvTranspose2d(_NEW, channels, 3, stride=2, bias=False),
            _normalise(channels),
            nn.ConvTranspose2d(channels, channels, 3, stride=2),
        )
        self.up = nn.ModuleList([_Up(doubling[0]), _Up(doubling[1]), _Up(quadrupling)])
        blocks = [_DenseBlock(_NEW + 128), _DenseBlock(_NEW + 64), _Last(channels + 3, channels)]
        self.dense_block = nn.ModuleList(blocks)

    def forward(self, images: Tensor, features: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Return tokens (b, channels, h, w) of images (b, 3, h, w) and their features at 1/4, 1/8, 1/16."""
        quarter, eighth, sixteenth = features
        tokens = self.bottle_neck(sixteenth)
        for up, block, finer in zip(self.up, self.dense_block, (eighth, quarter, images), strict=True):
            tokens = block(up(tokens, finer))
        return tokens
