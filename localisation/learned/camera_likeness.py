"""Make renders look like what cameras take: exposure, noise, blur, instruments, unknown tissue."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_GAIN, _TINT = (0.8, 1.25), 0.05
_NOISE = 0.03
_BLUR_PX = 0.7
_OCCLUDED, _OCCLUDER = 0.4, (0.05, 0.22)  # share of the images; half-width, share of the image's side
_FILLED = 0.7  # share of the images whose unknown pixels take those of another view


def camera_like(images: Tensor, unknown: Tensor, border: Tensor, generator: torch.Generator) -> Tensor:
    """Return images (n, 3, s, s), [0, 1], as a camera may have taken them; the border stays.

    Args:
        images: (n, 3, s, s) renders.
        unknown: (n, s, s) bool, where the field has no surface: a camera sees something there.
        border: (s, s) share of each pixel that never has tissue.
        generator: of the draws.
    """
    count = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    changed = _filled(images, unknown, generator)
    changed = _blurred(changed, uniform(0.0, _BLUR_PX, 1, 1, 1))
    low, high = (torch.tensor(limit).log() for limit in _GAIN)
    gain = uniform(float(low), float(high), 1, 1, 1).exp() * (1.0 + uniform(-_TINT, _TINT, 3, 1, 1))
    changed = _occluded(changed * gain, generator)
    noise = torch.randn(images.shape, generator=generator) * uniform(0.0, _NOISE, 1, 1, 1)
    changed = (changed + noise).clamp(0.0, 1.0)
    return images + (1.0 - border) * (changed - images)


def _filled(images: Tensor, unknown: Tensor, generator: torch.Generator) -> Tensor:
    """Put pixels of another view of the batch where nothing is known, in most images."""
    other = images[torch.randperm(len(images), generator=generator)]
    chosen = torch.rand(len(images), 1, 1, 1, generator=generator) < _FILLED
    return torch.where(chosen & unknown[:, None], other, images)


def _blurred(images: Tensor, sigma_px: Tensor) -> Tensor:
    """Return images (n, 3, s, s) blurred by Gaussians of (n, 1, 1, 1) px, cut off at 2 px."""
    offsets = torch.arange(-2.0, 3.0)
    kernels = torch.exp(-0.5 * (offsets / sigma_px.view(-1, 1).clamp_min(0.05)) ** 2)
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(3, dim=0)
    count, channels, height, width = images.shape
    padded = functional.pad(images, (2, 2, 2, 2), mode="replicate").reshape(
        1, count * channels, height + 4, width + 4
    )
    across = functional.conv2d(padded, kernels[:, None, None, :], groups=count * channels)
    both = functional.conv2d(across, kernels[:, None, :, None], groups=count * channels)
    return both.view(images.shape)


def _occluded(images: Tensor, generator: torch.Generator) -> Tensor:
    """Put a turned rectangle of one colour, as an instrument, over some of the images."""
    count, side = len(images), images.shape[-1]
    draw = torch.rand(count, 9, generator=generator)
    across, down = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="xy")
    angle = torch.pi * draw[:, 0, None, None]
    x, y = across - draw[:, 1, None, None], down - draw[:, 2, None, None]
    along = (x * angle.cos() + y * angle.sin()).abs()
    beside = (y * angle.cos() - x * angle.sin()).abs()
    low, high = _OCCLUDER
    half = low + (high - low) * draw[:, 3:5, None, None]
    inside = (along < 2.0 * half[:, 0]) & (beside < 0.5 * half[:, 1])
    covered = inside & (draw[:, 5, None, None] < _OCCLUDED)
    return torch.where(covered[:, None], draw[:, 6:9, None, None], images)
