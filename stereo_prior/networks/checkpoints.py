"""Published checkpoints into our networks: by name, and with an error that says which names do not fit."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from utils.errors import InputError

_SHOWN = 5  # names listed of each kind
_CONTAINERS = ("state_dict", "model", "model_state_dict", "network", "net")
_COUNTERS = ("num_batches_tracked",)  # of batch norm: absent in old checkpoints, and unused
_STATISTICS = ("running_mean", "running_var")


def check_file(path: str, flag: str) -> None:
    """Raise InputError unless a checkpoint given by `flag` is a file, or nothing was given."""
    if path and not Path(path).is_file():
        raise InputError(
            f"{flag} {path}",
            found="a folder" if Path(path).is_dir() else "no such file",
            expected="a checkpoint: .safetensors, or one that torch.save wrote",
            do="correct the path",
        )


def load_weights(network: nn.Module, path: Path, *, unused_prefixes: Sequence[str] = ()) -> None:
    """Load a checkpoint's parameters and buffers into a network, by name.

    Args:
        network: it is changed in place.
        path: `.safetensors` or a file of torch.save, with or without a dictionary around the names.
        unused_prefixes: names that start so belong to parts that are not built here.

    Raises:
        InputError: not a checkpoint, or one of another network: the first names that are missing, unexpected, or
            of another shape.
    """
    given = {
        name: values for name, values in read_weights(path).items() if not name.startswith(tuple(unused_prefixes))
    }
    own = network.state_dict()
    missing = [name for name in own if name not in given and not name.endswith(_COUNTERS)]
    # networks without running statistics were saved with them by old versions of PyTorch
    unexpected = [name for name in given if name not in own and not name.endswith((*_STATISTICS, *_COUNTERS))]
    shared = {name: given[name] for name in own if name in given}
    reshaped = [
        f"{name} {tuple(values.shape)} for {tuple(own[name].shape)}"
        for name, values in shared.items()
        if values.shape != own[name].shape
    ]
    if missing or unexpected or reshaped:
        parts = (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        found = "; ".join(f"{len(names)} {word}: {_first(names)}" for word, names in parts if names)
        raise InputError(
            f"{path} is not a checkpoint of {type(network).__name__}",
            found=found,
            expected=f"the {len(own)} names of the published checkpoints, such as {next(iter(own))}",
            do="give the checkpoint of this network",
        )
    network.load_state_dict({name: values.float() for name, values in shared.items()}, strict=False)


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, without the prefix that DataParallel adds."""
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            with torch.serialization.safe_globals(_harmless()):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as a checkpoint",
            found=(str(error).splitlines() or ["an empty file"])[0][:200],
            expected=".safetensors, or what torch.save wrote of tensors and plain numbers",
            do="download it again, or save its tensors alone",
        ) from error
    for name in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = {
        str(name).removeprefix("module."): values
        for name, values in (content.items() if isinstance(content, Mapping) else ())
        if isinstance(values, Tensor)
    }
    if not tensors:
        raise InputError(
            f"{path} holds no tensors by name",
            found=type(content).__name__,
            expected="a state_dict, or a dictionary with one",
            do="give the network's checkpoint",
        )
    return tensors


def _harmless() -> list[Any]:
    """Return the types of plain numbers that checkpoints carry beside their tensors."""
    scalar = np.float64(0.0).__reduce__()[0]  # the function that makes numpy's numbers
    return [np.dtype, scalar, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8"))]
