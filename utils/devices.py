"""The device that tensors live on."""

from __future__ import annotations

import torch

from utils.errors import InputError


def choose_device(name: str) -> torch.device:
    """Return the device that `--device` means."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(
            f"--device {name}: this machine or this PyTorch has no CUDA device",
            found="torch.cuda.is_available() is False",
            expected="a CUDA device",
            do="use --device cpu, or install PyTorch's CUDA build",
        )
    return torch.device(name)
