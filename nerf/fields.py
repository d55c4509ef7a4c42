"""The fields: points of the unit box to geometry and features; one class a kind, one row a kind in `FIELDS`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from nerf.plane_lookup import CHANNELS, PlaneLayout
from utils.options import option
from utils.types import FloatArray

# Raw density of an untrained mlp: nearly empty, so that light reaches every sample and none is born in fog.
EMPTY = -3.0
# Cells along x and y of the height map that a plane field starts from.
BASE_CELLS = 192


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
    """A surface in three axis-aligned feature planes a level: its signed distance, and features of its colour.

    The distance is that of a height map over the box's x and y, put there from the prior before training, plus
    what a small network makes of the planes' features. Features are composited along the ray and turned into
    colour once a ray (`deferred`): the network that knows about light runs once a ray, not once a sample.
    """

    deferred = True
    surface = True
    base: Tensor

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
        self.geometry = nn.Sequential(
            nn.Linear(self.features, options.planes_width), nn.ReLU(), nn.Linear(options.planes_width, 1)
        )
        self.depth_mm = box_size_mm[2]
        self.register_buffer("base", torch.zeros(1, 1, BASE_CELLS, BASE_CELLS))

    def forward(self, points_box: Tensor, unit_mm: float) -> tuple[Tensor, Tensor]:
        """Return signed distance (n,) mm and features (n, features) of points (n, 3) in [-1, 1]."""
        features = self.layout.lookup(self.table, points_box)
        where = points_box[None, :, None, :2]
        height = functional.grid_sample(self.base, where, align_corners=True, padding_mode="border")[0, 0, :, 0]
        in_front_mm = (height - points_box[:, 2]) * (0.5 * self.depth_mm)
        return in_front_mm + unit_mm * self.geometry(features)[:, 0], features

    def start_from(self, points_box: Tensor) -> None:
        """Put the starting surface through points (n, 3) of the prior, box coordinates."""
        self.base.copy_(height_map(points_box.cpu().numpy()).to(self.base))

    def parameter_groups(self, lrate: float) -> list[dict[str, object]]:
        """Return what the optimiser learns at which rate: tables learn faster than networks."""
        return [
            {"params": [self.table], "lr": lrate},
            {"params": list(self.geometry.parameters()), "lr": lrate * 0.15},
        ]


def height_map(points_box: FloatArray) -> Tensor:
    """Return (1, 1, cells, cells): smooth median z of points (n, 3) over x and y, in box coordinates."""
    cell = np.rint((points_box[:, :2].clip(-1, 1) + 1.0) * 0.5 * (BASE_CELLS - 1)).astype(int)
    key = cell[:, 1] * BASE_CELLS + cell[:, 0]
    order = np.lexsort((points_box[:, 2], key))
    present, first, count = np.unique(key[order], return_index=True, return_counts=True)
    heights = np.full(BASE_CELLS * BASE_CELLS, np.nan)
    heights[present] = points_box[order, 2][first + count // 2]
    grid = heights.reshape(BASE_CELLS, BASE_CELLS)
    known = np.isfinite(grid)
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    smooth = ndimage.gaussian_filter(grid[tuple(nearest)], 1.0, mode="nearest")
    return torch.from_numpy(smooth.astype(np.float32))[None, None]


class MlpField(nn.Module):
    """The 8 x 256 frequency-encoded network of the original radiance field (Mildenhall et al. 2020, fig. 7)."""

    deferred = False
    surface = False
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

    def forward(self, points_box: Tensor, unit_mm: float) -> tuple[Tensor, Tensor]:
        """Return density (n,) per mm and features (n, features) of points (n, 3) in [-1, 1]."""
        angles = (points_box[:, :, None] * self.frequencies).flatten(1)
        encoded = torch.cat([points_box, torch.sin(angles), torch.cos(angles)], dim=1)
        hidden = encoded
        for number, layer in enumerate(self.layers):
            if number == self.skip:
                hidden = torch.cat([hidden, encoded], dim=1)
            hidden = torch.relu(layer(hidden))
        raw = self.density(hidden)[:, 0] + EMPTY
        return torch.exp(raw.clamp(-12.0, 8.0)) / unit_mm, hidden

    def start_from(self, points_box: Tensor) -> None:
        """Do nothing: this field starts empty."""

    def parameter_groups(self, lrate: float) -> list[dict[str, object]]:
        """Return what the optimiser learns at which rate."""
        return [{"params": list(self.parameters()), "lr": lrate}]


Field = PlaneField | MlpField
FIELDS: dict[str, Callable[[FieldOptions, tuple[float, float, float], float], Field]] = {
    "planes": PlaneField,
    "mlp": MlpField,
}
