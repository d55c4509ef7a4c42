"""The last part of the Stereo Transformer: its coarse answer brought to all pixels, with the image at hand.

Li et al., Revisiting Stereo Depth Estimation From a Sequence-to-Sequence Perspective with Transformers, ICCV 2021,
section 3.5. Modules are named so that the published checkpoints load.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class _NormedConv(nn.Module):
    """A 3x3 convolution; filters have a direction `weight_v` and a length `weight_g` (Salimans, Kingma 2016)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        plain = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.weight_v = nn.Parameter(plain.weight.detach())
        self.weight_g = nn.Parameter(self.weight_v.detach().flatten(1).norm(dim=1)[:, None, None, None])
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        length = self.weight_v.flatten(1).norm(dim=1)[:, None, None, None]
        return functional.conv2d(x, self.weight_v * (self.weight_g / length), self.bias, padding=1)


class _ContextBlock(nn.Module):
    def __init__(self, features: int, expansion: int) -> None:
        super().__init__()
        self.module = nn.Sequential(
            _NormedConv(features + 1, features * expansion),
            nn.ReLU(),
            _NormedConv(features * expansion, features),
        )

    def forward(self, x: Tensor, disparity: Tensor) -> Tensor:
        return x + self.module(torch.cat([disparity, x], dim=1))


class ContextAdjustment(nn.Module):
    """Bring disparity and occlusion of the samples to all pixels, with the image at hand (section 3.5)."""

    def __init__(self, blocks: int = 8, features: int = 16, expansion: int = 4) -> None:
        super().__init__()
        self.in_conv = nn.Conv2d(4, features, 3, padding=1)
        self.layers = nn.ModuleList([_ContextBlock(features, expansion) for _ in range(blocks)])
        self.out_conv = nn.Conv2d(features, 1, 3, padding=1)

        first, second, third, fourth = (_NormedConv(n, features) for n in (4, features, features, features))
        pairs = [first, second, nn.ReLU(), third, fourth, nn.ReLU()]
        self.occ_head = nn.Sequential(*pairs, nn.Conv2d(features, 1, 3, padding=1), nn.Sigmoid())

    def forward(self, disparity: Tensor, occlusion: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return both maps (b, 1, h, w), adjusted: disparity in units of its spread, occlusion 0..1 from -1..1."""
        x = self.in_conv(torch.cat([disparity, image], dim=1))
        for block in self.layers:
            x = block(x, disparity)
        return disparity + self.out_conv(x), self.occ_head(torch.cat([occlusion, image], dim=1))
