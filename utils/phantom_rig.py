"""The phantom's two stereo rigs, the path of the endoscope, and its exposure."""

from dataclasses import dataclass

import cv2
import numpy as np

from utils.errors import InputError
from utils.types import FloatArray

TURN_FRAMES = 28  # frames in which a hand-held endoscope goes once around its loop


@dataclass(frozen=True)
class Rig:
    """Two calibrated eyes and how they are carried.

    `camera_left`, `camera_right` are (3, 3) in px, pixel centres at integers; `right_from_left` is
    (4, 4) in mm; `lamp_left` is the lamp in the left camera's frame, mm.
    """

    camera_left: FloatArray
    camera_right: FloatArray
    right_from_left: FloatArray
    lamp_left: FloatArray
    distance_mm: float  # from the left eye to the point it looks at
    travel_mm: float  # half-width of the loop
    azimuth_deg: float  # where the left eye stands, seen from the organ's normal
    depth_travel: float  # share of the distance by which it comes nearer and farther
    elevation_deg: float  # the same, from above
    organ_scale: float  # the organ is built for a view of about 90 mm


def rotation(x_deg: float, y_deg: float, z_deg: float) -> FloatArray:
    """Return the (3, 3) rotation of a rotation vector in degrees."""
    return np.asarray(cv2.Rodrigues(np.radians([x_deg, y_deg, z_deg]))[0], np.float64)


def make_rig(kind: str, width: int, height: int) -> Rig:
    """Return the `parallel` or the `verged` rig for images of width x height px."""
    if kind == "parallel":
        return _parallel_rig(width, height)
    if kind == "verged":
        return _verged_rig(width, height)
    raise InputError(
        "phantom names no rig that there is",
        found=kind,
        expected="parallel or verged",
        do="choose one of the two",
    )


def _parallel_rig(width: int, height: int) -> Rig:
    """A stereo endoscope: 4.5 mm apart, 62 degrees wide, lamp between and below the eyes."""
    focal_px = 0.832 * width
    right_from_left = np.eye(4)
    right_from_left[:3, :3] = rotation(0.35, 0.6, -0.45)
    right_from_left[:3, 3] = right_from_left[:3, :3] @ np.array([-4.5, 0.06, -0.08])
    return Rig(
        camera_left=_camera(focal_px, width, height, -0.013, 0.008),
        camera_right=_camera(1.006 * focal_px, width, height, 0.009, -0.006),
        right_from_left=right_from_left,
        lamp_left=np.array([2.25, 3.2, 0.0]),
        distance_mm=77.0,
        travel_mm=12.5,
        azimuth_deg=0.0,
        depth_travel=0.065,
        elevation_deg=11.0,
        organ_scale=1.0,
    )


def _verged_rig(width: int, height: int) -> Rig:
    """Two long-focus cameras 33 degrees apart that look at one point 540 mm away."""
    focal_px, distance_mm, vergence_deg = 2.37 * width, 540.0, 33.0
    angle = np.radians(vergence_deg)
    centre_right_in_left = distance_mm * np.array([np.sin(angle), 0.0, 1.0 - np.cos(angle)])
    right_from_left = np.eye(4)
    right_from_left[:3, :3] = rotation(0.25, 0.0, -0.4) @ rotation(0.0, vergence_deg, 0.0)
    right_from_left[:3, 3] = -right_from_left[:3, :3] @ centre_right_in_left + np.array([0.0, 1.3, 0.0])
    return Rig(
        camera_left=_camera(focal_px, width, height, -0.012, 0.008),
        camera_right=_camera(1.009 * focal_px, width, height, 0.016, -0.005),
        right_from_left=right_from_left,
        lamp_left=np.zeros(3),
        distance_mm=distance_mm,
        travel_mm=80.0,
        azimuth_deg=-vergence_deg / 2,
        depth_travel=0.03,
        elevation_deg=6.0,
        organ_scale=2.2,
    )


def _camera(focal_px: float, width: int, height: int, shift_x: float, shift_y: float) -> FloatArray:
    """Return (3, 3) intrinsics whose principal point is off centre by a share of the width."""
    cx_px = (width - 1) / 2 + shift_x * width
    cy_px = (height - 1) / 2 + shift_y * width
    return np.array([[focal_px, 0.0, cx_px], [0.0, focal_px, cy_px], [0.0, 0.0, 1.0]])


def make_path(rig: Rig, n_frames: int, rng: np.random.Generator) -> FloatArray:
    """Return world_from_left (n, 4, 4) of a hand-held loop that keeps the organ in view.

    Steps have video's constant pace: fewer frames cover less of the loop, more go around again.
    World: mm, origin on the organ, z away from the endoscope.
    """
    turns = np.arange(n_frames) / TURN_FRAMES
    phase = rng.uniform(0, 2 * np.pi, 10)

    def wave(k: int, per_turn: float) -> FloatArray:
        return np.sin(2 * np.pi * per_turn * turns + phase[k])

    loop = 2 * np.pi * 0.97 * turns + phase[0]
    across = rig.travel_mm * (np.cos(loop) + 0.08 * wave(1, 2.7))
    down = rig.travel_mm * (0.85 * np.sin(loop) + 0.08 * wave(2, 3.1))
    nearness = rig.distance_mm * (1.0 + rig.depth_travel * (wave(3, 0.8) + 0.12 * wave(4, 2.9)))
    target = 0.3 * rig.travel_mm * np.stack([wave(5, 0.9), wave(6, 0.75), np.zeros(n_frames)], -1)
    stand = rotation(0.0, -rig.azimuth_deg, 0.0) @ rotation(rig.elevation_deg, 0.0, 0.0)
    eyes_world = np.stack([across, down, -nearness], -1) @ stand.T
    return np.stack(
        [
            look_at(eye, aim, roll_deg)
            for eye, aim, roll_deg in zip(eyes_world, target, 4 * wave(7, 0.8) + wave(8, 2.3), strict=True)
        ]
    )


def look_at(eye_world: FloatArray, target_world: FloatArray, roll_deg: float) -> FloatArray:
    """Return world_from_camera (4, 4), OpenCV axes, of an eye that looks at a target."""
    forward = (target_world - eye_world) / np.linalg.norm(target_world - eye_world)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    world_from_camera[:3, :3] @= rotation(0.0, 0.0, roll_deg)
    world_from_camera[:3, 3] = eye_world
    return world_from_camera


def make_exposure(n_frames: int, rng: np.random.Generator) -> FloatArray:
    """Return (n,) factors on linear light: an auto-exposure that drifts smoothly by +-15 %."""
    turns = np.arange(n_frames) / TURN_FRAMES
    slow, fast = rng.uniform(0, 2 * np.pi, 2)
    return 1.0 + 0.12 * np.sin(2 * np.pi * 0.9 * turns + slow) + 0.03 * np.sin(2 * np.pi * 2.2 * turns + fast)
