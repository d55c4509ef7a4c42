"""PASMnet: disparity by parallax attention along rows, from coarse to fine.

Wang et al., Parallax Attention for Unsupervised Stereo Correspondence Learning, PAMI 2022. Modules are named so
that the published checkpoints load.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stereo_prior.networks.parallax import Attention, attend, regress

SIDE_MULTIPLE_PX = 32
SCALES = (16, 8, 4)  # at which attention is computed, coarse to fine
_SLOPE = 0.1  # of the leaky rectifiers
_DISPARITY_UNIT = 32.0  # of the refinement's input


def _layer(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(_SLOPE))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        first, norm, rectifier = _layer(channels, channels, 3)
        second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.body = nn.Sequential(first, norm, rectifier, second, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(x + self.body(x), _SLOPE)


class _Block(nn.Module):
    """A layer that changes the number of channels (and the resolution), then a residual block."""

    def __init__(self, inputs: int, outputs: int, *, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(_layer(inputs, outputs, size, stride), _Residual(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear")


class Hourglass(nn.Module):
    """Features of one image at 1/16, 1/8 and 1/4."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 96, 128, 160)
        for number in range(5):
            self.add_module(f"E{number}", _Block(widths[number], widths[number + 1], stride=2))
        self.D0 = _Block(160, 160)
        self.D1 = _Block(160 + 128, 128, size=1)
        self.D2 = _Block(128 + 96, 96, size=1)
        self.D3 = _Block(96 + 64, 64, size=1)

    def forward(self, image: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """Return features at 1/16, 1/8, 1/4 of images (b, 3, h, w), and those of the encoder at 1/4."""
        down = [image]
        for number in range(5):
            down.append(self.get_submodule(f"E{number}")(down[-1]))
        sixteenth = self.D1(torch.cat([_double(self.D0(down[5])), down[4]], dim=1))
        eighth = self.D2(torch.cat([_double(sixteenth), down[3]], dim=1))
        quarter = self.D3(torch.cat([_double(eighth), down[2]], dim=1))
        return (sixteenth, eighth, quarter), down[2]


class _ParallaxBlock(nn.Module):
    """Renew the features of both eyes and add to the costs of matching their columns."""

    def __init__(self, channels: int) -> None:
        super().__init__()

        def layer() -> list[nn.Module]:
            convolution = nn.Conv2d(channels, channels, 3, padding=1)
            return [convolution, nn.BatchNorm2d(channels), nn.LeakyReLU(_SLOPE)]

        self.head = nn.Sequential(*layer(), *layer())
        self.query = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        self.key = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(
        self, left: Tensor, right: Tensor, costs: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        new_left, new_right = self.head(left), self.head(right)
        to_left = costs[0] + self._affinity(new_left, new_right)
        to_right = costs[1] + self._affinity(new_right, new_left)
        return left + new_left, right + new_right, (to_left, to_right)

    def _affinity(self, own: Tensor, other: Tensor) -> Tensor:
        """Return (b, h, w, w): how well every column of `own` matches every column of `other`."""
        query = self.query(own).permute(0, 2, 3, 1)
        key = self.key(other).permute(0, 2, 1, 3)
        return query @ key / own.shape[1]


class _Stage(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        for number in range(1, 5):
            self.add_module(f"pab{number}", _ParallaxBlock(channels))

    def forward(
        self, left: Tensor, right: Tensor, costs: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        for block in self.children():
            left, right, costs = block(left, right, costs)
        return left, right, costs


class CascadedAttention(nn.Module):
    """Three stages, each starting from the costs of the coarser one."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1, self.stage2, self.stage3 = _Stage(128), _Stage(96), _Stage(64)
        self.b2, self.b3 = self._merging(128 + 96, 96), self._merging(96 + 64, 64)

    @staticmethod
    def _merging(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs), nn.LeakyReLU(_SLOPE))

    def forward(
        self, lefts: tuple[Tensor, Tensor, Tensor], rights: tuple[Tensor, Tensor, Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """Return, for every scale, the affinities (b, h, w, w) of left with right columns and the reverse."""
        left, right = lefts[0], rights[0]
        batch, _, height, width = left.shape
        nothing = left.new_zeros(batch, height, width, width)
        left, right, costs = self.stage1(left, right, (nothing, nothing))
        found = [costs]
        merging = ((self.b2, self.stage2), (self.b3, self.stage3))
        for (merge, stage), finer_left, finer_right in zip(merging, lefts[1:], rights[1:], strict=True):
            left = merge(torch.cat([_double(left), finer_left], dim=1))
            right = merge(torch.cat([_double(right), finer_right], dim=1))
            left, right, costs = stage(left, right, (_finer(costs[0]), _finer(costs[1])))
            found.append(costs)
        return found


def _finer(cost: Tensor) -> Tensor:
    return functional.interpolate(cost[:, None], scale_factor=2, mode="trilinear")[:, 0]


class Refinement(nn.Module):
    """From disparity at 1/4 to full resolution, with the left image's features."""

    def __init__(self) -> None:
        super().__init__()
        self.E0 = _Block(64 + 1, 64)
        self.E1, self.E2, self.E3 = (_Block(n, m, stride=2) for n, m in ((64, 96), (96, 128), (128, 160)))
        self.D0 = _Block(160, 160)
        self.D1 = _Block(160 + 128, 128, size=1)
        self.D2 = _Block(128 + 96, 96, size=1)
        self.D3 = _Block(96 + 64, 64, size=1)
        self.D4 = _Block(64, 32, size=1)
        self.D5 = _Block(32, 16, size=1)
        self.confidence = nn.Sequential(
            *_layer(16, 16, 3), nn.Conv2d(16, 1, 3, padding=1, bias=False), nn.Sigmoid()
        )
        self.disp = nn.Sequential(*_layer(16, 16, 3), nn.Conv2d(16, 1, 3, padding=1, bias=False))

    def forward(self, features: Tensor, disparity: Tensor) -> Tensor:
        """Return disparity (b, 1, 4 h, 4 w) px of the image, of features and disparity px (b, 1, h, w) at 1/4."""
        coarse = disparity / _DISPARITY_UNIT
        quarter = self.E0(torch.cat([coarse, features], dim=1))
        eighth = self.E1(quarter)
        sixteenth = self.E2(eighth)
        x = self.D0(self.E3(sixteenth))
        for block, skip in ((self.D1, sixteenth), (self.D2, eighth), (self.D3, quarter)):
            x = block(torch.cat([_double(x), skip], dim=1))
        x = self.D5(_double(self.D4(_double(x))))
        weight = self.confidence(x)
        kept = functional.interpolate(coarse, scale_factor=4, mode="bilinear")
        refined = kept * (1.0 - weight) + self.disp(x).clamp(min=0) * weight
        return refined * _DISPARITY_UNIT * SCALES[-1]


class PASMnet(nn.Module):
    """The whole network. Input: RGB normalised by ImageNet's mean and deviation, rectified, disparities >= 0."""

    def __init__(self) -> None:
        super().__init__()
        self.hourglass = Hourglass()
        self.cas_pam = CascadedAttention()
        self.refine = Refinement()

    def forward(self, left: Tensor, right: Tensor, max_disparity_px: int = 0) -> tuple[Tensor, list[Attention]]:
        """Return disparity (b, 1, h, w) px on the left image, and the attention at 1/16, 1/8 and 1/4.

        Args:
            left, right: (b, 3, h, w), sides multiples of 32 px.
            max_disparity_px: disparities are looked for below it; 0: the width of the image.
        """
        features_left, encoded = self.hourglass(left)
        features_right, _ = self.hourglass(right)
        costs = self.cas_pam(features_left, features_right)
        attention = [
            attend(cost[0], cost[1], max_disparity_px // scale) for cost, scale in zip(costs, SCALES, strict=True)
        ]
        finest = attention[-1]
        disparity = regress(finest.right_to_left, finest.valid_left)
        return self.refine(encoded, disparity), attention
