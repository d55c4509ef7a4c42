"""A training step on the CPU without autograd: one compiled pass over the rays, not hundreds of small ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nerf.colour_kernel import Lights, OfLights, OfRadiance
from nerf.field_kernel import Array, OfGeometry
from nerf.fields import SurfaceField
from nerf.kernel_inputs import array_of, geometry_of, layers_of, networks
from nerf.losses import DEPTH_BETA, GAP_LOSS_WEIGHT, OPACITY_LOSS_WEIGHT, SATURATED, LossWeights
from nerf.model import SceneModel
from nerf.pose_kernel import pull_cameras
from nerf.ray_batch import RayBatch
from nerf.ray_kernel import COLOUR, COUNTED, DEPTH, GAP, LANES, SQUARED, SUMS, THROUGH, Settings, step_rays
from nerf.rays import PRIOR, Cameras
from nerf.table import gradient_of
from nerf.views import PixelPool
from utils.compiled import share

# Samples of a smaller share of their ray, and of its steepest slope, are left out on the way back.
ASLEEP = 0.003


class CompiledStep:
    """Room for the steps of one training. Their gradients are those that autograd gives, but for rounding."""

    def __init__(self, model: SceneModel, rays: int, samples: int) -> None:
        if not isinstance(model.field, SurfaceField):
            raise TypeError(f"no compiled step for {type(model.field).__name__}")
        self.model, self.field = model, model.field
        self.asleep = ASLEEP
        self.batch = RayBatch(rays, samples)
        self.features = torch.empty(rays * samples, self.field.features)
        self.of_features, self.of_front = torch.empty_like(self.features), np.empty(rays * samples, np.float32)

    def run(
        self, pool: PixelPool, pixels: Tensor, jitter: tuple[Tensor, Tensor, Tensor], weights: LossWeights
    ) -> dict[str, float]:
        """Compute losses and gradients of flat pixel indices (n,); gradients go to `.grad` of all parameters.

        Args:
            jitter: places of uniform, guided and free samples in their strata, see `RayBatch.fill`.

        Returns:
            The parts of the loss, unweighted: colour, depth, see_through, gap; and `squared`, the mean squared
            error outside highlights.
        """
        model, field, batch = self.model, self.field, self.batch
        batch.fill(pool, model.box, field, pixels, jitter, weights.highlight)
        features, points = self.features.numpy(), batch.points.numpy()
        field.layout.gather(array_of(field.table), points, features)
        known = int(np.isfinite(batch.record[:, PRIOR]).sum())
        lights, geometry, layers = self._lights(pool.cameras), geometry_of(field), layers_of(model.radiance)
        of_geometry = OfGeometry(*_lanes([part.shape for part in geometry[1:]]))
        of_layers = OfRadiance(*_lanes([getattr(layers, name).shape for name in OfRadiance._fields]))
        of_lights = OfLights(*_lanes((lights.lamp.shape, lights.gain.shape, (1,))))
        sums = np.zeros((LANES, SUMS))
        share(
            step_rays, LANES,
            features, batch.front, batch.z, batch.record, batch.view,
            lights, geometry, layers, self._settings(weights, known),
            self.of_features.numpy(), self.of_front, of_geometry, of_layers, of_lights, sums,
        )  # fmt: skip
        field.layout.scatter(self.of_features.numpy(), points, gradient_of(field.table))
        self._give(of_geometry, of_layers)
        self._give_light(pool.cameras, of_lights)
        total = sums.sum(0)
        return {
            "colour": float(total[COLOUR]),
            "depth": float(total[DEPTH]) / max(known, 1),
            "see_through": float(total[THROUGH]),
            "gap": float(total[GAP]),
            "squared": float(total[SQUARED] / (3.0 * total[COUNTED])) if total[COUNTED] else float("nan"),
        }

    def of_cameras(self, cameras: Cameras) -> Tensor:
        """Return the gradients (v, 3, 4) of the cameras' `world_from_camera` in the batch that was run last.

        Light is left out: where it falls says little about where a camera stands.
        """
        batch, field, box = self.batch, self.field, self.model.box
        points, of_points = batch.points.numpy(), np.empty(batch.points.shape, np.float32)
        field.layout.slopes(array_of(field.table), points, self.of_features.numpy(), of_points)
        poses = array_of(cameras.world_from_camera)
        found = np.zeros((LANES, *poses.shape))
        share(
            pull_cameras, LANES,
            points, of_points, self.of_front, batch.z, batch.record, batch.view, field.base[0, 0].numpy(),
            (box.box_from_world.numpy(), float(box.size_mm[2])), np.ascontiguousarray(poses[:, :, :3]), found,
        )  # fmt: skip
        return torch.from_numpy(found.sum(0).astype(np.float32))

    def _settings(self, weights: LossWeights, known: int) -> Settings:
        model, options = self.model, self.model.radiance.options
        return Settings(
            blur=float(model.blur_mm),
            unit=model.unit_mm,
            moves=model.colour_moves_surface,
            lit=options.lamp,
            turned=options.use_viewdirs,
            depth_weight=weights.depth / max(known, 1),
            through_weight=OPACITY_LOSS_WEIGHT,
            gap_weight=GAP_LOSS_WEIGHT,
            scale=weights.depth_scale_mm,
            beta=DEPTH_BETA,
            reference=model.shape.reference_mm,
            full=SATURATED,
            asleep=self.asleep,
        )

    def _lights(self, cameras: Cameras) -> Lights:
        model = self.model
        anchor = array_of(cameras.world_from_left)
        lamp = (
            anchor[:, :, :3] @ (array_of(model.lamp_left) * np.float32(model.shape.reference_mm)) + anchor[:, :, 3]
        )
        gain = np.ones(len(anchor), np.float32)
        if model.use_exposure:
            gain = model.exposure(cameras.frame).detach().numpy()
        return Lights(np.ascontiguousarray(lamp), gain, float(model.radiance.falloff.detach()))

    def _give(self, of_geometry: OfGeometry, of_layers: OfRadiance) -> None:
        hidden, out = self.field.hidden, self.field.distance
        parameters = [hidden.weight, hidden.bias, out.weight, out.bias]
        for layer in networks(self.model.radiance):
            parameters += [layer.weight, layer.bias]
        for parameter, gradient in zip(parameters, (*of_geometry, *of_layers), strict=True):
            if gradient.size:
                _set(parameter, gradient.sum(0))

    def _give_light(self, cameras: Cameras, of_lights: OfLights) -> None:
        model = self.model
        if model.radiance.options.lamp:
            anchor = cameras.world_from_left.numpy()[:, :, :3]
            of_left = np.einsum("vab,lva->b", anchor, of_lights.lamp) * model.shape.reference_mm
            _set(model.radiance.falloff, of_lights.exponent.sum())
        else:
            of_left = np.zeros(3)
        _set(model.lamp_left, of_left)
        if model.use_exposure:
            of_view = of_lights.log_gain.sum(0)
            of_frame = np.bincount(cameras.frame.numpy(), of_view, len(model.exposure.log_gain))
            _set(model.exposure.log_gain, of_frame - of_frame.mean())


def _lanes(shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    return [np.zeros((LANES, *shape), np.float32) for shape in shapes]


def _set(parameter: Tensor, gradient: Any) -> None:
    gradient_of(parameter)[...] = np.reshape(gradient, parameter.shape)
