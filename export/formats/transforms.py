"""Read and write `transforms.json` of nerfstudio and instant-ngp, and read `transforms_*.json` of NeRF-synthetic.

Poses are camera-to-world with OpenGL axes (x right, y up, z back). nerfstudio and instant-ngp shoot the ray of
pixel (i, j) through (i + 0.5, j + 0.5), as COLMAP does, whose numbers they take over: their cx is ours + 0.5.
NeRF-synthetic has one number of calibration, `camera_angle_x`: the principal point is the centre of the image,
(w - 1) / 2 where the centre of the top-left pixel is 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from export.camera_set import UNKNOWN_UNIT, CameraSet
from export.formats.sidecar import KEY, NAME, restore, restored
from utils.broken_files import broken, load_object, matrices
from utils.errors import InputError
from utils.types import Camera

OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
HALF_PIXEL = 0.5
TRANSFORMS = "transforms.json"
SYNTHETIC = ("train", "val", "test")
_EXPECTED = "`frames`, each with `file_path` and a 4x4 `transform_matrix`; fl_x, cx, cy, w, h or camera_angle_x"
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
_FISHEYE = "OPENCV_FISHEYE"
_MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", _FISHEYE)  # a pinhole and a lens


def is_transforms(path: Path) -> bool:
    """Whether a file, or a folder with `transforms.json`, is one of nerfstudio or instant-ngp."""
    file = path / TRANSFORMS if path.is_dir() else path
    return (
        file.suffix == ".json"
        and file.is_file()
        and file.name != NAME
        and "frames" in load_object(file, _EXPECTED)
    )


def is_synthetic(path: Path) -> bool:
    """Whether a folder has `transforms_train.json`, or a file is one of its kind."""
    if path.is_dir():
        return any((path / f"transforms_{split}.json").is_file() for split in SYNTHETIC)
    return path.name in [f"transforms_{split}.json" for split in SYNTHETIC]


def read(path: Path) -> CameraSet:
    """Read `transforms.json`, or the folder it is in."""
    file = path / TRANSFORMS if path.is_dir() else path
    record = load_object(file, _EXPECTED)
    cameras = _read_frames(file, record)
    if KEY in record:
        return restored(cameras, record[KEY], file)
    return restore(cameras, file.with_name(NAME))


def read_synthetic(path: Path) -> CameraSet:
    """Read `transforms_train.json`, `transforms_val.json` and `transforms_test.json` of a folder, or one of them.

    An image that several of them name counts once; `val` counts as test.
    """
    files = [path] if path.is_file() else [path / f"transforms_{split}.json" for split in SYNTHETIC]
    parts = []
    for file in filter(Path.is_file, files):
        record = load_object(file, _EXPECTED)
        if record.get("frames") == []:
            continue
        cameras = _read_frames(file, record)
        parts.append(restored(cameras, record[KEY], file) if KEY in record else cameras)
    if not parts:
        raise broken(path, "no frames", _EXPECTED)
    return _joined(parts)


def _joined(parts: list[CameraSet]) -> CameraSet:
    """Put the splits of NeRF-synthetic into one set."""
    with_bounds = [part.bounds for part in parts if part.bounds is not None]
    whole = CameraSet(
        names=tuple(name for part in parts for name in part.names),
        world_from_camera=np.concatenate([part.world_from_camera for part in parts]),
        cameras=tuple(camera for part in parts for camera in part.cameras),
        unit=parts[0].unit,
        images=tuple(image for part in parts for image in part.images),
        splits=tuple(split for part in parts for split in part.splits),
        bounds=np.concatenate(with_bounds) if len(with_bounds) == len(parts) else None,
        missing=tuple(dict.fromkeys(one for part in parts for one in part.missing)),
    )
    first = {name: whole.names.index(name) for name in whole.names}
    return whole.only(list(first.values()))


def _read_frames(file: Path, record: dict[str, Any]) -> CameraSet:
    """Read what one file says, in its own lengths."""
    frames = record.get("frames")
    if not isinstance(frames, list) or not frames:
        raise broken(file, "no frames", _EXPECTED)
    for number, frame in enumerate(frames):
        if not isinstance(frame, dict) or not {"file_path", "transform_matrix"} <= set(frame):
            raise broken(file, f"frame {number} without file_path or transform_matrix", _EXPECTED)
    paths = [str(frame["file_path"]) for frame in frames]
    world_from_opengl = matrices(file, [frame["transform_matrix"] for frame in frames], paths, _EXPECTED)
    images = [_find(file.parent, path) for path in paths]
    cameras = [_camera(file, record | frame, image) for frame, image in zip(frames, images, strict=True)]
    return CameraSet(
        names=tuple(_name(path, image) for path, image in zip(paths, images, strict=True)),
        world_from_camera=world_from_opengl @ OPENCV_FROM_OPENGL,
        cameras=tuple(cameras),
        unit=UNKNOWN_UNIT,
        images=tuple(images),
        splits=tuple(_splits(record, file, paths)),
        missing=_missing(record, frames),
    )


def _name(path: str, image: Path | None) -> str:
    """Return the name of an image without the folder that all images are in, with the ending of its file."""
    whole = path if image is None or image.name == Path(path).name else path + image.suffix
    return whole.removeprefix("./").removeprefix("images/")


def _find(folder: Path, path: str) -> Path | None:
    """Return the image that a frame names, with `.png` added where the name has no ending."""
    return next((file for file in (folder / path, folder / f"{path}.png") if file.is_file()), None)


def _splits(record: dict[str, Any], file: Path, paths: list[str]) -> list[str]:
    """Return the split of each image: the file's own lists, or its name."""
    split = file.stem.removeprefix("transforms_")
    if split in SYNTHETIC:
        return ["train" if split == "train" else "test"] * len(paths)
    listed = {key: _listed(record, file, f"{key}_filenames") for key in SYNTHETIC}
    tested = listed["test"] | listed["val"]
    return ["train" if path in listed["train"] else "test" if path in tested else "" for path in paths]


def _listed(record: dict[str, Any], file: Path, key: str) -> set[str]:
    names = record.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise broken(file, f"{key}: {names!r:.80}", "a list of the images' paths")
    return set(names)


def _camera(file: Path, values: dict[str, Any], image: Path | None) -> Camera | None:
    """Return the pinhole camera of one frame; None where its size is neither in the file nor an image's."""
    model = values.get("camera_model", _MODELS[0])
    if model not in _MODELS:
        raise broken(file, f"camera_model {model!r:.80}", ", ".join(_MODELS), "make pinhole images of them first")
    try:
        size = (int(values["w"]), int(values["h"])) if {"w", "h"} <= set(values) else image_size(image)
        if size is None:
            return None
        width, height = size
        if "fl_x" in values:
            fx = float(values["fl_x"])
            fy = float(values.get("fl_y", fx))
        elif "camera_angle_x" in values:
            fx = fy = width / 2 / float(np.tan(float(values["camera_angle_x"]) / 2))
            if "camera_angle_y" in values:
                fy = height / 2 / float(np.tan(float(values["camera_angle_y"]) / 2))
        else:
            return None
        cx, cy = float(values.get("cx", width / 2)), float(values.get("cy", height / 2))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise broken(file, error, _EXPECTED) from error
    if not (0 < fx < np.inf and 0 < fy < np.inf and width > 0 and height > 0 and np.isfinite([cx, cy]).all()):
        raise broken(file, f"an impossible camera: {fx:g} {fy:g} {cx:g} {cy:g} {width} {height}", _EXPECTED)
    return Camera(fx, fy, cx - HALF_PIXEL, cy - HALF_PIXEL, width, height)


def image_size(image: Path | None) -> tuple[int, int] | None:
    """Return width and height of an image file, from its header; None where there is no image."""
    if image is None:
        return None
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(image) as opened:
            return opened.size
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(
            f"{image} cannot be read as an image",
            found=str(error).splitlines()[0],
            expected="an image whose size says what the camera file leaves out",
            do="write it again, or take its camera out of the file",
        ) from error


def _missing(record: dict[str, Any], frames: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return what the file says that a pinhole camera cannot hold."""
    bent = {key for values in (record, *frames) for key in _DISTORTION if values.get(key)}
    bent |= {_FISHEYE for values in (record, *frames) if values.get("camera_model") == _FISHEYE}
    return (f"lens distortion ({', '.join(sorted(bent))}): undistort the images",) if bent else ()
