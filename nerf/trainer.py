"""One optimisation: draw rays, render, compare, step; state that a checkpoint holds whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nerf.compiled_step import CompiledStep, LossWeights
from nerf.compositing import distortion, interval_edges
from nerf.model import Rendered, SceneModel
from nerf.options import NerfOptions
from nerf.sampling import Guide, guided_samples, uniform
from nerf.table import OnePassAdam
from nerf.views import PixelPool

DEPTH_LOSS_BETA = 0.2
# The depth loss ends at this share of its weight: the prior places the surface, then the colours move it.
DEPTH_LOSS_END = 0.1
SATURATED = 0.98
# Of Adam: a short memory of squares, for tables whose rows are seen now and then.
BETAS, EPS = (0.9, 0.99), 1e-15
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
        self.lrate = options.lrate or (0.02 if options.surface else 5e-4)
        light = [model.exposure.log_gain, model.lamp_left, model.radiance.falloff]
        tables = model.field.tables
        other = {id(parameter) for parameter in (*light, *tables)}
        networks = [parameter for parameter in model.parameters() if id(parameter) not in other]
        slow = self.lrate * (0.15 if tables else 1.0)
        groups: list[dict[str, Any]] = [
            {"params": tables, "lr": self.lrate},
            {"params": networks, "lr": slow},
            {"params": light, "lr": min(slow, 3e-3)},
        ]
        if self.device.type == "cpu":
            self.optimiser: torch.optim.Optimizer = OnePassAdam(groups, BETAS, EPS)
        else:
            self.optimiser = torch.optim.Adam(groups, betas=BETAS, eps=EPS, fused=True)
        self.base_rates = [float(group["lr"]) for group in self.optimiser.param_groups]
        compiled = self.device.type == "cpu" and model.field.surface and options.distortion_loss_weight == 0
        self.compiled = CompiledStep(self.model, options.N_rand, options.N_samples) if compiled else None
        tissue = pool.tissue.half()
        self.uniform_weight, self.guided_weight = tissue, pool.importance * tissue
        known = pool.depth[torch.isfinite(pool.depth)]
        self.median_depth_mm = float(known.median()) if len(known) else model.shape.reference_mm

    def advance(self) -> Losses:
        """Do one step."""
        self._set_rates()
        self.model.sharpen(self.step / self.options.N_iters)
        pixels = self._draw()
        if self.compiled is not None:
            losses = self._compiled_losses(self.compiled, pixels)
        else:
            losses = self.losses(pixels)
            self.optimiser.zero_grad(set_to_none=False)
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
            edges = interval_edges(rendered.z, *self.model.box.bounds(self.pool.rays(pixels).to(self.device)))
            spread = distortion(rendered.geometry.weights, rendered.z, edges, scale).mean()
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

    def _compiled_losses(self, compiled: CompiledStep, pixels: Tensor) -> Losses:
        """Do what `losses` and its `backward` do."""
        options, model = self.options, self.model
        depth_weight = options.depth_loss_weight * DEPTH_LOSS_END ** (self.step / options.N_iters)
        weights = LossWeights(
            depth_weight,
            OPACITY_LOSS_WEIGHT,
            GAP_LOSS_WEIGHT,
            DEPTH_LOSS_BETA,
            self.median_depth_mm,
            SATURATED,
            options.highlight_weight,
        )
        parts = compiled.run(self.pool, pixels, self._jitter(len(pixels)), weights)
        shift = model.lamp_shift().detach()
        assert model.lamp_left.grad is not None
        model.lamp_left.grad += 2.0 * LAMP_LOSS_WEIGHT * shift
        total = parts["colour"] + depth_weight * parts["depth"] + OPACITY_LOSS_WEIGHT * parts["see_through"]
        total += GAP_LOSS_WEIGHT * parts["gap"] + LAMP_LOSS_WEIGHT * float(shift.square().sum())
        psnr = -10.0 * math.log10(max(parts["squared"], 1e-10))
        depth = parts["depth"] if options.depth_loss_weight > 0 else 0.0
        return Losses(*(torch.tensor(value) for value in (total, parts["colour"], depth, psnr)))

    def _jitter(self, rays: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw what `guided_samples` and `uniform` draw, in their order."""
        guided, free = self.options.sample_counts
        counts = (guided + free, guided, free if guided else 0)
        if self.options.perturb <= 0:
            return tuple(torch.full((rays, count), 0.5) for count in counts)  # type: ignore[return-value]
        return tuple(torch.rand(rays, count, generator=self.device_generator) for count in counts)  # type: ignore[return-value]

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
