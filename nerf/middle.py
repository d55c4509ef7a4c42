"""The virtual camera half-way between the eyes: colour and depth of where no image was taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from nerf.free_camera import render_free
from nerf.guidance import TrainingDepth
from nerf.model import SceneModel
from utils.artifacts import write_npz
from utils.images import colour_depth, write_rgb
from utils.scene import Scene
from utils.types import Poses

FOLDER = "middle"


def render_middle(
    model: SceneModel,
    dataset: Scene,
    placed: Poses,
    guides: tuple[TrainingDepth, TrainingDepth],
    chunk: int,
    out: Path,
) -> None:
    """Render the virtual middle camera of every training frame that has a pose.

    Each frame's `middle/<frame>.npz` holds rgb (h, w, 3) uint8, depth_mm, depth_std_mm and opacity (h, w).

    Args:
        guides: depth to look around, and the same before any refinement.
        chunk: rays at a time.
        out: the folder of the stage.
    """
    camera, left_from_middle = dataset.rig.middle
    names = [name for name in dataset.train if placed.placed(name)]
    for name in tqdm(names, desc="render, middle", unit="view", disable=None):
        world_from_left = placed.world_from("left", name)
        world_from_middle = world_from_left @ left_from_middle
        position = float(dataset.names.index(name))
        image = render_free(model, guides, camera, world_from_middle, world_from_left, position, chunk)
        write_npz(
            out / FOLDER / f"{name}.npz",
            rgb=image.rgb,
            depth_mm=image.depth_mm,
            depth_std_mm=image.depth_std_mm,
            opacity=image.opacity,
        )
        depth = np.where(image.opacity >= 0.5, image.depth_mm, np.nan)
        write_rgb(out / "pictures" / f"middle_{name}.png", np.hstack([image.rgb, colour_depth(depth)]))
