"""The endoscope's lamp as the training learned it: what to divide out of a colour."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.artifacts import read_json
from utils.scene import Scene
from utils.stages import skipped
from utils.types import FloatArray, Side


@dataclass(frozen=True)
class Light:
    """A lamp at `lamp_left_mm` (3,) in the left camera's frame, whose light falls with distance.

    At a distance d the image is `(reference_mm / d) ** falloff` times as bright as at the reference, and each
    frame has a gain of its own. `right_from_left` (4, 4) is None without a right eye.
    """

    lamp_left_mm: FloatArray
    reference_mm: float
    falloff: float
    gains: dict[str, float]
    right_from_left: FloatArray | None

    @staticmethod
    def read(nerf: Path, scene: Scene) -> Light | None:
        """Read what the stage `nerf` learned; None where it has not learned any lamp."""
        if skipped(nerf):
            return None
        record = read_json(nerf / "field.json")
        if not record["options"]["lamp"]:
            return None
        frames = [scene.names[int(position)] for position in record["training_positions"]]
        return Light(
            lamp_left_mm=np.array(record["lamp_left_mm"], float),
            reference_mm=float(record["reference_mm"]),
            falloff=float(record["falloff"]),
            gains=dict(zip(frames, record["exposure"], strict=True)),
            right_from_left=scene.rig.right_from_left,
        )

    def gain(self, name: str) -> float:
        """Return a frame's gain."""
        return self.gains.get(name, 1.0)

    def lamp_in(self, side: Side) -> FloatArray:
        """Return the lamp (3,) in the frame of an eye, mm."""
        if side == "left" or self.right_from_left is None:
            return self.lamp_left_mm
        return self.right_from_left[:3, :3] @ self.lamp_left_mm + self.right_from_left[:3, 3]
