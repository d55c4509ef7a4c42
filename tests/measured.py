"""A finished run of synthetic views, as the stages leave it, without running them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.synthetic import Surface, render, world_from
from utils.artifacts import save_maps, write_json
from utils.images import write_rgb
from utils.scene import Scene, save_poses
from utils.types import FloatArray, Poses, Rig

SPREAD_MM = 0.4


READS = {
    "scene": (),
    "poses": ("scene",),
    "prior": ("scene", "poses"),
    "nerf": ("scene", "poses", "prior"),
    "render": ("scene", "poses", "prior", "nerf"),
    "filter": ("scene", "render"),
    "export": ("scene", "poses", "prior", "render", "filter"),
}


def stamp(folder: Path, skipped: str | None = None, hash: str = "") -> None:
    """Finish a stage's folder, made from the first ones of its run; another hash is that of one made again."""
    inputs = {name: name for name in READS[folder.name]}
    write_json(folder / "stamp.json", {"hash": hash or folder.name, "inputs": inputs, "skipped": skipped})


def make_run(
    folder: Path,
    surface: Surface,
    rig: Rig,
    world_from_left: FloatArray,
    *,
    metric: bool = True,
    rendered: bool = True,
    placed: bool = True,
) -> Path:
    """Write a run whose frames are called 1, 2, ...; its depth is exact, its spread SPREAD_MM."""
    names = tuple(str(number) for number in range(1, len(world_from_left) + 1))
    images = {f"{side}_{name}": f"images/{side}_{name}.png" for side in rig.sides for name in names}
    scene = Scene(folder / "scene", rig, names, names, (), rig.sides, images)
    scene.save({})
    right = np.stack([world_from(rig, "right", pose) for pose in world_from_left]) if rig.stereo else None
    for name, pose in zip(names, world_from_left, strict=True):
        for side in rig.sides:
            view = render(surface, rig.camera(side), world_from(rig, side, pose))
            depth = view.depth_mm.astype(np.float32)
            whole = np.ones(depth.shape, bool)
            spread, sure = np.full_like(depth, SPREAD_MM), np.ones_like(depth)
            write_rgb(scene.image_path(side, name), view.rgb)
            save_maps(folder / "scene" / "masks", side, name, tissue=whole, highlight=~whole)
            save_maps(folder / "prior", side, name, depth_mm=depth, sigma_mm=2 * spread, confidence=0.5 * sure)
            if rendered:
                maps = {"depth_mm": depth, "depth_std_mm": spread, "opacity": sure}
                save_maps(folder / "render", side, name, rgb=view.rgb, **maps)
                save_maps(folder / "filter", side, name, depth_mm=depth)
    if placed:
        save_poses(folder / "poses", Poses(names, world_from_left, right if metric else None, metric))
    for stage in ("scene", "prior"):
        stamp(folder / stage)
    for stage in ("nerf", "render", "filter"):
        stamp(folder / stage, None if rendered else "no field here")
    stamp(folder / "poses", None if placed else "one pair")
    return folder
