"""One optimisation: draw rays, render, compare, step; state that a checkpoint holds whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nerf.compositing import distortion
from nerf.model import Rendered, SceneModel
from nerf.options import NerfOptions
from nerf.sampling import Guide, guided_samples, uniform
from nerf.views import PixelPool

DEPTH_LOSS_BETA = 0.2
# The depth loss ends at this share of its weight: the prior places the surface, then the colours move it.
DEPTH_LOSS_END = 0.1
SATURATED = 0.98
# Tissue is opaque: a ray that nothing stops is wrong, one that is nearly stopped hardly counts (squared).
OPACITY_LOSS_WEIGHT = 0.1
GAP_LOSS_WEIGHT = 0.1
# Holds the lamp near the endoscope's tip against what colours alone could explain as well.
LAMP_LOSS_WEIGHT = 0.05


@dataclass(frozen=True)
class Losses:
    """The parts of the loss of one batch; `psnr` is of the batch's tissue outside highlights."""

    total: Tensor
    colour: Tensor
    depth: Tensor
    psnr: Tensor


class Trainer:
    """Owns the model, the optimiser and the random state."""

    def __init__(self, options: NerfOptions, model: SceneModel, pool: PixelPool, device: torch.device) -> None:
        self.options, self.pool, self.device = options, pool, device
        self.model = model.to(device)
        self.generator = torch.Generator().manual_seed(options.seed)
        self.device_generator = torch.Generator(device).manual_seed(options.seed)
        self.step = 0
        self.lrate = options.lrate or (0.02 if options.field == "planes" else 5e-4)
        light = [model.exposure.log_gain, model.lamp_left, model.radiance.falloff]
        network = [p for p in model.radiance.parameters() if p is not model.radiance.falloff]
        slow = self.lrate * (0.15 if options.field == "planes" else 1.0)
        groups = [
            *model.field.parameter_groups(self.lrate),
            {"params": network, "lr": slow},
            {"params": light, "lr": min(slow, 3e-3)},
        ]
        self.optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15, fused=True)
        self.base_rates = [float(group["lr"]) for group in self.optimiser.param_groups]
        tissue = pool.tissue.half()
        self.uniform_weight, self.guided_weight = tissue, pool.importance * tissue
        known = pool.depth[torch.isfinite(pool.depth)]
        self.median_depth_mm = float(known.median()) if len(known) else model.shape.reference_mm

    def advance(self) -> Losses:
        """Do one step."""
        self._set_rates()
        self.model.sharpen(self.step / self.options.N_iters)
        pixels = self._draw()
        losses = self.losses(pixels)
        self.optimiser.zero_grad(set_to_none=True)
        losses.total.backward()
        self.optimiser.step()
        self.step += 1
        return losses

    def losses(self, pixels: Tensor) -> Losses:
        """Return the losses of a batch of flat pixel indices."""
        target = (self.pool.rgb[pixels].float() / 255.0).to(self.device)
        rendered = self._render(pixels)
        known = torch.isfinite(self.pool.depth[pixels]).to(self.device)
        weight = torch.where(self.pool.highlight[pixels], self.options.highlight_weight, 1.0).to(self.device)
        colour = self._colour_loss(rendered.rgb, target, weight)
        depth = self._depth_loss(rendered, pixels, known)
        hold = DEPTH_LOSS_END ** (self.step / self.options.N_iters)
        total = colour + self.options.depth_loss_weight * hold * depth
        if self.options.distortion_loss_weight > 0:
            scale = torch.tensor(self.model.unit_mm, device=self.device)
            spread = distortion(rendered.geometry.weights, rendered.z, rendered.edges, scale).mean()
            total = total + self.options.distortion_loss_weight * spread
        see_through = (1.0 - rendered.geometry.opacity).square().mean()
        total = total + OPACITY_LOSS_WEIGHT * see_through
        # Far from the surface opacity has no slope any more: the distance itself brings such rays back.
        total = total + GAP_LOSS_WEIGHT * (rendered.geometry.gap / self.model.unit_mm).mean()
        total = total + LAMP_LOSS_WEIGHT * self.model.lamp_shift().square().sum()
        with torch.no_grad():
            plain = ~self.pool.highlight[pixels].to(self.device)
            squared = ((rendered.rgb.clamp(max=1.0) - target) ** 2)[plain].mean()
            psnr = -10.0 * torch.log10(squared.clamp_min(1e-10))
        return Losses(total, colour.detach(), depth.detach(), psnr)

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "device_generator": self.device_generator.get_state(),
            "depth": self.pool.depth,
            "half_width": self.pool.half_width,
            "sigma": self.pool.sigma,
            "confidence": self.pool.confidence,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.device_generator.set_state(state["device_generator"])
        self.pool.depth, self.pool.half_width = state["depth"], state["half_width"]
        self.pool.sigma, self.pool.confidence = state["sigma"], state["confidence"]
        self.step = int(state["step"])

    def _draw(self) -> Tensor:
        guided = round(self.options.mask_guide_sample_rate * self.options.N_rand)
        parts = [self.pool.draw(self.options.N_rand - guided, self.uniform_weight, self.generator)]
        if guided:
            parts.append(self.pool.draw(guided, self.guided_weight, self.generator))
        return torch.cat(parts)

    def _render(self, pixels: Tensor) -> Rendered:
        rays = self.pool.rays(pixels).to(self.device)
        bounds = self.model.box.bounds(rays)
        generator = self.device_generator if self.options.perturb > 0 else None
        guided, free = self.options.sample_counts
        if guided:
            on_host = self.pool.guide(pixels)
            guide = Guide(*(part.to(self.device) for part in (on_host.depth, on_host.sigma, on_host.half_width)))
            z = guided_samples(guide, *bounds, (guided, free), generator)
        else:
            z = uniform(*bounds, free, generator)
        return self.model.render(rays, z, bounds, None)

    def _colour_loss(self, rgb: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        # What the sensor clips is at least as bright as the pixel says: brighter is no error there.
        clipped = (target >= SATURATED) & (rgb > target)
        wanted = torch.where(clipped, rgb.detach(), target)
        per_ray = functional.smooth_l1_loss(rgb, wanted, beta=0.1, reduction="none").sum(-1)
        return (weight * per_ray).mean()

    def _depth_loss(self, rendered: Rendered, pixels: Tensor, known: Tensor) -> Tensor:
        if self.options.depth_loss_weight == 0 or not known.any():
            return torch.zeros((), device=self.device)
        prior = self.pool.depth[pixels].to(self.device)
        confidence = self.pool.confidence[pixels].float().to(self.device)
        residual = (rendered.geometry.depth - prior)[known] / self.median_depth_mm
        per_ray = functional.smooth_l1_loss(
            residual, torch.zeros_like(residual), beta=DEPTH_LOSS_BETA, reduction="none"
        )
        return (confidence[known] * per_ray).mean()

    def _set_rates(self) -> None:
        if self.options.lrate_decay:
            factor = 0.1 ** (self.step / (self.options.lrate_decay * 1000))
        else:
            warm = min(1.0, (self.step + 1) / 50)
            factor = warm * 0.03 ** (self.step / max(self.options.N_iters, 1))
        for group, base in zip(self.optimiser.param_groups, self.base_rates, strict=True):
            group["lr"] = base * factor
