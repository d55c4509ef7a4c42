"""Read a trained field back from the folder of the stage `nerf`."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from nerf.checkpoints import RECORD, WEIGHTS
from nerf.model import SceneModel, Shape
from nerf.options import NerfOptions
from nerf.rays import Box
from nerf.views import View
from utils.artifacts import load_maps, read_json
from utils.types import FloatArray


def load_model(folder: Path, device: torch.device) -> tuple[SceneModel, NerfOptions]:
    """Return the trained model and the options that it was trained with."""
    record = read_json(folder / RECORD)
    options = NerfOptions(**record["options"])
    shape = Shape(
        box=Box(torch.tensor(record["box_from_world"], device=device), tuple(record["box_size_mm"])),
        cell_mm=record["cell_mm"],
        reference_mm=record["reference_mm"],
        training_positions=tuple(record["training_positions"]),
        lamp_start_mm=tuple(record["lamp_start_mm"]),
    )
    model = SceneModel(options, options, shape)
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.to(device).eval(), options


def training_depth(nerf: Path, prior: Path, *, refined: bool = True) -> dict[View, FloatArray]:
    """Return the prior of every training view, (h, w) mm, as the last refinement left it, or as it was before."""
    record = read_json(nerf / RECORD)
    rounds = int(record["refinement_rounds_done"]) if refined else 0
    folder = nerf / f"refinement{rounds}" if rounds else prior
    views: list[View] = [(side, name) for side, name in record["training_views"]]
    return {view: load_maps(folder, *view)["depth_mm"] for view in views}
