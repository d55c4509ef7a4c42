"""Volume rendering: densities along rays to weights, depth, spread and opacity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Composite:
    """What a ray sees.

    `weights` (rays, samples) sum to `opacity` (rays,); `depth` is the expected z-depth divided by opacity,
    `median` the z-depth where half of the opacity is reached, `spread` the standard deviation of z-depth.
    """

    weights: Tensor
    opacity: Tensor
    depth: Tensor
    median: Tensor
    spread: Tensor


def interval_edges(z: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """Return (rays, samples + 1) borders of the piece of ray that each sorted sample stands for.

    Pieces meet half-way between samples, so that a sample lies inside its piece and the expected depth is not
    pulled towards the camera. The outer pieces are as wide on both sides of their sample as the inner gap,
    and end at `near` and `far` (rays,).
    """
    middle = 0.5 * (z[:, 1:] + z[:, :-1])
    first = torch.maximum(z[:, :1] - (middle[:, :1] - z[:, :1]), near[:, None])
    last = torch.minimum(z[:, -1:] + (z[:, -1:] - middle[:, -1:]), far[:, None])
    return torch.cat([first, middle, torch.maximum(last, middle[:, -1:])], dim=1)


def composite(density: Tensor, edges: Tensor, direction_norm: Tensor) -> Composite:
    """Integrate densities along rays.

    Args:
        density: (rays, samples) per mm of ray length, not negative.
        edges: (rays, samples + 1) borders of the samples' pieces, mm of z-depth.
        direction_norm: (rays,) length of the ray directions with z = 1: a step of z-depth is that much longer.

    alpha = 1 - exp(-density dz |d|), w_i = alpha_i prod_{j<i} (1 - alpha_j)  (Mildenhall et al. 2020, eq. 3).
    """
    length = edges[:, 1:] - edges[:, :-1]
    optical = density * length * direction_norm[:, None]
    before = torch.cumsum(optical, dim=1) - optical
    weights = torch.exp(-before) * -torch.expm1(-optical)
    opacity = weights.sum(1)
    safe = opacity.clamp_min(1e-6)
    stops = edges[:, :-1] + length * stopping_place(optical)
    depth = (weights * stops).sum(1) / safe
    variance = (weights * (stops - depth[:, None]) ** 2).sum(1) / safe
    return Composite(weights, opacity, depth, _median(weights, opacity, stops), variance.clamp_min(1e-12).sqrt())


def stopping_place(optical: Tensor) -> Tensor:
    """Return where in a piece of constant density light stops on average, as a share of its length.

    1 / t - 1 / (exp(t) - 1) for optical depth t: one half in thin pieces, the front in opaque ones. Without it
    the depth of a surface depends on how densely it is sampled.
    """
    safe = optical.clamp_min(0.05)
    exact = 1.0 / safe - 1.0 / torch.expm1(safe.clamp_max(60.0))
    return torch.where(optical < 0.05, 0.5 - optical / 12.0, exact)


def _median(weights: Tensor, opacity: Tensor, z: Tensor) -> Tensor:
    with torch.no_grad():
        reached = torch.cumsum(weights, dim=1) >= 0.5 * opacity[:, None]
        return z.gather(1, reached.float().argmax(dim=1, keepdim=True))[:, 0]


def distortion(weights: Tensor, z: Tensor, edges: Tensor, scale: Tensor) -> Tensor:
    """Return (rays,) how spread out the weights are (Barron et al. 2022, eq. 15), lengths divided by `scale`.

    sum_ij w_i w_j |z_i - z_j| + 1/3 sum_i w_i^2 dz_i, the double sum in linear time over sorted samples.
    """
    total, first_moment = torch.cumsum(weights, 1), torch.cumsum(weights * z, 1)
    pairs = 2 * (weights * (z * (total - weights) - (first_moment - weights * z))).sum(1)
    own = (weights**2 * (edges[:, 1:] - edges[:, :-1])).sum(1) / 3
    return (pairs + own) / scale
