"""A coloured cloud or mesh as the stage `export` writes it, with its confidence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.errors import InputError
from utils.ply import read_ply
from utils.types import FloatArray


@dataclass(frozen=True, eq=False)
class Shape:
    """`points_world` (n, 3), RGB (n, 3) uint8, confidence (n,) in [0, 1], triangles (m, 3), none for a cloud."""

    points_world: FloatArray
    colours: NDArray[np.uint8]
    confidence: FloatArray
    faces: NDArray[np.int64]


def read_shape(path: Path) -> Shape:
    """Read a coloured cloud or a mesh of triangles; without a confidence it is 1.

    Raises:
        InputError: not a binary little-endian PLY, cut off, without colours, or with other faces than triangles.
    """
    vertices, faces = read_ply(path)
    missing = [name for name in ("red", "green", "blue") if name not in vertices]
    if missing:
        raise InputError(
            f"{path} has no colours",
            found=f"the properties {', '.join(vertices)}",
            expected="red, green and blue too, as the stage `export` writes them",
            do="export again: python run.py with the run's configuration and --from export",
        )
    points = np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(float)
    colours = np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1).astype(np.uint8)
    confidence = vertices["confidence"].astype(float) if "confidence" in vertices else np.ones(len(points))
    return Shape(points, colours, confidence, np.zeros((0, 3), np.int64) if faces is None else faces)
