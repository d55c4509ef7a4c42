"""Write `transforms.json` for nerfstudio and instant-ngp, and `transforms_*.json` as NeRF-synthetic has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from export.camera_set import CameraSet
from export.formats.outgoing import Outgoing, off_centre, one_focal_length, same_camera
from export.formats.sidecar import KEY
from export.formats.transforms import HALF_PIXEL, OPENCV_FROM_OPENGL, SYNTHETIC, TRANSFORMS
from utils.artifacts import write_json
from utils.types import Camera

_EVERY_TESTED = 8


def losses(cameras: CameraSet) -> list[str]:
    """Return what `camera_angle_x` alone cannot hold."""
    given = cameras.cameras
    return one_focal_length(given) + off_centre(given) + same_camera(given)


def write_nerfstudio(out: Outgoing, folder: Path) -> None:
    """Write one file with the calibration on top where all images share it, and lists of the splits."""
    record = {"camera_model": "OPENCV"} | _frames(out) | _split_lists(out) | {KEY: out.record}
    write_json(folder / TRANSFORMS, record)


def write_instant_ngp(out: Outgoing, folder: Path) -> None:
    """Write one file whose `scale` and `offset` bring what is seen into the unit cube; poses are not scaled."""
    record: dict[str, Any] = {"aabb_scale": 1}
    if out.region is not None:
        centre, half = out.region
        scale = 0.5 / float(half.max())
        record |= {"scale": scale, "offset": (0.5 - scale * centre).tolist()}
    write_json(folder / TRANSFORMS, record | _frames(out) | {KEY: out.record})


def write_synthetic(out: Outgoing, folder: Path) -> None:
    """Write train, val and test (val repeats test); without splits every eighth image is tested."""
    splits = out.cameras.splits
    if not any(splits):
        splits = tuple("test" if k % _EVERY_TESTED == 0 else "train" for k in range(len(out.files)))
    angles = [2 * float(np.arctan(camera.width / 2 / camera.fx)) for camera in out.calibration()]
    matrices = _matrices(out)
    for split in SYNTHETIC:
        chosen = [k for k, given in enumerate(splits) if (given == "test") == (split != "train")]
        frames = [
            {"file_path": "./" + out.files[k].removesuffix(".png"), "transform_matrix": matrices[k]}
            for k in chosen
        ]
        record = {"camera_angle_x": angles[0], "frames": frames, KEY: _part(out.record, chosen)}
        write_json(folder / f"transforms_{split}.json", record)


def _part(record: dict[str, Any], chosen: list[int]) -> dict[str, Any]:
    """Return the record of some of the cameras."""
    keys = ("names", "cameras", "splits", "bounds", "frame_numbers")
    return record | {key: [record[key][k] for k in chosen] for key in keys if record[key]}


def _matrices(out: Outgoing) -> list[Any]:
    """Return camera-to-world matrices with OpenGL axes, as lists."""
    return list((out.cameras.world_from_camera @ OPENCV_FROM_OPENGL).tolist())


def _frames(out: Outgoing) -> dict[str, Any]:
    """Return `frames`, with calibration in each, or on top where it is the same for all."""
    calibration = [_calibration(camera) for camera in out.calibration()]
    shared = all(one == calibration[0] for one in calibration)
    frames = [
        {"file_path": file, "transform_matrix": matrix} | ({} if shared else one)
        for file, matrix, one in zip(out.files, _matrices(out), calibration, strict=True)
    ]
    return (calibration[0] if shared else {}) | {"frames": frames}


def _calibration(camera: Camera) -> dict[str, float]:
    return {
        "fl_x": camera.fx,
        "fl_y": camera.fy,
        "cx": camera.cx + HALF_PIXEL,
        "cy": camera.cy + HALF_PIXEL,
        "w": camera.width,
        "h": camera.height,
        "k1": 0.0,
        "k2": 0.0,
        "p1": 0.0,
        "p2": 0.0,
    }


def _split_lists(out: Outgoing) -> dict[str, list[str]]:
    """Return the files of each split, all three or none: nerfstudio wants it so, and evaluates on `val`."""
    splits = out.cameras.splits
    if not {"train", "test"} <= set(splits):
        return {}
    listed = {key: [f for f, split in zip(out.files, splits, strict=True) if split == key] for key in set(splits)}
    return {"train_filenames": listed["train"], "val_filenames": listed["test"], "test_filenames": listed["test"]}
