"""A view that is wanted: what the field shows of it, what of that was seen, and by which input views most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nerf.finished_field import OPAQUE, FinishedField
from novel_view.weights import best_conditions, view_degrees
from utils.covisibility import overlap
from utils.errors import InputError
from utils.geometry import invert_rigid
from utils.types import BoolArray, Camera, FloatArray, Side
from utils.visibility import DepthView

CONDITIONS = 4
FEWEST_SEEN = 0.02  # share of the pixels: with less there is nothing to go on from


@dataclass(frozen=True, eq=False)
class Target:
    """A wanted view and the field's render of it.

    `rgb` (h, w, 3) uint8; `surface` what it sees of the field, depth in mm, NaN where nothing opaque is;
    `coverage` (h, w): how many training views have seen that surface.
    """

    name: str
    rgb: NDArray[np.uint8]
    surface: DepthView
    coverage: NDArray[np.uint16]

    @property
    def camera(self) -> Camera:
        """The camera of the view."""
        return self.surface.camera

    @property
    def world_from_camera(self) -> FloatArray:
        """Its (4, 4) pose, mm."""
        return self.surface.world_from_camera

    @property
    def seen(self) -> BoolArray:
        """(h, w): a training view has seen the surface there."""
        return np.asarray(self.coverage > 0)


@dataclass(frozen=True)
class Condition:
    """An input view that a target is imagined from: its place in the field's list, name, share that it sees."""

    index: int
    view: tuple[Side, str]
    share: float
    degrees: float


def look(field: FinishedField, name: str, camera: Camera, world_from_camera: FloatArray) -> Target:
    """Render a target and say what of it was seen.

    Raises:
        InputError: a view that shows (nearly) nothing of what the training views have seen.
    """
    image = field.render(camera, world_from_camera)
    depth, count = field.coverage(camera, world_from_camera, image)
    rgb = np.where((image.opacity >= OPAQUE)[..., None], image.rgb, 0).astype(np.uint8)
    target = Target(name, rgb, DepthView(camera, world_from_camera, depth), count)
    share = float(target.seen.mean())
    if share < FEWEST_SEEN:
        raise InputError(
            f"pose {name} sees nothing of the reconstruction",
            found=f"{100 * share:.1f} % of its pixels show tissue that a training view has seen",
            expected=f"{100 * FEWEST_SEEN:.0f} % or more: the rest is imagined from them",
            do="move it nearer to the path; is it camera-to-world, with OpenCV axes, in the run's world and unit? "
            "(python -m novel_view.bridge brings poses of other frames)",
        )
    return target


def conditions_of(field: FinishedField, target: Target, at_most: int = CONDITIONS) -> list[Condition]:
    """Return the training views that see most of a target, the best first: co-visibility, not angle alone."""
    shares = np.array([overlap(target.surface, view).share for view in field.seen])
    chosen = best_conditions(shares, at_most)
    target_from_world = invert_rigid(target.world_from_camera)
    poses = np.array([target_from_world @ field.seen[index].world_from_camera for index in chosen])
    degrees = view_degrees(poses, float(np.nanmedian(target.surface.depth_mm)))
    views = field.views
    return [
        Condition(index, views[index], float(shares[index]), float(angle))
        for index, angle in zip(chosen, degrees, strict=True)
    ]


def fitted(camera: Camera, height: int, width: int) -> tuple[Camera, tuple[slice, slice]]:
    """Return the camera of the largest centred crop of a shape, resized to it; the crop's rows and columns."""
    scale = min(camera.height / height, camera.width / width)
    rows, columns = max(round(scale * height), 1), max(round(scale * width), 1)
    top, left = (camera.height - rows) // 2, (camera.width - columns) // 2
    cropped = Camera(camera.fx, camera.fy, camera.cx - left, camera.cy - top, columns, rows)
    return cropped.resized(width, height), (slice(top, top + rows), slice(left, left + columns))
