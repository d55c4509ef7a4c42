"""A run of Specula as far as its depth, made of a few cameras and noise: what conversions are tested on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from utils.artifacts import save_maps, write_json
from utils.geometry import FloatArray, invert_rigid, rigid
from utils.images import write_rgb
from utils.ply import write_ply
from utils.scene import Scene, save_poses
from utils.types import Camera, Poses, Rig, Side

LEFT = Camera(31.5, 33.25, 17.3, 14.6, 40, 32)
RIGHT = Camera(32.75, 31.0, 21.4, 16.9, 40, 32)
CENTRED = Camera(31.5, 31.5, 19.5, 15.5, 40, 32)
RIGHT_FROM_LEFT = rigid(Rotation.from_rotvec([0.02, -0.1, 0.01]).as_matrix(), np.array([-4.5, 0.1, 0.3]))
POINT_WORLD = np.array([3.25, -2.5, 61.0])
FRAMES = ("1", "2", "10")


def poses_of(count: int) -> FloatArray:
    """Return (count, 4, 4) camera-to-world poses that turn about all axes and look roughly along z."""
    turns = Rotation.from_rotvec([[0.11 * k, -0.07 * k + 0.02, 0.3 * k] for k in range(count)]).as_matrix()
    return np.stack([rigid(turn, np.array([1.5 * k, -k, 0.7 * k])) for k, turn in enumerate(turns)])


def make_run(
    root: Path,
    *,
    left: Camera = LEFT,
    right: Camera | None = RIGHT,
    frames: Sequence[str] = FRAMES,
    metric: bool = True,
    depth: bool = True,
    lost: str = "",
) -> Path:
    """Write scene, poses, filtered depth and cloud of a run; return its folder. `lost` has no pose."""
    rig = Rig(left, right, RIGHT_FROM_LEFT if right else None)
    random = np.random.default_rng(0)
    sides: tuple[Side, ...] = rig.sides
    images = {}
    for side in sides:
        for name in frames:
            camera = rig.camera(side)
            image = root / "data" / side[0] / "images" / f"{name}.png"
            write_rgb(image, random.integers(0, 255, (camera.height, camera.width, 3), dtype=np.uint8))
            images[f"{side}_{name}"] = str(image)
            tissue = np.ones((camera.height, camera.width), bool)
            tissue[:, :5] = False
            save_maps(root / "scene" / "masks", side, name, tissue=tissue, highlight=np.zeros_like(tissue))
            if depth:
                depth_mm = random.uniform(50, 70, (camera.height, camera.width)).astype(np.float32)
                save_maps(root / "filter", side, name, depth_mm=depth_mm)
    Scene(root / "scene", rig, tuple(frames), tuple(frames[1:]), tuple(frames[:1]), sides, images).save({})
    poses = poses_of(len(frames))
    if lost:
        poses[list(frames).index(lost)] = np.nan
    world_from_right = poses @ invert_rigid(RIGHT_FROM_LEFT) if right else None
    save_poses(root / "poses", Poses(tuple(frames), poses, world_from_right, metric))
    points = random.uniform([-20, -20, 50], [20, 20, 70], (30, 3)).astype(np.float32)
    colours = random.integers(0, 255, (30, 3), dtype=np.uint8)
    (root / "export").mkdir()
    write_ply(root / "export" / "cloud.ply", points, np.ones((30, 3)), colours, np.ones(30), ["unit mm"])
    for stage in ("scene", "poses", "filter", "export"):
        stamp(root, stage)
    return root


def stamp(root: Path, stage: str, hash: str = "") -> None:
    """Finish a stage, made from the first ones of its run; another hash is that of one made again."""
    inputs = {"scene": (), "poses": ("scene",), "filter": ("scene",)}.get(stage, ("scene", "poses"))
    record = {"skipped": None, "hash": hash or stage, "inputs": {name: name for name in inputs}}
    write_json(root / stage / "stamp.json", record)
