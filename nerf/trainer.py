"""One optimisation: draw rays, render, compare, step; state that a checkpoint holds whole."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from nerf.compiled_step import CompiledStep
from nerf.drawing import Drawing
from nerf.losses import (
    GAP_LOSS_WEIGHT,
    LAMP_LOSS_WEIGHT,
    OPACITY_LOSS_WEIGHT,
    Losses,
    LossWeights,
    losses_of,
)
from nerf.model import Rendered, SceneModel
from nerf.options import NerfOptions
from nerf.pose_refinement import PoseCorrections
from nerf.sampling import guided_samples, uniform
from nerf.table import OnePassAdam
from nerf.views import PixelPool

# The depth loss ends at this share of its weight: the prior places the surface, then the colours move it.
DEPTH_LOSS_END = 0.1
# Of Adam: a short memory of squares, for tables whose rows are seen now and then.
BETAS, EPS = (0.9, 0.99), 1e-15
# Of corrections of poses, in radians and working distances. A rig was calibrated: what it learns comes slowly.
POSE_RATE, RIG_RATE = 3e-4, 3e-5
# What a refinement changes in the pool.
REFINED = ("depth", "half_width", "sigma", "confidence")


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
        self.device_pool = pool.to(device)
        self.poses = None
        if options.refine_poses:
            self.poses = PoseCorrections(self.device_pool.cameras, pool.views, model.shape.reference_mm)
            self.poses.to(device)
            groups.append({"params": [self.poses.of_frames], "lr": POSE_RATE})
            groups.append({"params": [self.poses.of_rig], "lr": RIG_RATE})
        if self.device.type == "cpu":
            self.optimiser: torch.optim.Optimizer = OnePassAdam(groups, BETAS, EPS)
        else:
            self.optimiser = torch.optim.Adam(groups, betas=BETAS, eps=EPS, fused=True)
        self.base_rates = [float(group["lr"]) for group in self.optimiser.param_groups]
        compiled = self.device.type == "cpu" and model.field.surface and options.distortion_loss_weight == 0
        self.compiled = CompiledStep(self.model, options.N_rand, options.N_samples) if compiled else None
        tissue = self.device_pool.tissue.half()
        self.uniformly, self.guided = Drawing(tissue), Drawing(self.device_pool.importance * tissue)
        known = pool.depth[pool.some]
        known = known[torch.isfinite(known)]
        self.median_depth_mm = float(known.median()) if len(known) else model.shape.reference_mm

    def advance(self) -> Losses:
        """Do one step."""
        self._set_rates()
        self.model.sharpen(self.step / self.options.N_iters)
        pixels = self._draw()
        if self.poses is not None:
            self.device_pool.cameras = self.poses()
        if self.compiled is not None:
            losses = self._compiled_losses(self.compiled, pixels)
        else:
            losses = self.losses(pixels)
            self.optimiser.zero_grad(set_to_none=False)
            losses.total.backward()
        self.optimiser.step()
        self.step += 1
        return losses

    def take_over_poses(self) -> None:
        """Give the pool the cameras as they are corrected by now."""
        if self.poses is not None:
            with torch.no_grad():
                self.device_pool.cameras = self.poses()
            self.pool.cameras = self.device_pool.cameras.to(torch.device("cpu"))

    def losses(self, pixels: Tensor) -> Losses:
        """Return the losses of a batch of flat pixel indices, differentiable."""
        return losses_of(self._render(pixels), self.model, self.device_pool, pixels, self.loss_weights())

    def loss_weights(self) -> LossWeights:
        """Return what the parts of the loss count at this step."""
        options = self.options
        return LossWeights(
            depth=options.depth_loss_weight * DEPTH_LOSS_END ** (self.step / options.N_iters),
            depth_scale_mm=self.median_depth_mm,
            highlight=options.highlight_weight,
            distortion=options.distortion_loss_weight,
        )

    def _compiled_losses(self, compiled: CompiledStep, pixels: Tensor) -> Losses:
        """Do what `losses` and its `backward` do."""
        weights, model = self.loss_weights(), self.model
        parts = compiled.run(self.pool, pixels, self._jitter(len(pixels)), weights)
        if self.poses is not None:
            cameras = self.pool.cameras
            cameras.world_from_camera.backward(compiled.of_cameras(cameras))
        shift = model.lamp_shift().detach()
        assert model.lamp_left.grad is not None
        model.lamp_left.grad += 2.0 * LAMP_LOSS_WEIGHT * shift
        total = parts["colour"] + weights.depth * parts["depth"] + OPACITY_LOSS_WEIGHT * parts["see_through"]
        total += GAP_LOSS_WEIGHT * parts["gap"] + LAMP_LOSS_WEIGHT * float(shift.square().sum())
        psnr = -10.0 * math.log10(max(parts["squared"], 1e-10))
        return Losses(*(torch.tensor(value) for value in (total, parts["colour"], parts["depth"], psnr)))

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
            "poses": self.poses.state_dict() if self.poses else {},
            "generator": self.generator.get_state(),
            "device_generator": self.device_generator.get_state(),
            **{name: getattr(self.pool, name) for name in REFINED},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.poses is not None:
            self.poses.load_state_dict(state["poses"])
            self.take_over_poses()
        self.generator.set_state(state["generator"])
        self.device_generator.set_state(state["device_generator"])
        for name in REFINED:
            setattr(self.pool, name, state[name].cpu())
        self.pool_changed()
        self.step = int(state["step"])

    def pool_changed(self) -> None:
        """Take over what a refinement has changed in the pool."""
        if self.device_pool is not self.pool:
            for name in REFINED:
                setattr(self.device_pool, name, getattr(self.pool, name).to(self.device))

    def _draw(self) -> Tensor:
        generator = self.generator if self.device.type == "cpu" else self.device_generator
        guided = round(self.options.mask_guide_sample_rate * self.options.N_rand)
        parts = [self.uniformly.draw(self.options.N_rand - guided, generator)]
        if guided:
            parts.append(self.guided.draw(guided, generator))
        return torch.cat(parts)

    def _render(self, pixels: Tensor) -> Rendered:
        rays, guide = self.device_pool.rays(pixels), self.device_pool.guide(pixels)
        # Samples stand where they stand: that a corrected pose would move them says nothing about it.
        with torch.no_grad():
            bounds = self.model.box.bounds(rays)
        generator = self.device_generator if self.options.perturb > 0 else None
        guided, free = self.options.sample_counts
        if guided:
            z = guided_samples(guide, *bounds, (guided, free), generator)
        else:
            z = uniform(*bounds, free, generator)
        return self.model.render(rays, z, bounds, None)

    def _set_rates(self) -> None:
        if self.options.lrate_decay:
            factor = 0.1 ** (self.step / (self.options.lrate_decay * 1000))
        else:
            warm = min(1.0, (self.step + 1) / 50)
            factor = warm * 0.03 ** (self.step / max(self.options.N_iters, 1))
        for group, base in zip(self.optimiser.param_groups, self.base_rates, strict=True):
            group["lr"] = base * factor
