"""Colour under the endoscope's own lamp: albedo-like features, highlights, fall-off with distance, exposure."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from utils.options import option

# Video is gamma-encoded: an inverse square of the distance becomes an exponent of about 2 / 2.2.
FALLOFF_START = 0.9


@dataclass(frozen=True)
class RadianceOptions:
    """What the colour may depend on."""

    lamp: bool = option(True, "light comes from the endoscope: colour depends on the distance to the lamp")
    exposure: bool = option(True, "each frame has its own exposure")
    use_viewdirs: bool = option(True, "colour depends on the direction")
    radiance_width: int = option(64, "width of the network that makes colour")
    lobes: int = option(2, "highlight lobes a point")


@dataclass(frozen=True)
class Light:
    """Where light comes from and goes to, a row a ray or sample: unit vectors from the point, and mm."""

    to_camera: Tensor
    to_lamp: Tensor
    lamp_distance_mm: Tensor
    normal: Tensor


def light_at(points_world: Tensor, camera_world: Tensor, lamp_world: Tensor, normal_world: Tensor) -> Light:
    """Return the light at points (n, 3) with normals (n, 3) seen from cameras (n, 3) under lamps (n, 3), mm."""
    to_camera = functional.normalize(camera_world - points_world, dim=-1)
    lamp = lamp_world - points_world
    distance = lamp.norm(dim=-1).clamp_min(1e-3)
    return Light(to_camera, lamp / distance[:, None], distance, normal_world)


class Radiance(nn.Module):
    """Features and light to RGB.

    rgb = (reference / distance)^p * (body(features, h) + sum_k a_k exp(s_k (q_k . h - 1))), h the half-vector
    between camera and lamp: a highlight is a spherical Gaussian around the direction q_k that mirrors the lamp,
    which is the surface's normal but for what the features know of its bumps.
    Without the lamp p = 0 and h is the direction to the camera.
    """

    def __init__(self, options: RadianceOptions, features: int, reference_mm: float) -> None:
        super().__init__()
        self.options, self.reference_mm = options, reference_mm
        width = options.radiance_width
        self.trunk, self.body, self.colour = (
            nn.Linear(features, width), nn.Linear(width + 4, width), nn.Linear(width, 3)
        )  # fmt: skip
        self.highlights = nn.Linear(width, options.lobes * 5)
        self.falloff = nn.Parameter(torch.tensor(FALLOFF_START))

    @property
    def has_highlights(self) -> bool:
        """Whether highlight lobes are part of the colour."""
        return self.options.use_viewdirs and self.options.lobes > 0

    def forward(self, features: Tensor, light: Light) -> Tensor:
        """Return (n, 3) RGB, not negative; above 1 is saturated."""
        hidden = torch.relu(self.trunk(features))
        half = light.to_camera
        if self.options.lamp:
            half = functional.normalize(light.to_camera + light.to_lamp, dim=-1)
        if not self.options.use_viewdirs:
            half = torch.zeros_like(half)
        facing = (half * light.normal).sum(-1, keepdim=True)
        body = torch.relu(self.body(torch.cat([hidden, half, facing], dim=-1)))
        rgb = functional.softplus(self.colour(body))
        if self.has_highlights:
            rgb = rgb + self._highlight(hidden, half, light.normal)
        if self.options.lamp:
            rgb = rgb * (self.reference_mm / light.lamp_distance_mm[:, None]) ** self.falloff
        return rgb

    def _highlight(self, hidden: Tensor, half: Tensor, normal: Tensor) -> Tensor:
        lobes = self.highlights(hidden).view(len(hidden), self.options.lobes, 5)
        axis = functional.normalize(normal[:, None] + 0.3 * lobes[..., :3] + 1e-4, dim=-1)
        sharpness = 20.0 + 80.0 * functional.softplus(lobes[..., 3])
        cosine = (axis * half[:, None]).sum(-1)
        strength = functional.softplus(lobes[..., 4] - 2.0)
        return (strength * torch.exp(sharpness * (cosine - 1.0))).sum(-1, keepdim=True)


class Exposure(nn.Module):
    """One gain a frame; solved for on the training frames, interpolated along the sequence for the others."""

    positions: Tensor

    def __init__(self, training_positions: Tensor) -> None:
        """`training_positions` (t,): places of the training frames in the sequence, ascending."""
        super().__init__()
        self.register_buffer("positions", training_positions.float())
        self.log_gain = nn.Parameter(torch.zeros(len(training_positions)))

    def forward(self, training_frame: Tensor) -> Tensor:
        """Return the gain (n,) of training frames (n,), numbered as in `training_positions`; their mean is one."""
        return torch.exp((self.log_gain - self.log_gain.mean())[training_frame])

    @torch.no_grad()
    def gain_at(self, position: float) -> float:
        """Return the gain at a place in the sequence: linear between its neighbours, constant past the ends."""
        gains = (self.log_gain - self.log_gain.mean()).cpu()
        positions = self.positions.cpu()
        after = int(torch.searchsorted(positions, torch.tensor(position)))
        if after == 0 or after == len(positions):
            return float(gains[min(after, len(positions) - 1)].exp())
        before = after - 1
        share = (position - float(positions[before])) / float(positions[after] - positions[before])
        return float(((1 - share) * gains[before] + share * gains[after]).exp())
