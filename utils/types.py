"""The nouns that all stages share: a camera, a stereo rig, camera poses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from utils.geometry import invert_rigid

Side = Literal["left", "right"]
FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; px, the centre of the top-left pixel is (0, 0)."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    @property
    def matrix(self) -> FloatArray:
        """(3, 3) intrinsic matrix, px."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def resized(self, width: int, height: int) -> Camera:
        """Return the camera of the image resized to width x height: c' = s (c + 1/2) - 1/2."""
        sx, sy = width / self.width, height / self.height
        return Camera(
            self.fx * sx, self.fy * sy, sx * (self.cx + 0.5) - 0.5, sy * (self.cy + 0.5) - 0.5, width, height
        )


@dataclass(frozen=True)
class Rig:
    """One or two calibrated cameras. `right_from_left` maps points: X_right = R X_left + t, mm."""

    left: Camera
    right: Camera | None = None
    right_from_left: FloatArray | None = None

    @property
    def stereo(self) -> bool:
        """Whether a right eye is calibrated."""
        return self.right is not None

    @property
    def sides(self) -> tuple[Side, ...]:
        """The calibrated eyes, left first."""
        return ("left", "right") if self.stereo else ("left",)

    @property
    def baseline_mm(self) -> float:
        """Distance between the two camera centres; NaN without a right eye."""
        if self.right_from_left is None:
            return float("nan")
        return float(np.linalg.norm(self.right_from_left[:3, 3]))

    @property
    def vergence_degrees(self) -> float:
        """Angle between the two optical axes; 0 without a right eye."""
        if self.right_from_left is None:
            return 0.0
        return float(np.degrees(np.arccos(np.clip(self.right_from_left[2, 2], -1.0, 1.0))))

    def camera(self, side: Side) -> Camera:
        """Return the camera of one eye."""
        if side == "left":
            return self.left
        if self.right is None:
            raise ValueError("this rig has no right eye")
        return self.right

    def left_from(self, side: Side) -> FloatArray:
        """(4, 4) transform from one eye's frame to the left eye's frame, mm."""
        if side == "left":
            return np.eye(4)
        if self.right_from_left is None:
            raise ValueError("this rig has no right eye")
        return invert_rigid(self.right_from_left)

    @property
    def middle(self) -> tuple[Camera, FloatArray]:
        """The virtual camera half-way between the eyes, and (4, 4) `left_from_middle`, mm."""
        left, left_from_right = self.camera("left"), self.left_from("right")
        right = self.camera("right").resized(left.width, left.height)
        mean = {key: (getattr(left, key) + getattr(right, key)) / 2 for key in ("fx", "fy", "cx", "cy")}
        left_from_middle = left_from_right.copy()
        from scipy.spatial.transform import Rotation  # takes longer to load than all else that a run starts with

        turn = Rotation.from_matrix(left_from_right[:3, :3]).as_rotvec()
        left_from_middle[:3, :3] = Rotation.from_rotvec(turn / 2).as_matrix()
        left_from_middle[:3, 3] /= 2
        return replace(left, **mean), left_from_middle

    def to_json(self) -> dict[str, Any]:
        """Return a dict that `json` can write and `from_json` can read."""
        return {
            "left": asdict(self.left),
            "right": asdict(self.right) if self.right else None,
            "right_from_left": self.right_from_left.tolist() if self.right_from_left is not None else None,
            "unit": "px and mm",
        }

    @staticmethod
    def from_json(values: dict[str, Any]) -> Rig:
        """Read what `to_json` wrote."""
        matrix = values["right_from_left"]
        return Rig(
            Camera(**values["left"]),
            Camera(**values["right"]) if values["right"] else None,
            np.array(matrix, float) if matrix is not None else None,
        )

    def left_only(self) -> Rig:
        """Return the rig without its right eye."""
        return replace(self, right=None, right_from_left=None)


@dataclass(frozen=True)
class Poses:
    """Where the cameras stood.

    `world_from_left` (n, 4, 4) and `world_from_right` (n, 4, 4) or None are camera-to-world, OpenCV axes, mm
    when `metric`; rows of NaN mark frames that could not be placed.
    """

    names: tuple[str, ...]
    world_from_left: FloatArray
    world_from_right: FloatArray | None
    metric: bool

    def world_from(self, side: Side, name: str) -> FloatArray:
        """Return the (4, 4) pose of one eye at one frame; NaN where the frame could not be placed."""
        poses = self.world_from_left if side == "left" else self.world_from_right
        if poses is None:
            raise ValueError("these poses have no right eye")
        return poses[self.names.index(name)]

    def placed(self, name: str) -> bool:
        """Whether the frame has a pose."""
        return bool(np.isfinite(self.world_from_left[self.names.index(name)]).all())

    @property
    def unit(self) -> str:
        """What lengths mean: `mm`, or a warning in words."""
        return "mm" if self.metric else ARBITRARY_UNITS


ARBITRARY_UNITS = "arbitrary units, not mm"
