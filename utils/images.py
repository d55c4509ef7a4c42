"""Image files: colour images, masks, truth depth and disparity in every accepted format."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.artifacts import NO_ARRAYS
from utils.errors import InputError
from utils.types import BoolArray, FloatArray

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
MAP_ENDINGS = (".png", ".npy", ".tiff", ".tif", ".pfm", ".exr")
_ARRAY_NAMES = ("depth_mm", "depth", "disparity_px", "disparity")  # of a map among several arrays of an npz


def natural_key(text: str) -> list[Any]:
    """Sort key that puts 2.jpg before 10.jpg."""
    parts = filter(None, re.split(r"(\d+)", text))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def list_images(folder: Path) -> list[Path]:
    """Return the images of a folder in natural order."""
    if not folder.is_dir():
        return []
    files = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_ENDINGS]
    return sorted(files, key=lambda path: natural_key(path.name))


def without_ending(name: str) -> str:
    """Return an image's name without its ending; a dot in a name that has none, `1.5`, is no ending."""
    path = Path(name)
    return str(path.with_suffix("")) if path.suffix.lower() in IMAGE_ENDINGS else name


def frame_name(path: Path, image_dir: str) -> tuple[str, int]:
    """Return the frame's name and how many columns were cut off on its left: `<frame>_<cut>` in `rectify`.

    Raises:
        InputError: a file of `rectify` that does not say how much was cut off.
    """
    if image_dir != "rectify":
        return path.stem, 0
    name, separator, cut = path.stem.rpartition("_")
    if not separator or not name or not cut.isdecimal():
        raise InputError(
            f"{path} does not say how much was cut off",
            found=path.name,
            expected=f"<frame>_<cut>{path.suffix}, for instance 1_96{path.suffix}, 0 where nothing was cut",
            do="rename the file, or use --image_dir images",
        )
    return name, int(cut)


def find_map(folder: Path, name: str, endings: tuple[str, ...] = MAP_ENDINGS) -> Path | None:
    """Return the file of a frame in a folder of truth maps (or masks), whatever its ending; None if absent."""
    for ending in endings:
        path = folder / f"{name}{ending}"
        if path.exists():
            return path
    return None


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image as (h, w, 3) RGB uint8. Raises InputError when it cannot be decoded."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None or _truncated_jpeg(path):
        raise InputError(
            f"{path} cannot be read as an image",
            found="a missing, empty, truncated or corrupt file" if path.exists() else "no such file",
            expected="a complete png, jpg or tif image",
            do=f"write {path.name} again, or take it out of the dataset (both eyes, train.txt and test.txt)",
        )
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _truncated_jpeg(path: Path) -> bool:
    """Whether a JPEG lacks its end marker: OpenCV fills the missing part with grey and says nothing."""
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return False
    return b"\xff\xd9" not in path.read_bytes()[-4096:]


def write_rgb(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an (h, w, 3) RGB, (h, w, 4) RGBA or (h, w) grey uint8 image; the ending chooses the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    swap = {(3,): cv2.COLOR_RGB2BGR, (4,): cv2.COLOR_RGBA2BGRA}
    bgr = cv2.cvtColor(image, swap[image.shape[2:]]) if image.ndim == 3 else image
    # Encoded first and written by Python, whose errors say what is wrong (a full disk, rights).
    encoded, data = cv2.imencode(path.suffix, bgr)
    if not encoded:
        raise ValueError(f"{path} could not be encoded")
    path.write_bytes(data.tobytes())


def read_mask(path: Path) -> BoolArray:
    """Read a mask as (h, w) bool: nonzero is inside. Raises InputError when it cannot be decoded."""
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if mask is None:
        raise InputError(
            f"{path} cannot be read as a mask",
            found="a missing or corrupt file",
            expected="a png whose nonzero pixels are tissue",
            do=f"write {path.name} again, or remove the file: a frame without a mask is all tissue",
        )
    return np.asarray(mask if mask.ndim == 2 else mask[..., :3].any(axis=-1)) > 0


def resize_mask(mask: BoolArray, width: int, height: int) -> BoolArray:
    """Resize a mask by nearest neighbour: interpolating would grow it."""
    resized = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized) > 0


def read_pfm(path: Path) -> FloatArray:
    """Read a PFM file as (h, w) float32, top row first. The header's scale gives the byte order only."""
    with open(path, "rb") as file:
        kind = file.readline().strip()
        size = file.readline().split()
        little = float(file.readline()) < 0
        if kind != b"Pf" or len(size) != 2:
            raise InputError(
                f"{path} is not a one-channel PFM",
                found=f"header {kind!r}",
                expected="Pf",
                do="write one channel",
            )
        width, height = int(size[0]), int(size[1])
        values = np.frombuffer(file.read(), dtype="<f4" if little else ">f4")
    return values.reshape(height, width)[::-1].astype(np.float32)


def read_npz_map(path: Path) -> NDArray[Any]:
    """Read the only array of an npz file, or the only one that is called depth_mm, depth, disparity_px, disparity.

    Raises:
        InputError: several arrays and not one that can be told by its name.
        ValueError: not an npz file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names = file.files if len(file.files) == 1 else [name for name in _ARRAY_NAMES if name in file.files]
            if len(names) == 1:
                return np.asarray(file[names[0]])
            found = ", ".join(file.files) or "no array"
    except NO_ARRAYS as error:
        raise ValueError(f"not an npz file ({type(error).__name__})") from error
    raise InputError(
        f"{path}: which array is the map?",
        found=found,
        expected=f"one array, or one of them called {', '.join(_ARRAY_NAMES)}",
        do="save the map alone",
    )


def _read_npy(path: Path) -> NDArray[Any]:
    """Read an npy file. Raises ValueError where it is none."""
    try:
        loaded = np.load(path, allow_pickle=False)
    except NO_ARRAYS as error:
        raise ValueError(f"not an npy file ({type(error).__name__})") from error
    if not isinstance(loaded, np.ndarray):
        loaded.close()
        raise ValueError("an npz file under the name of an npy file")
    return loaded


def read_map(path: Path) -> NDArray[Any]:
    """Read a one-channel map as it is stored: integers of a PNG, floats of npy, npz, tiff, pfm or exr."""
    ending = path.suffix.lower()
    if ending == ".npy":
        return _read_npy(path)
    if ending == ".npz":
        return read_npz_map(path)
    if ending == ".pfm":
        return read_pfm(path)
    if ending == ".exr":
        os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")  # OpenCV asks at the first EXR, not at import
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise InputError(
            f"{path} cannot be read as a map",
            found="a corrupt file, or an EXR without OPENCV_IO_ENABLE_OPENEXR=1",
            expected="a one-channel png, npy, npz, tiff, pfm or exr",
            do="write it again",
        )
    return np.asarray(values if values.ndim == 2 else values[..., 0])


def colour_depth(depth_mm: FloatArray) -> NDArray[np.uint8]:
    """Return a picture (h, w, 3) of depth for eyes: turbo from near (blue) to far (red),
    over its 2nd to 98th percentile; unknown black."""
    known = np.isfinite(depth_mm)
    if not known.any():
        return np.zeros((*depth_mm.shape, 3), np.uint8)
    low, high = np.percentile(depth_mm[known], [2, 98])
    scaled = (np.nan_to_num(depth_mm) - low) / max(high - low, 1e-9)
    coloured = cv2.applyColorMap((255 * scaled.clip(0, 1)).astype(np.uint8), cv2.COLORMAP_TURBO)
    coloured[~known] = 0
    return np.asarray(cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB), np.uint8)
