"""Paths of a virtual camera: between the eyes, along the sequence, on a spiral, through given poses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline

from utils.errors import InputError
from utils.geometry import rigid
from utils.types import Camera, FloatArray, Rig

TURNS = 2  # of a spiral; in and out once meanwhile, so that it closes
INWARD = 0.5  # how far the spiral moves along the viewing axis, beside the extent of the path there


@dataclass(frozen=True, eq=False)
class Stop:
    """One camera of a path.

    `world_from_camera` and `world_from_left` are (4, 4), mm; the latter is the left eye of the endoscope, which
    carries the lamp. `position` is the place in the sequence, in frames, whose exposure is meant; None: the mean.
    """

    camera: Camera
    world_from_camera: FloatArray
    world_from_left: FloatArray
    position: float | None


def between(rig: Rig, world_from_left: FloatArray, position: float, count: int) -> list[Stop]:
    """Return the way from the left eye to the right one and back, at one frame, with even steps.

    Centre and intrinsics are interpolated linearly, rotation along the shortest arc; the lamp stays where it is.

    Args:
        rig: with both eyes.
        world_from_left: (4, 4) of the frame, mm.
        position: of the frame in the sequence.
        count: of views, 2 or more.
    """
    left, left_from_right = rig.camera("left"), rig.left_from("right")
    right = rig.camera("right").resized(left.width, left.height)
    turn = Rotation.from_matrix(left_from_right[:3, :3]).as_rotvec()
    there = np.linspace(0.0, 1.0, (count + 1) // 2)
    stops = []
    for share in (*there, *there[::-1][count % 2 :]):
        lens = {
            key: (1 - share) * getattr(left, key) + share * getattr(right, key) for key in ("fx", "fy", "cx", "cy")
        }
        left_from_camera = rigid(Rotation.from_rotvec(share * turn).as_matrix(), share * left_from_right[:3, 3])
        stops.append(
            Stop(replace(left, **lens), world_from_left @ left_from_camera, world_from_left, float(position))
        )
    return stops


def along(camera: Camera, world_from_left: FloatArray, positions: FloatArray, count: int) -> list[Stop]:
    """Return a smooth way through all poses of a sequence, in steps of equal time.

    Centres lie on a natural cubic spline, rotations on one with continuous angular acceleration
    (`scipy.spatial.transform.RotationSpline`).

    Args:
        camera: of every view.
        world_from_left: (n, 4, 4) mm, two or more.
        positions: (n,) when each was taken, in frames, rising.
        count: of views, 2 or more.

    Raises:
        InputError: fewer than two poses.
    """
    if len(world_from_left) < 2:
        raise InputError(
            "there is no path to follow",
            found=f"{len(world_from_left)} placed training frame",
            expected="two or more",
            do="choose another --path: between or a file",
        )
    centres = CubicSpline(positions, world_from_left[:, :3, 3], bc_type="natural")
    rotations = RotationSpline(positions, Rotation.from_matrix(world_from_left[:, :3, :3]))
    stops = []
    for time in np.linspace(positions[0], positions[-1], count):
        pose = rigid(rotations(time).as_matrix(), centres(time))
        stops.append(Stop(camera, pose, pose, float(time)))
    return stops


def spiral(
    camera: Camera, world_from_left: FloatArray, working_mm: float, baseline_mm: float, count: int
) -> list[Stop]:
    """Return a spiral around the mean view that looks at what is in front of it (Mildenhall et al. 2019, LLFF).

    Its radii are how far nine of ten poses lie from the mean view, sideways and up, at least half the baseline.
    The last view is a step before the first one.

    Args:
        camera: of every view.
        world_from_left: (n, 4, 4) poses of the sequence, mm.
        working_mm: distance along the mean view's axis of the point that every view looks at.
        baseline_mm: between the eyes; NaN where there is one.
        count: of views.
    """
    mean = Rotation.from_matrix(world_from_left[:, :3, :3]).mean().as_matrix()
    centre = world_from_left[:, :3, 3].mean(axis=0)
    offsets = (world_from_left[:, :3, 3] - centre) @ mean
    least = 0.5 * float(np.nan_to_num(baseline_mm))
    reach = np.maximum(np.percentile(np.abs(offsets), 90, axis=0), [least, least, 0.0])
    focus = centre + working_mm * mean[:, 2]
    stops = []
    for angle in np.linspace(0.0, 2 * np.pi * TURNS, count, endpoint=False):
        offset = reach * [np.cos(angle), np.sin(angle), INWARD * np.sin(angle / TURNS)]
        pose = look_at(centre + mean @ offset, focus, mean[:, 1])
        stops.append(Stop(camera, pose, pose, None))
    return stops


def given(camera: Camera, world_from_camera: FloatArray) -> list[Stop]:
    """Return a stop a pose (n, 4, 4); each camera carries the lamp as the left eye does."""
    return [Stop(camera, pose, pose, None) for pose in world_from_camera]


def look_at(centre: FloatArray, target: FloatArray, down: FloatArray) -> FloatArray:
    """Return the (4, 4) pose of a camera that stands in `centre`, looks at `target`, and has `down` downwards."""
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(down, forward)
    right /= np.linalg.norm(right)
    return rigid(np.stack([right, np.cross(forward, right), forward], axis=1), centre)
