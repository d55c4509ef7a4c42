"""The scene model: field, radiance, exposure and lamp, and how a batch of rays is rendered through them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nerf.compiled_view import CompiledView
from nerf.compositing import LEAST, Composite, composite, composite_surface, interval_edges
from nerf.fields import FIELDS, FieldOptions, SurfaceField
from nerf.radiance import Exposure, Radiance, RadianceOptions, light_at
from nerf.rays import Box, Rays


@dataclass(frozen=True)
class Shape:
    """What fixes the tensors of a model beside the options: needed to load its weights again."""

    box: Box
    cell_mm: float
    reference_mm: float
    training_positions: tuple[float, ...]
    lamp_start_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Rendered:
    """Colour (n, 3) before clipping at 1, geometry of the rays, and the samples it was made from."""

    rgb: Tensor
    geometry: Composite
    z: Tensor


# Blur of the surface at the start and at the end, as shares of the working distance; the end is reached after
# this share of the training.
BLUR_START, BLUR_END, SHARP_AFTER = 0.003, 0.0007, 0.6

# Until then colours settle on the prior's surface: wrong colours would pull it towards the cameras, where it hides
# what is behind it and stays.
COLOUR_AFTER = 0.25


class SceneModel(nn.Module):
    """All that is learned about a scene. Points and lengths in mm of the world frame."""

    blur_mm: Tensor
    lamp_start: Tensor

    def __init__(self, field: FieldOptions, radiance: RadianceOptions, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.field = FIELDS[field.field](field, shape.box.size_mm, shape.cell_mm)
        self.radiance = Radiance(radiance, self.field.features, shape.reference_mm)
        self.exposure = Exposure(torch.tensor(shape.training_positions))
        self.use_exposure = radiance.exposure
        # In units of the reference distance, so that one learning rate fits every working distance.
        self.lamp_left = nn.Parameter(torch.tensor(shape.lamp_start_mm) / shape.reference_mm)
        self.register_buffer("lamp_start", self.lamp_left.detach().clone(), persistent=False)
        self.unit_mm = 0.01 * shape.reference_mm
        # How blurred the surface is, mm: falls while training (`sharpen`).
        self.register_buffer("blur_mm", torch.tensor(BLUR_START * shape.reference_mm))
        self.box = shape.box
        self.colour_moves_surface = True

    def lamp_shift(self) -> Tensor:
        """Return (3,) how far the lamp has moved from where it started, in units of the working distance."""
        return self.lamp_left - self.lamp_start

    def sharpen(self, progress: float) -> None:
        """Set the blur for a share of the training done: it falls from 0.3 % of the working distance to 0.07 %."""
        self.colour_moves_surface = progress >= COLOUR_AFTER
        done = min(progress / SHARP_AFTER, 1.0)
        self.blur_mm.fill_(self.shape.reference_mm * BLUR_START ** (1.0 - done) * BLUR_END**done)

    def search(self, rays: Rays, z: Tensor, bounds: tuple[Tensor, Tensor]) -> Composite:
        """Return where rays stop, from samples at z-depths (n, s), without their colour."""
        compiled = self._compiled()
        if compiled is not None:
            return compiled.see(rays, z, None)[0]
        return self._composite(rays, z, bounds)[0]

    def render(self, rays: Rays, z: Tensor, bounds: tuple[Tensor, Tensor], gain: Tensor | None) -> Rendered:
        """Render rays through samples at z-depths (n, s); compiled on the CPU where no gradient is asked for.

        Args:
            gain: (n,) exposure of each ray; None: learned gains of the rays' training frames.
        """
        lamp_left = self.lamp_left * self.shape.reference_mm
        lamp = rays.lamp_anchor[:, :, :3] @ lamp_left + rays.lamp_anchor[:, :, 3]
        compiled = self._compiled()
        if compiled is not None:
            found, rgb = compiled.see(rays, z, lamp)
        else:
            found, features = self._composite(rays, z, bounds)
            shade = self._shade_rays if self.field.surface else self._shade_samples
            rgb = shade(rays, found, features, z, lamp)
        if gain is None and self.use_exposure:
            gain = self.exposure(rays.frame)
        return Rendered(rgb if gain is None else rgb * gain[:, None], found, z)

    def _compiled(self) -> CompiledView | None:
        if (
            torch.is_grad_enabled()
            or not isinstance(self.field, SurfaceField)
            or self.blur_mm.device.type != "cpu"
        ):
            return None
        return CompiledView(self.field, self.radiance, self.box, self.unit_mm, float(self.blur_mm))

    def _composite(self, rays: Rays, z: Tensor, bounds: tuple[Tensor, Tensor]) -> tuple[Composite, Tensor]:
        """Return the composite and the features (n * s, f) of samples."""
        points = rays.origins[:, None] + z[..., None] * rays.directions[:, None]
        value, features = self.field(self.box.points(points.reshape(-1, 3)), self.unit_mm)
        if self.field.surface:
            return composite_surface(value.view(z.shape), z, self.blur_mm), features
        edges = interval_edges(z, *bounds)
        return composite(value.view(z.shape), z, edges, rays.direction_norm), features

    def _shade_rays(self, rays: Rays, found: Composite, features: Tensor, z: Tensor, lamp: Tensor) -> Tensor:
        weights = found.weights if self.colour_moves_surface else found.weights.detach()
        # Divided by opacity: a ray that is not quite stopped is no darker, and must not pull the surface forward.
        share = weights / weights.sum(1, keepdim=True).clamp_min(LEAST)
        seen = torch.einsum("rs,rsf->rf", share, features.view(*z.shape, -1))
        # Detached: brightness says little about depth, and before the colours fit it says it wrongly.
        # Nor does it say where the camera stands, where poses are refined.
        origins, directions = rays.origins.detach(), rays.directions.detach()
        surface = origins + found.depth.detach()[:, None] * directions
        return self.radiance(seen, light_at(surface, origins, lamp, rays.normal))

    def _shade_samples(self, rays: Rays, found: Composite, features: Tensor, z: Tensor, lamp: Tensor) -> Tensor:
        points = rays.origins[:, None] + z[..., None] * rays.directions[:, None]
        samples = z.shape[1]
        origins = rays.origins.repeat_interleave(samples, dim=0)
        lamps, normals = (part.repeat_interleave(samples, dim=0) for part in (lamp, rays.normal))
        light = light_at(points.reshape(-1, 3), origins, lamps, normals)
        rgb = self.radiance(features, light).view(*z.shape, 3)
        return (found.weights[..., None] * rgb).sum(1)
