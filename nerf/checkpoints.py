"""Checkpoints: the whole state of a training, written atomically, and weights taken from another training."""

from __future__ import annotations

import io
import logging
import os
import pickle
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from nerf.fields import FieldOptions
from nerf.options import NerfOptions
from nerf.radiance import RadianceOptions
from nerf.trainer import Trainer
from utils.artifacts import read_json
from utils.errors import InputError
from utils.scene import POSES

CHECKPOINT = "checkpoint.pt"
WEIGHTS, RECORD = "field.safetensors", "field.json"

log = logging.getLogger("specula")


def save_checkpoint(trainer: Trainer, out: Path) -> None:
    """Write the whole state so that a crash leaves the old checkpoint or the new one."""
    partial, data = out / (CHECKPOINT + ".partial"), io.BytesIO()
    torch.save({"made_for": _architecture(trainer.options), **trainer.state()}, data)
    # Written by Python, whose error names a full disk; torch's does not.
    partial.write_bytes(data.getbuffer())
    os.replace(partial, out / CHECKPOINT)


def weights_files(path: Path) -> list[Path]:
    """Return the files that `--ft_path` means: a finished training's weights and their record, or a checkpoint.

    Args:
        path: the folder of a stage `nerf`, finished or interrupted, or one of the files in it.

    Raises:
        InputError: there is nothing of that kind.
    """
    folder = path if path.is_dir() else path.parent
    finished = [folder / WEIGHTS, folder / RECORD]
    if path.name != CHECKPOINT and all(file.exists() for file in finished):
        return finished
    checkpoint = folder / CHECKPOINT if path.is_dir() else path
    if not checkpoint.exists():
        raise InputError(
            f"--ft_path {path}: no trained field there",
            found=f"neither {WEIGHTS} nor {CHECKPOINT}" if path.is_dir() else "no such file",
            expected=f"the folder of a stage nerf, or the {WEIGHTS} or {CHECKPOINT} in it",
            do="correct the path or leave it out",
        )
    return [checkpoint]


def start_from(trainer: Trainer, path: Path) -> None:
    """Take weights from another training. Raises InputError when they belong to another architecture."""
    state = _read_weights(path, trainer.device)
    wanted, found = _architecture(trainer.options), state.get("made_for", {})
    different = [key for key in wanted if found.get(key) != wanted[key]]
    ours = {key: tuple(value.shape) for key, value in trainer.model.state_dict().items()}
    theirs = {key: tuple(value.shape) for key, value in state.get("model", {}).items()}
    if different or ours != theirs:
        shapes = ", ".join([key for key in ours if theirs.get(key) != ours[key]][:3])
        raise InputError(
            f"--ft_path {path} comes from another configuration",
            found=", ".join(f"{key} {found.get(key)}" for key in different) or f"other shapes of {shapes}",
            expected=", ".join(f"{key} {wanted[key]}" for key in different) or "tensors of this scene's sizes",
            do="give the options that it was trained with, or leave --ft_path out",
        )
    trainer.model.load_state_dict(state["model"])
    folder = path if path.is_dir() else path.parent
    if (folder / POSES).exists():
        log.warning("nerf: --ft_path %s learned on corrected poses; they are not taken over", path)


def _read_weights(path: Path, device: torch.device) -> dict[str, Any]:
    """Return `made_for` (options of the architecture) and `model` (tensors by name), on the device."""
    file, *record = weights_files(path)
    try:
        if record:
            tensors = load_file(file, device=str(device))
            return {"made_for": read_json(record[0])["options"], "model": tensors}
        state = torch.load(file, weights_only=True, map_location=device)
    except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile, SafetensorError) as error:
        raise InputError(
            f"--ft_path {path} holds no trained field",
            found=str(error).split("\n")[0][:120],
            expected=f"the {WEIGHTS} or {CHECKPOINT} that a stage nerf wrote",
            do="correct the path or leave it out",
        ) from error
    return dict(state)


def _architecture(options: NerfOptions) -> dict[str, Any]:
    names = [field.name for field in (*fields(FieldOptions), *fields(RadianceOptions))]
    return {name: getattr(options, name) for name in names}
