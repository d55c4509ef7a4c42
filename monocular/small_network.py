"""A small convolutional encoder-decoder: log inverse depth from one image, and the loss that ignores its scale."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = (16, 32, 48, 64, 96)
_STRIDE = 2 ** len(CHANNELS)  # of the coarsest features
_DARKEST = 0.02  # added to colours before the logarithm
_GROUP = 8  # channels normalised together
_WIDTH_PX = 192  # images are brought to this width


class SmallDepthNetwork(nn.Module):
    """An encoder-decoder with skips, trained on the scene from scratch; half a million weights.

    Each image is normalised by itself, so that a prediction depends on nothing but its own image.
    """

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([_block(5, CHANNELS[0], stride=2)])
        self.down.extend(_block(a, b, stride=2) for a, b in itertools.pairwise(CHANNELS))
        self.up = nn.ModuleList(_block(a + b, b) for b, a in itertools.pairwise(CHANNELS))
        self.head = nn.Conv2d(CHANNELS[0], 1, 3, padding=1, padding_mode="replicate")

    def forward(self, inputs: Tensor) -> Tensor:
        """Return log inverse depth (b, h / 2, w / 2), up to a constant, of `network_input` (b, 5, h, w)."""
        skips: list[Tensor] = []
        features = inputs
        for block in self.down:
            features = block(features)
            skips.append(features)
        for index in reversed(range(len(self.up))):
            skip = skips[index]
            larger = functional.interpolate(features, skip.shape[-2:], mode="bilinear", align_corners=False)
            features = self.up[index](torch.cat([larger, skip], dim=1))
        found: Tensor = self.head(features)[:, 0]
        return found


def _block(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, padding_mode="replicate"),
        nn.GroupNorm(channels_out // _GROUP, channels_out),
        nn.SiLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1, padding_mode="replicate"),
        nn.GroupNorm(channels_out // _GROUP, channels_out),
        nn.SiLU(),
    )


def working_size(width: int, height: int) -> tuple[int, int]:
    """Return the size (columns, rows) at which images are looked at: sides that the network can halve."""
    columns = max(_STRIDE, round(_WIDTH_PX / _STRIDE) * _STRIDE)
    return columns, max(_STRIDE, round(columns * height / width / _STRIDE) * _STRIDE)


def network_input(image: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """Return (5, h, w): logarithms of the colours, and the position in the image, -1 to 1.

    Light of the lamp falls with the square of the distance: in the logarithm that is a straight line.

    Args:
        image: (h, w, 3) RGB.
        size: columns and rows of the input, one for all images of a scene.
    """
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    colours = np.log(small.astype(np.float32) / 255 + _DARKEST) + 1.5
    across, down = np.meshgrid(np.linspace(-1, 1, size[0]), np.linspace(-1, 1, size[1]))
    return torch.from_numpy(np.dstack([colours, across, down]).astype(np.float32)).permute(2, 0, 1).contiguous()


def read_at(log_inverse: Tensor, places: Tensor) -> Tensor:
    """Return the map (h, w) at places (m, 2) in [-1, 1] (edges of the image), bilinear."""
    grid = places[None, None]
    found = functional.grid_sample(log_inverse[None, None], grid, align_corners=False, padding_mode="border")
    return found[0, 0, 0]


def scale_free_loss(log_predicted: Tensor, log_given: Tensor) -> Tensor:
    """Return mean |log p - log g + a|, a = mean(log g - log p), of one image: blind to the scale of p.

    Args:
        log_predicted, log_given: (m,) logarithms of *inverse* depths p and g at valid pixels.
    """
    difference = log_predicted - log_given
    return (difference - difference.mean()).abs().mean()
