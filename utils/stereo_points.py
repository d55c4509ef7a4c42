"""Triangulate the stereo matches of a frame: what the two eyes know of 3-D points before any motion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.artifacts import read_npz
from utils.geometry import project, transform, triangulate
from utils.scene import Scene
from utils.types import FloatArray

_STEREO_PX = 1.0  # largest distance of a triangulated stereo match from its pixels


@dataclass(frozen=True)
class Landmarks:
    """Points that a frame sees: `pixels` (m, 2) in its left image, `points_left` (m, 3) in its left frame."""

    pixels: FloatArray
    points_left: FloatArray


def stereo_landmarks(scene: Scene, matches: Path, name: str) -> Landmarks:
    """Triangulate a frame's stereo matches, mm; pairs whose rays miss each other are left out."""
    rig = scene.rig
    path = matches / f"{name}.npz"
    if rig.right is None or rig.right_from_left is None or not path.exists():
        return Landmarks(np.zeros((0, 2)), np.zeros((0, 3)))
    found = read_npz(path)
    pixels_left, pixels_right = found["pixels_left"], found["pixels_right"]
    points_left = triangulate(rig.left.matrix, rig.right.matrix, rig.right_from_left, pixels_left, pixels_right)
    back_left, depth_left = project(rig.left.matrix, points_left)
    back_right, depth_right = project(rig.right.matrix, transform(rig.right_from_left, points_left))
    with np.errstate(invalid="ignore"):
        good = (depth_left > 0) & (depth_right > 0)
        good &= np.linalg.norm(back_left - pixels_left, axis=1) < _STEREO_PX
        good &= np.linalg.norm(back_right - pixels_right, axis=1) < _STEREO_PX
    return Landmarks(pixels_left[good], points_left[good])
