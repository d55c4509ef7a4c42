"""Losses by which PASMnet learns without truth: both eyes must show the same surface.

Wang et al., Parallax Attention for Unsupervised Stereo Correspondence Learning, PAMI 2022, section 3.3. Means are
taken over all pixels, those that a mask leaves out included: a mask weighs, it does not select.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from stereo_prior.networks.parallax import Attention

_SCALE_WEIGHTS = (0.2, 0.3, 0.5)  # of 1/16, 1/8, 1/4
_L1_SHARE = 0.15  # of the photometric loss; the rest is structural similarity
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def photometric(left: Tensor, warped: Tensor, weight: Tensor) -> Tensor:
    """Compare the left image with the right one brought onto it.

    Args:
        left, warped: (b, 3, h, w).
        weight: (b, 1, h, w), 0 where the comparison means nothing.
    """
    difference = ((warped - left).abs() * weight).mean()
    dissimilarity = (weight * (1.0 - structural_similarity(left, warped)) / 2.0).mean()
    return _L1_SHARE * difference + (1.0 - _L1_SHARE) * dissimilarity


def warp(right: Tensor, disparity_px: Tensor) -> Tensor:
    """Return right images (b, c, h, w) sampled where left pixels land, column - disparity (b, 1, h, w) px."""
    height, width = right.shape[-2:]
    columns = torch.arange(width, device=right.device, dtype=right.dtype)
    rows = torch.arange(height, device=right.device, dtype=right.dtype)
    there = columns - disparity_px[:, 0]
    grid = torch.stack([(2 * there + 1) / width, ((2 * rows + 1) / height)[:, None].expand_as(there)], dim=-1)
    return functional.grid_sample(right, grid - 1.0, padding_mode="border", align_corners=False)


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return the map (b, c, h, w) of SSIM (Wang et al. 2004), window 11, sigma 1.5, zeros past the border."""
    channels = a.shape[1]
    offsets = torch.arange(_WINDOW, device=a.device, dtype=a.dtype) - _WINDOW // 2
    line = torch.exp(-(offsets**2) / (2.0 * _SIGMA**2))
    line = line / line.sum()
    window = (line[:, None] * line).expand(channels, 1, _WINDOW, _WINDOW)

    def blur(x: Tensor) -> Tensor:
        return functional.conv2d(x, window, padding=_WINDOW // 2, groups=channels)

    mean_a, mean_b = blur(a), blur(b)
    variance_a, variance_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    above = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    return above / ((mean_a**2 + mean_b**2 + _C1) * (variance_a + variance_b + _C2))


def smoothness(disparity_px: Tensor, image: Tensor) -> Tensor:
    """Return the mean step of disparity (b, 1, h, w), steps at edges of the image (b, 3, h, w) counting less."""
    total, weights = disparity_px.new_zeros(()), disparity_px.new_zeros(())
    for axis in (-1, -2):
        weight = torch.exp(-image.diff(dim=axis).abs().mean(dim=1, keepdim=True))
        total = total + (disparity_px.diff(dim=axis).abs() * weight).sum()
        weights = weights + weight.sum()
    return total / weights


def attention_photometric(
    left: Tensor, right: Tensor, attention: list[Attention], weights: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Compare either eye with the other one carried over by attention, at every scale.

    Args:
        left, right: (b, 3, h, w).
        attention: at 1/16, 1/8 and 1/4.
        weights: for the left and the right image (b, 1, h, w), 0 where the comparison means nothing.
    """
    total = left.new_zeros(())
    for share, found in zip(_SCALE_WEIGHTS, attention, strict=True):
        scale = left.shape[-2] // found.valid_left.shape[-2]
        small = [functional.interpolate(image, scale_factor=1 / scale, mode="bilinear") for image in (left, right)]
        valid = [found.valid_left, found.valid_right]
        if weights is not None:
            valid = [v * (functional.avg_pool2d(w, scale) > 0.5) for v, w in zip(valid, weights, strict=True)]
        from_right = _carry(found.right_to_left, small[1])
        from_left = _carry(found.left_to_right, small[0])
        total = total + share * ((small[0] - from_right).abs() * valid[0]).mean()
        total = total + share * ((small[1] - from_left).abs() * valid[1]).mean()
    return total


def _carry(weights: Tensor, image: Tensor) -> Tensor:
    """Return an image (b, c, h, w) of the other eye's columns, mixed by attention (b, h, w, w)."""
    return (weights @ image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def attention_cycle(attention: list[Attention]) -> Tensor:
    """There and back again must be the identity, where the other eye sees the pixel."""
    total = attention[0].valid_left.new_zeros(())
    for share, found in zip(_SCALE_WEIGHTS, attention, strict=True):
        identity = torch.eye(found.right_to_left.shape[-1], device=total.device, dtype=total.dtype)
        for cycle, valid in ((found.cycle_left, found.valid_left), (found.cycle_right, found.valid_right)):
            total = total + share * ((cycle - identity).abs() * valid.permute(0, 2, 3, 1)).mean()
    return total


def attention_smoothness(attention: list[Attention]) -> Tensor:
    """Attention must not change from row to row, nor, shifted with it, from column to column."""
    total = attention[0].valid_left.new_zeros(())
    for share, found in zip(_SCALE_WEIGHTS, attention, strict=True):
        for weights in (found.right_to_left, found.left_to_right):
            rows = weights.diff(dim=1).abs().mean()
            diagonal = (weights[:, :, :-1, :-1] - weights[:, :, 1:, 1:]).abs().mean()
            total = total + share * (rows + diagonal)
    return total
