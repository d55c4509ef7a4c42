"""Relative inverse depth on disk: what the stage `monocular` writes, one npz a frame with a key an eye."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.artifacts import write_npz
from utils.types import Side

Map = NDArray[np.float32]
KEYS: dict[Side, str] = {"left": "relative_inverse_depth", "right": "relative_inverse_depth_right"}


def save_relative(folder: Path, name: str, maps: dict[Side, Map]) -> None:
    """Write the maps (h, w) of one frame, NaN unknown."""
    write_npz(folder / f"{name}.npz", **{KEYS[side]: values for side, values in maps.items()})


def load_relative(folder: Path, side: Side, name: str) -> Map | None:
    """Return the map (h, w) of one eye at one frame; None where there is none, or nothing in it is known."""
    path = folder / f"{name}.npz"
    if not path.exists():
        return None
    with np.load(path) as file:
        found = np.asarray(file[KEYS[side]], np.float32) if KEYS[side] in file.files else None
    return found if found is not None and np.isfinite(found).any() else None
