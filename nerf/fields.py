"""The fields: points of the unit box to density and features; one class a kind, one row a kind in `FIELDS`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nerf.plane_lookup import CHANNELS, PlaneLayout
from utils.options import option

# Raw density of an untrained field: nearly empty, so that light reaches every sample and none is born in fog.
EMPTY = -3.0


@dataclass(frozen=True)
class FieldOptions:
    """What the field is made of."""

    field: str = option("planes", "representation of the scene", choices=("planes", "mlp"))
    planes_finest: int = option(512, "largest number of cells along one axis of the finest planes")
    planes_levels: int = option(4, "number of plane resolutions, each half of the next")
    planes_width: int = option(48, "width of the small network behind the planes")
    netdepth: int = option(8, "layers of the mlp field")
    netwidth: int = option(256, "width of the mlp field")
    multires: int = option(10, "frequencies of the position encoding of the mlp field")


class PlaneField(nn.Module):
    """Sums of bilinear features from three axis-aligned planes a level, and a small network for the density.

    The features are composited along the ray and turned into colour once a ray (`deferred`): the network that
    knows about light then runs once a ray and not once a sample.
    """

    deferred = True

    def __init__(self, options: FieldOptions, box_size_mm: tuple[float, float, float], cell_mm: float) -> None:
        super().__init__()
        finest = [min(max(math.ceil(size / cell_mm), 16), options.planes_finest) for size in box_size_mm]
        levels = []
        for level in range(options.planes_levels - 1, -1, -1):
            x, y, z = (max(cells >> level, 4) for cells in finest)
            levels.append((x, y, z))
        self.layout = PlaneLayout(levels)
        self.table = nn.Parameter(torch.empty(self.layout.rows, CHANNELS).uniform_(-0.1, 0.1))
        self.features = len(levels) * CHANNELS
        self.density = nn.Sequential(
            nn.Linear(self.features, options.planes_width), nn.ReLU(), nn.Linear(options.planes_width, 1)
        )

    def forward(self, points_box: Tensor) -> tuple[Tensor, Tensor]:
        """Return raw density (n,) and features (n, features) of points (n, 3) in [-1, 1]."""
        features = self.layout.lookup(self.table, points_box)
        return self.density(features)[:, 0] + EMPTY, features

    def parameter_groups(self, lrate: float) -> list[dict[str, object]]:
        """Return what the optimiser learns at which rate: tables learn faster than networks."""
        return [
            {"params": [self.table], "lr": lrate},
            {"params": list(self.density.parameters()), "lr": lrate * 0.3},
        ]


class MlpField(nn.Module):
    """The 8 x 256 frequency-encoded network of the original radiance field (Mildenhall et al. 2020, fig. 7)."""

    deferred = False
    frequencies: Tensor

    def __init__(self, options: FieldOptions, box_size_mm: tuple[float, float, float], cell_mm: float) -> None:
        super().__init__()
        del box_size_mm, cell_mm
        self.register_buffer("frequencies", 2.0 ** torch.arange(options.multires) * math.pi / 2)
        encoded, width = 3 + 6 * options.multires, options.netwidth
        self.skip = options.netdepth // 2
        sizes = [encoded] + [width] * (options.netdepth - 1)
        sizes = [size + encoded if layer == self.skip else size for layer, size in enumerate(sizes)]
        self.layers = nn.ModuleList(nn.Linear(size, width) for size in sizes)
        self.density = nn.Linear(width, 1)
        self.features = width

    def forward(self, points_box: Tensor) -> tuple[Tensor, Tensor]:
        """Return raw density (n,) and features (n, features) of points (n, 3) in [-1, 1]."""
        angles = (points_box[:, :, None] * self.frequencies).flatten(1)
        encoded = torch.cat([points_box, torch.sin(angles), torch.cos(angles)], dim=1)
        hidden = encoded
        for number, layer in enumerate(self.layers):
            if number == self.skip:
                hidden = torch.cat([hidden, encoded], dim=1)
            hidden = torch.relu(layer(hidden))
        return self.density(hidden)[:, 0] + EMPTY, hidden

    def parameter_groups(self, lrate: float) -> list[dict[str, object]]:
        """Return what the optimiser learns at which rate."""
        return [{"params": list(self.parameters()), "lr": lrate * 0.05}]


Field = PlaneField | MlpField
FIELDS: dict[str, Callable[[FieldOptions, tuple[float, float, float], float], Field]] = {
    "planes": PlaneField,
    "mlp": MlpField,
}
