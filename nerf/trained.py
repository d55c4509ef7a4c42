"""Write a trained field to the folder of the stage `nerf`, and read it back."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nerf.checkpoints import RECORD, WEIGHTS
from nerf.model import SceneModel, Shape
from nerf.options import NerfOptions
from nerf.pose_refinement import corrected_poses
from nerf.rays import Box
from nerf.trainer import Trainer
from nerf.views import View
from utils.artifacts import damaged, load_maps, read_json, write_json
from utils.scene import save_poses
from utils.types import FloatArray, Poses

log = logging.getLogger("specula")


def save_corrected_poses(trainer: Trainer, placed: Poses, frames: list[str], out: Path) -> dict[str, Any] | None:
    """Write poses of all frames as the training of some corrected them, where it did; return what was done."""
    if trainer.poses is None:
        return None
    poses, report = corrected_poses(trainer.poses, placed, frames)
    save_poses(out, poses)
    log.info(
        "nerf: poses turned by %.3f degrees and shifted by %.3f (%s), rms over the training frames",
        report["turned_degrees_rms"],
        report["shifted_rms"],
        report["unit"],
    )
    return report


def save_model(trainer: Trainer, out: Path, poses: dict[str, Any] | None) -> None:
    """Write weights, and the record of what they mean; `poses` is what was done to poses, None: nothing."""
    model, shape = trainer.model, trainer.model.shape
    save_file({key: value.contiguous().cpu() for key, value in model.state_dict().items()}, out / WEIGHTS)
    gains = model.exposure(torch.arange(len(shape.training_positions), device=trainer.device)).tolist()
    record = {
        "options": asdict(trainer.options),
        "box_from_world": shape.box.box_from_world.cpu().tolist(),
        "box_size_mm": list(shape.box.size_mm),
        "cell_mm": shape.cell_mm,
        "reference_mm": shape.reference_mm,
        "training_positions": list(shape.training_positions),
        "training_views": [list(view) for view in trainer.pool.views],
        "lamp_start_mm": list(shape.lamp_start_mm),
        "lamp_left_mm": (model.lamp_left.detach().cpu() * shape.reference_mm).tolist(),
        "exposure": gains,
        "falloff": float(model.radiance.falloff.detach()),
        "pose_refinement": poses,
        "refinement_rounds_done": sum(1 for path in out.glob("refinement*") if path.is_dir()),
    }
    write_json(out / RECORD, record)


def load_model(folder: Path, device: torch.device) -> tuple[SceneModel, NerfOptions]:
    """Return the trained model and the options that it was trained with. Raises InputError for a damaged file."""
    record, weights = read_json(folder / RECORD), _weights(folder / WEIGHTS)
    options = NerfOptions(**record["options"])
    shape = Shape(
        box=Box(torch.tensor(record["box_from_world"], device=device), tuple(record["box_size_mm"])),
        cell_mm=record["cell_mm"],
        reference_mm=record["reference_mm"],
        training_positions=tuple(record["training_positions"]),
        lamp_start_mm=tuple(record["lamp_start_mm"]),
    )
    model = SceneModel(options, options, shape)
    model.load_state_dict(weights)
    return model.to(device).eval(), options


def _weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise damaged(path, error) from error


def training_depth(nerf: Path, prior: Path, *, refined: bool = True) -> dict[View, FloatArray]:
    """Return the prior of every training view, (h, w) mm, as the last refinement left it, or as it was before."""
    record = read_json(nerf / RECORD)
    rounds = int(record["refinement_rounds_done"]) if refined else 0
    folder = nerf / f"refinement{rounds}" if rounds else prior
    views: list[View] = [(side, name) for side, name in record["training_views"]]
    return {view: load_maps(folder, *view)["depth_mm"] for view in views}
