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

from nerf.hash_lookup import HashLayout
from nerf.plane_lookup import PlaneLayout
from nerf.table import Layout
from utils.options import option
from utils.types import FloatArray

# Raw density of an untrained mlp: nearly empty, so that light reaches every sample and none is born in fog.
EMPTY = -3.0
# Cells along x and y of the height map that a surface starts from.
BASE_CELLS = 192


@dataclass(frozen=True)
class FieldOptions:
    """What the field is made of."""

    field: str = option("planes", "representation of the scene", choices=("planes", "hash", "mlp"))
    planes_finest: int = option(512, "largest number of cells along one axis of the finest planes")
    planes_levels: int = option(4, "number of plane resolutions, each half of the next")
    planes_width: int = option(48, "width of the small network behind the planes")
    hash_finest: int = option(512, "largest number of cells along one axis of the finest hashed grid")
    hash_levels: int = option(8, "number of hashed grids, from 16 cells to the finest")
    hash_log2_rows: int = option(17, "binary logarithm of the rows that one hashed grid may have")
    hash_width: int = option(48, "width of the small network behind the hashed grids")
    netdepth: int = option(8, "layers of the mlp field")
    netwidth: int = option(256, "width of the mlp field")
    multires: int = option(10, "frequencies of the position encoding of the mlp field")

    @property
    def surface(self) -> bool:
        """Whether the field is a surface, `SurfaceField`, rather than a density."""
        return self.field != "mlp"


class SurfaceField(nn.Module):
    """A surface: its signed distance, and features of its colour, both from one table that points look up.

    The distance is that of a height map over the box's x and y, put there from the prior before training, plus
    what a small network makes of the features. Features are composited along the ray and turned into colour once
    a ray: the network that knows about light runs once a ray, not once a sample.
    """

    surface = True
    base: Tensor

    def __init__(self, layout: Layout, width: int, start: float, depth_mm: float) -> None:
        """`width` of the network, range `start` of random numbers in the table, `depth_mm` of the box."""
        super().__init__()
        self.layout = layout
        self.table = nn.Parameter(torch.empty(layout.rows, layout.channels).uniform_(-start, start))
        self.features = layout.features
        self.hidden, self.distance = nn.Linear(self.features, width), nn.Linear(width, 1)
        self.depth_mm = depth_mm
        self.register_buffer("base", torch.zeros(1, 1, BASE_CELLS, BASE_CELLS))

    def forward(self, points_box: Tensor, unit_mm: float) -> tuple[Tensor, Tensor]:
        """Return signed distance (n,) mm and features (n, features) of points (n, 3) in [-1, 1]."""
        features = self.layout.lookup(self.table, points_box)
        where = points_box[None, :, None, :2]
        height = functional.grid_sample(self.base, where, align_corners=True, padding_mode="border")[0, 0, :, 0]
        in_front_mm = (height - points_box[:, 2]) * (0.5 * self.depth_mm)
        beyond = self.distance(torch.relu(self.hidden(features)))[:, 0]
        return in_front_mm + unit_mm * beyond, features

    def start_from(self, points_box: Tensor) -> None:
        """Put the starting surface through points (n, 3) of the prior, box coordinates."""
        self.base.copy_(height_map(points_box.cpu().numpy()).to(self.base))

    @property
    def tables(self) -> list[Tensor]:
        """What learns at the full rate, and in one pass: see `nerf.table`."""
        return [self.table]


def plane_field(options: FieldOptions, box_size_mm: tuple[float, float, float], cell_mm: float) -> SurfaceField:
    """Return a surface in three axis-aligned feature planes a level, the finest with cells of about `cell_mm`."""
    finest = [min(max(math.ceil(size / cell_mm), 16), options.planes_finest) for size in box_size_mm]
    levels = []
    for level in range(options.planes_levels - 1, -1, -1):
        x, y, z = (max(cells >> level, 4) for cells in finest)
        levels.append((x, y, z))
    return SurfaceField(PlaneLayout(levels), options.planes_width, 0.1, box_size_mm[2])


def hash_field(options: FieldOptions, box_size_mm: tuple[float, float, float], cell_mm: float) -> SurfaceField:
    """Return a surface in hashed grids (Müller et al. 2022), each finer than the last by the same factor."""
    finest = [min(max(math.ceil(size / cell_mm), 16), options.hash_finest) for size in box_size_mm]
    coarsest = 16 / max(finest)
    levels = []
    for level in range(options.hash_levels):
        share = coarsest ** (1.0 - level / max(options.hash_levels - 1, 1))
        x, y, z = (max(round(cells * share), 2) for cells in finest)
        levels.append((x, y, z))
    layout = HashLayout(levels, options.hash_log2_rows)
    return SurfaceField(layout, options.hash_width, 0.1, box_size_mm[2])


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

    @property
    def tables(self) -> list[Tensor]:
        """Nothing: this field is all network."""
        return []


Field = SurfaceField | MlpField
FIELDS: dict[str, Callable[[FieldOptions, tuple[float, float, float], float], Field]] = {
    "planes": plane_field,
    "hash": hash_field,
    "mlp": MlpField,
}
