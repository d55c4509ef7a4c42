"""What a bridge between two frames says of itself: each camera's residual, the scale, and what was not checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from novel_view.readings import Reading
from novel_view.similarity import Fit, Limits, Similarity
from utils.types import FloatArray


@dataclass(frozen=True)
class Camera:
    """One camera that both know: how far it is off, in our unit and in degrees, as a share of the limits, and
    whether the similarity was fitted to it."""

    name: str
    off: float
    degrees: float
    error: float
    used: bool


@dataclass(frozen=True, eq=False)
class Bridge:
    """A similarity and its evidence; `limits` is None where nothing could be checked, `tried` the readings,
    `reach` the root of the summed squared distances of our centres from their mean."""

    reading: Reading
    similarity: Similarity
    cameras: list[Camera]
    tried: list[tuple[str, Fit]]
    limits: Limits | None
    reach: float

    @property
    def matrix(self) -> FloatArray:
        """The (4, 4) matrix from points of theirs to ours."""
        return self.similarity.matrix

    @property
    def scale_error(self) -> float | None:
        """One standard deviation of the scale as a share of it, from residuals; None below three cameras."""
        used = [camera.off for camera in self.cameras if camera.used]
        if len(used) < 3:
            return None
        return float(np.linalg.norm(used) / np.sqrt(3 * len(used) - 7) / self.reach)

    @property
    def warnings(self) -> list[str]:
        """What the user must know before trusting the poses."""
        count = len(self.cameras)
        if count == 1:
            return [
                f"nothing is checked: {self.cameras[0].name} alone is known in both frames",
                f"the scale cannot be known from one camera: {self.similarity.scale:g} was taken",
                f"the camera's axes cannot be checked: {self.reading.name} was taken",
            ]
        found = []
        if count == 2:
            found.append("two cameras check each other's rotation and direction, not the scale: name a third")
        out = [camera for camera in self.cameras if not camera.used]
        if out:
            listed = ", ".join(f"{camera.name} ({camera.off:.3g}, {camera.degrees:.3g} degrees)" for camera in out)
            found.append(f"left out, for they stand out from the others: {listed}")
        return found


def record(bridge: Bridge, run: Path, theirs: Path, unit: str, poses: int) -> dict[str, Any]:
    """Return the report for JSON."""
    limits = bridge.limits
    return {
        "run": str(run),
        "theirs": str(theirs),
        "unit": unit,
        "poses": poses,
        "checked": len(bridge.cameras) > 2,
        "reading": bridge.reading.name,
        "scale": bridge.similarity.scale,
        "scale_error": bridge.scale_error,
        "ours_from_theirs": bridge.matrix.tolist(),
        "limits": None if limits is None else asdict(limits),
        "cameras": [asdict(camera) for camera in bridge.cameras],
        "readings_tried": [
            {"reading": name, "off_rms": _rms(fit.centres), "degrees_rms": _rms(fit.degrees), "error": fit.median}
            for name, fit in bridge.tried
        ],
        "warnings": bridge.warnings,
    }


def summary(bridge: Bridge, unit: str, poses: int, to: Path) -> str:
    """Return the report in words."""
    error = bridge.scale_error
    tolerance = "" if error is None else f" ± {100 * error:.2g} %"
    lines = [
        f"{poses} poses in {to}, over {len(bridge.cameras)} cameras known in both",
        f"read as {bridge.reading.name}; 1 of theirs is {bridge.similarity.scale:.6g}{tolerance} ({unit})",
    ]
    if bridge.limits is not None:
        lines += ["", f"{'camera':<16} {'off':>9} {'turned':>9}"]
        lines += [
            f"{camera.name:<16} {camera.off:>9.4f} {camera.degrees:>7.3f} °{'' if camera.used else '  left out'}"
            for camera in bridge.cameras
        ]
        used = [camera for camera in bridge.cameras if camera.used]
        off, turned = (_rms(np.array([getattr(camera, key) for camera in used])) for key in ("off", "degrees"))
        lines.append(f"{'rms':<16} {off:>9.4f} {turned:>7.3f} °")
        limit = f"{bridge.limits.centre:.3g} or {bridge.limits.degrees:.3g} degrees"
        lines.append(f"off: of the centre, {unit}; a camera contradicts beyond {limit}")
    if len(bridge.tried) > 1:
        lines += ["", "readings tried (rms over all cameras):"]
        lines += [
            f"  {name:<28} {_rms(fit.centres):>9.4f} {_rms(fit.degrees):>7.2f} °" for name, fit in bridge.tried
        ]
    lines += [f"warning: {warning}" for warning in bridge.warnings]
    return "\n".join(lines)


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.square(values).mean()))
