"""Checkpoints: the whole state of a training, written atomically, and weights taken from another run."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from nerf.fields import FieldOptions
from nerf.options import NerfOptions
from nerf.radiance import RadianceOptions
from nerf.trainer import Trainer
from utils.errors import InputError

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(trainer: Trainer, out: Path) -> None:
    """Write the whole state so that a crash leaves the old checkpoint or the new one."""
    partial, data = out / (CHECKPOINT + ".partial"), io.BytesIO()
    torch.save({"made_for": _architecture(trainer.options), **trainer.state()}, data)
    # Written by Python, whose error names a full disk; torch's does not.
    partial.write_bytes(data.getvalue())
    os.replace(partial, out / CHECKPOINT)


def start_from(trainer: Trainer, path: Path) -> None:
    """Take weights from another run's checkpoint. Raises InputError when it belongs to another architecture."""
    state = _read_checkpoint(path, trainer.device)
    wanted, found = _architecture(trainer.options), state.get("made_for", {})
    different = [key for key in wanted if found.get(key) != wanted[key]]
    ours = {key: tuple(value.shape) for key, value in trainer.model.state_dict().items()}
    theirs = {key: tuple(value.shape) for key, value in state.get("model", {}).items()}
    if different or ours != theirs:
        shapes = ", ".join([key for key in ours if theirs.get(key) != ours[key]][:3])
        raise InputError(
            f"--ft_path {path} is a checkpoint of another configuration",
            found=", ".join(f"{key} {found.get(key)}" for key in different) or f"other shapes of {shapes}",
            expected=", ".join(f"{key} {wanted[key]}" for key in different) or "tensors of this scene's sizes",
            do="give the options that the checkpoint was made with, or leave --ft_path out",
        )
    trainer.model.load_state_dict(state["model"])


def _read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        state = torch.load(path, weights_only=True, map_location=device)
    except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"--ft_path {path} is no checkpoint",
            found=str(error).split("\n")[0][:120],
            expected=f"a {CHECKPOINT} that the stage nerf wrote",
            do="correct the path or leave it out",
        ) from error
    return dict(state)


def _architecture(options: NerfOptions) -> dict[str, Any]:
    names = [field.name for field in (*fields(FieldOptions), *fields(RadianceOptions))]
    return {name: getattr(options, name) for name in names}
