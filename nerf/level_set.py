"""What a field is made of on a grid of the world, for meshes that are cut out of it (`--mesh_method density`)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from nerf.model import SceneModel
from utils.artifacts import write_npz
from utils.types import FloatArray

MESH_METHOD = (
    "where the mesh comes from: tsdf, fused rendered depth; or density, a level of the field, which is biased"
)
NAME = "field_volume.npz"
# A voxel as a multiple of what a pixel sees at the working distance.
CELLS = 1.5
SLICE_POINTS = 1 << 18
# Larger ones are taken where there would be more.
MOST_VOXELS = 60_000_000


def write_level_set(model: SceneModel, out: Path) -> None:
    """Write `field_volume.npz`: `distance_mm` (nx, ny, nz), `origin` (3,), `voxel_mm` of a grid along the world.

    A field that is a surface gives its signed distance. One of densities gives mm to nowhere: one voxel times the
    logarithm of how many times more density would stop half of the light within a voxel; both are nought on the
    surface, positive before it, NaN outside the field's box.
    """
    box, voxel = model.box, CELLS * model.shape.cell_mm
    world_from_box = np.linalg.inv(box.box_from_world.cpu().double().numpy())
    corners = np.array(np.meshgrid([-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0])).reshape(3, -1).T
    places = corners @ world_from_box[:3, :3].T + world_from_box[:3, 3]
    low, high = places.min(0), places.max(0)
    voxel = max(voxel, float(((high - low).prod() / MOST_VOXELS) ** (1 / 3)))
    counts = np.ceil((high - low) / voxel).astype(int) + 1
    values = np.empty(counts, np.float32)
    axes = [low[axis] + voxel * np.arange(counts[axis]) for axis in range(3)]
    for index in tqdm(range(counts[0]), desc="field volume", unit="slice", leave=False, disable=None):
        y, z = np.meshgrid(axes[1], axes[2], indexing="ij")
        points = np.stack([np.full_like(y, axes[0][index]), y, z], axis=-1).reshape(-1, 3)
        values[index] = _values(model, points, voxel).reshape(y.shape)
    write_npz(out / NAME, distance_mm=values, origin=low, voxel_mm=np.array(voxel))


@torch.no_grad()
def _values(model: SceneModel, points_world: FloatArray, voxel: float) -> FloatArray:
    found = []
    for part in torch.from_numpy(points_world).float().split(SLICE_POINTS):
        inside = model.box.points(part.to(model.blur_mm.device))
        value, _ = model.field(inside, model.unit_mm)
        if not model.field.surface:
            value = voxel * torch.log(math.log(2.0) / voxel / value.clamp_min(1e-12))
        found.append(torch.where((inside.abs() <= 1.0).all(-1), value, torch.nan).cpu())
    return torch.cat(found).numpy()
