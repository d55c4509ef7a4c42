"""Read the cameras and images files of a COLMAP model, text or binary, without its points.

pycolmap reads them too, but ends the process, or never ends, on some broken files.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy.spatial.transform import Rotation

from utils.broken_files import broken
from utils.geometry import FloatArray, rigid
from utils.types import Camera

HALF_PIXEL = 0.5
EXPECTED = "a COLMAP model: cameras and images files, both .bin or both .txt"
# Names in the order of their numbers, with how many parameters follow; the first are f or fx, fy, then cx, cy.
_MODELS = {
    "SIMPLE_PINHOLE": 3,
    "PINHOLE": 4,
    "SIMPLE_RADIAL": 4,
    "RADIAL": 5,
    "OPENCV": 8,
    "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12,
    "FOV": 5,
    "SIMPLE_RADIAL_FISHEYE": 4,
    "RADIAL_FISHEYE": 5,
    "THIN_PRISM_FISHEYE": 12,
    "RAD_TAN_THIN_PRISM_FISHEYE": 16,
}
_ONE_FOCAL = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
_RADIAL, _OPENCV = ("SIMPLE_RADIAL", "RADIAL"), ("OPENCV", "FULL_OPENCV")
_OBSERVATION_BYTES = 24
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class ModelCamera:
    """A camera of a model: the pinhole part of it, and how it bends lines.

    `bent` is the name of its model where it bends them, `distortion` the same in OpenCV's terms (no term: straight
    lines), None where OpenCV's pinhole camera has none for it (fisheye lenses).
    """

    pinhole: Camera
    bent: str
    distortion: tuple[float, ...] | None = ()


@dataclass(frozen=True)
class ModelImage:
    """An image of a model: its number, name, camera and (4, 4) camera_from_world."""

    number: int
    name: str
    camera: int
    camera_from_world: FloatArray


def read_model(folder: Path) -> tuple[dict[int, ModelCamera], list[ModelImage]]:
    """Return the cameras by number, and the images in the order of theirs.

    Raises:
        InputError: a file is broken or of a model that is not known; it is named.
    """
    binary = (folder / "images.bin").is_file()
    cameras = _read(folder / f"cameras.{'bin' if binary else 'txt'}", _cameras_bin if binary else _cameras_txt)
    images = _read(folder / f"images.{'bin' if binary else 'txt'}", _images_bin if binary else _images_txt)
    lost = {image.camera for image in images} - {number for number, _ in cameras}
    if lost:
        raise broken(folder, f"images of camera {min(lost)}, which is not in the cameras file", EXPECTED)
    return dict(cameras), sorted(images, key=lambda image: image.number)


def _read(path: Path, parse: Callable[[Path], Iterator[_Item]]) -> list[_Item]:
    """Return what a parser gives; whatever goes wrong in it becomes a refusal that names the file."""
    try:
        return list(parse(path))
    except (OSError, struct.error, ValueError, IndexError, OverflowError) as error:
        raise broken(path, error, EXPECTED, "write the model again, or copy all of its files") from error


def _cameras_txt(path: Path) -> Iterator[tuple[int, ModelCamera]]:
    for line in path.read_text().splitlines():
        words = line.split()
        if words and not line.startswith("#"):
            number, name, width, height, *parameters = words
            yield int(number), _camera(name, int(width), int(height), [float(word) for word in parameters])


def _cameras_bin(path: Path) -> Iterator[tuple[int, ModelCamera]]:
    data, names = path.read_bytes(), list(_MODELS)
    place = 8
    for _ in range(struct.unpack_from("<Q", data)[0]):
        number, model, width, height = struct.unpack_from("<IiQQ", data, place)
        if not 0 <= model < len(names):
            raise ValueError(f"camera {number} of model {model}, which is not known")
        parameters = struct.unpack_from(f"<{_MODELS[names[model]]}d", data, place + 24)
        place += 24 + 8 * len(parameters)
        yield number, _camera(names[model], width, height, list(parameters))


def _camera(name: str, width: int, height: int, parameters: list[float]) -> ModelCamera:
    if len(parameters) != _MODELS.get(name, -1):
        raise ValueError(f"a camera of model {name} with {len(parameters)} parameters")
    fx, fy, cx, cy, *distortion = [parameters[0], *parameters] if name in _ONE_FOCAL else parameters
    if not np.isfinite(parameters).all() or min(fx, fy, width, height) <= 0:
        raise ValueError(f"an impossible camera: {name} {width} {height} {parameters}")
    bent = name if "FISHEYE" in name or any(distortion) else ""
    terms = _opencv_terms(name, distortion) if bent else ()
    return ModelCamera(Camera(fx, fy, cx - HALF_PIXEL, cy - HALF_PIXEL, width, height), bent, terms)


def _opencv_terms(name: str, distortion: list[float]) -> tuple[float, ...] | None:
    """Return a model's distortion as OpenCV orders it: k1 k2 p1 p2, then k3 to k6; None for other models."""
    if name in _RADIAL:
        k1, k2 = [*distortion, 0.0][:2]
        return (k1, k2, 0.0, 0.0)
    return tuple(distortion) if name in _OPENCV else None


def _images_txt(path: Path) -> Iterator[ModelImage]:
    """Read pairs of lines: the image, and its observations, which may be an empty line."""
    lines = iter([line for line in path.read_text().split("\n") if not line.startswith("#")])
    for line in lines:
        if line.strip():
            words = line.split(maxsplit=9)
            pose = [float(word) for word in words[1:8]]
            yield _image(int(words[0]), pose, int(words[8]), words[9].strip())
            next(lines, "")


def _images_bin(path: Path) -> Iterator[ModelImage]:
    data, place = path.read_bytes(), 8
    for _ in range(struct.unpack_from("<Q", data)[0]):
        number, *pose, camera = struct.unpack_from("<I7dI", data, place)
        end = data.index(b"\0", place + 64)
        name = data[place + 64 : end].decode()
        place = end + 9 + _OBSERVATION_BYTES * struct.unpack_from("<Q", data, end + 1)[0]
        if place > len(data):
            raise ValueError(f"the file ends within image {name}")
        yield _image(number, pose, camera, name)


def _image(number: int, pose: list[float], camera: int, name: str) -> ModelImage:
    """Return an image from its quaternion (w, x, y, z) and translation."""
    if not np.isfinite(pose).all() or not any(pose[:4]):
        raise ValueError(f"image {name} has an impossible pose: {pose}")
    w, x, y, z, *translation = pose
    rotation = Rotation.from_quat([x, y, z, w]).as_matrix()
    return ModelImage(number, name, camera, rigid(rotation, np.array(translation)))
