"""The device that tensors live on."""

from __future__ import annotations

import re

import torch

from utils.errors import InputError


def choose_device(name: str) -> torch.device:
    """Return the device that `--device` means. Raises InputError where it is none, or not in this machine."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise InputError(
            f"--device {name} is no device", found=name, expected="auto, cpu or cuda", do="choose one of these"
        )
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(
            f"--device {name}: this machine or this PyTorch has no CUDA device",
            found="torch.cuda.is_available() is False",
            expected="a CUDA device",
            do="use --device cpu, or install PyTorch's CUDA build",
        )
    return torch.device(name)
