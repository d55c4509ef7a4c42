"""Tiny datasets in the exact layouts of public ones: EndoNeRF's clips, LLFF scenes, COLMAP models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from tests.synthetic import BALL_ON_WALL, Nearest, Plane, Sphere, View, path, render
from utils.geometry import invert_rigid, rigid
from utils.images import write_rgb
from utils.llff_rows import OPENCV_FROM_LLFF_AXES
from utils.types import Camera, FloatArray, Rig

WIDTH, HEIGHT, FOCAL = 160, 128, 150.0
CENTRED = Camera(FOCAL, FOCAL, (WIDTH - 1) / 2, (HEIGHT - 1) / 2, WIDTH, HEIGHT)
BASELINE_MM = 4.324
CLIP_RIG = Rig(CENTRED, CENTRED, rigid(np.eye(3), np.array([-BASELINE_MM, 0.0, 0.0])))
TOOL = (slice(70, 128), slice(90, 160))  # rows and columns that a grey instrument hides


@cache
def _clip_frame(number: int) -> tuple[View, View]:
    surface = Nearest((Plane((0.1, -0.05, 1.0), 85.0), Sphere((4.0 - 2.0 * number, -8.0, 82.0), 14.0)))
    return render(surface, CENTRED, np.eye(4)), render(surface, CENTRED, CLIP_RIG.left_from("right"))


@cache
def photographs(count: int) -> tuple[View, ...]:
    """Return what a camera of `CENTRED` sees of a still scene from the poses of `path(count)`."""
    return tuple(render(BALL_ON_WALL, CENTRED, pose) for pose in path(count))


def write_clip(folder: Path, *, frames: int = 4, right: bool = True, masks: str = "masks") -> Path:
    """Write a clip as EndoNeRF's authors do: a standing camera, a ball that moves, a tool, depth in whole mm."""
    for number in range(frames):
        left, right_view = _clip_frame(number)
        image, mask = left.rgb.copy(), np.zeros((HEIGHT, WIDTH), np.uint8)
        image[TOOL], mask[TOOL] = 128, 255
        write_rgb(folder / "images" / f"frame-{number:06d}.color.png", image)
        write_rgb(folder / masks / f"frame-{number:06d}.mask.png", mask)
        (folder / "depth").mkdir(exist_ok=True)
        units = np.nan_to_num(left.depth_mm).round().astype(np.uint16)
        cv2.imwrite(str(folder / "depth" / f"frame-{number:06d}.depth.png"), units)
        if right:
            write_rgb(folder / "images_right" / f"frame-{number:06d}.color.png", right_view.rgb)
    columns = np.concatenate([np.eye(3), np.zeros((3, 1)), [[HEIGHT], [WIDTH], [FOCAL]]], axis=1)
    rows = np.tile(np.concatenate([columns.ravel(), [60.0, 100.0]]), (frames, 1))
    np.save(folder / "poses_bounds.npy", rows)
    return folder


def write_llff(folder: Path, names: Sequence[str], *, scale: int = 1) -> FloatArray:
    """Write photographs of a still scene in the order of `names`, and rows in the order of their letters.

    `scale`: the rows are written for images so many times larger. Returns world_from_camera (n, 4, 4) by name.
    """
    poses = path(len(names))
    for name, view in zip(names, photographs(len(names)), strict=True):
        write_rgb(folder / "images" / name, view.rgb)
    size = scale * np.array([[HEIGHT], [WIDTH], [FOCAL]])
    rows = [
        np.concatenate([poses[i, :3, :3] @ OPENCV_FROM_LLFF_AXES, poses[i, :3, 3:], size], axis=1).ravel()
        for i in sorted(range(len(names)), key=lambda i: names[i])
    ]
    np.save(folder / "poses_bounds.npy", np.concatenate([rows, np.tile([60.0, 100.0], (len(names), 1))], axis=1))
    return poses


def write_model(
    folder: Path,
    cameras: Sequence[str],
    images: Sequence[tuple[str, int, FloatArray]],
) -> None:
    """Write a COLMAP model as text: `cameras` are lines, `images` name, camera and world_from_camera (4, 4)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cameras.txt").write_text("# cameras\n" + "".join(f"{line}\n" for line in cameras))
    lines = []
    for number, (name, camera, world_from_camera) in enumerate(images, 1):
        camera_from_world = invert_rigid(world_from_camera)
        x, y, z, w = _quaternion(camera_from_world[:3, :3])
        numbers = " ".join(f"{value:.17g}" for value in (w, x, y, z, *camera_from_world[:3, 3]))
        lines += [f"{number} {numbers} {camera} {name}", ""]
    (folder / "images.txt").write_text("# images\n" + "\n".join(lines) + "\n")
    (folder / "points3D.txt").write_text("")


def _quaternion(rotation: FloatArray) -> FloatArray:
    return np.asarray(Rotation.from_matrix(rotation).as_quat())
