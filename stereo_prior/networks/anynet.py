"""AnyNet: disparity in three steps from 1/16 to 1/4 of the image, each correcting the one before.

Wang et al., Anytime Stereo Image Depth Estimation on Mobile Devices, ICRA 2019. Modules are named so that the
published checkpoints load; their last layer (SPN) needs its own CUDA code and is not used.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

_RANGES = (12, 3, 3)  # disparities searched per step, in px of its own scale: 0..11, then -2..2 twice
_VOLUME_CHANNELS = (16, 4, 4)  # of the filters of each step's cost volume
_VOLUME_LAYERS = 4
UNUSED_PREFIX = "refine_spn."
SIDE_MULTIPLE_PX = 16
LARGEST_DISPARITY_PX = 16 * _RANGES[0]


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), convolution)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.MaxPool2d(2), _layer(inputs, outputs), _layer(outputs, outputs))


class _Up(nn.Module):
    def __init__(self, finer: int, coarser: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(_layer(finer + coarser, finer), _layer(finer, finer))

    def forward(self, finer: Tensor, coarser: Tensor) -> Tensor:
        size = finer.shape[-2:]
        larger = functional.interpolate(coarser, scale_factor=2, mode="bilinear", align_corners=True)
        return self.conv(torch.cat([finer, larger[..., : size[0], : size[1]]], dim=1))


class Features(nn.Module):
    """Features of an image at 1/16, 1/8 and 1/4."""

    def __init__(self) -> None:
        super().__init__()
        first = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), _layer(1, 1, stride=2))
        self.block0 = nn.Sequential(first, _block(1, 2))
        self.blocks = nn.ModuleList([_block(2, 4), _block(4, 8)])
        self.upblocks = nn.ModuleList([_Up(4, 8), _Up(2, 4)])

    def forward(self, image: Tensor) -> list[Tensor]:
        quarter = self.block0(image)
        eighth = self.blocks[0](quarter)
        sixteenth = self.blocks[1](eighth)
        eighth = self.upblocks[0](eighth, sixteenth)
        return [sixteenth, eighth, self.upblocks[1](quarter, eighth)]


def _volume_filter(channels: int) -> nn.Sequential:
    widths = [1, *[channels] * (_VOLUME_LAYERS + 1), 1]
    layers = [
        nn.Sequential(nn.BatchNorm3d(n), nn.ReLU(), nn.Conv3d(n, m, 3, padding=1, bias=False))
        for n, m in itertools.pairwise(widths)
    ]
    return nn.Sequential(*layers)


class AnyNet(nn.Module):
    """The whole network without its SPN layer. Input: RGB normalised by ImageNet's mean and deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_extraction = Features()
        self.volume_postprocess = nn.ModuleList([_volume_filter(channels) for channels in _VOLUME_CHANNELS])

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Return disparity (b, 1, h, w) px, 0 to about 192, of images (b, 3, h, w), sides multiples of 16 px."""
        size = left.shape[-2:]
        total: Tensor | None = None
        levels = zip(self.feature_extraction(left), self.feature_extraction(right), strict=True)
        for number, (own, other) in enumerate(levels):
            scale = size[0] / own.shape[-2]
            count = _RANGES[number]
            if total is None:
                shifts = torch.arange(count, device=left.device)
                costs = _plain_costs(own, other, count)
            else:
                shifts = torch.arange(1 - count, count, device=left.device)
                here = functional.interpolate(total, own.shape[-2:], mode="bilinear") / scale
                costs = _costs_around(own, other, here, shifts)
            filtered = self.volume_postprocess[number](costs[:, None])[:, 0]
            weights = functional.softmax(-filtered, dim=1)
            step = (weights * shifts[:, None, None]).sum(dim=1, keepdim=True) * scale
            finer = functional.interpolate(step, size, mode="bilinear")
            total = finer if total is None else total + finer
        assert total is not None
        return total


def _plain_costs(own: Tensor, other: Tensor, count: int) -> Tensor:
    """Return L1 distances (b, count, h, w) at whole disparities; past the border that of the features to zero."""
    costs = []
    for shift in range(count):
        moved = functional.pad(other, (shift, 0))[..., : other.shape[-1]]
        costs.append((own - moved).abs().sum(dim=1))
    return torch.stack(costs, dim=1)


def _costs_around(own: Tensor, other: Tensor, disparity: Tensor, shifts: Tensor) -> Tensor:
    """Return L1 distances (b, n, h, w) at disparity (b, 1, h, w) - shift.

    So the published code has it, and its weights know: the shift is added afterwards. They were trained when
    PyTorch sampled between the corners' centres.
    """
    height, width = own.shape[-2:]
    columns = torch.arange(width, device=own.device, dtype=own.dtype)
    rows = torch.arange(height, device=own.device, dtype=own.dtype)[:, None].expand(height, width)
    costs = []
    for shift in shifts:
        there = columns - (disparity[:, 0] - shift)
        grid = torch.stack([2 * there / (width - 1) - 1, (2 * rows / (height - 1) - 1).expand_as(there)], dim=-1)
        costs.append((own - functional.grid_sample(other, grid, align_corners=True)).abs().sum(dim=1))
    return torch.stack(costs, dim=1)
