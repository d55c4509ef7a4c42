"""Volume rendering: densities or signed distances along rays to weights, depth, spread and opacity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Opacity below which nothing was seen.
LEAST = 1e-6


@dataclass(frozen=True)
class Composite:
    """What a ray sees.

    `weights` (rays, samples) sum to `opacity` (rays,); `depth` is the expected z-depth divided by opacity,
    `median` the z-depth where half of the opacity is reached, `spread` the standard deviation of z-depth. `gap`
    (rays,) is by how many mm a surface was missed: its smallest signed distance, 0 where a sample lies behind it
    and for densities.
    """

    weights: Tensor
    opacity: Tensor
    depth: Tensor
    median: Tensor
    spread: Tensor
    gap: Tensor


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


def composite(density: Tensor, z: Tensor, edges: Tensor, direction_norm: Tensor) -> Composite:
    """Integrate densities along rays.

    Args:
        density: (rays, samples) per mm of ray length, not negative.
        z: (rays, samples) sorted z-depths of the samples, mm.
        edges: (rays, samples + 1) borders of their pieces, mm of z-depth.
        direction_norm: (rays,) length of the ray directions with z = 1: a step of z-depth is that much longer.

    alpha = 1 - exp(-density dz |d|), w_i = alpha_i prod_{j<i} (1 - alpha_j)  (Mildenhall et al. 2020, eq. 3).
    """
    optical = density * (edges[:, 1:] - edges[:, :-1]) * direction_norm[:, None]
    before = functional.pad(torch.cumsum(optical, dim=1)[:, :-1], (1, 0))
    return _summary(torch.exp(-before) * -torch.expm1(-optical), z, torch.zeros_like(z[:, 0]))


def composite_surface(distance: Tensor, z: Tensor, blur: Tensor) -> Composite:
    """Integrate a surface given by signed distances at samples.

    Light passes a point with signed distance s in front of the surface with Phi(s) = 1 / (1 + exp(-s / blur));
    alpha of the piece between two samples is max((Phi_i - Phi_i+1) / Phi_i, 0)  (Wang et al. 2021, eq. 13).
    Between samples the distance is taken as linear, and a piece's weight is shared between its two ends so that
    their mean is where its light stops: the surface is found between samples, not at one of them.

    Args:
        distance: (rays, samples) mm, positive in front of the surface.
        z: (rays, samples) sorted z-depths of the samples, mm.
        blur: () scale of the logistic function, mm.
    """
    s = distance / blur
    passed = functional.logsigmoid(s)
    drop = (passed[:, :-1] - passed[:, 1:]).clamp_min(0.0)
    alpha = -torch.expm1(-drop)
    survived = functional.pad(torch.cumsum(drop, dim=1)[:, :-1], (1, 0))
    piece = torch.exp(-survived) * alpha
    share = _stopping_share(s)
    nothing = torch.zeros_like(piece[:, :1])
    weights = torch.cat([piece * (1.0 - share), nothing], dim=1) + torch.cat([nothing, piece * share], dim=1)
    return _summary(weights, z, distance.amin(dim=1).clamp_min(0.0))


def _stopping_share(s: Tensor) -> Tensor:
    """Return (rays, samples - 1) where light stops on average between two samples, 0 at the first, 1 at the next.

    For Phi of a linear s from a to b: (Phi(b) - (softplus(b) - softplus(a)) / (b - a)) / (Phi(b) - Phi(a)).
    """
    a, b = s[:, :-1], s[:, 1:]
    step = a - b
    # Where the distance does not fall nothing stops, and where it hardly falls the middle is exact enough.
    falls = step > 0.1
    span = torch.where(falls, step, torch.ones_like(step))
    mean_passed = (functional.softplus(a) - functional.softplus(b)) / span
    stopped = torch.sigmoid(a) - torch.sigmoid(b)
    share = (mean_passed - torch.sigmoid(b)) / torch.where(stopped > 1e-6, stopped, torch.ones_like(stopped))
    return torch.where(falls & (stopped > 1e-6), share.clamp(0.0, 1.0), torch.full_like(share, 0.5))


def _summary(weights: Tensor, z: Tensor, gap: Tensor) -> Composite:
    opacity = weights.sum(1)
    safe = opacity.clamp_min(LEAST)
    depth = (weights * z).sum(1) / safe
    variance = (weights * (z - depth[:, None]) ** 2).sum(1) / safe
    spread = variance.clamp_min(1e-12).sqrt()
    return Composite(weights, opacity, depth, _median(weights, opacity, z), spread, gap)


def _median(weights: Tensor, opacity: Tensor, z: Tensor) -> Tensor:
    with torch.no_grad():
        reached = torch.cumsum(weights, dim=1) >= 0.5 * opacity[:, None]
        return z.gather(1, reached.float().argmax(dim=1, keepdim=True))[:, 0]


def distortion(weights: Tensor, z: Tensor, edges: Tensor, scale: float | Tensor) -> Tensor:
    """Return (rays,) how spread out the weights are (Barron et al. 2022, eq. 15), lengths divided by `scale`.

    sum_ij w_i w_j |z_i - z_j| + 1/3 sum_i w_i^2 dz_i, the double sum in linear time over sorted samples.
    """
    total, first_moment = torch.cumsum(weights, 1), torch.cumsum(weights * z, 1)
    pairs = 2 * (weights * (z * (total - weights) - (first_moment - weights * z))).sum(1)
    own = (weights**2 * (edges[:, 1:] - edges[:, :-1])).sum(1) / 3
    return (pairs + own) / scale
