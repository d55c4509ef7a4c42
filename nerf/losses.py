"""The loss of a batch of rays, with operations of torch: on any device, and the slow twin of the compiled step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from nerf.compositing import distortion, interval_edges
from nerf.model import Rendered, SceneModel
from nerf.views import PixelPool

COLOUR_BETA, DEPTH_BETA = 0.1, 0.2
SATURATED = 0.98
# Tissue is opaque: a ray that nothing stops is wrong, one that is nearly stopped hardly counts (squared).
OPACITY_LOSS_WEIGHT = 0.1
GAP_LOSS_WEIGHT = 0.1
# Holds the lamp near the endoscope's tip against what colours alone could explain as well.
LAMP_LOSS_WEIGHT = 0.05


@dataclass(frozen=True)
class LossWeights:
    """What the depth loss, highlights in the colour loss, and spread-out weights count; the unit of depths, mm."""

    depth: float
    depth_scale_mm: float
    highlight: float = 1.0
    distortion: float = 0.0


@dataclass(frozen=True)
class Losses:
    """The parts of the loss of one batch; `psnr` is of the batch's tissue outside highlights."""

    total: Tensor
    colour: Tensor
    depth: Tensor
    psnr: Tensor


def losses_of(
    rendered: Rendered, model: SceneModel, pool: PixelPool, pixels: Tensor, weights: LossWeights
) -> Losses:
    """Return the losses of rendered rays of flat pixel indices (n,), on the pool's device.

    Nothing here waits for a GPU: pixels that do not count are weighed with nought, not left out.
    """
    target, highlight = pool.rgb[pixels].float() / 255.0, pool.highlight[pixels]
    geometry = rendered.geometry
    colour = colour_loss(rendered.rgb, target, torch.where(highlight, weights.highlight, 1.0))
    depth = _depth_loss(geometry.depth, pool.depth[pixels], pool.confidence[pixels].float(), weights)
    total = colour + weights.depth * depth
    if weights.distortion > 0:
        edges = interval_edges(rendered.z, *model.box.bounds(pool.rays(pixels)))
        spread = distortion(geometry.weights, rendered.z, edges, model.unit_mm)
        total = total + weights.distortion * spread.mean()
    total = total + OPACITY_LOSS_WEIGHT * (1.0 - geometry.opacity).square().mean()
    # Far from the surface opacity has no slope any more: the distance itself brings such rays back.
    total = total + GAP_LOSS_WEIGHT * (geometry.gap / model.unit_mm).mean()
    total = total + LAMP_LOSS_WEIGHT * model.lamp_shift().square().sum()
    with torch.no_grad():
        squared = (rendered.rgb.clamp(max=1.0) - target) ** 2
        plain = (squared * ~highlight[:, None]).sum() / (3 * (~highlight).sum())
        psnr = -10.0 * torch.log10(plain.clamp_min(1e-10))
    return Losses(total, colour.detach(), depth.detach(), psnr)


def colour_loss(rgb: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the robust colour loss of rays: colours and targets (n, 3) in [0, 1], weights (n,)."""
    # What the sensor clips is at least as bright as the pixel says: brighter is no error there.
    clipped = (target >= SATURATED) & (rgb > target)
    wanted = torch.where(clipped, rgb.detach(), target)
    per_ray = functional.smooth_l1_loss(rgb, wanted, beta=COLOUR_BETA, reduction="none").sum(-1)
    return (weight * per_ray).mean()


def _depth_loss(depth: Tensor, prior: Tensor, confidence: Tensor, weights: LossWeights) -> Tensor:
    known = torch.isfinite(prior)
    residual = torch.where(known, depth - prior, 0.0) / weights.depth_scale_mm
    per_ray = functional.smooth_l1_loss(residual, torch.zeros_like(residual), beta=DEPTH_BETA, reduction="none")
    return torch.where(known, confidence * per_ray, 0.0).sum() / known.sum().clamp_min(1)
