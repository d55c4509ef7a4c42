"""Where along a ray to look: truncated-normal samples around a depth prior, and uniform ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nerf.sampling_kernel import sample_rays
from utils.compiled import share


@dataclass(frozen=True)
class Guide:
    """The depth prior of a batch of rays, all (rays,): z-depth, its standard deviation, and the half-width
    at which the normal is cut, mm. NaN depth: nothing is known on this ray."""

    depth: Tensor
    sigma: Tensor
    half_width: Tensor


def normal_cdf(x: Tensor) -> Tensor:
    """Return the standard normal distribution function."""
    return 0.5 * torch.erfc(-x * 0.7071067811865476)


def stratified(rays: int, samples: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return (rays, samples) numbers in (0, 1), one in each of `samples` equal strata.

    Without a generator each is the middle of its stratum: rendering draws nothing.
    """
    strata = torch.arange(samples, device=like.device, dtype=like.dtype)
    if generator is None:
        return ((strata + 0.5) / samples).expand(rays, samples)
    jitter = torch.rand(rays, samples, device=like.device, dtype=like.dtype, generator=generator)
    return (strata + jitter) / samples


def truncated_normal(guide: Guide, samples: int, generator: torch.Generator | None) -> Tensor:
    """Draw (rays, samples) z-depths ~ N(depth, sigma) cut at depth ± half_width, by inverting the CDF.

    Each stratum of the CDF gives one sample, so the set follows the distribution even when it is small. Cut
    at two sigma the mean is `depth` and the spread 0.88 sigma.
    """
    u = stratified(len(guide.depth), samples, guide.depth, generator)
    cut = guide.half_width / guide.sigma
    tail = normal_cdf(-cut)[:, None]
    inside = tail + u * (1.0 - 2.0 * tail)
    standard = 1.4142135623730951 * torch.erfinv((2.0 * inside - 1.0).clamp(-0.999999, 0.999999))
    return guide.depth[:, None] + guide.sigma[:, None] * torch.maximum(
        torch.minimum(standard, cut[:, None]), -cut[:, None]
    )


def uniform(near: Tensor, far: Tensor, samples: int, generator: torch.Generator | None) -> Tensor:
    """Draw (rays, samples) z-depths, stratified uniformly between `near` and `far` (rays,)."""
    u = stratified(len(near), samples, near, generator)
    return near[:, None] + u * (far - near)[:, None]


def free_samples(
    guide: Guide, near: Tensor, far: Tensor, samples: int, generator: torch.Generator | None
) -> Tensor:
    """Draw (rays, samples) z-depths over the whole ray, denser towards the prior: half in front, half behind.

    The distance beyond the prior's half-width is log-uniform, so that every scale of error is looked at as often
    as any other: uniform samples would leave the first millimetres around a surface, where fog gathers, to chance.
    """
    u = stratified(len(near), samples, near, generator)
    behind = 2.0 * u - 1.0
    reach = torch.where(behind > 0, (far - guide.depth)[:, None], (guide.depth - near)[:, None])
    start = guide.half_width[:, None]
    distance = start * torch.exp(behind.abs() * torch.log((reach / start).clamp_min(1.0)))
    return guide.depth[:, None] + torch.sign(behind) * torch.minimum(distance, reach.clamp_min(0.0))


def guided_samples(
    guide: Guide, near: Tensor, far: Tensor, counts: tuple[int, int], generator: torch.Generator | None
) -> Tensor:
    """Return (rays, guided + free) sorted z-depths: guided by the prior, plus a free share over the whole ray.

    Args:
        guide: the prior; rays where its depth is NaN get only uniform samples.
        near: (rays,) where the ray enters the scene's box; `far` where it leaves it.
        counts: number of guided and of free samples.
    """
    if generator is None and near.device.type == "cpu":
        return _middles(guide, near, far, counts)
    return guided_samples_plainly(guide, near, far, counts, generator)


def _middles(guide: Guide, near: Tensor, far: Tensor, counts: tuple[int, int]) -> Tensor:
    """Return the samples in the middle of their strata, compiled."""
    guided, free = counts
    z = torch.empty(len(near), guided + free)
    jitter = tuple(np.full((1, count), 0.5, np.float32) for count in (guided + free, guided, free))
    parts = (guide.depth, guide.sigma, guide.half_width, near, far)
    share(sample_rays, len(near), *(part.contiguous().numpy() for part in parts), jitter, z.numpy())
    return z


def guided_samples_plainly(
    guide: Guide, near: Tensor, far: Tensor, counts: tuple[int, int], generator: torch.Generator | None
) -> Tensor:
    """Do what `guided_samples` does with operations of torch: any device."""
    guided, free = counts
    everywhere = uniform(near, far, guided + free, generator)
    known = torch.isfinite(guide.depth)
    depth = torch.where(known, guide.depth, near)
    filled = Guide(depth, torch.where(known, guide.sigma, 1.0), torch.where(known, guide.half_width, 1.0))
    around = truncated_normal(filled, guided, generator)
    parts = [around, free_samples(filled, near, far, free, generator)] if free else [around]
    z = torch.where(known[:, None], torch.cat(parts, dim=1), everywhere)
    return torch.sort(torch.maximum(torch.minimum(z, far[:, None]), near[:, None]), dim=1).values
